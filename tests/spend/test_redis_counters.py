"""Counters in a Redis that forgets, answers late, or holds nonsense: what was spent counts once, and nobody waits."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from decimal import Decimal
from typing import Any
from urllib.parse import urlsplit

import pytest
from redis.asyncio import Redis
from structlog.testing import capture_logs

from app.spend.counter_chain import CounterChain
from app.spend.counter_faults import CountersInDoubt, CountersLost
from app.spend.counters import BudgetCounter, Claim, Hold, Limit, MemoryCounters, Refusal
from app.spend.redis_counters import PREFIX, RedisCounters
from app.storage.cache import CacheAway
from tests.services.redis import start_redis
from tests.services.run_directory import RunDirectory
from tests.tcp_proxy import TcpProxy

_P = f"{PREFIX}test:"


@pytest.fixture
async def redis(redis_url: str) -> AsyncIterator[Redis]:
    async with Redis.from_url(redis_url, decode_responses=True) as client:
        yield client


def asked(ceiling: str, *, seed: str = "0", amount: str = "1", name: str = "key") -> Claim:
    return Claim([BudgetCounter(name, Decimal(ceiling), Decimal(seed))], amount=Decimal(amount))


async def admitted(counters: RedisCounters | CounterChain, claim: Claim) -> Hold:
    verdict = await counters.admit(claim)
    assert isinstance(verdict, Hold), verdict
    return verdict


async def refused(counters: RedisCounters | CounterChain, claim: Claim) -> Refusal:
    verdict = await counters.admit(claim)
    assert isinstance(verdict, Refusal), verdict
    return verdict


async def assert_nothing_is_held(redis: Redis) -> None:
    for kind in ("h", "p"):
        async for key in redis.scan_iter(f"{_P}{kind}:*"):
            assert not await redis.hgetall(key), key


# ---- forgotten -----------------------------------------------------------------------------------------------------


async def test_a_redis_that_restarts_empty_is_told_again_what_runs(run_directory: RunDirectory) -> None:
    url = start_redis(run_directory)
    async with Redis.from_url(url, decode_responses=True) as redis:
        one, two = RedisCounters(redis, "test"), RedisCounters(redis, "test")
        running = [await admitted(one, asked("4")) for _ in range(2)]
        ended = await admitted(two, asked("4"))
        server = await redis.info("server")
        os.kill(server["process_id"], signal.SIGKILL)
        await redis.connection_pool.disconnect()
        start_redis(run_directory, urlsplit(url).port)
        for counters in (one, two):
            with pytest.raises(CountersLost):
                await counters.admit(asked("4"))
            with pytest.raises(CountersLost):  # until it is asked whether it is ready again
                await counters.admit(asked("4"))
        two.settle(ended, Decimal("0.5"), 0)
        for counters in (one, two):
            await counters.ping()
        # The database knows of 0.5, and two calls run.
        assert (await admitted(two, asked("4", seed="0.5", amount="0.5"))).spends == [Decimal("0.5")]
        assert (await refused(one, asked("3", seed="0.5"))).used == Decimal("0.5")
        for hold in running:
            one.settle(hold, Decimal("0.25"), 0)
        assert (await admitted(one, asked("1.51", amount="0"))).spends == [Decimal(1)]
        await redis.shutdown(nosave=True)


async def test_every_process_notices_by_itself_and_an_end_on_the_way_holds_nothing(redis: Redis) -> None:
    counters = RedisCounters(redis, "test")
    await counters.start()
    claim = Claim([BudgetCounter("key", Decimal(9))], [Limit("l", rpm=1, parallel=2)], Decimal(1))
    hold = await admitted(counters, claim)
    await redis.flushall()
    await counters._heartbeat()
    counters.settle(hold, Decimal(1), 0)
    with pytest.raises(CountersLost):
        await counters.admit(claim)
    await counters.ping()
    await asyncio.sleep(0.1)
    await assert_nothing_is_held(redis)
    # Its window starts afresh.
    await admitted(counters, claim)
    await counters.stop()


async def test_a_redis_that_restarts_from_an_older_state_of_itself_is_lost_too(redis_url: str, redis: Redis) -> None:
    one, two = RedisCounters(redis, "test"), RedisCounters(redis, "test")
    ended, running = await admitted(one, asked("3")), await admitted(one, asked("3"))
    for counters in (one, two):
        await counters.ping()
        await counters._heartbeat()
    async with Redis.from_url(redis_url) as binary:
        snapshot = {key: await binary.dump(key) for key in await binary.keys("*")}
        one.settle(ended, Decimal(1), 0)
        await one._settle_pending()
        await two._heartbeat()
        await binary.flushall()
        for key, value in snapshot.items():
            await binary.restore(key, 0, value or b"")
    await two._heartbeat()
    for counters in (two, one):
        with pytest.raises(CountersLost):
            await counters.admit(asked("3"))
        await counters.ping()
    assert (await admitted(two, asked("2.01", seed="1"))).spends == [Decimal(1)]
    one.settle(running, Decimal("0.5"), 0)
    assert (await refused(one, asked("2.5"))).used == Decimal("1.5")


async def test_a_telling_of_what_runs_that_arrives_late_counts_nothing(redis_url: str, redis: Redis) -> None:
    parts = urlsplit(redis_url)
    async with (
        TcpProxy("127.0.0.1", parts.port or 6379) as proxy,
        Redis.from_url(f"redis://127.0.0.1:{proxy.port}/0", decode_responses=True, socket_timeout=0.1) as slow,
    ):
        counters = RedisCounters(slow, "test")
        running = await admitted(counters, asked("3"))
        await redis.flushall()
        with pytest.raises(CountersLost):
            await counters.admit(asked("3"))
        proxy.lose_reply_to(b"EVALSHA")
        with pytest.raises(CacheAway):
            await counters._join()
        await counters.ping()
        assert len(await redis.hgetall(f"{_P}h:key")) == 2  # of which one process is void
        await admitted(counters, asked("2.5"))
        assert (await refused(counters, asked("2"))).unit == "budget"
        counters.settle(running, Decimal(1), 0)
        await counters._settle_pending()
        assert (await admitted(counters, asked("2.5"))).spends == [Decimal(1)]


# ---- late ----------------------------------------------------------------------------------------------------------


def loses_the_answer(proxy: TcpProxy) -> None:
    proxy.lose_reply_to(b"EVALSHA")


def loses_the_question(proxy: TcpProxy) -> None:
    proxy.lose_request(b"EVALSHA")


@pytest.mark.parametrize("fault", [loses_the_answer, loses_the_question, TcpProxy.pause])
@pytest.mark.parametrize("is_full", [False, True])
async def test_a_call_without_an_answer_counts_once_wherever_it_was_admitted(
    redis_url: str, redis: Redis, fault: Callable[[TcpProxy], None], is_full: bool
) -> None:
    """`is_full`: those that are asked instead refuse it."""
    parts = urlsplit(redis_url)
    async with (
        TcpProxy("127.0.0.1", parts.port or 6379) as proxy,
        Redis.from_url(f"redis://127.0.0.1:{proxy.port}/0", decode_responses=True, socket_timeout=0.1) as slow,
    ):
        shared, others = RedisCounters(slow, "test"), MemoryCounters()
        chain = CounterChain([shared, others])
        claim = Claim([BudgetCounter("key", Decimal(10))], [Limit("l", parallel=3)], Decimal(2), 5)
        chain.settle(await admitted(chain, claim), Decimal(1), 5)
        await shared._settle_pending()
        fault(proxy)
        if is_full:
            await admitted_elsewhere(others, Limit("l", parallel=3))
            assert (await refused(chain, claim)).unit == "max_parallel_requests"
        else:
            hold = await admitted(chain, claim)
            assert hold.spends == [Decimal(1)]  # as Redis last said
            hold.counters.settle(hold, Decimal(3), 7)
        proxy.resume()
        # The next one asks Redis again, at once.
        after = await admitted(chain, claim)
        assert after.counters is shared
        assert after.spends == [Decimal(1 if is_full else 4)]
        chain.settle(after, Decimal(0), 0)
        await asyncio.sleep(0.1)  # what was held up arrives
        await shared._settle_pending()
        await assert_nothing_is_held(redis)
        assert await redis.get(f"{_P}b:key") == f"{1 if is_full else 4}000000000"


async def admitted_elsewhere(others: MemoryCounters, limit: Limit) -> None:
    for _ in range(limit.parallel or 0):
        await others.admit(Claim(limits=[limit]))


async def test_who_takes_a_call_over_leaves_room_for_what_runs_here(redis_url: str, redis: Redis) -> None:
    async with Redis.from_url(redis_url, decode_responses=True, socket_timeout=0.1) as short_timeout:
        counters = RedisCounters(short_timeout, "test")
        counters.settle(await admitted(counters, asked("10")), Decimal(2), 0)
        await admitted(counters, asked("10", amount="3"))
        await redis.client_pause(200)
        with pytest.raises(CountersInDoubt) as in_doubt:
            await counters.admit(asked("10", seed="1"))
    (budget,) = in_doubt.value.claim.budgets
    assert (budget.seed, budget.ceiling) == (Decimal(2), Decimal(7))


async def test_a_cost_that_was_held_up_is_left_to_the_database(redis: Redis) -> None:
    counters = RedisCounters(redis, "test")
    counters.settle(await admitted(counters, asked("10")), Decimal(2), 0)
    await asyncio.sleep(1.05)
    assert (await admitted(counters, asked("10", seed="2"))).spends == [Decimal(2)]
    # Nothing but this call is held.
    assert (await admitted(counters, asked("3.01"))).spends == [Decimal(2)]


# ---- broken --------------------------------------------------------------------------------------------------------

_BROKEN: dict[str, Callable[[Redis, str], list[Any]]] = {
    "spend of a budget, a list": lambda redis, process: [redis.delete(f"{_P}b:key"), redis.lpush(f"{_P}b:key", 1)],
    "spend of a budget, a word": lambda redis, process: [redis.set(f"{_P}b:key", "much")],
    "holds of a budget, a text": lambda redis, process: [redis.set(f"{_P}h:key", 1)],
    "holds of a budget, a fraction": lambda redis, process: [redis.hset(f"{_P}h:key", process, "0.5")],
    "window of a limit, a text": lambda redis, process: [redis.set(f"{_P}w:l", 1)],
    "window of a limit, a word": lambda redis, process: [redis.hset(f"{_P}w:l", "request", "1")],
    "parallel calls of a limit, a text": lambda redis, process: [redis.set(f"{_P}p:l", 1)],
}


@pytest.mark.parametrize("what", _BROKEN)
async def test_a_broken_counter_starts_anew_and_the_others_go_on(redis: Redis, what: str) -> None:
    counters = RedisCounters(redis, "test")
    claim = Claim(
        [BudgetCounter("key", Decimal(5), Decimal(1)), BudgetCounter("team", Decimal(9))],
        [Limit("l", rpm=9, tpm=90, parallel=3)],
        Decimal(1),
    )
    running = await admitted(counters, claim)
    for command in _BROKEN[what](redis, counters._process_id):
        await command
    with capture_logs() as logs:
        hold = await admitted(counters, claim)
        assert hold.spends == [Decimal(1), Decimal(0)]
        for one in (hold, running):
            counters.settle(one, Decimal("0.5"), 0)
        assert (await admitted(counters, claim)).spends == [Decimal(2), Decimal(1)]
    assert [(entry["event"], entry["kinds"]) for entry in logs] == [("redis counters reset", [what.partition(",")[0]])]
    assert "key" not in str(logs)


async def test_what_this_process_holds_of_a_broken_counter_stays_held(redis: Redis) -> None:
    counters = RedisCounters(redis, "test")
    claim = Claim([BudgetCounter("key", Decimal(3))], [Limit("l", parallel=3)], Decimal(1))
    running = [await admitted(counters, claim) for _ in range(2)]
    await redis.set(f"{_P}h:key", "x")
    await redis.set(f"{_P}p:l", "x")
    await admitted(counters, claim)
    assert (await refused(counters, claim)).unit == "budget"
    assert (await refused(counters, Claim(limits=claim.limits))).unit == "max_parallel_requests"
    for hold in running:
        counters.settle(hold, Decimal(0), 0)
    await admitted(counters, claim)


async def test_an_end_that_meets_a_broken_counter_is_told_to_the_others(redis: Redis) -> None:
    counters = RedisCounters(redis, "test")
    claim = Claim(
        [BudgetCounter("key", Decimal(9)), BudgetCounter("team", Decimal(9))], [Limit("l", parallel=1)], Decimal(1)
    )
    hold = await admitted(counters, claim)
    for kind in ("b:key", "h:key", "w:l"):
        await redis.delete(f"{_P}{kind}")
        await redis.lpush(f"{_P}{kind}", "x")
    counters.settle(hold, Decimal(2), 5)
    with capture_logs() as logs:
        after = await admitted(
            counters, Claim([BudgetCounter("key", Decimal(9), Decimal(2)), claim.budgets[1]], claim.limits)
        )
    assert after.spends == [Decimal(2), Decimal(2)]
    assert [entry["kinds"] for entry in logs] == [["holds of a budget", "spend of a budget", "window of a limit"]]


@pytest.mark.parametrize("key", ["generation", "beat"])
async def test_whatever_somebody_writes_over_our_own_marks_is_repaired(redis: Redis, key: str) -> None:
    counters = RedisCounters(redis, "test")
    await admitted(counters, asked("9"))
    await redis.delete(f"{_P}{key}")
    await redis.lpush(f"{_P}{key}", "x")
    for attempt in (counters._heartbeat, counters._heartbeat, counters.ping, counters._heartbeat):
        with suppress(CacheAway):  # the first finds it broken
            await attempt()
    await admitted(counters, asked("9"))
