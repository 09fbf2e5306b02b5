"""Answers of a worker in a real Redis: shared by all processes, and no delay when it dies."""

from __future__ import annotations

import json
import time

import httpx
import pytest
from redis.asyncio import Redis

from tests.llm.cached_worker import CACHE_KEY, configured, hit, is_hit
from tests.llm.live_worker import FAST, LiveWorker
from tests.services.quarterdeck import QuarterdeckFactory, QuarterdeckProcess
from tests.services.redis import start_redis
from tests.services.run_directory import RunDirectory
from tests.upstream import ScriptedUpstream


@pytest.fixture(scope="module")
def redis_process(factory: QuarterdeckFactory, upstream_port: int, redis_server_url: str) -> QuarterdeckProcess:
    return factory(configured(upstream_port, type="redis", url=redis_server_url, namespace="night"), env=FAST)


async def test_answers_in_redis_serve_every_process(
    redis_process: QuarterdeckProcess,
    http: httpx.AsyncClient,
    upstream: ScriptedUpstream,
    redis_url: str,
) -> None:
    worker = LiveWorker(redis_process, http)
    key = await worker.new_key()
    first = await worker.chat(key)
    again = await hit(worker, key)
    assert again.json() == first.json()
    name = again.headers[CACHE_KEY]
    assert name.startswith("night:")
    async with Redis.from_url(redis_url) as redis:
        stored = json.loads(await redis.get(f"quarterdeck:response:{name}") or "")
        assert stored["body"]["choices"][0]["message"]["content"] == "Hello world"
        assert 0 < stored["ends_at"] - time.time() <= 600
        # Whatever else somebody writes there is no answer.
        await redis.set(f"quarterdeck:response:{name}", b"<html>")
    assert not is_hit(await worker.chat(key))


async def test_a_redis_that_dies_in_the_middle_stops_nobody(
    factory: QuarterdeckFactory,
    run_directory: RunDirectory,
    http: httpx.AsyncClient,
    upstream: ScriptedUpstream,
) -> None:
    url = start_redis(run_directory)
    process = factory(configured(upstream.port, type="redis", url=url), env=FAST)
    worker = LiveWorker(process, http)
    key = await worker.new_key()
    await worker.chat(key)
    await hit(worker, key)
    async with Redis.from_url(url) as redis:
        await redis.client_pause(400)
        before = time.monotonic()
        assert not is_hit(await worker.chat(key))
        assert time.monotonic() - before < 1.0
        await redis.shutdown(nosave=True)
    for _ in range(5):
        await worker.chat(key)
    assert process.log_text().count("response cache unavailable") == 1
    before = time.monotonic()
    answers = [await worker.chat(key) for _ in range(20)]
    assert (time.monotonic() - before) / 20 < 0.1
    assert [is_hit(answer) for answer in answers] == [False] * 20
