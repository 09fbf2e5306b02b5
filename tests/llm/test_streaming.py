"""Streams: each event at once, whole frames only, an honest end, and nothing left running behind a client that left."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from itertools import pairwise
from typing import Any

import httpx
import pytest

from tests.llm.live_worker import MESSAGES, LiveWorker, content_of, error_of, payloads
from tests.upstream import Fault, ScriptedUpstream, Step, Stream, Usage

WORDS = ("Hello", " ", "world")


async def next_event(lines: AsyncIterator[str]) -> str:
    async for line in lines:
        if line:
            return line.removeprefix("data: ")
    raise AssertionError("the stream has ended")


def error_event(frames: list[str]) -> dict[str, Any]:
    """The error of a stream that broke: the last event before the end."""
    assert frames[-1] == "[DONE]"
    error: dict[str, Any] = json.loads(frames[-2])["error"]
    assert set(error) == {"message", "type", "param", "code"}
    return error


async def raw_call(
    worker: LiveWorker, key: str, body: dict[str, Any]
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Send a whole request and do not wait for anything."""
    reader, writer = await asyncio.open_connection("127.0.0.1", worker.process.port)
    data = json.dumps(body).encode()
    head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: worker\r\nAuthorization: Bearer {key}\r\n"
    writer.write(f"{head}Content-Type: application/json\r\nContent-Length: {len(data)}\r\n\r\n".encode() + data)
    await writer.drain()
    return reader, writer


# ---- good streams --------------------------------------------------------------------------------------------------


async def test_an_event_is_out_before_the_next_one_exists(
    worker: LiveWorker, upstream: ScriptedUpstream, key: str
) -> None:
    upstream.plan(Stream(WORDS, hang_after=1))
    async with asyncio.timeout(3), worker.stream(key) as answer:
        assert answer.headers["content-type"] == "text/event-stream; charset=utf-8"
        assert (answer.headers["cache-control"], answer.headers["x-accel-buffering"]) == ("no-cache", "no")
        first = json.loads(await next_event(answer.aiter_lines()))
    assert first["choices"][0]["delta"] == {"role": "assistant", "content": "Hello"}
    assert first["model"] == "chat"


async def test_events_keep_the_provider_s_pace(worker: LiveWorker, upstream: ScriptedUpstream, key: str) -> None:
    upstream.plan(Stream(WORDS, interval=0.15))
    times = []
    async with worker.stream(key) as answer:
        async for line in answer.aiter_lines():
            if line:
                times.append(time.monotonic())
    assert len(times) == 5
    assert all(later - earlier > 0.1 for earlier, later in pairwise(times[:4]))


@pytest.mark.parametrize(
    "step",
    [
        Stream(WORDS, newline="\r\n"),
        Stream(WORDS, newline="\r"),
        Stream(WORDS, packet=1),
        Stream(WORDS, packet=7, newline="\r\n"),
        Stream(WORDS, comment="keep-alive"),
        Stream(("Hel", "lo wörld 🌍"), packet=3),
    ],
    ids=["CRLF", "CR", "single bytes", "CRLF in pieces", "comments", "split characters"],
)
async def test_a_stream_arrives_whole_however_the_provider_writes_it(
    worker: LiveWorker, upstream: ScriptedUpstream, key: str, step: Stream
) -> None:
    upstream.plan(step)
    frames = await worker.frames(key)
    assert content_of(frames) == "".join(step.words)
    assert frames[-1] == "[DONE]" and frames.count("[DONE]") == 1


async def test_usage_is_counted_always_and_sent_when_asked_for(
    worker: LiveWorker, upstream: ScriptedUpstream, key: str
) -> None:
    upstream.plan(Stream(WORDS, usage=Usage(9, 3)), Stream(WORDS, usage=Usage(9, 3)))
    silent = await worker.frames(key)
    assert all("usage" not in frame for frame in silent)
    asked = await worker.frames(key, stream_options={"include_usage": True})
    assert json.loads(asked[-2])["usage"]["total_tokens"] == 12
    assert [request.json["stream_options"] for request in upstream.requests] == [{"include_usage": True}] * 2
    for row in await worker.spend_rows(key, 2):
        assert (row["prompt_tokens"], row["completion_tokens"], row["status"]) == (9, 3, "success")
        assert row["spend"] == pytest.approx(9 * 0.15e-6 + 3 * 0.6e-6)
        assert row["completionStartTime"] is not None


async def test_a_whole_answer_without_done_ends_well(worker: LiveWorker, upstream: ScriptedUpstream, key: str) -> None:
    upstream.plan(Stream(WORDS, done=False))
    frames = await worker.frames(key)
    assert (content_of(frames), frames[-1]) == ("Hello world", "[DONE]")
    assert (await worker.spend_row(key))["status"] == "success"


async def test_a_stream_s_headers_name_the_deployment_and_no_cost(
    worker: LiveWorker, upstream: ScriptedUpstream, key: str
) -> None:
    async with worker.stream(key) as answer:
        await answer.aread()
    assert answer.headers["x-litellm-model-id"] == "chat-1"
    assert "x-litellm-response-cost" not in answer.headers


async def test_a_hundred_streams_at_once_all_finish(worker: LiveWorker, upstream: ScriptedUpstream, key: str) -> None:
    words = tuple(f"word{number} " for number in range(10))
    upstream.on_model("gpt-4o-mini", Stream(words, interval=0.03))
    streams = await asyncio.gather(*(worker.frames(key) for _ in range(100)))
    assert {content_of(frames) for frames in streams} == {"".join(words)}
    rows = await worker.spend_rows(key, 100)
    assert {(row["status"], row["total_tokens"]) for row in rows} == {("success", 12)}


async def test_five_hundred_streams_at_once_never_stall(
    worker: LiveWorker, upstream: ScriptedUpstream, key: str
) -> None:
    """Read without an HTTP client, whose pool would be what is slow."""
    words = tuple(f"word{number} " for number in range(6))
    upstream.on_model("gpt-4o-mini", Stream(words, interval=0.2))

    async def gap_of_one() -> float:
        reader, writer = await raw_call(worker, key, {"model": "chat", "messages": MESSAGES, "stream": True})
        times, text = list[float](), b""
        while b"[DONE]" not in text:
            part = await reader.read(65536)
            assert part, f"cut after {text!r}"
            if b"data: " in part:
                times.append(time.monotonic())
            text += part
        writer.close()
        assert all(word.encode() in text for word in words)
        return max(later - earlier for earlier, later in pairwise(times))

    async with asyncio.timeout(30):
        gaps = await asyncio.gather(*(gap_of_one() for _ in range(512)))
    assert max(gaps) < 2.0


# ---- clients that leave --------------------------------------------------------------------------------------------


async def test_a_client_that_leaves_stops_the_provider_and_pays_for_what_it_got(
    worker: LiveWorker, upstream: ScriptedUpstream, key: str
) -> None:
    upstream.plan(Stream(tuple("abcdefghij"), hang_after=10))
    async with worker.stream(key) as answer:
        lines = answer.aiter_lines()
        for _ in range(10):
            await next_event(lines)
    await upstream.wait_for_disconnects(1, seconds=2)
    row = await worker.spend_row(key)
    assert row["status"] == "failure"
    assert row["metadata"]["error_information"]["error_code"] == "499"
    assert row["completion_tokens"] >= 8 and row["spend"] > 0


async def test_a_client_that_leaves_before_the_answer_stops_the_provider(
    worker: LiveWorker, upstream: ScriptedUpstream, key: str
) -> None:
    upstream.plan(Fault.hang())
    with pytest.raises(httpx.ReadTimeout):
        await worker.http.post(
            f"{worker.url}/v1/chat/completions",
            json={"model": "chat", "messages": MESSAGES},
            headers={"Authorization": f"Bearer {key}"},
            timeout=0.3,
        )
    await upstream.wait_for_disconnects(1, seconds=2)
    row = await worker.spend_row(key)
    assert (row["status"], row["spend"]) == ("failure", 0)
    assert row["metadata"]["error_information"]["error_code"] == "499"


@pytest.mark.parametrize("pause", [0, 0.001, 0.01, 0.05])
async def test_clients_that_leave_at_any_moment_leave_nothing_held(
    worker: LiveWorker, upstream: ScriptedUpstream, pause: float
) -> None:
    """Each call holds about two dollars; were one hold left behind, the key's budget would be full afterwards."""
    key = await worker.new_key(max_budget=15)
    upstream.on_model("gpt-4o-mini", Stream(("a", "b"), hang_after=2, first_delay=0.005))
    for _ in range(20):
        _, writer = await raw_call(worker, key, {"model": "costly", "messages": MESSAGES, "stream": True})
        await asyncio.sleep(pause)
        writer.transport.abort()
        await asyncio.sleep(0.01)
    await asyncio.sleep(0.3)
    assert upstream.open_connections == 0
    upstream.plan(Stream(WORDS))
    assert content_of(await worker.frames(key, "costly")) == "Hello world"


# ---- broken streams ------------------------------------------------------------------------------------------------


async def test_an_error_after_the_first_event_is_an_event_and_then_the_end(
    worker: LiveWorker, upstream: ScriptedUpstream, key: str
) -> None:
    upstream.plan(Fault.error_in_stream(after=2))
    frames = await worker.frames(key)
    assert content_of(frames[:2]) == "Hello "
    error = error_event(frames)
    assert "The server had an error" in error["message"] and error["code"] == "500"
    row = await worker.spend_row(key)
    assert row["status"] == "failure"
    assert row["completion_tokens"] > 0
    assert "The server had an error" in row["metadata"]["error_information"]["error_message"]


BROKEN: dict[str, Step] = {
    "closed": Fault.cut_stream(after=2),
    "closed inside an event": Fault.cut_stream(after=2, mid_event=True),
    "reset": Fault.cut_stream(after=2, how="reset"),
    "reset inside an event": Fault.cut_stream(after=2, how="reset", mid_event=True),
    "ended too early": Stream(
        events=('{"choices":[{"index":0,"delta":{"content":"Hello"}}]}', '{"choices":[{"index":0,"delta":{}}]}')
    ),
    "garbage": Stream(events=('{"choices":[{"index":0,"delta":{"content":"Hello"}}]}', "<html>")),
    "nested without end": Stream(events=('{"choices":[{"index":0,"delta":{"content":"Hello"}}]}', "[" * 100_000)),
}


@pytest.mark.parametrize("name", BROKEN)
async def test_a_stream_that_breaks_says_so(
    worker: LiveWorker, upstream: ScriptedUpstream, key: str, name: str
) -> None:
    upstream.plan(BROKEN[name])
    frames = await worker.frames(key)
    assert content_of(frames[:1]) == "Hello"
    assert error_event(frames)["code"] == "500"
    row = await worker.spend_row(key)
    assert (row["status"], row["metadata"]["error_information"]["error_code"]) == ("failure", "500")


async def test_a_provider_that_falls_silent_is_given_up(
    worker: LiveWorker, upstream: ScriptedUpstream, key: str
) -> None:
    upstream.plan(Stream(WORDS, hang_after=2))
    async with asyncio.timeout(5):
        frames = await worker.frames(key, "impatient")
    assert error_event(frames)["code"] == "408"
    await upstream.wait_for_disconnects(1, seconds=2)
    assert (await worker.spend_row(key))["metadata"]["error_information"]["error_code"] == "408"


@pytest.mark.parametrize(
    ("step", "status"),
    [
        (Fault.status(429, retry_after=3), 429),
        (Fault.garbage(), 500),
        (Stream(error_after=0), 500),
        (Stream(WORDS, cut="close", cut_after=0), 500),
        (Stream(WORDS, cut="reset", cut_after=0), 500),
        (Stream(events=()), 500),
        (Stream(events=("<html>",)), 500),
    ],
    ids=["429", "html", "error event", "closed", "reset", "empty", "garbage"],
)
async def test_a_fault_before_the_first_event_is_a_plain_error(
    worker: LiveWorker, upstream: ScriptedUpstream, key: str, step: Step, status: int
) -> None:
    upstream.plan(step)
    async with worker.stream(key, num_retries=0) as answer:
        await answer.aread()
    assert answer.headers["content-type"] == "application/json"
    error_of(answer, status)
    assert (await worker.spend_row(key))["status"] == "failure"


@pytest.mark.parametrize(
    "step", [Fault.status(503), Stream(error_after=0), Fault.reset()], ids=["503", "event", "reset"]
)
async def test_a_fault_before_the_first_event_is_answered_by_the_next_deployment(
    worker: LiveWorker, upstream: ScriptedUpstream, key: str, step: Step
) -> None:
    upstream.plan(step)
    assert content_of(await worker.frames(key, "pair")) == "Hello world "
    assert len(upstream.requests) == 2
    row = await worker.spend_row(key)
    assert row["status"] == "success" and len(row["metadata"]["failed_attempts"]) == 1


async def test_after_the_first_event_no_other_deployment_takes_over(
    worker: LiveWorker, upstream: ScriptedUpstream, key: str
) -> None:
    upstream.plan(Fault.error_in_stream(after=1))
    error_event(await worker.frames(key, "pair"))
    assert len(upstream.requests) == 1


def test_payloads_refuse_a_torn_stream() -> None:
    with pytest.raises(AssertionError, match="inside an event"):
        payloads(b'data: {}\n\ndata: {"a"')
