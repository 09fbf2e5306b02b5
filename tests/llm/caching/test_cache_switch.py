"""The cache of answers while its settings change: in every process, without a restart, and with calls that run."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import httpx
from redis.asyncio import Redis

from app.backends import open_answer_store
from app.llm.caching.answer_store import MemoryAnswers
from app.llm.caching.response_cache import ResponseCache, switch_cache
from app.settings import Settings
from tests.conftest import MASTER_KEY
from tests.llm.cached_worker import hit, is_hit, models
from tests.llm.live_worker import FAST, LiveWorker
from tests.services.quarterdeck import QuarterdeckFactory
from tests.upstream import ScriptedUpstream, Stream

_HEARD_SECONDS = 5.0


@dataclass
class Holder:
    answers: ResponseCache | None = None


def settings_with(*, is_on: bool = True, **params: Any) -> Settings:
    return Settings(master_key=MASTER_KEY, caches_answers=is_on, cache_params=params)


async def switched(holder: Holder, settings: Settings) -> ResponseCache:
    await switch_cache(holder, settings, lambda message: None, open_answer_store)
    assert holder.answers is not None
    return holder.answers


async def connections(redis_url: str) -> int:
    """How many a Redis has, the one that asks included."""
    async with Redis.from_url(redis_url) as redis:
        return len(await redis.client_list())


# ---- one process ---------------------------------------------------------------------------------------------------


async def test_rules_change_and_what_is_kept_stays() -> None:
    holder = Holder()
    first = await switched(holder, settings_with(type="local"))
    store = first._store
    store.put("a", b"1", 60)
    second = await switched(holder, settings_with(type="local", ttl=5, mode="default_off", scope="global"))
    assert second is first and second._store is store
    assert (second.params.seconds, second.params.is_default_on, second.params.scope) == (5, False, "global")
    assert await store.get_many(["a"]) == [b"1"]


async def test_another_size_of_the_memory_is_another_store() -> None:
    holder = Holder()
    first = await switched(holder, settings_with(type="local"))
    old = first._store
    old.put("a", b"1", 60)
    assert await switched(holder, settings_with(type="local", max_entries=5)) is first
    assert isinstance(old, MemoryAnswers) and len(old) == 0
    assert first._store is not old


async def test_off_is_no_cache_at_all_and_on_again_begins_empty() -> None:
    holder = Holder()
    (await switched(holder, settings_with(type="local")))._store.put("a", b"1", 60)
    await switch_cache(holder, settings_with(is_on=False), lambda message: None, open_answer_store)
    assert holder.answers is None
    again = await switched(holder, settings_with(type="local"))
    assert await again._store.get_many(["a"]) == [None]


async def test_the_redis_that_is_left_gets_what_waits_and_is_closed(redis_url: str) -> None:
    holder, before = Holder(), await connections(redis_url)
    cache = await switched(holder, settings_with(type="redis", url=redis_url))
    old = cache._store
    old.put("a", b"1", 60)
    await switched(holder, settings_with(type="local"))
    assert cache.kind == "local"
    old.put("b", b"2", 60)
    assert await old.get_many(["a"]) == [None], "a call that still holds it finds nothing"
    async with Redis.from_url(redis_url) as redis:
        assert await redis.keys("quarterdeck:response:*") == [b"quarterdeck:response:a"]
    assert await connections(redis_url) == before, "none is left open"


# ---- several processes ---------------------------------------------------------------------------------------------


async def until(holds: Callable[[], Awaitable[bool]]) -> None:
    deadline = time.monotonic() + _HEARD_SECONDS
    while not await holds():
        assert time.monotonic() < deadline, "the change was not heard"
        await asyncio.sleep(0.02)


async def goes_by(worker: LiveWorker, kind: str | None, **params: Any) -> None:
    """Wait until a worker's cache is as expected; None: off."""

    async def holds() -> bool:
        answer = await worker.http.get(f"{worker.url}/cache/ping", headers=worker.admin)
        if answer.status_code != 200:
            return kind is None
        body: dict[str, Any] = answer.json()
        return bool(body["cache_type"] == kind) and params.items() <= body["litellm_cache_params"].items()

    await until(holds)


async def test_every_process_follows_without_a_restart(
    upstream: ScriptedUpstream,
    quarterdeck_process: QuarterdeckFactory,
    migrated_postgres_url: str,
    redis_url: str,
    http: httpx.AsyncClient,
) -> None:
    config, before = {"model_list": models(upstream.port)}, await connections(redis_url)
    processes = [
        quarterdeck_process(config, database_url=migrated_postgres_url, env=FAST, wait=False) for _ in range(2)
    ]
    for process in processes:
        process.wait_until_alive()
    here, there = (LiveWorker(process, http) for process in processes)
    key = await here.new_key()
    assert [is_hit(await here.chat(key)) for _ in range(2)] == [False, False]

    await here.manage("/cache/settings", cache_settings={"type": "redis", "url": redis_url, "ttl": 60})
    for worker in (here, there):
        await goes_by(worker, "redis", ttl=60)
    assert not is_hit(await here.chat(key))
    await hit(here, key)
    assert is_hit(await there.chat(key)), "one Redis for both"

    await there.manage("/cache/settings", cache_settings={"type": "local", "namespace": "night"})
    for worker in (here, there):
        await goes_by(worker, "local", namespace="night")
        assert not is_hit(await worker.chat(key))
        assert is_hit(await worker.chat(key))
    assert await connections(redis_url) == before

    await here.manage("/config/update", litellm_settings={"cache": False})
    for worker in (here, there):
        await goes_by(worker, None)
        assert not is_hit(await worker.chat(key))


async def test_a_stream_that_runs_while_the_cache_goes_off_ends_well(
    upstream: ScriptedUpstream, quarterdeck_process: QuarterdeckFactory, redis_url: str, http: httpx.AsyncClient
) -> None:
    config = {
        "model_list": models(upstream.port),
        "litellm_settings": {"cache": True, "cache_params": {"type": "redis", "url": redis_url}},
    }
    worker = LiveWorker(quarterdeck_process(config, env=FAST), http)
    key = await worker.new_key()
    upstream.plan(Stream(words=("a", "b", "c", "d"), interval=0.2))
    async with worker.stream(key) as answer:
        assert answer.status_code == 200
        lines = answer.aiter_lines()
        await anext(lines)
        await worker.manage("/cache/settings", cache_settings={"cache": False})
        await goes_by(worker, None)
        rest = [line async for line in lines]
    assert "data: [DONE]" in rest
    assert (await worker.spend_row(key))["status"] == "success"
    async with Redis.from_url(redis_url) as redis:
        assert await redis.keys("quarterdeck:response:*") == []
