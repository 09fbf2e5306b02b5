"""The spend ledger: record() appends to the journal, a background flush moves it to the database.

One segment is one transaction: log rows, running totals, days. Rows that are already there (a crash between commit and
delete) are left out together with their amounts, so that a replay changes nothing (batch.py).
"""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections import deque
from hashlib import sha256

import asyncpg
import msgspec
import structlog
from tortoise.exceptions import IntegrityError, ValidationError

from ..settings import Settings
from ..storage.database import DATABASE_AWAY, DATABASE_REFUSED, Database
from ..tasks import ended
from .batch import Batch, BatchWriter
from .events import SpendEvent
from .journal import Journal, Segment

log = structlog.get_logger(__name__)

_ORPHAN_SCAN_SECONDS = 30.0
_ATTEMPTS_BEFORE_SETTING_ASIDE = 2
_MIN_PAUSE = 0.005
# Events that are held while the journal's disk takes none; beyond it the oldest go.
_MAX_UNSAVED = 20_000

# What a value that fits no column raises before the database sees it, as a number beyond 64 bits.
_UNWRITABLE = (ArithmeticError, ValueError, TypeError)
_EVENT_ERRORS = (
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


class _Line(SpendEvent, frozen=True, kw_only=True, gc=False):
    """An event as it is read back: its metadata goes from the journal to the database without being looked at."""

    metadata: msgspec.Raw = msgspec.Raw(b"{}")  # type: ignore[assignment]


_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(_Line).decode


class SpendLedger:
    def __init__(self, settings: Settings, database: Database) -> None:
        # Bound to the database: two instances that start in one directory must not replay each other's spend.
        name = sha256(settings.database_url.encode()).hexdigest()[:16]
        self._journal = Journal(settings.state_dir / "journal" / name)
        self._writer = BatchWriter(database, tracks_end_users=not settings.disable_end_user_cost_tracking)
        self._period = settings.spend_flush_seconds
        self._task: asyncio.Task[None] | None = None
        self._flushing = asyncio.Lock()
        self._failed_attempts = 0
        # Whether the last flush was rejected or got no answer.
        self._is_delayed = False
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
            # The answer is paid for: it must not fail because a disk is full, and its spend can wait in memory.
            log.error("spend journal write failed", reason=problem.strerror, events=len(self._unsaved) + 1)
            self._unsaved.append(_decode(line))

    async def start(self) -> None:
        """Take over what dead processes left, then flush in the background."""
        self._adopt_orphans()
        self._task = asyncio.create_task(self._flush_forever(), name="spend ledger")

    async def stop(self) -> None:
        """Write what is pending; what cannot be written stays in the journal for the next start."""
        if self._task is not None:
            await ended(self._task)
        await self.flush()
        self._journal.release()

    async def flush(self) -> None:
        """Move every recorded event to the database. A failure is logged and keeps the events."""
        async with self._flushing:
            if self._unsaved:
                await self._flush_unsaved()
            # What waits goes first. Nothing is closed behind it: each segment is an open file, and outages are long.
            for segments in (self._journal.left_over, self._journal.closed):
                self._is_delayed = not await self._flush_segments(segments())
                if self._is_delayed:
                    return

    async def _flush_forever(self) -> None:
        next_scan_at = time.monotonic() + _ORPHAN_SCAN_SECONDS
        while True:
            # First thing after a start: what was replayed may have waited for long.
            started = time.monotonic()
            try:
                if started >= next_scan_at:
                    # A process of `--workers` that died leaves its spend to the others.
                    next_scan_at = started + _ORPHAN_SCAN_SECONDS
                    self._adopt_orphans()
                await self.flush()
            except Exception as problem:  # noqa: BLE001 - a bug of ours must not end the writing of spend for good
                log.error("spend flush failed", reason=type(problem).__name__)
            # When calls are many, writing takes long: then what came meanwhile is due at once.
            pause = _MIN_PAUSE if self._journal.left_over() and not self._is_delayed else self._period / 10
            await asyncio.sleep(max(started + self._period - time.monotonic(), pause))

    def _adopt_orphans(self) -> None:
        adopted = self._journal.adopt_orphans()
        if adopted:
            log.info("spend journal adopted", events=adopted)

    async def _flush_unsaved(self) -> None:
        """Write what the journal could not store."""
        events = list(self._unsaved)
        try:
            await self._write(events)
        except (*DATABASE_AWAY, *DATABASE_REFUSED, *_UNWRITABLE) as problem:
            log.warning("spend flush delayed", reason=type(problem).__name__, events=len(events))
            return
        # Those that came meanwhile stay; a full queue may have dropped some of the written ones by itself.
        written = {event.request_id for event in events}
        while self._unsaved and self._unsaved[0].request_id in written:
            self._unsaved.popleft()

    async def _flush_segments(self, segments: list[Segment]) -> bool:
        """Write segment after segment; while the database works on one, the next is read and added up.

        Segments that were filled meanwhile are next ones as well.
        """
        waiting = deque(segments)
        following: asyncio.Task[Batch] | None = None
        try:
            while waiting:
                segment = waiting.popleft()
                current = following or asyncio.create_task(self._prepare(segment))
                following = asyncio.create_task(self._prepare(waiting[0])) if waiting else None
                if not await self._flush_segment(segment, current):
                    return False
                waiting.extend(
                    pending
                    for pending in self._journal.left_over()
                    if pending is not segment and pending not in waiting
                )
            return True
        finally:
            if following is not None:
                following.cancel()
                await asyncio.gather(following, return_exceptions=True)

    async def _prepare(self, segment: Segment) -> Batch:
        return await self._writer.prepare(await _read(segment))

    async def _flush_segment(self, segment: Segment, prepared: asyncio.Task[Batch]) -> bool:
        try:
            await self._writer.write(await prepared)
        except DATABASE_AWAY as problem:
            log.warning("spend flush delayed", reason=type(problem).__name__, events=self.waiting)
            return False
        except (*DATABASE_REFUSED, *_UNWRITABLE) as problem:
            return await self._on_rejection(segment, problem)
        self._failed_attempts = 0
        segment.discard()
        self._journal.finished(segment)
        return True

    async def _on_rejection(self, segment: Segment, problem: Exception) -> bool:
        """The database rejects a segment. Try again, then set aside exactly the events that it rejects.

        A refusal that is not about the events (read-only, disk full, a table that is missing) keeps them waiting.
        """
        log.error("spend flush rejected", reason=type(problem).__name__, events=self.waiting)
        if not _is_event_error(problem):
            return False
        self._failed_attempts += 1
        if self._failed_attempts < _ATTEMPTS_BEFORE_SETTING_ASIDE:
            return False
        try:
            rejected = await self._write_accepted(await _read(segment))
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

    async def _write_accepted(self, events: list[SpendEvent]) -> list[SpendEvent]:
        """Write all but the events that the database refuses, and answer those: halve until they are alone.

        Raises what the database says when that is not about the events.
        """
        try:
            await self._write(events)
        except DATABASE_AWAY:
            raise
        except (*DATABASE_REFUSED, *_UNWRITABLE) as problem:
            if not _is_event_error(problem):
                raise
            if len(events) == 1:
                return events
            middle = len(events) // 2
            return [
                *await self._write_accepted(events[:middle]),
                *await self._write_accepted(events[middle:]),
            ]
        return []

    async def _write(self, events: list[SpendEvent]) -> None:
        await self._writer.write(await self._writer.prepare(events))


def _is_event_error(problem: Exception) -> bool:
    """Whether a refusal is about what was to be written. The ORM wraps the driver's own error."""
    cause = problem.args[0] if problem.args and isinstance(problem.args[0], Exception) else problem
    return isinstance(problem, _EVENT_ERRORS) or isinstance(cause, _EVENT_ERRORS)


async def _read(segment: Segment) -> list[SpendEvent]:
    """The events of a segment. Only a line that a crash cut short can be unreadable; it never became an event."""
    events: list[SpendEvent] = []
    for lines in segment.chunks():
        for line in lines:
            try:
                events.append(_decode(line))
            except msgspec.MsgspecError:
                log.error("spend journal line unreadable", path=str(segment.path), bytes=len(line))
        await asyncio.sleep(0)
    return events
