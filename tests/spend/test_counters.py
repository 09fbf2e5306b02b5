"""Counters admit a call against all of its budgets and limits at once, wherever they are kept."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from decimal import Decimal
from urllib.parse import urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st
from redis.asyncio import Redis

from app.settings import Settings
from app.spend.counters import BudgetCounter, Claim, Counters, Hold, Limit, MemoryCounters, Refusal
from app.spend.redis_counters import RedisCounters, nano
from app.spend.redis_scripts import ADMIT
from app.spend.sql_counters import SqlCounters
from app.storage.database import DATABASE_AWAY, DATABASE_REFUSED, Database
from tests.tcp_proxy import TcpProxy

MakeCounters = Callable[[], Counters]


@pytest.fixture(params=["memory", "sqlite", "postgres", "redis"])
async def make_counters(request: pytest.FixtureRequest) -> AsyncIterator[MakeCounters]:
    """Makes the counters of one more process; those of `memory` are one and the same process."""
    async with AsyncExitStack() as stack:
        if request.param == "memory":
            memory = MemoryCounters()
            yield lambda: memory
            return
        if request.param == "redis":
            redis: Redis = Redis.from_url(request.getfixturevalue("redis_url"), decode_responses=True)
            stack.push_async_callback(redis.aclose)
            yield lambda: RedisCounters(redis, "test")
            return
        url = request.getfixturevalue(f"migrated_{request.param}_url")
        database = Database(Settings(database_url=url))
        await database.open()
        stack.push_async_callback(database.close)
        yield lambda: SqlCounters(database)


@pytest.fixture
async def counters(make_counters: MakeCounters) -> AsyncIterator[Counters]:
    made = make_counters()
    await made.start()
    yield made
    await made.stop()


def asked(ceiling: str | None, amount: str = "1", *, seed: str = "0", name: str = "key") -> Claim:
    limit = None if ceiling is None else Decimal(ceiling)
    return Claim([BudgetCounter(name, limit, Decimal(seed))], amount=Decimal(amount))


async def admitted(counters: Counters, claim: Claim) -> Hold:
    verdict = await counters.admit(claim)
    assert isinstance(verdict, Hold), verdict
    return verdict


async def refused(counters: Counters, claim: Claim) -> Refusal:
    verdict = await counters.admit(claim)
    assert isinstance(verdict, Refusal), verdict
    return verdict


async def test_running_calls_see_each_other(counters: Counters) -> None:
    held = [await admitted(counters, asked("3")) for _ in range(3)]
    assert await refused(counters, asked("3")) == Refusal("budget", 0, Decimal(0))
    counters.settle(held[0], Decimal("0.25"), 0)
    await admitted(counters, asked("3"))
    assert (await refused(counters, asked("3"))).used == Decimal("0.25")


async def test_spend_starts_from_the_database_and_never_sinks_below_what_was_settled(counters: Counters) -> None:
    hold = await admitted(counters, asked("10", "2", seed="5"))
    assert hold.spends == [Decimal(5)]
    counters.settle(hold, Decimal("1.5"), 0)
    # The database lags behind.
    hold = await admitted(counters, asked("10", "2", seed="5"))
    assert hold.spends == [Decimal("6.5")]
    counters.settle(hold, Decimal(0), 0)
    # Another process has spent, and the database knows.
    assert (await admitted(counters, asked("10", "2", seed="9"))).spends == [Decimal(9)]


async def test_a_ceiling_of_zero_admits_nobody_and_none_admits_everybody(counters: Counters) -> None:
    assert (await refused(counters, asked("0"))).unit == "budget"
    for _ in range(3):
        await admitted(counters, asked(None, name="open"))


async def test_a_refused_call_holds_nothing_anywhere(counters: Counters) -> None:
    both = Claim([BudgetCounter("key", Decimal(9)), BudgetCounter("team", Decimal(0))], [Limit("l", rpm=5)], Decimal(9))
    for _ in range(3):
        assert (await refused(counters, both)).index == 1
    full = Claim([BudgetCounter("key", Decimal(9))], [Limit("l", rpm=5), Limit("m", rpm=0)], Decimal(9))
    assert (await refused(counters, full)) == Refusal("requests", 1, Decimal(0), full_window(counters))
    hold = await admitted(counters, Claim([BudgetCounter("key", Decimal(9))], [Limit("l", rpm=5)], Decimal(9)))
    assert list(hold.used) == [(1, 0)]


def full_window(counters: Counters) -> int:
    """How long a caller waits at most; only the database does not say more exactly."""
    return {"MemoryCounters": 60, "RedisCounters": 61}.get(type(counters).__name__, 60)


async def test_requests_of_the_last_minute_are_counted(counters: Counters) -> None:
    claim = Claim(limits=[Limit("l", rpm=2)])
    for _ in range(2):
        counters.settle(await admitted(counters, claim), Decimal(0), 0)
    refusal = await refused(counters, claim)
    assert (refusal.unit, int(refusal.used)) == ("requests", 2)
    assert 1 <= refusal.seconds <= 61


async def test_tokens_are_held_before_and_counted_after_the_call(counters: Counters) -> None:
    claim = Claim(limits=[Limit("l", tpm=100)], tokens=60)
    hold = await admitted(counters, claim)
    assert (await refused(counters, claim)).unit == "tokens"
    counters.settle(hold, Decimal(0), 10)
    hold = await admitted(counters, claim)
    assert list(hold.used) == [(2, 70)]
    counters.settle(hold, Decimal(0), 95)
    assert (await refused(counters, Claim(limits=[Limit("l", tpm=100)], tokens=0))).used == 105


async def test_parallel_calls_free_their_place_when_they_end(counters: Counters) -> None:
    claim = Claim(limits=[Limit("l", parallel=1)])
    hold = await admitted(counters, claim)
    assert (await refused(counters, claim)).unit == "max_parallel_requests"
    counters.settle(hold, Decimal(0), 0)
    await admitted(counters, claim)


async def test_what_one_process_holds_the_others_see(make_counters: MakeCounters) -> None:
    one, two = make_counters(), make_counters()
    claim = Claim([BudgetCounter("key", Decimal(2))], [Limit("l", rpm=100, parallel=3)], Decimal(1))
    first = await admitted(one, claim)
    await admitted(two, claim)
    assert (await refused(one, claim)).unit == (await refused(two, claim)).unit == "budget"
    one.settle(first, Decimal("0.5"), 0)
    await admitted(one, claim)
    await one.stop()
    await two.stop()


async def test_a_hundred_calls_at_once_get_exactly_what_the_budget_pays_for(make_counters: MakeCounters) -> None:
    processes = [make_counters() for _ in range(2)]
    claim = asked("25")
    verdicts = await asyncio.gather(*(processes[number % 2].admit(claim) for number in range(100)))
    held = [verdict for verdict in verdicts if isinstance(verdict, Hold)]
    assert len(held) == 25
    for hold in held:
        hold.counters.settle(hold, Decimal(1), 0)
    for process in processes:
        await process.stop()
    assert (await refused(make_counters(), claim)).used == 25


async def test_a_process_that_is_gone_holds_nothing(make_counters: MakeCounters, counters: Counters) -> None:
    if isinstance(counters, MemoryCounters):
        return  # there is no other process
    gone = make_counters()
    await admitted(gone, asked("1"))
    assert (await refused(counters, asked("1"))).unit == "budget"
    await gone.stop()  # it says good-bye; one that was killed is forgotten when it has not breathed for a while
    await admitted(counters, asked("1"))


_ONE_MORE = Claim([BudgetCounter("key", Decimal(6))], [Limit("l", parallel=1)], Decimal(1))


async def test_a_client_that_leaves_at_any_moment_holds_nothing(counters: Counters) -> None:
    claim = Claim([BudgetCounter("key", Decimal(1000))], [Limit("l", parallel=1000)], Decimal(1))
    warm = await admitted(counters, claim)
    counters.settle(warm, Decimal(5), 0)
    for moment in range(40):
        leaving = asyncio.create_task(counters.admit(claim))
        await asyncio.sleep(moment / 4000)
        leaving.cancel()
        ended = await asyncio.gather(leaving, return_exceptions=True)
        if isinstance(ended[0], Hold):
            counters.settle(ended[0], Decimal(0), 0)
    last = await counters.admit(_ONE_MORE)
    async with asyncio.timeout(10):
        while isinstance(last, Refusal):  # what those held who left is given back behind them
            await asyncio.sleep(0.05)
            last = await counters.admit(_ONE_MORE)
    assert last.spends == [Decimal(5)]


async def test_a_client_that_leaves_while_others_are_settled_settles_them_once(counters: Counters) -> None:
    for moment in range(40):
        claim = asked("1000", name=f"key{moment}")
        counters.settle(await admitted(counters, claim), Decimal(1), 0)
        leaving = asyncio.create_task(counters.admit(asked("1000", name="other")))
        await asyncio.sleep(moment / 8000)
        leaving.cancel()
        await asyncio.gather(leaving, return_exceptions=True)
    await asyncio.sleep(0.3)
    # A ceiling that is reached if something was counted twice, and one that is not if something is held below zero.
    for moment in range(40):
        assert (await admitted(counters, asked("2", name=f"key{moment}"))).spends == [Decimal(1)]
        assert (await refused(counters, asked("2", name=f"key{moment}"))).used == 1


async def test_a_database_that_falls_silent_is_away_soon_and_holds_nothing_afterwards(
    migrated_postgres_url: str,
) -> None:
    parts = urlsplit(migrated_postgres_url)
    async with TcpProxy("127.0.0.1", parts.port or 5432) as proxy:
        url = parts._replace(netloc=f"postgres@127.0.0.1:{proxy.port}").geturl()
        database = Database(Settings(database_url=url))
        await database.open()
        counters, claim = SqlCounters(database), asked("1")
        counters.settle(await admitted(counters, claim), Decimal(0), 0)
        proxy.pause()
        started = time.monotonic()
        with pytest.raises(TimeoutError):
            await counters.admit(claim)
        with pytest.raises(TimeoutError):
            await counters.ping()
        assert time.monotonic() - started < 6
        proxy.resume()
        await asyncio.sleep(0.5)
        await admitted(counters, claim)
        await counters.stop()
        await database.close()


@pytest.fixture
async def cut_database(migrated_postgres_url: str) -> AsyncIterator[tuple[Database, TcpProxy]]:
    """A PostgreSQL database, and the proxy before it."""
    parts = urlsplit(migrated_postgres_url)
    async with TcpProxy("127.0.0.1", parts.port or 5432) as proxy:
        database = Database(Settings(database_url=parts._replace(netloc=f"postgres@127.0.0.1:{proxy.port}").geturl()))
        await database.open()
        yield database, proxy
        await database.close()


@pytest.mark.parametrize("is_committed", [True, False])
async def test_a_settlement_whose_commit_is_not_answered_counts_once(
    cut_database: tuple[Database, TcpProxy], is_committed: bool
) -> None:
    database, proxy = cut_database
    counters = SqlCounters(database)
    claim = Claim([BudgetCounter("key", Decimal(10))], [Limit("l", tpm=100, parallel=1)], Decimal(4), 10)
    counters.settle(await admitted(counters, claim), Decimal(3), 25)
    (proxy.lose_reply_to if is_committed else proxy.lose_request)(b"COMMIT;")
    with pytest.raises((*DATABASE_AWAY, *DATABASE_REFUSED)):
        await counters.admit(claim)
    assert proxy.is_intact
    hold = await admitted(counters, claim)
    assert (hold.spends, list(hold.used)) == ([Decimal(3)], [(2, 35)])
    # Twice given back, the call above would have left room for two more at once.
    assert (await refused(counters, claim)).unit == "max_parallel_requests"
    assert (await refused(counters, asked("7"))).used == 3
    await counters.stop()


@pytest.mark.parametrize("is_committed", [True, False])
async def test_an_admission_whose_commit_is_not_answered_holds_nothing(
    cut_database: tuple[Database, TcpProxy], is_committed: bool
) -> None:
    database, proxy = cut_database
    counters, claim = SqlCounters(database), asked("1")
    counters.settle(await admitted(counters, claim), Decimal(0), 0)
    await counters._settle_pending()
    (proxy.lose_reply_to if is_committed else proxy.lose_request)(b"COMMIT;")
    with pytest.raises((*DATABASE_AWAY, *DATABASE_REFUSED)):
        await counters.admit(claim)
    assert proxy.is_intact
    await counters._settle_pending()
    await counters._settle_pending()
    await admitted(counters, claim)
    assert (await refused(counters, claim)).unit == "budget"
    await counters.stop()


async def test_an_admission_that_was_given_up_before_redis_saw_it_holds_nothing(redis_url: str) -> None:
    """A Redis that stood still for a moment may read the two from two connections in any order."""
    redis: Redis = Redis.from_url(redis_url, decode_responses=True)
    counters, claim = RedisCounters(redis, "test"), Claim([BudgetCounter("key", Decimal(1))], amount=Decimal(1))
    await counters.ping()
    counters._settle_later("late", claim, Decimal(0), 0, is_in_doubt=True)
    await counters._settle_pending()
    await counters._settle_pending((ADMIT, counters._admission("late", claim, claim.budgets)))
    await admitted(counters, claim)
    await counters.stop()
    await redis.aclose()


async def test_hundreds_of_calls_on_one_row_leave_connections_to_others(migrated_postgres_url: str) -> None:
    database = Database(Settings(database_url=migrated_postgres_url, database_pool_size=6))
    await database.open()
    counters = SqlCounters(database)
    calls = asyncio.gather(*(counters.admit(asked("1000")) for _ in range(200)))
    longest = 0.0
    while not calls.done():
        started = time.monotonic()
        await database.fetch("SELECT 1")
        longest = max(longest, time.monotonic() - started)
        await asyncio.sleep(0.01)
    assert all(isinstance(verdict, Hold) for verdict in await calls)
    assert longest < 0.5
    await counters.stop()
    await database.close()


@given(st.decimals(min_value=0, max_value=10**6, places=12, allow_nan=False))
def test_billionths_never_undercount_and_never_by_more_than_one(amount: Decimal) -> None:
    assert amount <= Decimal(nano(amount)) / 10**9 < amount + Decimal("0.000000001")


@given(
    ceiling=st.integers(0, 50),
    calls=st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9), st.booleans()), max_size=40),
)
async def test_held_and_spent_never_pass_the_ceiling_by_more_than_one_estimate(
    ceiling: int, calls: list[tuple[int, int, bool]]
) -> None:
    """Each call: its estimate, its cost (at most the estimate), and whether the oldest running one ends before it."""
    counters = MemoryCounters()
    spent, running = Decimal(0), list[tuple[Hold, int]]()
    for estimate, cost, ends_one in calls:
        if ends_one and running:
            hold, used = running.pop(0)
            counters.settle(hold, Decimal(used), 0)
            spent += used
        verdict = await counters.admit(asked(str(ceiling), str(estimate)))
        held = sum((hold.claim.amount for hold, _ in running), Decimal(0))
        assert isinstance(verdict, Hold) == (spent + held < ceiling)
        if isinstance(verdict, Hold):
            running.append((verdict, min(cost, estimate)))
            assert spent + held + estimate < ceiling + max(estimate, 1)
