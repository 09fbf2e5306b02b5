"""Counters in the database, for processes and instances that share one and have no Redis.

Each admission is one short transaction. It first touches the `counter` row of every budget and limit of the call, in
one order everywhere: that locks them, so that calls on the same key come one after the other and no two can deadlock.
A limit's window has a bucket per second, and the oldest, partly passed second counts whole. What running calls hold is
counted per process, and what a process that has not been seen for a while held does not count.

A commit whose reply is lost may have happened or not. PostgreSQL knows by the number of the transaction: nothing is
settled twice, and a call that never learnt of its admission holds nothing.

Few transactions of a process run at once, the others queue: all of them on one busy row would take every connection of
the pool from keys and ledger, until those and they themselves took the database for unreachable.
"""

# ruff: noqa: S608 (statements are put together from constants of this file; every value is a bound parameter)

from __future__ import annotations

import asyncio
import time
import uuid
from collections import defaultdict, deque
from collections.abc import Awaitable, Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import structlog
from tortoise.exceptions import OperationalError

from ..storage.database import DATABASE_AWAY, DATABASE_REFUSED, Database
from .counters import WINDOW_SECONDS, Claim, Hold, Refusal, full_unit

log = structlog.get_logger(__name__)

_HEARTBEAT_SECONDS = 5.0
_ALIVE = timedelta(seconds=15)
_SETTLE_INTERVAL_SECONDS = 0.05
_MAX_PENDING = 20_000
_MAX_TRANSACTIONS = 3
# So long without any answer, and the database counts as unreachable: its driver would wait for half a minute.
_TIMEOUT_SECONDS = 2.0

_Usage = tuple[int, int]
_Settled = tuple[Hold, Decimal, int]


class SqlCounters:
    def __init__(self, database: Database) -> None:
        self._database = database
        self._process_id = uuid.uuid4().hex
        self._pending: deque[_Settled] = deque(maxlen=_MAX_PENDING)
        # What is being written, and the transaction that may have written it already.
        self._batch: list[_Settled] = []
        self._batch_transaction: int | None = None
        # Admissions whose commit was not confirmed, with the transactions that may have counted them.
        self._unconfirmed: deque[tuple[Hold, int]] = deque(maxlen=_MAX_PENDING)
        self._task: asyncio.Task[None] | None = None
        self._is_registered = False
        self._settling = asyncio.Lock()
        self._transactions = asyncio.Semaphore(_MAX_TRANSACTIONS)
        self._answered_at = 0.0

    async def start(self) -> None:
        self._task = asyncio.create_task(self._run_forever(), name="counters in the database")

    async def stop(self) -> None:
        if self._task is not None:
            with suppress(TimeoutError):
                async with asyncio.timeout(_TIMEOUT_SECONDS), self._settling:
                    self._task.cancel()  # not in the middle of a commit, which would be done again
            self._task.cancel()
            await asyncio.wait({self._task}, timeout=_TIMEOUT_SECONDS)
        try:
            await _with_timeout(self._deregister())
        except (*DATABASE_AWAY, *DATABASE_REFUSED) as problem:
            log.warning("database counters not settled", reason=type(problem).__name__)

    async def _deregister(self) -> None:
        await self._settle_pending()
        for table in ("running_calls", "gateway_process"):
            await self._database.execute_many(f"DELETE FROM {table} WHERE process_id = $1", [(self._process_id,)])

    async def ping(self) -> None:
        await _with_timeout(self._heartbeat())

    async def admit(self, claim: Claim) -> Hold | Refusal:
        # A client may leave at any moment, also while the database commits: the admission ends without it. So it does
        # when the database does not answer, and not merely busy with other calls of this process.
        admission, began_at = asyncio.create_task(self._admit(claim)), time.monotonic()
        try:
            while not admission.done():
                if time.monotonic() - max(began_at, self._answered_at) >= _TIMEOUT_SECONDS:
                    raise TimeoutError
                await asyncio.wait({admission}, timeout=_TIMEOUT_SECONDS / 4)
        except (asyncio.CancelledError, TimeoutError):
            admission.add_done_callback(self._give_back)
            raise
        return admission.result()

    def _give_back(self, admission: asyncio.Task[Hold | Refusal]) -> None:
        """Nobody waits for this call any more: what it holds, if it was admitted, is free again."""
        if admission.cancelled() or admission.exception() is not None:
            return
        verdict = admission.result()
        if isinstance(verdict, Hold):
            self.settle(verdict, Decimal(0), 0)

    async def _admit(self, claim: Claim) -> Hold | Refusal:
        if not self._is_registered:
            await self._heartbeat()
        await self._settle_pending()
        counted: Hold | None = None
        transaction, is_committed = 0, False
        try:
            async with self._transactions, self._database.transaction():
                spends = await self._lock(claim)
                now, transaction = await self._now()
                held, running = await self._running(claim, now)
                used = await self._used(claim, now)
                refusal = _first_refusal(claim, spends, held, running, used, now)
                if refusal is not None:
                    self._answered_at = time.monotonic()
                    return refusal
                await self._count(claim, int(now))
                after = [(used[limit.name][0] + 1, used[limit.name][1] + claim.tokens) for limit in claim.limits]
                known = [spends.get(budget.name, budget.seed) for budget in claim.budgets]
                counted = Hold(self, claim, now, known, after)
            is_committed = True
        finally:
            if counted is not None and not is_committed:
                self._unconfirmed.append((counted, transaction))
        self._answered_at = time.monotonic()
        return counted

    async def _lock(self, claim: Claim) -> dict[str, Decimal]:
        """Lock the row of each budget and limit; answers what each budget has spent, raised to its seed."""
        spend = self._database.larger("excluded.spend", "counter.spend")
        rows = {budget.name: budget.seed for budget in claim.budgets if budget.ceiling is not None}
        rows.update({f"limit:{limit.name}": Decimal(0) for limit in claim.limits})
        # By the clock of the database, as all that is cleaned up by it.
        own = [datetime.now(UTC)] if self._database.is_sqlite else []
        touched_at, spends = "$3" if own else "clock_timestamp()", {}
        for name in sorted(rows):
            counters = await self._database.fetch(
                f"INSERT INTO counter (name, spend, touched_at) VALUES ($1, $2, {touched_at}) "
                f"ON CONFLICT (name) DO UPDATE SET spend = {spend}, touched_at = excluded.touched_at RETURNING spend",
                (name, rows[name], *own),
            )
            spends[name] = Decimal(str(counters[0]["spend"]))
        return spends

    async def _now(self) -> tuple[float, int]:
        """The clock that all instances share, the database's, and the number of the current transaction."""
        if self._database.is_sqlite:
            return time.time(), 0
        rows = await self._database.fetch(
            "SELECT EXTRACT(EPOCH FROM clock_timestamp())::float8 AS now, txid_current() AS transaction"
        )
        return float(rows[0]["now"]), int(rows[0]["transaction"])

    async def _running(self, claim: Claim, now: float) -> tuple[dict[str, Decimal], dict[str, int]]:
        names = [budget.name for budget in claim.budgets if budget.ceiling is not None]
        names += [f"limit:{limit.name}" for limit in claim.limits if limit.parallel is not None]
        held: dict[str, Decimal] = defaultdict(Decimal)
        running: dict[str, int] = defaultdict(int)
        if names:
            marks = ", ".join(f"${index}" for index in range(3, len(names) + 3))
            rows = await self._database.fetch(
                "SELECT r.name, r.held, r.running FROM running_calls r LEFT JOIN gateway_process p "
                "ON p.process_id = r.process_id WHERE (p.seen_at > $1 OR r.process_id = $2) "
                f"AND r.name IN ({marks})",
                (datetime.fromtimestamp(now, UTC) - _ALIVE, self._process_id, *names),
            )
            for row in rows:
                held[row["name"]] += Decimal(str(row["held"]))
                running[row["name"]] += int(row["running"])
        return held, running

    async def _used(self, claim: Claim, now: float) -> dict[str, _Usage]:
        """Requests and tokens of each limit since the second that is just leaving the window."""
        used: dict[str, _Usage] = {limit.name: (0, 0) for limit in claim.limits}
        if used:
            marks = ", ".join(f"${index}" for index in range(2, len(used) + 2))
            rows = await self._database.fetch(
                "SELECT name, SUM(requests) AS requests, SUM(tokens) AS tokens FROM rate_bucket "
                f"WHERE second >= $1 AND name IN ({marks}) GROUP BY name",
                (int(now) - WINDOW_SECONDS, *used),
            )
            used.update({row["name"]: (int(row["requests"]), int(row["tokens"])) for row in rows})
        return used

    async def _count(self, claim: Claim, second: int) -> None:
        await self._hold(_holds(claim, claim.amount, 1))
        await self._database.execute_many(
            "INSERT INTO rate_bucket (name, second, requests, tokens) VALUES ($1, $2, 1, $3) "
            "ON CONFLICT (name, second) DO UPDATE SET requests = rate_bucket.requests + 1, "
            "tokens = rate_bucket.tokens + excluded.tokens",
            [(limit.name, second, claim.tokens) for limit in sorted(claim.limits, key=lambda limit: limit.name)],
        )

    async def _hold(self, rows: Sequence[tuple[str, Decimal, int]]) -> None:
        """Add (name, USD, calls) to what this process holds; less than nothing gives it back."""
        held = self._database.plus("running_calls.held", "excluded.held")
        await self._database.execute_many(
            "INSERT INTO running_calls (name, process_id, held, running) VALUES ($1, $2, $3, $4) "
            f"ON CONFLICT (name, process_id) DO UPDATE SET held = {held}, "
            "running = running_calls.running + excluded.running",
            [(name, self._process_id, money, count) for name, money, count in sorted(rows)],
        )

    def settle(self, hold: Hold, cost: Decimal, tokens: int) -> None:
        """Queue it: the next admission of this process, or the next round, writes it."""
        self._pending.append((hold, cost, tokens))

    async def _settle_pending(self) -> None:
        """Write what was settled, in one transaction. What could not be written stays for the next round."""
        async with self._settling, self._transactions:
            if self._unconfirmed or self._batch_transaction is not None:
                await self._resolve_commits()
            if self._batch_transaction is not None:
                return  # it is still not known
            if not self._batch:
                self._batch = list(self._pending)
                self._pending.clear()
            if not self._batch:
                return
            async with self._database.transaction():
                _, transaction = await self._now()
                await self._settle(self._batch)
                self._batch_transaction = transaction
            self._batch, self._batch_transaction = [], None

    async def _resolve_commits(self) -> None:
        """Ask what became of commits whose reply was lost."""
        for _ in range(len(self._unconfirmed)):
            hold, transaction = self._unconfirmed[0]
            was_committed = await self._was_committed(transaction)
            self._unconfirmed.popleft()
            if was_committed is None:
                self._unconfirmed.append((hold, transaction))
            elif was_committed:
                self.settle(hold, Decimal(0), 0)
        if self._batch_transaction is not None:
            was_committed = await self._was_committed(self._batch_transaction)
            if was_committed:
                self._batch = []
            if was_committed is not None:
                self._batch_transaction = None

    async def _was_committed(self, transaction: int) -> bool | None:
        """None: it goes on. One so old that nobody remembers it counts as committed, so that nothing is done twice."""
        if self._database.is_sqlite:
            return False  # a commit that fails there has not happened
        try:
            rows = await self._database.fetch("SELECT txid_status($1) AS status", (transaction,))
        except OperationalError:
            return False  # a copy of the database has taken over, which never saw it
        status = rows[0]["status"]
        return None if status == "in progress" else status != "aborted"

    async def _settle(self, settled: Sequence[_Settled]) -> None:
        costs: dict[str, Decimal] = defaultdict(Decimal)
        holds: dict[str, tuple[Decimal, int]] = {}
        tokens: dict[tuple[str, int], int] = defaultdict(int)
        for hold, cost, used in settled:
            for name, money, calls in _holds(hold.claim, hold.claim.amount, 1):
                before = holds.get(name, (Decimal(0), 0))
                holds[name] = before[0] - money, before[1] - calls
            for budget in hold.claim.budgets:
                if budget.ceiling is not None:
                    costs[budget.name] += cost
            for limit in hold.claim.limits:
                tokens[limit.name, int(hold.second)] += used - hold.claim.tokens
        many = self._database.execute_many
        spend = self._database.plus("spend", "$1")
        await many(
            f"UPDATE counter SET spend = {spend} WHERE name = $2", [(costs[name], name) for name in sorted(costs)]
        )
        await self._hold([(name, *amounts) for name, amounts in holds.items()])
        await many(
            "UPDATE rate_bucket SET tokens = tokens + $1 WHERE name = $2 AND second = $3",
            [(more, *bucket) for bucket, more in sorted(tokens.items()) if more],
        )

    async def _heartbeat(self) -> None:
        """By the clock of the database: an instance whose own clock is wrong must not pass for dead."""
        now, _ = await self._now()
        await self._database.execute_many(
            "INSERT INTO gateway_process (process_id, seen_at) VALUES ($1, $2) "
            "ON CONFLICT (process_id) DO UPDATE SET seen_at = excluded.seen_at",
            [(self._process_id, datetime.fromtimestamp(now, UTC))],
        )
        self._is_registered = True

    async def _run_forever(self) -> None:
        """Send heartbeats, and settle what no admission took along."""
        clock, heartbeat_at = asyncio.get_running_loop().time, 0.0
        while True:
            try:
                if self._is_registered and clock() - heartbeat_at >= _HEARTBEAT_SECONDS:
                    await self._heartbeat()
                    heartbeat_at = clock()
                await self._settle_pending()
            except (*DATABASE_AWAY, *DATABASE_REFUSED) as problem:
                log.warning("database counters not settled", reason=type(problem).__name__)
                await asyncio.sleep(1.0)
            except Exception as problem:  # noqa: BLE001 - a bug of ours must not end the heartbeats
                log.error("database counters not settled", reason=type(problem).__name__)
                await asyncio.sleep(1.0)
            await asyncio.sleep(_SETTLE_INTERVAL_SECONDS)


async def _with_timeout(operation: Awaitable[None]) -> None:
    """Raises TimeoutError for a database that does not answer, and goes on without it."""
    task = asyncio.ensure_future(operation)
    task.add_done_callback(lambda done: done.cancelled() or done.exception())
    await asyncio.wait({task}, timeout=_TIMEOUT_SECONDS)
    if not task.done():
        raise TimeoutError
    task.result()


def _holds(claim: Claim, amount: Decimal, calls: int) -> list[tuple[str, Decimal, int]]:
    """(name, USD, calls) that one call holds of each budget and each limit of parallel calls."""
    rows = [(budget.name, amount, 0) for budget in claim.budgets if budget.ceiling is not None]
    return rows + [(f"limit:{limit.name}", Decimal(0), calls) for limit in claim.limits if limit.parallel is not None]


def _first_refusal(
    claim: Claim,
    spends: dict[str, Decimal],
    held: dict[str, Decimal],
    running: dict[str, int],
    used: dict[str, _Usage],
    now: float,
) -> Refusal | None:
    for index, budget in enumerate(claim.budgets):
        if budget.ceiling is not None and spends[budget.name] + held[budget.name] >= budget.ceiling:
            return Refusal("budget", index, spends[budget.name])
    for index, limit in enumerate(claim.limits):
        requests, tokens = used[limit.name]
        unit = full_unit(limit, requests, tokens, running[f"limit:{limit.name}"], claim.tokens)
        if unit is not None:
            # Which second leaves first is not worth another query; the whole window is an honest upper bound.
            seconds = WINDOW_SECONDS if unit != "max_parallel_requests" else 1
            return Refusal(unit, index, Decimal(tokens if unit == "tokens" else requests), seconds)
    return None
