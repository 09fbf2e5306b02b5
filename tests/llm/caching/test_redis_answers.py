"""Answers in a real Redis: shared, bounded in time, and never a reason to wait."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator

import pytest
from redis.asyncio import Redis

from app.llm.caching.redis_answers import PREFIX, Breaker, RedisAnswers
from app.storage.cache import CacheAway
from tests.services.redis import start_redis
from tests.services.run_directory import RunDirectory


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
async def redis(redis_url: str) -> AsyncIterator[Redis]:
    async with Redis.from_url(redis_url) as client:
        yield client


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def answers(redis_url: str, clock: Clock) -> AsyncIterator[RedisAnswers]:
    store = RedisAnswers(redis_url, clock=clock)
    await store.ping()  # a busy machine may take longer than a call would wait to connect
    yield store
    await store.close()


async def kept(answers: RedisAnswers, key: str) -> bytes | None:
    """What is kept once the writes are out."""
    for _ in range(200):
        (value,) = await answers.get_many([key])
        if value is not None:
            return value
        await asyncio.sleep(0.01)
    return None


async def test_an_answer_is_plain_text_with_an_end(answers: RedisAnswers, redis: Redis) -> None:
    answers.put("k", b'{"a":1}', 30)
    assert await kept(answers, "k") == b'{"a":1}'
    assert await redis.get(f"{PREFIX}k") == b'{"a":1}'
    assert 25_000 < await redis.pttl(f"{PREFIX}k") <= 30_000
    assert await answers.get_many(["x", "k"]) == [None, b'{"a":1}']


async def test_only_answers_are_dropped(answers: RedisAnswers, redis: Redis) -> None:
    await redis.set("quarterdeck:login-code:x", "code")
    for number in range(2500):
        await redis.set(f"{PREFIX}{number}", "1")
    assert await answers.delete(["1", "2", "none"]) == 2
    assert await answers.delete([]) == 0
    assert await answers.flush() >= 2498
    assert await redis.keys("*") == [b"quarterdeck:login-code:x"]


async def test_a_redis_that_hangs_costs_a_moment_and_then_nothing(
    answers: RedisAnswers, redis: Redis, clock: Clock
) -> None:
    answers.put("k", b"1", 30)
    assert await kept(answers, "k") == b"1"
    await redis.client_pause(1200)
    begun = time.monotonic()
    while not answers.breaker.is_open:
        before = time.monotonic()
        assert await answers.get_many(["k"]) == [None]
        assert time.monotonic() - before < 0.5
    assert time.monotonic() - begun < 1.1
    before = time.process_time()
    for _ in range(1000):
        assert await answers.get_many(["k", "l"]) == [None, None]
    assert time.process_time() - before < 0.2
    # Probes beside the calls, until Redis is back.
    for _ in range(300):
        clock.now += 61
        found = await answers.get_many(["k"])
        if found == [b"1"]:
            break
        await asyncio.sleep(0.01)
    # Connections that were given up in the middle of an answer are not used again.
    assert [(await answers.get_many(["k", "none"])) for _ in range(5)] == [[b"1", None]] * 5
    assert not answers.breaker.is_open


async def test_a_redis_that_dies_is_left_alone(run_directory: RunDirectory) -> None:
    url = start_redis(run_directory)
    store = RedisAnswers(url)
    await store.ping()
    async with Redis.from_url(url) as client:
        await client.shutdown(nosave=True)
    for _ in range(5):
        assert await store.get_many(["k"]) == [None]
    assert store.breaker.is_open
    store.put("k", b"1", 30)
    with pytest.raises(CacheAway):
        await store.ping()
    with pytest.raises(CacheAway):
        await store.flush()
    with pytest.raises(CacheAway):
        await store.delete(["k"])
    await store.close()


async def test_writes_that_wait_are_bounded_and_go_out_at_the_end(answers: RedisAnswers, redis: Redis) -> None:
    for number in range(3000):
        answers.put(f"n{number}", b"x", 30)
    await answers.close()
    assert await redis.dbsize() in (2000, 2001)  # the ping may still be there
    answers.put("large", b"x" * 20_000_000, 30)
    answers.put("larger", b"x" * 20_000_000, 30)
    await answers.close()
    assert await redis.exists(f"{PREFIX}larger") == 0


def test_a_breaker_opens_after_five_failures_in_a_row() -> None:
    clock = Clock()
    breaker = Breaker(clock)
    for _ in range(4):
        breaker.failed(TimeoutError())
    breaker.answered()
    for _ in range(4):
        breaker.failed(TimeoutError())
    assert not breaker.is_open
    breaker.failed(TimeoutError())
    assert breaker.is_open and not breaker.wants_probe
    clock.now += 60
    assert breaker.wants_probe
    breaker.failed(TimeoutError())
    assert breaker.is_open and not breaker.wants_probe
    clock.now += 60
    breaker.answered()
    assert not breaker.is_open
