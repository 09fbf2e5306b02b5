"""Counters: what budgets have spent and hold right now, and how many calls and tokens a limit saw in the last minute.

One atomic step admits a call against all of its budgets and limits, or counts nothing at all. Where the figures are:

    MemoryCounters    this process alone: a single process on SQLite, and the last resort when nothing else answers
    SqlCounters       processes and instances that share a database (app/spend/sql_counters.py)
    RedisCounters     the same through Redis, one script per call (app/spend/redis_counters.py)

A budget's spend starts from what the database says (`BudgetCounter.seed`) and grows with every settled call. A seed
can only raise it, because the database lags behind: spend is flushed a moment later. Whoever lowers spend on purpose
gives the counter another name (`spend_epoch` of the row). The ledger is the source of truth, counters only
decide who may go ahead.
"""

from __future__ import annotations

import time
from collections import OrderedDict, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Protocol

WINDOW_SECONDS = 60
# Calls within it are one entry of a window, so that a busy minute takes no memory for each of its calls.
_BUCKET_SECONDS = 0.05
_MAX_ENTRIES = 50_000
_IDLE_SECONDS = 120.0
_ZERO = Decimal(0)


@dataclass(frozen=True, slots=True)
class BudgetCounter:
    """One budget. `ceiling` None: only counted. `seed` is the spend that the database showed at `read_at`. USD."""

    name: str
    ceiling: Decimal | None
    seed: Decimal = _ZERO
    read_at: float = field(default_factory=time.monotonic, compare=False)


@dataclass(frozen=True, slots=True)
class Limit:
    """One limit of the last minute; None is no limit."""

    name: str
    rpm: int | None = None
    tpm: int | None = None
    parallel: int | None = None


@dataclass(frozen=True, slots=True)
class Claim:
    """What one call asks for: `amount` USD below every budget, one request and `tokens` within every limit."""

    budgets: Sequence[BudgetCounter] = ()
    limits: Sequence[Limit] = ()
    amount: Decimal = _ZERO
    tokens: int = 0


@dataclass(frozen=True, slots=True)
class Refusal:
    """What stands in the way. `unit` is budget, requests, tokens or max_parallel_requests; `index` into budgets or
    limits; `used` is USD spent or units used; `seconds` until a limit has room again."""

    unit: str
    index: int
    used: Decimal
    seconds: int = 1


@dataclass(slots=True)
class Hold:
    """An admitted call. `second` is when, by the clock of the counters. `spends` and `used` are as after admission."""

    counters: Counters
    claim: Claim
    second: float
    spends: Sequence[Decimal] = ()
    used: Sequence[tuple[int, int]] = ()
    entries: Sequence[tuple[_Window, _Entry]] = ()
    call_id: str = ""


class Counters(Protocol):
    async def admit(self, claim: Claim) -> Hold | Refusal:
        """Count a call everywhere, or nowhere. Raises CacheAway or a database error when that cannot be told."""

    def settle(self, hold: Hold, cost: Decimal, tokens: int) -> None:
        """Replace what was held by what was used. Never waits; called once per hold."""

    async def ping(self) -> None:
        """Raises CacheAway or a database error while they cannot be reached."""

    async def start(self) -> None: ...

    async def stop(self) -> None: ...


# ---- one process ---------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class _Sum:
    spend: Decimal
    held: Decimal = _ZERO
    touched_at: float = 0.0


@dataclass(slots=True)
class _Entry:
    """Calls that came within one bucket of time. They leave the window together, when the last of them does."""

    begun_at: float
    at: float
    calls: int = 0
    tokens: int = 0


@dataclass(slots=True)
class _Window:
    entries: deque[_Entry] = field(default_factory=deque)
    calls: int = 0
    tokens: int = 0
    running: int = 0

    def slide(self, now: float) -> None:
        while self.entries and self.entries[0].at <= now - WINDOW_SECONDS:
            expired = self.entries.popleft()
            self.calls -= expired.calls
            self.tokens -= expired.tokens

    def add(self, now: float, tokens: int) -> _Entry:
        """Count one call, which runs from now on."""
        entry = self.entries[-1] if self.entries else None
        if entry is None or now - entry.begun_at >= _BUCKET_SECONDS:
            entry = _Entry(now, now)
            self.entries.append(entry)
        entry.at = now
        entry.calls += 1
        entry.tokens += tokens
        self.calls += 1
        self.tokens += tokens
        self.running += 1
        return entry

    @property
    def is_idle(self) -> bool:
        return not self.entries and not self.running


class MemoryCounters:
    """The counters of this process. Nothing in `admit` waits, so that it is one step for every other call."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._sums: OrderedDict[str, _Sum] = OrderedDict()
        self._windows: dict[str, _Window] = {}
        self._next_cleanup_at = 0.0

    async def start(self) -> None:
        """Nothing to open."""

    async def stop(self) -> None:
        """Nothing to close."""

    async def ping(self) -> None:
        """Always there."""

    async def admit(self, claim: Claim) -> Hold | Refusal:
        now = self._clock()
        self._drop_idle(now)
        sums = [self._sum(budget, now) for budget in claim.budgets]
        for index, (budget, total) in enumerate(zip(claim.budgets, sums, strict=True)):
            if budget.ceiling is not None and total.spend + total.held >= budget.ceiling:
                return Refusal("budget", index, total.spend)
        windows = [self._windows.setdefault(limit.name, _Window()) for limit in claim.limits]
        for index, (limit, window) in enumerate(zip(claim.limits, windows, strict=True)):
            window.slide(now)
            refusal = _refusal(index, limit, window, claim.tokens, now)
            if refusal is not None:
                return refusal
        for total in sums:
            total.held += claim.amount
        entries = [(window, window.add(now, claim.tokens)) for window in windows]
        used = [(window.calls, window.tokens) for window in windows]
        return Hold(self, claim, now, [total.spend for total in sums], used, entries)

    def settle(self, hold: Hold, cost: Decimal, tokens: int) -> None:
        for budget in hold.claim.budgets:
            total = self._sums.get(budget.name)
            if total is not None:
                total.held = max(_ZERO, total.held - hold.claim.amount)
                total.spend += cost
        for window, entry in hold.entries:
            window.running -= 1
            # A call that outlived the window has left it already.
            if window.entries and window.entries[0].at <= entry.at:
                window.tokens += tokens - hold.claim.tokens
                entry.tokens += tokens - hold.claim.tokens

    def _sum(self, budget: BudgetCounter, now: float) -> _Sum:
        total = self._sums.get(budget.name)
        if total is None:
            total = self._sums[budget.name] = _Sum(budget.seed)
        elif budget.seed > total.spend:
            total.spend = budget.seed
        total.touched_at = now
        self._sums.move_to_end(budget.name)
        return total

    def _drop_idle(self, now: float) -> None:
        """Keep memory bounded: what nobody asked for lately is in the database, and empty windows say nothing."""
        if now < self._next_cleanup_at or len(self._sums) + len(self._windows) < _MAX_ENTRIES:
            return
        self._next_cleanup_at = now + 1.0
        for name, total in list(self._sums.items()):
            if now - total.touched_at < _IDLE_SECONDS:
                break
            if not total.held:
                del self._sums[name]
        for name, window in list(self._windows.items()):
            window.slide(now)
            if window.is_idle:
                del self._windows[name]


def _refusal(index: int, limit: Limit, window: _Window, tokens: int, now: float) -> Refusal | None:
    unit = full_unit(limit, window.calls, window.tokens, window.running, tokens)
    if unit is None:
        return None
    oldest = window.entries[0].at if window.entries else now
    seconds = max(1, int(oldest + WINDOW_SECONDS - now + 0.999))
    return Refusal(unit, index, Decimal(window.tokens if unit == "tokens" else window.calls), seconds)


def full_unit(limit: Limit, requests: int, tokens: int, running: int, asked_tokens: int) -> str | None:
    """Which unit of a limit has no room for one more call; None when all have."""
    if limit.rpm is not None and requests >= limit.rpm:
        return "requests"
    if limit.tpm is not None and tokens + asked_tokens > limit.tpm:
        return "tokens"
    if limit.parallel is not None and running >= limit.parallel:
        return "max_parallel_requests"
    return None
