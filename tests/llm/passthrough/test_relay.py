"""Relayed responses: bytes at once, no cookies, no credential, and a correct row in the spend log."""

from __future__ import annotations

import asyncio
import json
import time

import httpx
import pytest

from tests.llm.live_worker import LiveWorker
from tests.llm.relaying import CHAT, OPENAI_KEY, OTHERS, relaying, send
from tests.services.quarterdeck import QuarterdeckFactory, QuarterdeckProcess
from tests.upstream import Fault, Pieces, Reply, ScriptedUpstream, Stream


@pytest.fixture(scope="module")
def relaying_process(factory: QuarterdeckFactory, upstream_port: int, refusing_port: int) -> QuarterdeckProcess:
    return factory(**relaying(f"http://127.0.0.1:{upstream_port}", f"http://127.0.0.1:{refusing_port}"))


@pytest.fixture
async def relay(relaying_process: QuarterdeckProcess, http: httpx.AsyncClient) -> LiveWorker:
    return LiveWorker(relaying_process, http)


async def test_answers_come_back_as_they_are_but_for_cookies(relay: LiveWorker, upstream: ScriptedUpstream) -> None:
    key = await relay.new_key()
    headers = {"set-cookie": "a=b", "x-request-id": "r-1", "openai-version": "2020", "content-type": "audio/mpeg"}
    upstream.plan(Reply(raw=b"\x00\xff", headers=headers), Reply(body={}), Reply(status=302, headers={"location": "/"}))
    answer = await send(relay, key, "/openai/audio/speech", json={"model": "tts-1"})
    assert (answer.status_code, answer.content, answer.headers["content-type"]) == (200, b"\x00\xff", "audio/mpeg")
    assert (answer.headers["x-request-id"], answer.headers["openai-version"]) == ("r-1", "2020")
    assert "set-cookie" not in answer.headers
    assert "sandbox" in answer.headers["content-security-policy"]
    await send(relay, await relay.new_key(), "/openai/models", "GET")
    assert "cookie" not in upstream.requests[1].headers
    moved = await send(relay, key, "/openai/models/moved", "GET")
    assert (moved.status_code, len(upstream.requests)) == (302, 3)


async def test_a_redirect_does_not_give_the_credential_away(relay: LiveWorker, upstream: ScriptedUpstream) -> None:
    secret = OTHERS["GEMINI_API_KEY"]
    moved = f"https://elsewhere.example/x?key={secret}"
    upstream.plan(Reply(status=301, raw=f'<a href="{moved}">'.encode(), headers={"location": moved}))
    answer = await send(relay, await relay.new_key(), "/gemini/v1beta/models/g-1:countTokens", json={})
    assert answer.status_code == 301
    assert answer.headers["location"] == "https://elsewhere.example/x?key=****"
    assert answer.text == '<a href="https://elsewhere.example/x?key=****">'


async def test_a_long_refusal_does_not_give_the_credential_away(relay: LiveWorker, upstream: ScriptedUpstream) -> None:
    body = (b"x" * 50_000 + OPENAI_KEY.encode()) * 20
    pieces = [body[start : start + 33_333] for start in range(0, len(body), 33_333)]
    upstream.plan(Pieces(pieces, status=400, interval=0.002))
    answer = await send(relay, await relay.new_key(), "/openai/v1/models", "GET")
    assert answer.content == (b"x" * 50_000 + b"****") * 20


async def test_headers_that_act_on_our_origin_in_a_browser_are_dropped(
    relay: LiveWorker, upstream: ScriptedUpstream
) -> None:
    headers = {"nel": "{}", "report-to": "{}", "refresh": "0;url=/", "x-litellm-response-cost": "0", "x-kept": "yes"}
    upstream.plan(Reply(body={}, headers=headers))
    answer = await send(relay, await relay.new_key(), "/openai/v1/models", "GET")
    assert set(headers) & set(answer.headers) == {"x-kept"}


async def test_leaving_before_the_usage_or_not_asking_for_it_is_not_free(
    relay: LiveWorker, upstream: ScriptedUpstream
) -> None:
    key = await relay.new_key()
    body = {**CHAT, "stream": True}
    upstream.plan(Stream(("word ",) * 20), Stream(("word ",) * 200, interval=0.02))
    assert (await send(relay, key, "/openai/chat/completions", json=body)).status_code == 200
    (row,) = await relay.spend_rows(key)
    assert (row["status"], row["completion_tokens"]) == ("success", 25)
    assert row["spend"] > 0
    headers, received = {"Authorization": f"Bearer {key}"}, b""
    async with relay.http.stream("POST", f"{relay.url}/openai/chat/completions", json=body, headers=headers) as answer:
        async for chunk in answer.aiter_bytes():
            received += chunk
            if received.count(b"word") >= 10:
                break
    await upstream.wait_for_disconnects(1)
    abandoned = (await relay.spend_rows(key, 2))[1]
    assert (abandoned["status"], abandoned["metadata"]["error_information"]["error_code"]) == ("failure", "499")
    assert 12 <= abandoned["completion_tokens"] < 100
    assert abandoned["spend"] > 0


async def test_what_is_read_again_is_not_billed_again(relay: LiveWorker, upstream: ScriptedUpstream) -> None:
    key = await relay.new_admin_key()
    body = {"model": "gpt-4o", "usage": {"input_tokens": 10, "output_tokens": 7}}
    upstream.plan(Reply(body=body), Reply(body={**body, "background": True}))
    for _ in range(2):
        assert (await send(relay, key, "/openai/v1/responses/r-1", "GET")).status_code == 200
    assert [row["total_tokens"] for row in await relay.spend_rows(key, 2)] == [0, 17]


async def test_calls_at_once_do_not_pass_a_budget_together(relay: LiveWorker, upstream: ScriptedUpstream) -> None:
    key = await relay.new_key(max_budget=0.001)
    upstream.on_model("gpt-4o-mini", Reply(delay=0.3))
    answers = await asyncio.gather(*(send(relay, key, "/openai/v1/chat/completions", json=CHAT) for _ in range(20)))
    assert 1 <= [answer.status_code for answer in answers].count(200) <= 4


async def test_a_long_name_of_an_end_user_does_not_cost_the_row_in_the_spend_log(
    relay: LiveWorker, upstream: ScriptedUpstream
) -> None:
    key = await relay.new_key()
    await send(relay, key, "/openai/v1/chat/completions", json=CHAT, headers={"x-customer": "c" * 5000})
    assert (await relay.spend_row(key))["end_user"] == "c" * 255


async def test_unchecked_model_names_do_not_fill_the_metrics(relay: LiveWorker, upstream: ScriptedUpstream) -> None:
    key = await relay.new_key()
    for number in range(3):
        upstream.plan(Reply(body={"data": []}))
        answer = await send(relay, key, "/openai/v1/models", "GET", json={"model": f"anything-{number}"})
        assert answer.status_code == 200
    metrics = await relay.http.get(f"{relay.url}/metrics", headers=relay.admin)
    assert "anything-" not in metrics.text and "/openai/{endpoint}" in metrics.text


@pytest.mark.parametrize("method", ["GET", "PUT", "PATCH", "DELETE", "HEAD"])
async def test_every_method_is_relayed(relay: LiveWorker, upstream: ScriptedUpstream, method: str) -> None:
    upstream.plan(Reply(raw=b"" if method == "HEAD" else b"{}"))
    answer = await send(relay, await relay.new_admin_key(), "/openai/v1/videos/a-1", method)
    assert answer.status_code == 200
    assert [(request.method, request.path) for request in upstream.requests] == [(method, "/v1/videos/a-1")]


async def test_refusals_are_relayed_without_the_credential_and_logged_as_failures(
    relay: LiveWorker, upstream: ScriptedUpstream
) -> None:
    key = await relay.new_key()
    upstream.plan(Fault.status(429, f"too many with {OPENAI_KEY}", retry_after=3))
    answer = await send(relay, key, "/openai/chat/completions", json=CHAT)
    assert (answer.status_code, answer.headers["retry-after"]) == (429, "3")
    assert answer.json()["error"]["message"] == "too many with ****"
    row = await relay.spend_row(key)
    assert (row["status"], row["spend"]) == ("failure", 0)
    assert row["metadata"]["error_information"]["error_class"] == "RateLimitError"
    assert OPENAI_KEY not in json.dumps(row)


async def test_a_stream_is_relayed_at_once_and_its_usage_is_billed(
    relay: LiveWorker, upstream: ScriptedUpstream
) -> None:
    key = await relay.new_key()
    upstream.plan(Stream(("a", "b", "c"), interval=0.2, usage_always=True))
    started_at, arrivals = time.monotonic(), []
    body = {**CHAT, "stream": True}
    headers = {"Authorization": f"Bearer {key}"}
    async with relay.http.stream("POST", f"{relay.url}/openai/chat/completions", json=body, headers=headers) as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        async for chunk in answer.aiter_bytes():
            arrivals.append((time.monotonic() - started_at, chunk))
    assert len(arrivals) >= 3
    assert arrivals[0][0] < arrivals[-1][0] - 0.35
    assert b"".join(chunk for _, chunk in arrivals).endswith(b"data: [DONE]\n\n")
    row = await relay.spend_row(key)
    assert (row["status"], row["call_type"]) == ("success", "pass_through_endpoint")
    assert (row["prompt_tokens"], row["completion_tokens"], row["custom_llm_provider"]) == (9, 3, "openai")
    assert row["spend"] == pytest.approx(9 * 1.5e-7 + 3 * 6e-7)
    assert row["completionStartTime"] is not None


async def test_a_client_that_leaves_ends_the_stream_and_pays_for_what_it_got(
    relay: LiveWorker, upstream: ScriptedUpstream
) -> None:
    key = await relay.new_key()
    started = {"type": "message_start", "message": {"usage": {"input_tokens": 100, "output_tokens": 1}}}
    upstream.plan(Stream(events=[json.dumps(started), *["{}"] * 100], interval=0.05))
    body = {"model": "claude-sonnet-4-5", "stream": True}
    headers = {"x-api-key": key}
    async with relay.http.stream("POST", f"{relay.url}/anthropic/v1/messages", json=body, headers=headers) as answer:
        async for _ in answer.aiter_bytes():
            break
    await upstream.wait_for_disconnects(1)
    row = await relay.spend_row(key)
    assert (row["status"], row["metadata"]["error_information"]["error_code"]) == ("failure", "499")
    assert (row["prompt_tokens"], row["completion_tokens"]) == (100, 1)
    assert row["spend"] > 0


async def test_an_answer_that_breaks_off_is_seen_as_broken(relay: LiveWorker, upstream: ScriptedUpstream) -> None:
    key = await relay.new_key()
    upstream.plan(Fault.cut_stream(2), Fault.cut_mid_body())
    for body in ({**CHAT, "stream": True}, CHAT):
        with pytest.raises(httpx.RemoteProtocolError):
            await send(relay, key, "/openai/chat/completions", json=body)
    rows = await relay.spend_rows(key, 2)
    assert [row["metadata"]["error_information"]["error_class"] for row in rows] == ["MidStreamError"] * 2


async def test_an_error_inside_a_stream_is_a_failure(relay: LiveWorker, upstream: ScriptedUpstream) -> None:
    key = await relay.new_key()
    upstream.plan(Fault.error_in_stream(1))
    answer = await send(relay, key, "/openai/chat/completions", json={**CHAT, "stream": True})
    assert b"The server had an error" in answer.content
    assert (await relay.spend_row(key))["status"] == "failure"


async def test_large_and_multipart_bodies_pass_as_they_are(relay: LiveWorker, upstream: ScriptedUpstream) -> None:
    key = await relay.new_key()
    files = {"file": ("a.bin", b"\x00" * 3_000_000)}
    upstream.plan(Reply(body={"id": "file-1"}))
    answer = await send(
        relay, key, "/openai/images/variations", files=files, data={"purpose": "batch", "model": "whisper-1"}
    )
    assert answer.status_code == 200
    (sent,) = upstream.requests
    assert sent.headers["content-type"].startswith("multipart/form-data; boundary=")
    assert len(sent.body) > 3_000_000
    assert (await relay.spend_row(key))["model"] == "whisper-1"
