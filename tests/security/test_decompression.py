"""Decompression: what somebody sends compressed never costs more memory or time than its size allows."""

from __future__ import annotations

import asyncio
import gzip
import json
import random
import time
import tracemalloc
import zlib
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager

import httpx
import pytest

from app.control_plane.registry import Worker, WorkerRegistry
from app.control_plane.worker_errors import WorkerUnreachable
from app.control_plane.worker_http import PROBE_AFTER, WorkerConnection
from app.llm.upstream.http_client import HttpClient
from app.llm.upstream.http_response import HttpResponse, InvalidResponse, Timeouts
from app.llm.upstream.inflater import FREE_BYTES, MAX_RATIO, STEP_BYTES, Inflater, InvalidCompression
from tests.llm.live_worker import LiveWorker, deployment
from tests.llm.upstream.providers import saying, serving
from tests.services.quarterdeck import QuarterdeckFactory
from tests.upstream import Reply, ScriptedUpstream

TIMEOUTS = Timeouts(connect=5, total=20)
MEGABYTE = 1024 * 1024


def bomb(megabytes: int = 400) -> bytes:
    """Zeros, a thousand times smaller."""
    packer = zlib.compressobj(9, zlib.DEFLATED, zlib.MAX_WBITS | 16)
    zeros = bytes(MEGABYTE)
    return b"".join([*(packer.compress(zeros) for _ in range(megabytes)), packer.flush()])


BOMB = bomb()


def gzipped(body: bytes) -> bytes:
    return b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(body) + body


@contextmanager
def memory_below(megabytes: int) -> Iterator[None]:
    """Fails when the test needed more memory of Python's than this at any moment."""
    tracemalloc.start()
    try:
        yield
        assert tracemalloc.get_traced_memory()[1] < megabytes * MEGABYTE
    finally:
        tracemalloc.stop()


@asynccontextmanager
async def answered(body: bytes) -> AsyncIterator[HttpResponse]:
    async with serving(saying(gzipped(body))) as provider:
        client = HttpClient(4)
        yield await client.request("POST", provider.url, {}, b"{}", TIMEOUTS, owner="o")
        client.close()


# ---- answers of providers ------------------------------------------------------------------------------------------


async def test_a_bomb_is_refused_while_it_is_small() -> None:
    with memory_below(8):
        async with answered(BOMB) as answer:
            received = 0
            with pytest.raises(InvalidResponse, match="grows beyond"):
                while piece := await answer.read():
                    assert len(piece) <= STEP_BYTES
                    received += len(piece)
            assert received <= FREE_BYTES


async def test_nothing_is_decompressed_before_it_is_read() -> None:
    with memory_below(4):
        async with answered(BOMB):
            await asyncio.sleep(0.2)


async def test_an_honest_body_arrives_whole_and_others_get_their_turns() -> None:
    words = random.Random(1).choices(["alpha", "beta", "gamma", "delta", "1234567"], k=2_000_000)
    text = " ".join(words).encode()
    turns = 0

    async def count_turns() -> None:
        nonlocal turns
        while True:
            await asyncio.sleep(0)
            turns += 1

    async with answered(gzip.compress(text, mtime=0)) as answer:
        counting = asyncio.create_task(count_turns())
        body = b""
        while piece := await answer.read():
            body += piece
        counting.cancel()
    assert body == text
    assert turns >= len(text) // STEP_BYTES


def inflated(*pieces: bytes) -> bytes:
    inflater, made = Inflater(), b""
    for piece in pieces:
        inflater.add(piece)
        while inflater.has_more:
            made += inflater.step()
    return made


@pytest.mark.parametrize("size", [0, 1, STEP_BYTES - 1, STEP_BYTES, STEP_BYTES + 1, 3 * STEP_BYTES])
@pytest.mark.parametrize("compress", [lambda data: gzip.compress(data, mtime=0), zlib.compress], ids=["gzip", "zlib"])
def test_every_size_comes_out_as_it_went_in(size: int, compress: Callable[[bytes], bytes]) -> None:
    data = random.Random(size).randbytes(size // 2) + bytes(size - size // 2)
    packed = compress(data)
    assert inflated(packed) == data
    assert inflated(*(packed[at : at + 7] for at in range(0, len(packed), 7))) == data


def test_what_follows_the_end_is_refused_and_never_collected() -> None:
    inflater = Inflater()
    inflater.add(gzip.compress(b"hello", mtime=0) + b"more")
    assert inflater.step() == b"hello"
    with pytest.raises(InvalidCompression, match="after its end"):
        inflater.step()


def test_the_ratio_counts_from_a_size_on() -> None:
    assert inflated(zlib.compress(bytes(FREE_BYTES))) == bytes(FREE_BYTES)
    with pytest.raises(InvalidCompression, match="grows beyond"):
        inflated(zlib.compress(bytes(FREE_BYTES + STEP_BYTES)))
    dense = random.Random(2).randbytes(2 * FREE_BYTES // MAX_RATIO)
    body = dense + bytes(2 * FREE_BYTES - len(dense))
    assert inflated(zlib.compress(body)) == body


async def test_a_worker_goes_on_answering_while_a_provider_sends_bombs(quarterdeck_process: QuarterdeckFactory) -> None:
    async with ScriptedUpstream() as upstream, httpx.AsyncClient(trust_env=False, timeout=20) as http:
        packed = {"content-encoding": "gzip"}
        upstream.on_model("bomb", Reply(raw=BOMB, headers=packed))
        upstream.on_model("honest", Reply(raw=gzip.compress(json.dumps(HONEST).encode(), mtime=0), headers=packed))
        models = [deployment(name, upstream.url, f"openai/{name}") for name in ("bomb", "honest")]
        worker = LiveWorker(quarterdeck_process({"model_list": models}), http)
        key = await worker.new_key()
        calls = [asyncio.create_task(worker.chat(key, "bomb")) for _ in range(4)]
        calls.append(asyncio.create_task(worker.chat(key, "bomb", stream=True)))
        slowest = 0.0
        while not all(call.done() for call in calls):
            started = time.perf_counter()
            assert (await http.get(f"{worker.url}/health/liveliness")).status_code == 200
            slowest = max(slowest, time.perf_counter() - started)
        assert slowest < 2
        assert [(await call).status_code >= 500 or b"error" in (await call).content for call in calls] == [True] * 5
        answer = await worker.chat(key, "honest")
        assert (answer.status_code, answer.json()["choices"][0]["message"]["content"]) == (200, "hello")


HONEST = {
    "id": "c",
    "object": "chat.completion",
    "created": 1,
    "model": "honest",
    "choices": [{"index": 0, "message": {"role": "assistant", "content": "hello"}, "finish_reason": "stop"}],
    "usage": {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2},
}


# ---- answers of workers to the console -----------------------------------------------------------------------------


@asynccontextmanager
async def console_of(url: str) -> AsyncIterator[WorkerConnection]:
    worker = Worker("w", "W", url)
    registry = WorkerRegistry([worker], own=worker)
    yield WorkerConnection(worker, registry.health(worker), http=registry.http, key="sk-1")
    await registry.aclose()


@pytest.mark.parametrize("coding", [b"gzip", b"deflate", b"br", b"gzip, gzip", b"GZIP", b"unheard-of"])
async def test_the_console_asks_for_plain_answers_and_reads_no_others(coding: bytes) -> None:
    said = gzipped(BOMB).replace(b"gzip", coding, 1)
    with memory_below(8):
        async with serving(saying(said)) as worker, console_of(worker.url) as console:
            with pytest.raises(WorkerUnreachable, match="compressed"):
                await console.get("/key/list")
    (request,) = worker.requests
    assert b"accept-encoding: identity" in request.lower()
    assert request.lower().count(b"accept-encoding") == 1


async def test_an_answer_that_says_it_is_plain_is_read() -> None:
    said = b"HTTP/1.1 200 OK\r\nContent-Encoding: identity\r\nContent-Length: 2\r\n\r\n{}"
    async with serving(saying(said)) as worker, console_of(worker.url) as console:
        assert await console.get("/key/list") == {}


async def test_the_probe_beside_a_slow_answer_reads_no_body() -> None:
    async def answer_slowly(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if len(worker.requests) == 1:
            await asyncio.sleep(PROBE_AFTER + 0.4)
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")
        else:
            writer.write(gzipped(BOMB))
        await writer.drain()

    with memory_below(8):
        async with serving(answer_slowly) as worker, console_of(worker.url) as console:
            assert await console.get("/key/list") == {}
    assert [request.partition(b" HTTP")[0] for request in worker.requests] == [
        b"GET /key/list",
        b"GET /health/liveliness",
    ]
