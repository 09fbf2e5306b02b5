"""Budgets and limits are exact whatever runs at once: in one process, and over several on one PostgreSQL."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from decimal import Decimal
from urllib.parse import urlsplit

import httpx
import pytest
from redis.asyncio import Redis

from app.spend.redis_counters import PREFIX
from tests.llm.live_worker import FAST, LiveWorker, deployment
from tests.services.quarterdeck import QuarterdeckFactory
from tests.services.redis import start_redis
from tests.services.run_directory import RunDirectory
from tests.tcp_proxy import TcpProxy
from tests.upstream import Reply, ScriptedUpstream, Usage

# One call asks for one token of the answer at most, and gets it: its estimate is its cost.
_CALL_USD = Decimal("0.01")
_ONE_TOKEN = Usage(prompt=0, completion=1)
_BUDGET_CALLS = 50
_PROMISED_SECONDS = 1.0


@pytest.fixture
async def provider() -> AsyncIterator[ScriptedUpstream]:
    async with ScriptedUpstream() as upstream:
        upstream.on_model("gpt-4o-mini", Reply(usage=_ONE_TOKEN, delay=0.3))
        yield upstream


def config_of(provider: ScriptedUpstream) -> dict[str, object]:
    price = float(_CALL_USD)
    return {"model_list": [deployment("chat", provider.url, input_cost_per_token=0, output_cost_per_token=price)]}


async def flood(workers: Sequence[LiveWorker], key: str, calls: int) -> Counter[int]:
    """Statuses of calls that all start at once, spread over the workers."""
    answers = await asyncio.gather(*(workers[number % len(workers)].chat(key, max_tokens=1) for number in range(calls)))
    return Counter(answer.status_code for answer in answers)


async def spend_of(worker: LiveWorker, key: str, expected: Decimal) -> Decimal:
    """What the database says the key has spent, as soon as it is what was expected, or after five seconds."""
    deadline = time.monotonic() + 5
    while True:
        spend = Decimal(str((await worker.key_info(key))["spend"]))
        if spend == expected or time.monotonic() > deadline:
            return spend
        await asyncio.sleep(0.1)


async def assert_the_budget_is_kept(workers: Sequence[LiveWorker]) -> None:
    budget = _CALL_USD * _BUDGET_CALLS
    key = await workers[0].new_key(max_budget=float(budget))
    statuses = await flood(workers, key, 200)
    assert set(statuses) == {200, 422}, statuses
    spent = _CALL_USD * statuses[200]
    assert budget - _CALL_USD <= spent <= budget + _CALL_USD
    assert await spend_of(workers[0], key, spent) == spent
    assert (await flood(workers, key, 8)) == {422: 8}


async def test_two_hundred_calls_at_once_in_one_process(
    quarterdeck_process: QuarterdeckFactory, provider: ScriptedUpstream, http: httpx.AsyncClient
) -> None:
    worker = LiveWorker(quarterdeck_process(config_of(provider), env=FAST), http)
    await assert_the_budget_is_kept([worker])


@pytest.mark.parametrize("shared", ["redis", "postgres"])
async def test_two_hundred_calls_at_once_over_four_processes(
    shared: str,
    migrated_postgres_url: str,
    redis_url: str,
    quarterdeck_process: QuarterdeckFactory,
    provider: ScriptedUpstream,
    http: httpx.AsyncClient,
) -> None:
    env = {**FAST, "REDIS_URL": redis_url} if shared == "redis" else FAST
    workers = [
        LiveWorker(quarterdeck_process(config_of(provider), database_url=migrated_postgres_url, env=env), http)
        for _ in range(4)
    ]
    await assert_the_budget_is_kept(workers)


async def test_redis_that_is_cut_in_the_middle_loses_nothing(
    migrated_postgres_url: str,
    redis_url: str,
    quarterdeck_process: QuarterdeckFactory,
    provider: ScriptedUpstream,
    http: httpx.AsyncClient,
) -> None:
    """The database takes over. Calls that run at the moment of the cut may come on top, and no call fails of it."""
    parts = urlsplit(redis_url)
    async with TcpProxy(parts.hostname or "127.0.0.1", parts.port or 6379) as proxy:
        env = {**FAST, "REDIS_URL": f"redis://127.0.0.1:{proxy.port}/0"}
        workers = [
            LiveWorker(quarterdeck_process(config_of(provider), database_url=migrated_postgres_url, env=env), http)
            for _ in range(4)
        ]
        key = await workers[0].new_key(max_budget=float(_CALL_USD * _BUDGET_CALLS))
        before = await flood(workers, key, 20)
        running = asyncio.create_task(flood(workers, key, 10))
        await asyncio.sleep(0.1)
        proxy.refuse()
        proxy.cut()
        await asyncio.sleep(1.0)  # what ran is settled and in the database
        after = await flood(workers, key, 60)
        statuses = before + await running + after
        assert set(statuses) == {200, 422}, statuses
        spent = _CALL_USD * statuses[200]
        assert _CALL_USD * (_BUDGET_CALLS - 1) <= spent <= _CALL_USD * (_BUDGET_CALLS + 10)
        assert await spend_of(workers[0], key, spent) == spent
        proxy.accept()
        for _ in range(6):  # while the database hands back to Redis
            assert (await flood(workers, key, 8)) == {422: 8}
            await asyncio.sleep(1)


async def test_redis_that_restarts_empty_in_the_middle_forgets_nothing(
    migrated_postgres_url: str,
    run_directory: RunDirectory,
    quarterdeck_process: QuarterdeckFactory,
    provider: ScriptedUpstream,
    http: httpx.AsyncClient,
) -> None:
    url = start_redis(run_directory)
    processes = [
        quarterdeck_process(config_of(provider), database_url=migrated_postgres_url, env={**FAST, "REDIS_URL": url})
        for _ in range(2)
    ]
    workers = [LiveWorker(process, http) for process in processes]
    key = await workers[0].new_key(max_budget=float(_CALL_USD * _BUDGET_CALLS))
    statuses = await flood(workers, key, 20)
    running = asyncio.create_task(flood(workers, key, 10))
    await asyncio.sleep(0.1)
    async with Redis.from_url(url) as redis:
        server = await redis.info("server")
    os.kill(server["process_id"], signal.SIGKILL)
    start_redis(run_directory, urlsplit(url).port)
    statuses += await flood(workers, key, 60)
    statuses += await running
    for _ in range(6):  # while the database hands back to Redis
        await asyncio.sleep(1)
        assert set(await flood(workers, key, 8)) == {422}
    spent = _CALL_USD * statuses[200]
    assert _CALL_USD * (_BUDGET_CALLS - 1) <= spent <= _CALL_USD * (_BUDGET_CALLS + 10)
    assert await spend_of(workers[0], key, spent) == spent
    assert any("redis counters lost" in process.log_text() for process in processes)
    async with Redis.from_url(url, decode_responses=True) as redis:
        (counter,) = [name async for name in redis.scan_iter(f"{PREFIX}*:b:*")]
        assert Decimal(str(await redis.get(counter))) / 10**9 == spent
        await redis.shutdown(nosave=True)


@pytest.mark.parametrize("shared", ["redis", "postgres"])
async def test_a_limit_of_sixty_a_minute_holds_over_two_processes(
    shared: str,
    migrated_postgres_url: str,
    redis_url: str,
    quarterdeck_process: QuarterdeckFactory,
    http: httpx.AsyncClient,
) -> None:
    env = {**FAST, "REDIS_URL": redis_url} if shared == "redis" else FAST
    config = {"model_list": [deployment("chat", "http://127.0.0.1:9/v1", mock_response="hello")]}
    workers = [
        LiveWorker(quarterdeck_process(config, database_url=migrated_postgres_url, env=env), http) for _ in range(2)
    ]
    key = await workers[0].new_key(rpm_limit=60)
    admitted = Counter[int]()
    for _ in range(5):
        admitted += await flood(workers, key, 100)
        await asyncio.sleep(0.5)
    assert admitted == {200: 60, 429: 440}


async def test_a_key_that_is_blocked_is_refused_everywhere_within_a_second(
    migrated_postgres_url: str, quarterdeck_process: QuarterdeckFactory, http: httpx.AsyncClient
) -> None:
    config = {
        "model_list": [deployment("chat", "http://127.0.0.1:9/v1", mock_response="hello")],
        "general_settings": {"user_api_key_cache_ttl": 3600},
    }
    here, there = (
        LiveWorker(quarterdeck_process(config, database_url=migrated_postgres_url, env=FAST), http) for _ in range(2)
    )
    key = await here.new_key()
    assert (await there.chat(key)).status_code == 200
    for path, body, status in (
        ("/key/block", {"key": key}, 401),
        ("/key/unblock", {"key": key}, 200),
        ("/key/update", {"key": key, "models": ["other"]}, 403),
        ("/key/update", {"key": key, "models": []}, 200),
        ("/key/delete", {"keys": [key]}, 401),
    ):
        await here.manage(path, **body)
        deadline = time.monotonic() + _PROMISED_SECONDS
        while (answer := await there.chat(key)).status_code != status and time.monotonic() < deadline:
            await asyncio.sleep(0.02)
        assert answer.status_code == status, (path, body, answer.text)
