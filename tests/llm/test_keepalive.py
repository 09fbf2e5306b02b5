"""Comments on a stream that is silent: before its first event, and between two of them."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator

import httpx
import pytest

from app.errors import UpstreamError
from app.llm.call import Reply
from app.llm.streaming import kept_alive
from app.protocols.dialects import OPENAI
from app.protocols.openai.answers import PING_FRAME
from tests.llm.live_worker import FAST, LiveWorker, content_of, deployment, error_of
from tests.services.quarterdeck import QuarterdeckFactory, QuarterdeckProcess
from tests.upstream import Fault, ScriptedUpstream, Stream

PING = ": ping"


async def frames_of(*frames: bytes) -> AsyncGenerator[bytes]:
    for frame in frames:
        yield frame


async def answer_after(seconds: float, *frames: bytes) -> Reply:
    await asyncio.sleep(seconds)
    return Reply({"x-model": "m"}, frames=frames_of(*frames))


async def test_an_answer_in_time_keeps_its_headers() -> None:
    reply = await kept_alive(answer_after(0, b"a"), 1, OPENAI)
    assert reply.headers == {"x-model": "m"}
    assert reply.frames is not None and [frame async for frame in reply.frames] == [b"a"]


async def test_a_late_one_begins_with_comments() -> None:
    reply = await kept_alive(answer_after(0.05, b"a", b"b"), 0.01, OPENAI)
    assert reply.frames is not None
    frames = [frame async for frame in reply.frames]
    assert frames[-2:] == [b"a", b"b"]
    assert set(frames[:-2]) == {PING_FRAME} and len(frames) > 3


async def test_a_failure_in_time_is_raised() -> None:
    async def failing() -> Reply:
        raise UpstreamError("no", status=503)

    with pytest.raises(UpstreamError):
        await kept_alive(failing(), 1, OPENAI)


async def test_a_late_failure_is_an_event() -> None:
    async def failing() -> Reply:
        await asyncio.sleep(0.03)
        raise UpstreamError("no such luck", status=503)

    reply = await kept_alive(failing(), 0.01, OPENAI)
    assert reply.frames is not None
    frames = [frame async for frame in reply.frames]
    assert b'"no such luck"' in frames[-1] and b'"503"' in frames[-1] and frames[-1].endswith(b"data: [DONE]\n\n")


@pytest.mark.parametrize("frames_read", [0, 1])
async def test_a_client_that_leaves_meanwhile_ends_the_call(frames_read: int) -> None:
    ended = asyncio.Event()

    async def waiting() -> Reply:
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()
        raise AssertionError

    reply = await kept_alive(waiting(), 0.01, OPENAI)
    assert reply.frames is not None
    for _ in range(frames_read):
        await anext(reply.frames)
    await reply.frames.aclose()
    async with asyncio.timeout(1):
        await ended.wait()


async def test_a_client_that_leaves_before_the_first_comment_ends_the_call() -> None:
    ended = asyncio.Event()

    async def waiting() -> Reply:
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()
        raise AssertionError

    task = asyncio.create_task(kept_alive(waiting(), 5, OPENAI))
    await asyncio.sleep(0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert ended.is_set()


# ---- a worker ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def patient_process(factory: QuarterdeckFactory, upstream_port: int) -> QuarterdeckProcess:
    here = f"http://127.0.0.1:{upstream_port}/v1"
    config = {
        "model_list": [deployment("chat", here), deployment("once", here, num_retries=0)],
        "litellm_settings": {"sse_keepalive_ping_interval_seconds": 0.1},
    }
    return factory(config, env=FAST)


@pytest.fixture
async def worker(patient_process: QuarterdeckProcess, http: httpx.AsyncClient) -> LiveWorker:
    return LiveWorker(patient_process, http)


async def lines_of(worker: LiveWorker, key: str, model: str) -> list[str]:
    async with worker.stream(key, model) as answer:
        assert answer.status_code == 200
        return [line for line in (await answer.aread()).decode().split("\n\n") if line]


def events(lines: list[str]) -> list[str]:
    return [line.removeprefix("data: ") for line in lines if line != PING]


async def test_comments_come_before_the_first_event(worker: LiveWorker, upstream: ScriptedUpstream, key: str) -> None:
    upstream.plan(Stream(delay=0.35))
    lines = await lines_of(worker, key, "chat")
    assert lines[:2] == [PING, PING]
    assert content_of(events(lines)) == "Hello world"
    assert (await worker.spend_row(key))["status"] == "success"


async def test_comments_come_between_events(worker: LiveWorker, upstream: ScriptedUpstream, key: str) -> None:
    upstream.plan(Stream(interval=0.25))
    lines = await lines_of(worker, key, "chat")
    assert lines[0] != PING and lines.count(PING) >= 4
    assert content_of(events(lines)) == "Hello world"


async def test_a_quick_stream_has_no_comments(worker: LiveWorker, upstream: ScriptedUpstream, key: str) -> None:
    assert PING not in await lines_of(worker, key, "chat")


async def test_a_late_failure_is_an_event_and_logged_as_a_failure(
    worker: LiveWorker, upstream: ScriptedUpstream, key: str
) -> None:
    upstream.plan(Fault.status(503, delay=0.25), Fault.status(503))
    lines = await lines_of(worker, key, "once")
    assert lines[0] == PING and lines[-1] == "data: [DONE]"
    assert json.loads(events(lines)[-2])["error"]["code"] == "503"
    assert (await worker.spend_row(key))["status"] == "failure"
    async with worker.stream(key, "once") as answer:
        await answer.aread()
    error_of(answer, 503)


async def test_a_client_that_leaves_while_it_waits_stops_the_provider(
    worker: LiveWorker, upstream: ScriptedUpstream, key: str
) -> None:
    upstream.plan(Fault.hang())
    async with worker.stream(key, "chat") as answer:
        assert (await anext(answer.aiter_lines())) == PING
    await upstream.wait_for_disconnects(1, seconds=2)
    row = await worker.spend_row(key)
    assert row["metadata"]["error_information"]["error_code"] == "499"
