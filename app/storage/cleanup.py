"""What is done by and by, whoever calls or not: periods that are over, and rows that nobody needs any more.

One task in every process, and no leader: each step is harmless when two processes do it at once, so none is missing
when a process dies. Nothing depends on it being punctual. A budget's period ends on time when it is read, and what has
expired is refused from that moment on; here it only goes away.

Keys with `auto_rotate` are named in the log when they are due, not rotated: a new secret that nobody is given would
take the key from its users as soon as the old one ends. `POST /key/<key>/regenerate` with a `grace_period`
rotates one and answers its secret to whoever asked.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import structlog
from tortoise.expressions import Q
from tortoise.models import Model

from ..durations import UTC_CALENDAR, BudgetCalendar
from ..models import (
    ConsoleSession,
    Counter,
    DeprecatedKey,
    GatewayProcess,
    HealthCheck,
    Invitation,
    LoginCode,
    RateBucket,
    RunningCalls,
    VirtualKey,
)
from ..models.budget_period import start_due_periods
from ..models.key_rotation import due_keys
from ..models.retention import delete_audit_before, delete_spend_logs_before
from ..models.virtual_key import SESSION_TEAM_ID
from .database import DATABASE_AWAY, DATABASE_REFUSED, Database

log = structlog.get_logger(__name__)

_FIRST_ROUND_SECONDS = (5.0, 15.0)
_PAUSE_SECONDS = 0.01
_MAX_LISTED_KEYS = 5

# How long a row is retained after it has become useless.
_HOUR, _DAY = timedelta(hours=1), timedelta(days=1)
_REVOKED_KEY_RETENTION = _DAY  # spend of a call that began under an old secret still finds its key
_INVITATION_RETENTION = 30 * _DAY
_RATE_BUCKET_SECONDS = 120
_COUNTER_RETENTION = 2 * _DAY
_PROCESS_RETENTION = _HOUR
_HEALTH_CHECK_RETENTION = 30 * _DAY

# Steps over rows that the counters write by the clock of the database.
_OF_COUNTERS = {"processes that are gone", "short-lived rows"}


@dataclass(frozen=True, slots=True, kw_only=True)
class CleanupPlan:
    """How often the clean-up runs and how long rows are retained. None as a retention: for ever."""

    min_seconds: float = 597.0
    max_seconds: float = 605.0
    run_seconds: float = 300.0
    calendar: BudgetCalendar = UTC_CALENDAR
    resets_budgets: bool = True
    spend_logs_retention: timedelta | None = None
    audit_retention: timedelta | None = None
    batch: int = 1000
    max_batches: int = 500


Step = Callable[[datetime], Awaitable[Mapping[str, int]]]


class Cleanup:
    """`run_forever` is the background task; `run_once` is one round of it."""

    def __init__(
        self,
        database: Database,
        plan: CleanupPlan | None = None,
        *,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._database = database
        self._clock = clock
        self._plan = plan or CleanupPlan()
        self._stop_at = 0.0
        self._reported: frozenset[str] = frozenset()
        self._steps: Mapping[str, Step] = {
            "budget periods": self._start_periods,
            "processes that are gone": self._remove_processes,
            "short-lived rows": self._remove_short_lived,
            "expired rows": self._remove_expired,
            "key rotation": self._report_due_rotations,
            "audit log": self._remove_audit,
            "spend logs": self._remove_spend_logs,
        }

    async def run_forever(self) -> None:
        """Rounds until cancelled: one soon after the start, then at random distances, so that processes spread."""
        await asyncio.sleep(random.uniform(*_FIRST_ROUND_SECONDS))  # noqa: S311 (keeps no secret)
        while True:
            await self.run_once()
            await asyncio.sleep(random.uniform(self._plan.min_seconds, self._plan.max_seconds))  # noqa: S311 (same)

    async def run_once(self, now: datetime | None = None) -> dict[str, int]:
        """One round: rows that were reset or removed, per table. A step that fails is logged, and the others run.

        `now`: the time of all steps. Without it, each goes by the clock that wrote what it looks at.
        """
        self._stop_at = time.monotonic() + self._plan.run_seconds
        done: dict[str, int] = {}
        with self._database.active():
            for name, step in self._steps.items():
                if time.monotonic() >= self._stop_at:
                    log.warning("cleanup ran out of time", before=name)
                    break
                started = time.monotonic()
                try:
                    removed = await step(now or await self._now(name))
                    counts = {table: count for table, count in removed.items() if count}
                except (*DATABASE_AWAY, *DATABASE_REFUSED) as problem:
                    log.warning("cleanup delayed", step=name, reason=type(problem).__name__)
                    continue
                except Exception as problem:  # noqa: BLE001 - a bug in one step must not end the others for good
                    log.error("cleanup failed", step=name, reason=type(problem).__name__)
                    continue
                if counts:
                    log.info("cleanup finished", step=name, seconds=round(time.monotonic() - started, 2), **counts)
                done.update(counts)
        return done

    async def _now(self, step: str) -> datetime:
        """An instance whose own clock is wrong must not take the processes of the others for dead."""
        return await self._database.now() if step in _OF_COUNTERS else self._clock()

    # ---- steps -----------------------------------------------------------------------------------------------------

    async def _start_periods(self, now: datetime) -> Mapping[str, int]:
        if not self._plan.resets_budgets:
            return {}
        return await start_due_periods(now, calendar=self._plan.calendar, run_seconds=self._seconds_left() / 2)

    async def _remove_processes(self, now: datetime) -> Mapping[str, int]:
        """What a process held when it died is given back first: without the process nobody would find it."""
        unseen = Q(seen_at__lt=now - _PROCESS_RETENTION)
        gone = [row.process_id for row in await GatewayProcess.filter(unseen).limit(self._plan.batch)]
        if not gone:
            return {}
        async with self._database.transaction():
            # One that came back meanwhile keeps its calls.
            locked = await GatewayProcess.filter(unseen, process_id__in=gone).select_for_update(skip_locked=True)
            ids = [row.process_id for row in locked]
            calls = await RunningCalls.filter(process_id__in=ids).delete() if ids else 0
            processes = await GatewayProcess.filter(process_id__in=ids).delete() if ids else 0
        return {"running_calls": calls, "gateway_process": processes}

    async def _remove_short_lived(self, now: datetime) -> Mapping[str, int]:
        return await self._delete_expired(
            (RateBucket, Q(second__lt=int(now.timestamp()) - _RATE_BUCKET_SECONDS)),
            (Counter, Q(touched_at__lt=now - _COUNTER_RETENTION)),
        )

    async def _remove_expired(self, now: datetime) -> Mapping[str, int]:
        return await self._delete_expired(
            (LoginCode, Q(expires_at__lt=now)),
            (ConsoleSession, Q(expires_at__lt=now)),
            # No tombstone: a session is nobody's key.
            (VirtualKey, Q(team_id=SESSION_TEAM_ID, expires__lt=now - _HOUR)),
            (DeprecatedKey, Q(revoke_at__lt=now - _REVOKED_KEY_RETENTION)),
            (Invitation, Q(expires_at__lt=now - _INVITATION_RETENTION)),
            (HealthCheck, Q(checked_at__lt=now - _HEALTH_CHECK_RETENTION)),
        )

    async def _report_due_rotations(self, now: datetime) -> Mapping[str, int]:
        """Once for every set of keys, not every ten minutes."""
        due = await due_keys(now)
        tokens = frozenset(key.token for key in due)
        if tokens - self._reported:
            names = [key.key_alias or key.token[:12] for key in due[:_MAX_LISTED_KEYS]]
            log.warning("keys due for rotation", count=len(due), keys=names)
        self._reported = tokens
        return {}

    async def _remove_audit(self, now: datetime) -> Mapping[str, int]:
        retention = self._plan.audit_retention
        return (
            {}
            if retention is None
            else {"audit_log": await self._delete_in_batches(delete_audit_before, now - retention)}
        )

    async def _remove_spend_logs(self, now: datetime) -> Mapping[str, int]:
        retention = self._plan.spend_logs_retention
        if retention is None:
            return {}
        return {"spend_log": await self._delete_in_batches(delete_spend_logs_before, now - retention)}

    # ---- batches ---------------------------------------------------------------------------------------------------

    async def _delete_in_batches(self, delete: Callable[..., Awaitable[int]], moment: datetime) -> int:
        """One batch after the other, as long as there is time. Calls go first."""
        count = 0
        for _ in range(self._plan.max_batches):
            deleted = await delete(moment, batch=self._plan.batch, max_batches=1)
            count += deleted
            if deleted < self._plan.batch or not self._seconds_left():
                break
            await asyncio.sleep(_PAUSE_SECONDS)
        return count

    async def _delete_expired(self, *conditions: tuple[type[Model], Q]) -> Mapping[str, int]:
        return {table._meta.db_table: await self._delete_matching(table, condition) for table, condition in conditions}

    async def _delete_matching(self, table: type[Model], condition: Q) -> int:
        count = 0
        for _ in range(self._plan.max_batches):
            # Without the transaction first: on SQLite it would keep writers waiting for nothing.
            if not self._seconds_left() or not await table.filter(condition).exists():
                break
            async with self._database.transaction():
                # What somebody is writing to, another clean-up for one, is left to the next round.
                rows = table.filter(condition).limit(self._plan.batch).only(table._meta.pk_attr)
                ids: list[Any] = [row.pk for row in await rows.select_for_update(skip_locked=True)]
                count += await table.filter(condition, pk__in=ids).delete() if ids else 0
            if len(ids) < self._plan.batch:
                break
            await asyncio.sleep(_PAUSE_SECONDS)
        return count

    def _seconds_left(self) -> float:
        return max(0.0, self._stop_at - time.monotonic())
