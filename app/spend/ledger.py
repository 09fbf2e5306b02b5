"""The spend ledger: record() appends to the journal, a background flush moves it to the database.

One segment is one transaction: log rows, totals of key, user, team and member, days. Rows that are already there
(a crash between commit and delete) are left out together with their amounts, so that a replay changes nothing.
"""

# ruff: noqa: S608 (statements are put together from constants of this file; every value is a bound parameter)

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections import defaultdict, deque
from collections.abc import Iterable
from datetime import UTC, datetime
from decimal import Decimal
from hashlib import sha256
from typing import Any

import asyncpg
import msgspec
import structlog
from tortoise.exceptions import IntegrityError, ValidationError

from ..db import DATABASE_AWAY, DATABASE_REFUSED, Database
from ..models import SpendLog
from ..settings import Settings
from .budget import BudgetBook, ScopeName, member_id, team_and_user
from .journal import Journal, Segment

log = structlog.get_logger(__name__)

_LOOK_UP_CHUNK = 500
_ORPHAN_LOOK_SECONDS = 30.0
_ATTEMPTS_BEFORE_SETTING_ASIDE = 2
# Events that are held while the journal's disk takes none; beyond it the oldest go.
_MAX_UNSAVED = 20_000

# What a value that fits no column raises before the database sees it, as a number beyond 64 bits.
_UNWRITABLE = (ArithmeticError, ValueError, TypeError)
_ABOUT_EVENTS = (
    *_UNWRITABLE,
    IntegrityError,
    ValidationError,
    asyncpg.DataError,
    asyncpg.IntegrityConstraintViolationError,
    sqlite3.IntegrityError,
    sqlite3.DataError,
)
# PostgreSQL takes no zero character in text, and clients and providers may send one.
_NUL, _REPLACEMENT = rb"\u0000", rb"\ufffd"


class SpendEvent(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One finished call, as the journal keeps it. Times are UTC, `cost` is USD, `key_hash` is never the key."""

    request_id: str
    call_type: str
    endpoint: str
    start_time: datetime
    end_time: datetime
    first_chunk_time: datetime | None = None
    cost: Decimal = Decimal(0)
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cache_read_tokens: int = 0
    cache_write_tokens: int = 0
    key_hash: str = ""
    user_id: str | None = None
    team_id: str | None = None
    is_session: bool = False
    model: str = ""
    model_id: str = ""
    model_group: str = ""
    provider: str = ""
    api_base: str | None = None
    end_user: str = ""
    session_id: str | None = None
    call_id: str | None = None
    ip_address: str | None = None
    tags: list[str] = []
    metadata: dict[str, Any] = {}
    status: str = "success"

    @property
    def duration_ms(self) -> int:
        return max(0, int((self.end_time - self.start_time).total_seconds() * 1000))

    def scopes(self) -> Iterable[ScopeName]:
        """Whose totals this call adds to."""
        yield "key", self.key_hash
        if self.user_id:
            yield "user", self.user_id
        if self.team_id and not self.is_session:
            yield "team", self.team_id
            if self.user_id:
                yield "member", member_id(self.team_id, self.user_id)


_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(SpendEvent).decode


class SpendLedger:
    def __init__(self, settings: Settings, database: Database, budgets: BudgetBook) -> None:
        # Bound to the database: two instances that start in one directory must not replay each other's spend.
        name = sha256(settings.database_url.encode()).hexdigest()[:16]
        self._journal = Journal(settings.state_dir / "journal" / name)
        self._database = database
        self._budgets = budgets
        self._period = settings.spend_flush_seconds
        self._task: asyncio.Task[None] | None = None
        self._flushing = asyncio.Lock()
        self._failed_attempts = 0
        self._unsaved: deque[SpendEvent] = deque(maxlen=_MAX_UNSAVED)

    @property
    def waiting(self) -> int:
        """Events that are not in the database yet."""
        return self._journal.waiting + len(self._unsaved)

    def record(self, event: SpendEvent) -> None:
        """Make a call's spend durable. Takes microseconds and never waits."""
        line = _encode(event)
        if _NUL in line:
            line = line.replace(_NUL, _REPLACEMENT)
        try:
            self._journal.append(line)
        except OSError as problem:
            # The answer is paid for: it must not fail because a disk is full, and its spend can wait here.
            log.error("spend waits in memory", reason=problem.strerror, events=len(self._unsaved) + 1)
            self._unsaved.append(_decode(line))

    async def start(self) -> None:
        """Take over what dead processes left, then flush in the background."""
        self._adopt_orphans()
        self._task = asyncio.create_task(self._flush_forever(), name="spend ledger")

    async def stop(self) -> None:
        """Write what is pending; what cannot be written stays in the journal for the next start."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        await self.flush()
        self._journal.release()

    async def flush(self) -> None:
        """Move every recorded event to the database. A failure is logged and keeps the events."""
        async with self._flushing:
            if self._unsaved:
                await self._flush_unsaved()
            # What waits goes first. Nothing is closed behind it: each segment is an open file, and outages are long.
            for segments in (self._journal.left_over, self._journal.closed):
                for segment in segments():
                    if not await self._flush_segment(segment):
                        return

    async def _flush_forever(self) -> None:
        looks_again_at = time.monotonic() + _ORPHAN_LOOK_SECONDS
        while True:
            # First thing after a start: what was replayed may have waited for long.
            try:
                if time.monotonic() >= looks_again_at:
                    # A process of `--workers` that died leaves its spend to the others.
                    looks_again_at = time.monotonic() + _ORPHAN_LOOK_SECONDS
                    self._adopt_orphans()
                await self.flush()
            except Exception as problem:  # noqa: BLE001 - a bug of ours must not end the writing of spend for good
                log.error("spend could not be written", reason=type(problem).__name__)
            await asyncio.sleep(self._period)

    def _adopt_orphans(self) -> None:
        adopted = self._journal.adopt_orphans()
        if adopted:
            log.info("replaying spend of a process that is gone", events=adopted)

    async def _flush_unsaved(self) -> None:
        """Write what the journal could not keep."""
        events = list(self._unsaved)
        try:
            self._budgets.written(await self._write(events))
        except (*DATABASE_AWAY, *DATABASE_REFUSED, *_UNWRITABLE) as problem:
            log.warning("spend waits in memory", reason=type(problem).__name__, events=len(events))
            return
        # Those that came meanwhile stay; a full queue may have dropped some of the written ones by itself.
        written = {event.request_id for event in events}
        while self._unsaved and self._unsaved[0].request_id in written:
            self._unsaved.popleft()

    async def _flush_segment(self, segment: Segment) -> bool:
        events = _read(segment)
        try:
            self._budgets.written(await self._write(events))
        except DATABASE_AWAY as problem:
            log.warning("spend waits in the journal", reason=type(problem).__name__, events=self.waiting)
            return False
        except (*DATABASE_REFUSED, *_UNWRITABLE) as problem:
            return await self._refused(segment, events, problem)
        self._failed_attempts = 0
        segment.discard()
        self._journal.finished(segment)
        return True

    async def _refused(self, segment: Segment, events: list[SpendEvent], problem: Exception) -> bool:
        """The database answers and says no. Try again, then put aside exactly the events that it refuses.

        A refusal that is not about the events (read-only, disk full, a table that is missing) keeps them waiting.
        """
        log.error("spend was refused by the database", reason=type(problem).__name__, events=self.waiting)
        if not _is_about_events(problem):
            return False
        self._failed_attempts += 1
        if self._failed_attempts < _ATTEMPTS_BEFORE_SETTING_ASIDE:
            return False
        try:
            rejected = [event for event in events if not await self._write_alone(event)]
        except (*DATABASE_AWAY, *DATABASE_REFUSED):
            return False
        self._failed_attempts = 0
        if rejected:
            path = segment.set_aside([_encode(event) for event in rejected])
            log.error("spend events set aside", path=str(path), events=len(rejected))
        else:
            segment.discard()
        self._journal.finished(segment)
        return True

    async def _write_alone(self, event: SpendEvent) -> bool:
        """Whether the database takes this event. Raises what it says when that is not about the event."""
        try:
            self._budgets.written(await self._write([event]))
        except DATABASE_AWAY:
            raise
        except (*DATABASE_REFUSED, *_UNWRITABLE) as problem:
            if not _is_about_events(problem):
                raise
            return False
        return True

    async def _write(self, events: list[SpendEvent]) -> dict[ScopeName, Decimal]:
        """One transaction; returns what was added to each scope."""
        async with self._database.transaction():
            known = await self._known_ids([event.request_id for event in events])
            fresh = list({event.request_id: event for event in events if event.request_id not in known}.values())
            if not fresh:
                return {}
            await SpendLog.bulk_create([_log_row(event) for event in fresh], batch_size=500)
            amounts: dict[ScopeName, Decimal] = defaultdict(Decimal)
            for event in fresh:
                for scope in event.scopes():
                    amounts[scope] += event.cost
            await self._add_to_totals(amounts, max(event.end_time for event in fresh))
            await self._add_to_days(fresh)
        return dict(amounts)

    async def _known_ids(self, ids: list[str]) -> set[str]:
        known: set[str] = set()
        for start in range(0, len(ids), _LOOK_UP_CHUNK):
            chunk = ids[start : start + _LOOK_UP_CHUNK]
            known.update(await SpendLog.filter(request_id__in=chunk).values_list("request_id", flat=True))  # type: ignore[arg-type]
        return known

    async def _add_to_totals(self, amounts: dict[ScopeName, Decimal], last_active: datetime) -> None:
        """Add to the running totals. Rows are visited in one order everywhere, so that two flushes cannot deadlock."""
        plus, many = self._database.plus, self._database.execute_many
        rows: dict[str, list[tuple[str, Decimal]]] = defaultdict(list)
        for (kind, id), amount in sorted(amounts.items()):
            rows[kind].append((id, amount))
        spend, total = plus("spend", "$1"), plus("total_spend", "$1")
        if rows["key"]:
            await many(
                f"UPDATE virtual_key SET spend = {spend}, total_spend = {total}, last_active = $3 WHERE token = $2",
                [(amount, id, last_active) for id, amount in rows["key"]],
            )
        if rows["user"]:
            await many(
                f"UPDATE user_account SET spend = {spend} WHERE user_id = $2",
                [(amount, id) for id, amount in rows["user"]],
            )
        if rows["team"]:
            await many(
                f"UPDATE team SET spend = {spend} WHERE team_id = $2", [(amount, id) for id, amount in rows["team"]]
            )
        if rows["member"]:
            await many(
                f"UPDATE team_membership SET spend = {spend}, total_spend = {total} "
                "WHERE team_id = $2 AND user_id = $3",
                [(amount, *team_and_user(id)) for id, amount in rows["member"]],
            )

    async def _add_to_days(self, events: list[SpendEvent]) -> None:
        days: dict[tuple[str, ...], list[Any]] = {}
        for event in events:
            sums = days.setdefault(_day_of(event), [Decimal(0), 0, 0, 0, 0, 0, 0, 0, 0])
            succeeded = event.status == "success"
            parts = (
                event.cost,
                event.prompt_tokens,
                event.completion_tokens,
                event.cache_read_tokens,
                event.cache_write_tokens,
                1,
                int(succeeded),
                int(not succeeded),
                event.duration_ms,
            )
            for index, part in enumerate(parts):
                sums[index] += part
        await self._database.execute_many(self._daily_upsert(), [(*key, *sums) for key, sums in sorted(days.items())])

    def _daily_upsert(self) -> str:
        columns = [*_DAY_KEY, "spend", *_DAY_COUNTS]
        spend = self._database.plus("daily_spend.spend", "excluded.spend")
        counts = ", ".join(f"{name} = daily_spend.{name} + excluded.{name}" for name in _DAY_COUNTS)
        values = ", ".join(f"${index}" for index in range(1, len(columns) + 1))
        return (
            f"INSERT INTO daily_spend ({', '.join(columns)}) VALUES ({values}) "
            f"ON CONFLICT ({', '.join(_DAY_KEY)}) DO UPDATE SET spend = {spend}, {counts}"
        )


_DAY_KEY = ("date", "api_key", "user_id", "team_id", "model", "model_group", "custom_llm_provider", "endpoint")
_DAY_COUNTS = (
    "prompt_tokens",
    "completion_tokens",
    "cache_read_input_tokens",
    "cache_creation_input_tokens",
    "api_requests",
    "successful_requests",
    "failed_requests",
    "total_response_time_ms",
)


def _day_of(event: SpendEvent) -> tuple[str, ...]:
    return (
        event.start_time.astimezone(UTC).date().isoformat(),
        event.key_hash,
        event.user_id or "",
        event.team_id or "",
        event.model,
        event.model_group,
        event.provider,
        event.endpoint,
    )


def _log_row(event: SpendEvent) -> SpendLog:
    return SpendLog(
        request_id=event.request_id,
        call_type=event.call_type,
        api_key=event.key_hash,
        spend=event.cost,
        total_tokens=event.prompt_tokens + event.completion_tokens,
        prompt_tokens=event.prompt_tokens,
        completion_tokens=event.completion_tokens,
        start_time=event.start_time,
        end_time=event.end_time,
        completion_start_time=event.first_chunk_time,
        request_duration_ms=event.duration_ms,
        model=event.model,
        model_id=event.model_id,
        model_group=event.model_group,
        custom_llm_provider=event.provider,
        api_base=event.api_base,
        user=event.user_id or "",
        team_id=event.team_id,
        end_user=event.end_user,
        session_id=event.session_id,
        litellm_call_id=event.call_id,
        requester_ip_address=event.ip_address,
        request_tags=event.tags,
        metadata=event.metadata,
        status=event.status,
    )


def _is_about_events(problem: Exception) -> bool:
    """Whether a refusal is about what was to be written. The ORM wraps the driver's own error."""
    cause = problem.args[0] if problem.args and isinstance(problem.args[0], Exception) else problem
    return isinstance(problem, _ABOUT_EVENTS) or isinstance(cause, _ABOUT_EVENTS)


def _read(segment: Segment) -> list[SpendEvent]:
    """The events of a segment. Only a line that a crash cut short can be unreadable; it never became an event."""
    events: list[SpendEvent] = []
    for line in segment.lines():
        try:
            events.append(_decode(line))
        except msgspec.MsgspecError:
            log.error("journal line is not readable", path=str(segment.path), bytes=len(line))
    return events
