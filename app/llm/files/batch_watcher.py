"""Which batches have ended and are to be billed: from every answer of a provider about one, and by looking.

Batches that were made or seen here and still run are looked at every few minutes until they end, so that spend is right
even if nobody asks. They are remembered in this process only: after a restart a batch is billed when its owner, or an
admin, next asks for it or lists it. All that is remembered is bounded.
"""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import structlog

from ...deployments.deployment import Deployment
from ...errors import UpstreamError
from ...protocols.json_fields import as_mapping
from ...storage.database import DATABASE_AWAY, DATABASE_REFUSED
from .accounts import ProviderAccounts, account_root
from .batch_billing import BatchBilling, EndedBatch
from .owner import OWNER_ENTRY, Payer, owner_in

log = structlog.get_logger(__name__)

_ENDED = frozenset({"completed", "failed", "expired", "cancelled"})
_LOOK_SECONDS = 300.0
# A window of a day, and what a provider may take longer.
_MAX_SECONDS = 8 * 24 * 3600.0
_MAX_RUNNING = 1000
_MAX_WAITING = 1000
_MAX_BILLED = 10_000
_MAX_FAILURES = 12
# Files that are read at a time.
_READERS = 2
_MAX_ID = 512
_LAST_SECOND = 253_402_300_799
_AGAIN = (UpstreamError, TimeoutError, *DATABASE_AWAY, *DATABASE_REFUSED)

# The address of its account, and the provider's id.
_Name = tuple[str, str]


@dataclass(slots=True)
class _Running:
    """A batch that is not billed yet. `failures`: bills that came to nothing; the next is tried at `rests_until`."""

    account_id: str
    signature: str
    since: float = field(default_factory=time.monotonic)
    failures: int = 0
    rests_until: float = 0.0


class BatchWatcher:
    def __init__(
        self, accounts: ProviderAccounts, billing: BatchBilling, *, look_seconds: float = _LOOK_SECONDS
    ) -> None:
        self._accounts = accounts
        self._billing = billing
        self._look_seconds = look_seconds
        self._running: OrderedDict[_Name, _Running] = OrderedDict()
        # Billed, or about to be, or not to be billed.
        self._finished: OrderedDict[_Name, None] = OrderedDict()
        self._waiting: asyncio.Queue[tuple[EndedBatch, _Running]] = asyncio.Queue(_MAX_WAITING)
        self._said: set[str] = set()

    # ---- seeing ----------------------------------------------------------------------------------------------------

    def see(self, row: Mapping[str, Any], account: Deployment, signature: str = "") -> None:
        """Take note of what a provider says about a batch. Takes microseconds and never waits.

        `signature`: what was written into its metadata, for providers that do not say it again.
        """
        id = row.get("id")
        if not isinstance(id, str) or not 0 < len(id) <= _MAX_ID:
            return
        name = (account_root(account), id)
        if name in self._finished:
            return
        known = self._running.get(name)
        if known is None:
            known = _Running(account.id, signature or str(as_mapping(row.get("metadata")).get(OWNER_ENTRY) or ""))
        payer = self._accounts.payer(known.signature)
        if payer is None:
            self._say_once("batches that nobody is known to pay for are not metered", id=id)
        elif row.get("status") not in _ENDED:
            self._remember(name, known)
        elif not row.get("output_file_id"):
            self._finish(name)
        elif known.rests_until <= time.monotonic():
            self._put(name, known, _ended_batch(row, account, known.signature, payer))

    def _say_once(self, what: str, id: str) -> None:
        """There may be thousands of them, in each list."""
        if what not in self._said:
            self._said.add(what)
            log.warning(what, batch=id)

    def _remember(self, name: _Name, known: _Running) -> None:
        self._running[name] = known
        if len(self._running) > _MAX_RUNNING:
            self._running.popitem(last=False)
            self._say_once("too many batches run: some are billed only when somebody asks for them", id=name[1])

    def _finish(self, name: _Name) -> None:
        self._running.pop(name, None)
        self._finished[name] = None
        while len(self._finished) > _MAX_BILLED:
            self._finished.popitem(last=False)

    def _put(self, name: _Name, known: _Running, batch: EndedBatch) -> None:
        try:
            self._waiting.put_nowait((batch, known))
        except asyncio.QueueFull:
            self._remember(name, known)
        else:
            self._finish(name)

    # ---- billing ---------------------------------------------------------------------------------------------------

    async def run_forever(self) -> None:
        """Bill what was seen, and look at what still runs."""
        async with asyncio.TaskGroup() as group:
            for _ in range(_READERS):
                group.create_task(self._bill_forever(), name="bills of batches")
            group.create_task(self._look_forever(), name="look at batches")

    async def _bill_forever(self) -> None:
        while True:
            batch, known = await self._waiting.get()
            try:
                await self._billing.bill(batch)
            except _AGAIN as problem:
                self._failed(batch, known, problem)
            except Exception as problem:  # noqa: BLE001 - a bug of ours must not end the metering of others for good
                log.error("a batch could not be metered", batch=batch.id, reason=type(problem).__name__)

    def _failed(self, batch: EndedBatch, known: _Running, problem: Exception) -> None:
        """Try again later, unless the file is gone or this has gone on for long."""
        known.failures += 1
        is_gone = isinstance(problem, UpstreamError) and problem.status == 404
        if is_gone or known.failures >= _MAX_FAILURES:
            log.error("a batch is not metered: its output cannot be read", batch=batch.id, is_gone=is_gone)
            return
        log.warning("a batch is metered later", batch=batch.id, reason=type(problem).__name__)
        known.rests_until = time.monotonic() + self._look_seconds / 2
        name = (account_root(batch.account), batch.id)
        self._finished.pop(name, None)
        self._remember(name, known)

    # ---- looking ---------------------------------------------------------------------------------------------------

    async def _look_forever(self) -> None:
        while True:
            await asyncio.sleep(self._look_seconds)
            for name, known in list(self._running.items()):
                if self._running.get(name) is known:
                    try:
                        await self._look(name, known)
                    except Exception as problem:  # noqa: BLE001 - a bug of ours must not end the looking for good
                        log.error("a batch could not be looked at", batch=name[1], reason=type(problem).__name__)

    async def _look(self, name: _Name, known: _Running) -> None:
        account = self._accounts.by_id(known.account_id)
        if account is None or time.monotonic() - known.since > _MAX_SECONDS:
            log.warning("a batch is looked at no more", batch=name[1])
            self._running.pop(name, None)
            return
        try:
            row = await self._accounts.ask(account, "GET", f"/batches/{name[1]}")
        except UpstreamError as problem:
            if problem.status == 404:
                log.warning("a batch is gone", batch=name[1])
                self._running.pop(name, None)
            return
        self.see(row, account)


def _ended_batch(row: Mapping[str, Any], account: Deployment, signature: str, payer: Payer) -> EndedBatch:
    status = str(row["status"])
    return EndedBatch(
        account=account,
        id=str(row["id"]),
        owner=owner_in(signature),
        payer=payer,
        status=status,
        output_file_id=str(row["output_file_id"]),
        ended_at=_moment(row.get(f"{status}_at")) or _moment(row.get("created_at")) or datetime.now(UTC),
    )


def _moment(seconds: Any) -> datetime | None:
    """A time of the provider's, which is over; None for what is no time."""
    if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not 0 < seconds <= _LAST_SECOND:
        return None
    return min(datetime.fromtimestamp(seconds, UTC), datetime.now(UTC))
