"""Who counts when others cannot: one call, or all of them, and never longer than there is a reason to."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from decimal import Decimal

import pytest
from redis.asyncio import BlockingConnectionPool, Redis

from app.errors import ServiceUnavailable
from app.settings import Settings
from app.spend.counter_chain import CounterChain
from app.spend.counter_faults import CountersLost
from app.spend.counters import BudgetCounter, Claim, Hold, MemoryCounters, Refusal
from app.spend.redis_counters import PREFIX, RedisCounters
from app.spend.sql_counters import SqlCounters
from app.storage.cache import CacheAway
from app.storage.database import Database


class Scripted(MemoryCounters):
    """Counters that fail as long as `faults` has something for them, and take their time over it."""

    def __init__(self, *faults: Exception, seconds: float = 0.0) -> None:
        super().__init__()
        self.faults: Iterator[Exception] = iter(faults)
        self.seconds = seconds
        self.asked = 0

    async def admit(self, claim: Claim) -> Hold | Refusal:
        self.asked += 1
        await asyncio.sleep(self.seconds)
        for fault in self.faults:
            raise fault
        return await super().admit(claim)


def unavailable(times: int) -> list[Exception]:
    return [CacheAway("late") for _ in range(times)]


def asked(ceiling: str = "100") -> Claim:
    return Claim([BudgetCounter("key", Decimal(ceiling))], amount=Decimal(1))


async def serving(chain: CounterChain) -> object:
    verdict = await chain.admit(asked())
    assert isinstance(verdict, Hold)
    return verdict.counters


async def test_one_failure_is_that_call_s_alone() -> None:
    first, second = Scripted(*unavailable(1)), MemoryCounters()
    chain, changes = CounterChain([first, second]), list[bool]()
    chain.on_change(lambda: changes.append(True))
    assert [await serving(chain) for _ in range(3)] == [second, first, first]
    assert not changes


async def test_three_failures_in_a_row_give_a_rest() -> None:
    first, second = Scripted(*unavailable(3)), MemoryCounters()
    chain, changes = CounterChain([first, second]), list[bool]()
    chain.on_change(lambda: changes.append(True))
    assert [await serving(chain) for _ in range(10)] == [second] * 10
    assert (first.asked, len(changes)) == (3, 1)


async def test_calls_that_fail_together_are_one_failure_and_one_call_looks_whether_it_was_the_only_one() -> None:
    first, second = Scripted(*unavailable(20), seconds=0.02), MemoryCounters()
    chain = CounterChain([first, second])
    assert await asyncio.gather(*(serving(chain) for _ in range(20))) == [second] * 20
    kinds = await asyncio.gather(*(serving(chain) for _ in range(20)))
    assert (kinds.count(first), first.asked) == (1, 21)
    assert await asyncio.gather(*(serving(chain) for _ in range(20))) == [first] * 20


async def test_a_client_that_leaves_while_it_looks_leaves_the_looking_to_the_next() -> None:
    first, second = Scripted(*unavailable(1)), MemoryCounters()
    chain = CounterChain([first, second])
    await serving(chain)
    first.seconds = 5
    leaving = asyncio.create_task(serving(chain))
    await asyncio.sleep(0.01)
    leaving.cancel()
    await asyncio.gather(leaving, return_exceptions=True)
    first.seconds = 0
    assert await serving(chain) is first


async def test_counters_that_have_forgotten_rest_at_once() -> None:
    first, second = Scripted(CountersLost("restarted")), MemoryCounters()
    chain, changes = CounterChain([first, second]), list[bool]()
    chain.on_change(lambda: changes.append(True))
    assert [await serving(chain) for _ in range(3)] == [second] * 3
    assert (first.asked, len(changes)) == (1, 1)


async def test_a_call_that_nothing_bounds_is_asked_of_nobody() -> None:
    first = Scripted()
    chain = CounterChain([first, MemoryCounters()])
    verdict = await chain.admit(Claim([BudgetCounter("key", None, Decimal(7))]))
    assert isinstance(verdict, Hold)
    assert (verdict.spends, first.asked) == ([Decimal(7)], 0)
    verdict.counters.settle(verdict, Decimal(1), 5)


async def test_a_closed_chain_refuses_rather_than_count_alone() -> None:
    chain = CounterChain([Scripted(*unavailable(1)), MemoryCounters()], is_closed_without_shared=True)
    with pytest.raises(ServiceUnavailable):
        await chain.admit(asked())
    await chain.admit(asked())


async def test_money_counts_once_while_redis_is_slow_now_and_then(redis_url: str, migrated_postgres_url: str) -> None:
    database = Database(Settings(database_url=migrated_postgres_url))
    await database.open()
    pool = BlockingConnectionPool.from_url(
        redis_url, decode_responses=True, socket_timeout=0.1, max_connections=10, timeout=1.0
    )
    kinds, redis = set[str](), Redis.from_pool(pool)
    chain = CounterChain([RedisCounters(redis, "test"), SqlCounters(database)])
    await chain.start()

    async def call() -> None:
        verdict = await chain.admit(asked("1000"))
        assert isinstance(verdict, Hold)
        kinds.add(type(verdict.counters).__name__)
        await asyncio.sleep(0.02)
        verdict.counters.settle(verdict, Decimal(1), 0)

    async with Redis.from_url(redis_url, decode_responses=True) as other:
        for _ in range(6):
            await asyncio.gather(*(call() for _ in range(20)))
            await other.client_pause(150)
            await asyncio.gather(*(call() for _ in range(20)))
            await asyncio.sleep(0.1)
        await asyncio.sleep(0.6)
        assert await other.get(f"{PREFIX}test:b:key") == "240000000000"
        assert not await other.hgetall(f"{PREFIX}test:h:key")
    assert {"RedisCounters", "CounterChain"} <= kinds
    await chain.stop()
    await redis.aclose()
    await database.close()
