"""Which counters an instance uses, and what takes over when they cannot be reached.

    Redis is configured      Redis, then the database (PostgreSQL), then this process
    PostgreSQL, no Redis     the database, then this process
    SQLite, several processes   the database, then this process
    SQLite, one process      this process

One call without an answer goes to the next counters, and one call at a time probes whether it was an exception.
Counters that fail three times in a row, or have lost their figures, are paused. Whoever takes over starts from what the
database says, so that nothing that was spent is lost; calls that run at that moment are not seen by the others until
they end. With `fail_closed_budget_enforcement` the last resort, this process alone, refuses with 503 instead.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal

import structlog

from ..errors import ServiceUnavailable
from ..storage.cache import CacheAway
from ..storage.database import DATABASE_AWAY, DATABASE_REFUSED
from .counter_faults import CountersInDoubt, CountersLost, SettlesUncounted
from .counters import Claim, Counters, Hold, Refusal

log = structlog.get_logger(__name__)

_FAILURES_BEFORE_PAUSE = 3
_PAUSE_SECONDS = 2.0
# By then every process has flushed what it spent meanwhile.
_RECOVERY_SECONDS = 2.0
_UNAVAILABLE = (CacheAway, *DATABASE_AWAY, *DATABASE_REFUSED)


@dataclass(slots=True)
class _Link:
    """Counters with what is known of their health. `failures`: in a row; those of calls that ran at once are one.

    `recovers_at`: when they may take over again, after an outage.
    """

    counters: Counters
    failures: int = 0
    is_probed: bool = False
    paused_until: float = 0.0
    is_unavailable: bool = False
    recovers_at: float | None = None
    is_recovery_announced: bool = False


class CounterChain:
    """The first counters that answer. Those that do not, three times in a row, are paused for two seconds.

    Counters that recover missed what was spent meanwhile: they take over when that is in the database, and only for
    callers whose spend was read after it (`on_change` says that all should be).
    """

    def __init__(self, links: Sequence[Counters], *, is_closed_without_shared: bool = False) -> None:
        self._links = [_Link(counters) for counters in links]
        self._is_shared = len(links) > 1
        self._is_closed = is_closed_without_shared and self._is_shared
        self._on_change: Callable[[], None] = _nothing
        # Calls that one kind of counters admitted and others may have counted, by the id that the latter know.
        self._counted_in_doubt: dict[str, tuple[Hold, list[Hold]]] = {}

    def on_change(self, on_change: Callable[[], None]) -> None:
        """Call this whenever other counters take over: what is known of spend should be read anew."""
        self._on_change = on_change

    async def start(self) -> None:
        for link in self._links:
            await link.counters.start()

    async def stop(self) -> None:
        for link in self._links:
            await link.counters.stop()

    async def ping(self) -> None:
        """The last link is always available."""

    async def admit(self, claim: Claim) -> Hold | Refusal:
        if self._is_shared and not claim.limits and all(budget.ceiling is None for budget in claim.budgets):
            # Others need not know of what nothing bounds: that costs no round trip.
            return Hold(self, claim, 0.0, [budget.seed for budget in claim.budgets])
        in_doubt: list[Hold] = []
        try:
            for link in self._links[:-1] if self._is_closed else self._links:
                try:
                    verdict = await self._ask(link, claim)
                except CountersInDoubt as problem:
                    in_doubt.append(problem.hold)
                    claim = problem.claim
                except _UNAVAILABLE:
                    continue
                else:
                    if isinstance(verdict, Hold) and in_doubt:
                        verdict, in_doubt = self._settled_by_both(verdict, in_doubt), []
                    if verdict is not None:
                        return verdict
        finally:
            for hold in in_doubt:
                hold.counters.settle(hold, Decimal(0), claim.tokens)
        raise ServiceUnavailable("Budgets and limits cannot be checked now; try again")

    async def _ask(self, link: _Link, claim: Claim) -> Hold | Refusal | None:
        """The verdict of these counters; None: they are paused. Raises what they fail with."""
        is_probe = link.is_unavailable or link.failures > 0
        if is_probe and link.is_probed and not link.is_unavailable and isinstance(link.counters, SettlesUncounted):
            raise link.counters.in_doubt(claim)
        if is_probe and (link.is_probed or link.paused_until > time.monotonic()):
            return None
        link.is_probed = link.is_probed or is_probe
        try:
            if link.is_unavailable and not await self._has_recovered(link, claim):
                return None
            verdict = await link.counters.admit(claim)
        except _UNAVAILABLE as problem:
            self._fail(link, problem, is_probe=is_probe)
            raise
        finally:
            if is_probe:
                link.is_probed = False
        if is_probe:
            link.failures = 0
        return verdict

    def _fail(self, link: _Link, problem: Exception, *, is_probe: bool) -> None:
        kind = type(link.counters).__name__
        reason = str(problem) if isinstance(problem, CacheAway) else type(problem).__name__
        if link.is_unavailable and not is_probe:
            return  # of a call that began before
        is_new = is_probe or not link.failures
        link.failures = link.failures + 1 if is_probe else max(1, link.failures)
        if not (link.is_unavailable or link.failures >= _FAILURES_BEFORE_PAUSE or isinstance(problem, CountersLost)):
            if is_new:
                log.warning("counters request failed", kind=kind, reason=reason)
            return
        link.paused_until, link.recovers_at = time.monotonic() + _PAUSE_SECONDS, None
        log.warning("counters unavailable", kind=kind, reason=reason)
        if not link.is_unavailable:
            link.is_unavailable = True
            self._on_change()

    def _settled_by_both(self, counted: Hold, in_doubt: list[Hold]) -> Hold:
        """The hold of a call that may be counted twice: its end is settled with both."""
        call_id = in_doubt[0].call_id
        self._counted_in_doubt[call_id] = counted, in_doubt
        return replace(counted, counters=self, call_id=call_id)

    async def _has_recovered(self, link: _Link, claim: Claim) -> bool:
        if link.recovers_at is None:
            await link.counters.ping()
            link.recovers_at, link.is_recovery_announced = time.monotonic() + _RECOVERY_SECONDS, False
        if time.monotonic() < link.recovers_at:
            return False
        if not link.is_recovery_announced:
            link.is_recovery_announced = True
            self._on_change()
        if any(budget.read_at < link.recovers_at for budget in claim.budgets):
            return False
        log.warning("counters recovered", kind=type(link.counters).__name__)
        link.is_unavailable = False
        return True

    def settle(self, hold: Hold, cost: Decimal, tokens: int) -> None:
        """Each hold goes back to where it was counted, or may have been."""
        if hold.counters is not self:
            hold.counters.settle(hold, cost, tokens)
        elif hold.call_id:
            counted, in_doubt = self._counted_in_doubt.pop(hold.call_id)
            for part in (counted, *in_doubt):
                part.counters.settle(part, cost, tokens)


def _nothing() -> None:
    """No listener."""
