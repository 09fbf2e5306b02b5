"""The scripted upstream and the TCP proxy do what they promise: other tests build on their faults."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from openai import AsyncOpenAI

from tests.tcp_proxy import TcpProxy
from tests.upstream import Fault, Reply, ScriptedUpstream, Stream, Usage

CHAT = {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "hi"}]}
STREAM = {**CHAT, "stream": True}
STREAM_WITH_USAGE = {**STREAM, "stream_options": {"include_usage": True}}


@pytest.fixture
async def upstream() -> AsyncIterator[ScriptedUpstream]:
    async with ScriptedUpstream() as scripted:
        yield scripted


@pytest.fixture
async def client() -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(trust_env=False, timeout=5) as http:
        yield http


async def post(client: httpx.AsyncClient, upstream: ScriptedUpstream, body: dict[str, Any]) -> httpx.Response:
    return await client.post(f"{upstream.url}/chat/completions", json=body, headers={"Authorization": "Bearer sk-1"})


async def test_answers_the_openai_sdk(upstream: ScriptedUpstream) -> None:
    async with AsyncOpenAI(base_url=upstream.url, api_key="sk-1", max_retries=0) as sdk:
        upstream.plan(Reply("Fine", usage=Usage(9, 2, cached=4)))
        chat = await sdk.chat.completions.create(model="m", messages=[{"role": "user", "content": "hi"}])
        assert chat.choices[0].message.content == "Fine"
        assert chat.usage is not None and chat.usage.prompt_tokens_details is not None
        assert chat.usage.prompt_tokens_details.cached_tokens == 4
        stream = await sdk.chat.completions.create(
            model="m", messages=[{"role": "user", "content": "hi"}], stream=True, stream_options={"include_usage": True}
        )
        chunks = [chunk async for chunk in stream]
        assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices) == "Hello world "
        assert chunks[-1].usage is not None and chunks[-1].usage.total_tokens == 12
        embedding = await sdk.embeddings.create(model="m", input=["a", "b"], encoding_format="float")
        assert [row.index for row in embedding.data] == [0, 1]
        completion = await sdk.completions.create(model="m", prompt="hi")
        assert completion.choices[0].text == "Hello world"


async def test_records_requests_and_reuses_connections(upstream: ScriptedUpstream, client: httpx.AsyncClient) -> None:
    await post(client, upstream, CHAT)
    await client.post(f"{upstream.origin}/v1/embeddings?x=1", content=b"not json")
    first, second = upstream.requests
    assert (first.method, first.path, first.model, first.json) == ("POST", "/v1/chat/completions", "gpt-4o-mini", CHAT)
    assert first.headers["authorization"] == "Bearer sk-1"
    assert (second.query, second.body, second.json) == ("x=1", b"not json", None)
    assert upstream.connections == 1 and upstream.disconnects == 0


async def test_reads_chunked_request_bodies(upstream: ScriptedUpstream, client: httpx.AsyncClient) -> None:
    async def parts() -> AsyncIterator[bytes]:
        yield b'{"model": '
        yield b'"split"}'

    await client.post(f"{upstream.url}/chat/completions", content=parts())
    assert upstream.requests[0].model == "split"


async def test_plan_then_prompt_then_model_then_default(upstream: ScriptedUpstream, client: httpx.AsyncClient) -> None:
    upstream.plan(Reply("planned"))
    upstream.on_prompt("hi", Reply("by prompt"))
    upstream.on_model("gpt-4o-mini", Reply("by model"))
    other = {**CHAT, "messages": []}
    answers = [await post(client, upstream, body) for body in (CHAT, CHAT, other, {"model": "other"})]
    contents = [answer.json()["choices"][0]["message"]["content"] for answer in answers]
    assert contents == ["planned", "by prompt", "by model", "Hello world"]
    assert upstream.unused_steps == 0


@pytest.mark.parametrize("status", [400, 401, 403, 404, 408, 422, 429, 500, 502, 503, 529])
async def test_statuses_carry_an_openai_error(
    status: int, upstream: ScriptedUpstream, client: httpx.AsyncClient
) -> None:
    upstream.plan(Fault.status(status, "no", retry_after=7))
    answer = await post(client, upstream, CHAT)
    assert (answer.status_code, answer.json()["error"]["message"], answer.headers["retry-after"]) == (status, "no", "7")


async def test_faults_before_headers(upstream: ScriptedUpstream, client: httpx.AsyncClient) -> None:
    upstream.plan(Fault.reset(), Fault.closed(), Fault.not_http())
    with pytest.raises(httpx.ReadError):
        await post(client, upstream, CHAT)
    with pytest.raises(httpx.RemoteProtocolError, match="disconnected"):
        await post(client, upstream, CHAT)
    with pytest.raises(httpx.RemoteProtocolError):
        await post(client, upstream, CHAT)
    with pytest.raises(httpx.ConnectError):
        await client.post(f"{upstream.refused_url}/chat/completions", json=CHAT)
    assert upstream.disconnects == 0  # we left, not the client


async def test_hang_until_the_client_leaves(upstream: ScriptedUpstream, client: httpx.AsyncClient) -> None:
    upstream.plan(Fault.hang(), Fault.hang_after_headers())
    for _ in range(2):
        with pytest.raises(httpx.ReadTimeout):
            await client.post(f"{upstream.url}/chat/completions", json=CHAT, timeout=0.2)
    await upstream.wait_for_disconnects(2)


async def test_garbage_and_cut_bodies(upstream: ScriptedUpstream, client: httpx.AsyncClient) -> None:
    upstream.plan(Fault.garbage(), Fault.wrong_json(), Fault.cut_mid_body(), Fault.huge(3_000_000))
    answer = await post(client, upstream, CHAT)
    assert answer.status_code == 200 and answer.text.startswith("<html>")
    assert (await post(client, upstream, CHAT)).json() == ["not", "an", "object"]
    with pytest.raises(httpx.RemoteProtocolError):
        await post(client, upstream, CHAT)
    assert len((await post(client, upstream, CHAT)).content) > 3_000_000


async def test_delays(upstream: ScriptedUpstream, client: httpx.AsyncClient) -> None:
    upstream.plan(Reply(delay=0.15), Stream(interval=0.05))
    started = time.monotonic()
    await post(client, upstream, CHAT)
    assert time.monotonic() - started >= 0.15
    started = time.monotonic()
    await post(client, upstream, STREAM)
    assert time.monotonic() - started >= 0.2


async def test_stream_with_and_without_usage_and_done(upstream: ScriptedUpstream, client: httpx.AsyncClient) -> None:
    upstream.plan(
        Stream(), Stream(), Stream(done=False), Stream(newline="\r\n", comment="waiting", headers={"set-cookie": "a=b"})
    )
    plain = (await post(client, upstream, STREAM)).text
    assert "usage" not in plain and plain.endswith("data: [DONE]\n\n")
    counted = (await post(client, upstream, STREAM_WITH_USAGE)).text.split("\n\n")
    assert json.loads(counted[-3].removeprefix("data: "))["choices"] == []
    assert "[DONE]" not in (await post(client, upstream, STREAM)).text
    answer = await post(client, upstream, STREAM)
    assert answer.text.startswith(": waiting\r\n\r\ndata: ") and answer.headers["set-cookie"] == "a=b"


async def test_events_split_across_packets(upstream: ScriptedUpstream, client: httpx.AsyncClient) -> None:
    upstream.plan(Stream(packet=7))
    async with client.stream("POST", f"{upstream.url}/chat/completions", json=STREAM) as answer:
        pieces = [piece async for piece in answer.aiter_raw()]
    assert max(map(len, pieces)) <= 7
    assert b"".join(pieces).endswith(b"data: [DONE]\n\n")


@pytest.mark.parametrize("how", ["close", "reset"])
@pytest.mark.parametrize("mid_event", [False, True])
async def test_cut_streams(how: Any, mid_event: bool, upstream: ScriptedUpstream, client: httpx.AsyncClient) -> None:
    upstream.plan(Fault.cut_stream(2, how=how, mid_event=mid_event))
    received = b""
    with pytest.raises((httpx.RemoteProtocolError, httpx.ReadError)):
        async with client.stream("POST", f"{upstream.url}/chat/completions", json=STREAM) as answer:
            async for data in answer.aiter_bytes():
                received += data
    assert received.count(b"\n\n") == 2
    assert received.endswith(b"\n\n") is not mid_event


async def test_error_event_and_silence_mid_stream(upstream: ScriptedUpstream, client: httpx.AsyncClient) -> None:
    upstream.plan(Fault.error_in_stream(1), Stream(hang_after=1))
    events = (await post(client, upstream, STREAM)).text.strip().split("\n\n")
    assert len(events) == 2 and "error" in json.loads(events[1].removeprefix("data: "))
    with pytest.raises(httpx.ReadTimeout):
        await client.post(f"{upstream.url}/chat/completions", json=STREAM, timeout=0.2)
    await upstream.wait_for_disconnects(1)


async def test_outage_and_recovery_on_the_same_port(upstream: ScriptedUpstream, client: httpx.AsyncClient) -> None:
    await post(client, upstream, CHAT)
    url = upstream.url
    await upstream.down()
    with pytest.raises(httpx.TransportError):
        await post(client, upstream, CHAT)
    await upstream.up()
    assert upstream.url == url
    assert (await post(client, upstream, CHAT)).status_code == 200


async def test_proxy_forwards_pauses_cuts_and_refuses(upstream: ScriptedUpstream, client: httpx.AsyncClient) -> None:
    async with TcpProxy("127.0.0.1", upstream.port) as proxy:
        url = f"http://127.0.0.1:{proxy.port}/v1/chat/completions"
        assert (await client.post(url, json=CHAT)).status_code == 200
        proxy.pause()
        held = asyncio.create_task(client.post(url, json=CHAT))
        await asyncio.sleep(0.1)
        assert not held.done() and len(upstream.requests) == 1
        proxy.resume()
        assert (await held).status_code == 200
        upstream.plan(Fault.hang())
        cut = asyncio.create_task(client.post(url, json=CHAT))
        await upstream.wait_for_requests(3)
        proxy.cut()
        with pytest.raises(httpx.ReadError):
            await cut
        await upstream.wait_for_disconnects(1)
        proxy.refuse()
        with pytest.raises(httpx.TransportError):
            await client.post(url, json=CHAT)
        proxy.accept()
        assert (await client.post(url, json=CHAT)).status_code == 200
