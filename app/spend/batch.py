"""One batch of events on its way into the database: added up, encoded, and written in one transaction.

Everything that costs time in this process happens before the transaction, so that locks are held for as long as the
database needs and no longer. It happens in the event loop that serves calls: no step is longer than a few milliseconds.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass

import asyncpg
import msgspec
import structlog

from ..models import DeprecatedKey
from ..storage.database import DATABASE_AWAY, DATABASE_REFUSED, Database
from .bulk import BulkWriter, Statement
from .events import SpendEvent
from .totals import LOG, Totals, log_row

log = structlog.get_logger(__name__)

# Events that are added up without letting calls in between: half a millisecond.
_EVENTS_PER_STEP = 25
# A row of the log is about a kilobyte.
_ROWS_PER_STATEMENT = 600
_TOKENS_PER_QUERY = 500
# Most seconds to wait before each retry after a deadlock.
_DEADLOCK_RETRY_DELAYS = (0.02, 0.05, 0.1, 0.2, 0.4)


@dataclass(frozen=True, slots=True)
class Batch:
    """Distinct events, the statements that insert their rows, and those that add all of their amounts."""

    events: Sequence[SpendEvent]
    rows: Sequence[Statement]
    totals: Sequence[Statement]


class BatchWriter:
    def __init__(self, database: Database, *, tracks_end_users: bool) -> None:
        """`tracks_end_users`: whether end users get rows and days of their own."""
        self._database = database
        self._bulk = BulkWriter(database)
        self._tracks_end_users = tracks_end_users

    async def prepare(self, events: Sequence[SpendEvent]) -> Batch:
        """Everything but the database. Raises ArithmeticError, TypeError or ValueError for what no column takes."""
        distinct = await self._under_current_keys(list({event.request_id: event for event in events}.values()))
        rows = [
            await self._bulk.statement("insert", LOG, map(log_row, piece))
            for piece in _pieces(distinct, _ROWS_PER_STATEMENT)
        ]
        return Batch(distinct, rows, await self._totals_of(distinct))

    async def _under_current_keys(self, events: list[SpendEvent]) -> list[SpendEvent]:
        """A call that began before its key was regenerated counts for the key that took its place."""
        renamed: dict[str, str] = {}
        with suppress(*DATABASE_AWAY, *DATABASE_REFUSED), self._database.active():
            if await DeprecatedKey.exists():
                tokens = sorted({event.key_hash for event in events})
                for start in range(0, len(tokens), _TOKENS_PER_QUERY):
                    rows = DeprecatedKey.filter(token__in=tokens[start : start + _TOKENS_PER_QUERY])
                    renamed |= {row.token: row.active_token async for row in rows}
        if not renamed:
            return events
        return [
            msgspec.structs.replace(event, key_hash=renamed[event.key_hash]) if event.key_hash in renamed else event
            for event in events
        ]

    async def write(self, batch: Batch) -> None:
        """One transaction, retried after a deadlock with another one, as a deletion of many keys.

        Events that are there already are left out together with their amounts. Raises what the database says.
        """
        if not batch.events:
            return
        for delay in _DEADLOCK_RETRY_DELAYS:
            try:
                await self._commit(batch)
                return
            except asyncpg.TransactionRollbackError as problem:
                log.info("spend flush retried", reason=type(problem).__name__, events=len(batch.events))
                await asyncio.sleep(random.uniform(0, delay))  # noqa: S311 - no secret depends on it
        await self._commit(batch)

    async def _commit(self, batch: Batch) -> None:
        async with self._database.transaction():
            fresh: set[str] = set()
            for statement in batch.rows:
                fresh |= await self._bulk.insert_new(LOG, statement)
            totals = batch.totals
            if len(fresh) < len(batch.events):
                totals = await self._totals_of([event for event in batch.events if event.request_id in fresh])
            for statement in totals:
                await self._bulk.run(statement)

    async def _totals_of(self, events: Sequence[SpendEvent]) -> list[Statement]:
        totals = Totals(tracks_end_users=self._tracks_end_users)
        for piece in _pieces(events, _EVENTS_PER_STEP):
            totals.add(piece)
            await asyncio.sleep(0)
        return await totals.statements(self._bulk)


def _pieces(events: Sequence[SpendEvent], size: int) -> Iterator[Sequence[SpendEvent]]:
    for start in range(0, len(events), size):
        yield events[start : start + size]
