"""The same small cache in memory and in Redis."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from collections.abc import AsyncIterator

import pytest
from redis.asyncio import Redis

from app.backends import open_cache
from app.storage.cache import Cache, CacheAway, MemoryCache
from tests.source_files import ROOT
from tests.tcp_proxy import TcpProxy


@pytest.fixture(params=["memory", "redis"])
async def cache(request: pytest.FixtureRequest) -> AsyncIterator[Cache]:
    opened = open_cache(request.getfixturevalue("redis_url") if request.param == "redis" else None)
    yield opened
    await opened.close()


async def test_a_value_is_taken_once(cache: Cache) -> None:
    await cache.set("code", "value", 60)
    assert await cache.take("code") == "value"
    assert await cache.take("code") is None


async def test_of_many_takers_at_once_one_gets_the_value(cache: Cache) -> None:
    await cache.set("code", "value", 60)
    taken = await asyncio.gather(*(cache.take("code") for _ in range(100)))
    assert sorted(value for value in taken if value) == ["value"]


async def test_a_value_ends(cache: Cache) -> None:
    await cache.set("short", "value", 0.05)
    await asyncio.sleep(0.1)
    assert await cache.take("short") is None
    assert await cache.remaining_seconds("short") == 0


async def test_a_value_can_be_replaced_and_deleted(cache: Cache) -> None:
    await cache.set("key", "one", 60)
    await cache.set("key", "two", 60)
    assert 59 < await cache.remaining_seconds("key") <= 60
    assert await cache.take("key") == "two"
    await cache.set("key", "three", 60)
    await cache.delete("key")
    await cache.delete("never there")
    assert await cache.take("key") is None


async def test_a_count_lives_from_its_first_increment(cache: Cache) -> None:
    assert [await cache.increment("count", 2) for _ in range(3)] == [1, 2, 3]
    await asyncio.sleep(0.5)
    assert await cache.increment("count", 2) == 4
    assert 0 < await cache.remaining_seconds("count") <= 1.5
    await asyncio.sleep(1.6)
    assert await cache.increment("count", 2) == 1


async def test_counts_of_many_at_once_lose_none(cache: Cache) -> None:
    counts = await asyncio.gather(*(cache.increment("count", 60) for _ in range(100)))
    assert sorted(counts) == list(range(1, 101))


async def test_a_cache_is_healthy(cache: Cache) -> None:
    assert await cache.is_healthy()


async def test_memory_is_bounded_and_forgets_the_oldest_first() -> None:
    cache = MemoryCache(max_entries=3)
    for name in "abcd":
        await cache.set(name, name, 60)
    assert [await cache.take(name) for name in "abcd"] == [None, "b", "c", "d"]
    assert not cache.is_shared


async def test_redis_is_shared_and_keeps_to_its_own_names(redis_url: str) -> None:
    first, second = open_cache(redis_url), open_cache(redis_url)
    await first.set("key", "value", 60)
    async with Redis.from_url(redis_url, decode_responses=True) as client:
        assert await client.keys("*") == ["quarterdeck:key"]
    assert first.is_shared
    assert await second.take("key") == "value"
    await first.close()
    await second.close()


async def test_redis_away_is_told_at_once(free_port: int) -> None:
    cache = open_cache(f"redis://127.0.0.1:{free_port}/0")
    for action in (cache.set("k", "v", 1), cache.take("k"), cache.increment("k", 1), cache.remaining_seconds("k")):
        with pytest.raises(CacheAway):
            await action
    assert not await cache.is_healthy()
    await cache.close()


async def test_redis_that_does_not_answer_is_away_and_then_back(redis_url: str) -> None:
    port = int(redis_url.rpartition(":")[2].partition("/")[0])
    async with TcpProxy("127.0.0.1", port) as proxy:
        cache = open_cache(f"redis://127.0.0.1:{proxy.port}/0")
        await cache.set("key", "value", 60)
        proxy.pause()
        started = time.monotonic()
        with pytest.raises(CacheAway):
            await cache.take("other")
        assert time.monotonic() - started < 2
        proxy.resume()
        proxy.cut()
        assert await cache.is_healthy() or await cache.is_healthy()
        assert await cache.take("key") == "value"
        await cache.close()


def test_an_instance_without_redis_does_not_load_its_client() -> None:
    program = "import app.server.asgi, sys; print([name for name in sys.modules if name.split('.')[0] == 'redis'])"
    answer = subprocess.run([sys.executable, "-c", program], cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True)
    assert answer.stdout.strip() == "[]"
