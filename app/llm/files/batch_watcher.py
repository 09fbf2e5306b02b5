"""The batch watcher: learns that batches have ended from the rows that providers return and by polling, and bills them.

Batches that were created or shown here and still run are polled every few minutes until they end, so that spend is
right even if no client asks. They are held in this process only: after a restart a batch is billed when its owner, or
an admin, next retrieves or lists it. Everything that is held is bounded.
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
from .owner import OWNER_METADATA_KEY, Payer, owner_of_signature

log = structlog.get_logger(__name__)

_ENDED = frozenset({"completed", "failed", "expired", "cancelled"})
_POLL_SECONDS = 300.0
# A completion window of a day, and what a provider may take longer.
_MAX_SECONDS = 8 * 24 * 3600.0
_MAX_PENDING = 1000
_MAX_QUEUED = 1000
_MAX_FINISHED = 10_000
_MAX_FAILURES = 12
# Output files that are read at a time.
_BILLERS = 2
_MAX_ID = 512
_MAX_TIMESTAMP = 253_402_300_799
_RETRYABLE = (UpstreamError, TimeoutError, *DATABASE_AWAY, *DATABASE_REFUSED)

# The address of the account, and the provider's id of the batch.
_Key = tuple[str, str]


@dataclass(slots=True)
class _PendingBatch:
    """A batch that is not billed yet. `failures`: failed attempts to bill it; the next is due at `retry_at`."""

    account_id: str
    signature: str
    first_seen: float = field(default_factory=time.monotonic)
    failures: int = 0
    retry_at: float = 0.0


class BatchWatcher:
    def __init__(
        self, accounts: ProviderAccounts, billing: BatchBilling, *, poll_seconds: float = _POLL_SECONDS
    ) -> None:
        self._accounts = accounts
        self._billing = billing
        self._poll_seconds = poll_seconds
        self._pending: OrderedDict[_Key, _PendingBatch] = OrderedDict()
        # Billed, queued for billing, or without results.
        self._finished: OrderedDict[_Key, None] = OrderedDict()
        self._queue: asyncio.Queue[tuple[EndedBatch, _PendingBatch]] = asyncio.Queue(_MAX_QUEUED)
        self._warned: set[str] = set()

    # ---- observing -------------------------------------------------------------------------------------------------

    def observe(self, row: Mapping[str, Any], account: Deployment, signature: str = "") -> None:
        """Record a provider's row of a batch. Takes microseconds and never waits.

        `signature`: the one that was written into its metadata, for providers that do not return it.
        """
        id = row.get("id")
        if not isinstance(id, str) or not 0 < len(id) <= _MAX_ID:
            return
        key = (account_root(account), id)
        if key in self._finished:
            return
        pending = self._pending.get(key)
        if pending is None:
            pending = _PendingBatch(
                account.id, signature or str(as_mapping(row.get("metadata")).get(OWNER_METADATA_KEY) or "")
            )
        payer = self._accounts.payer(pending.signature)
        if payer is None:
            self._warn_once("payer unknown", id=id)
        elif row.get("status") not in _ENDED:
            self._remember(key, pending)
        elif not row.get("output_file_id"):
            self._finish(key)
        elif pending.retry_at <= time.monotonic():
            self._enqueue(key, pending, _ended_batch(row, account, pending.signature, payer))

    def _warn_once(self, reason: str, id: str) -> None:
        """Log a reason for the first batch only: each list may have thousands."""
        if reason not in self._warned:
            self._warned.add(reason)
            log.warning("batch not billed", reason=reason, batch=id)

    def _remember(self, key: _Key, pending: _PendingBatch) -> None:
        self._pending[key] = pending
        if len(self._pending) > _MAX_PENDING:
            self._pending.popitem(last=False)
            self._warn_once("too many batches pending, oldest not polled", id=key[1])

    def _finish(self, key: _Key) -> None:
        self._pending.pop(key, None)
        self._finished[key] = None
        while len(self._finished) > _MAX_FINISHED:
            self._finished.popitem(last=False)

    def _enqueue(self, key: _Key, pending: _PendingBatch, batch: EndedBatch) -> None:
        try:
            self._queue.put_nowait((batch, pending))
        except asyncio.QueueFull:
            self._remember(key, pending)
        else:
            self._finish(key)

    # ---- billing ---------------------------------------------------------------------------------------------------

    async def run_forever(self) -> None:
        """Bill batches that have ended, and poll those that still run."""
        async with asyncio.TaskGroup() as group:
            for _ in range(_BILLERS):
                group.create_task(self._bill_forever(), name="billing of batches")
            group.create_task(self._poll_forever(), name="polling of batches")

    async def _bill_forever(self) -> None:
        while True:
            batch, pending = await self._queue.get()
            try:
                await self._billing.bill(batch)
            except _RETRYABLE as problem:
                self._failed(batch, pending, problem)
            except Exception as problem:  # noqa: BLE001 - a bug of ours must not end the billing of others for good
                log.error("batch billing failed", batch=batch.id, reason=type(problem).__name__)

    def _failed(self, batch: EndedBatch, pending: _PendingBatch, problem: Exception) -> None:
        """Try again later, unless the file is gone or too many attempts failed."""
        pending.failures += 1
        is_gone = isinstance(problem, UpstreamError) and problem.status == 404
        if is_gone or pending.failures >= _MAX_FAILURES:
            log.error("batch not billed, output unreadable", batch=batch.id, is_gone=is_gone)
            return
        log.warning("batch billing delayed", batch=batch.id, reason=type(problem).__name__)
        pending.retry_at = time.monotonic() + self._poll_seconds / 2
        key = (account_root(batch.account), batch.id)
        self._finished.pop(key, None)
        self._remember(key, pending)

    # ---- polling ---------------------------------------------------------------------------------------------------

    async def _poll_forever(self) -> None:
        while True:
            await asyncio.sleep(self._poll_seconds)
            for key, pending in list(self._pending.items()):
                if self._pending.get(key) is pending:
                    try:
                        await self._poll(key, pending)
                    except Exception as problem:  # noqa: BLE001 - a bug of ours must not end the polling for good
                        log.error("batch poll failed", batch=key[1], reason=type(problem).__name__)

    async def _poll(self, key: _Key, pending: _PendingBatch) -> None:
        account = self._accounts.by_id(pending.account_id)
        if account is None or time.monotonic() - pending.first_seen > _MAX_SECONDS:
            log.warning("batch poll stopped", batch=key[1])
            self._pending.pop(key, None)
            return
        try:
            row = await self._accounts.request_json(account, "GET", f"/batches/{key[1]}")
        except UpstreamError as problem:
            if problem.status == 404:
                log.warning("batch not found at provider", batch=key[1])
                self._pending.pop(key, None)
            return
        self.observe(row, account)


def _ended_batch(row: Mapping[str, Any], account: Deployment, signature: str, payer: Payer) -> EndedBatch:
    status = str(row["status"])
    return EndedBatch(
        account=account,
        id=str(row["id"]),
        owner=owner_of_signature(signature),
        payer=payer,
        status=status,
        output_file_id=str(row["output_file_id"]),
        ended_at=_past_time(row.get(f"{status}_at")) or _past_time(row.get("created_at")) or datetime.now(UTC),
    )


def _past_time(seconds: Any) -> datetime | None:
    """A timestamp of the provider's, at most now; None for what is no timestamp."""
    if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not 0 < seconds <= _MAX_TIMESTAMP:
        return None
    return min(datetime.fromtimestamp(seconds, UTC), datetime.now(UTC))
