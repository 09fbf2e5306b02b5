"""Billing of a batch that has ended: its output file is read once, added up per model, and recorded for its creator.

Spend events have ids that are derived from the batch's, so that the database takes each once, whichever process records
it. Budget counters follow the database with the next read of the key, within seconds. Nothing is counted besides, since
nothing would undo it when two processes bill one batch.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from hashlib import sha256

import structlog
from msgspec.structs import replace as replaced

from ...auth.key_snapshot import load_principal
from ...auth.principal import Principal
from ...auth.roles import Role
from ...deployments.catalog import DeploymentCatalog
from ...deployments.deployment import Deployment
from ...models import SpendLog
from ...settings import Settings
from ...spend.budget import Reservation
from ...spend.events import SpendEvent
from ...spend.ledger import SpendLedger
from ...spend.pricing import Cost, batch_cost
from ...spend.shared_scopes import SharedScopes
from ...storage.database import Database
from ..call_spend import spend_event, windows_of
from .accounts import ProviderAccounts, account_root
from .batch_usage import BatchModel, BatchTotals, ModelTotals
from .object_ids import ObjectRef
from .owner import Payer

log = structlog.get_logger(__name__)

_CALL_TYPE = "aretrieve_batch"
_ENDPOINT = "/batches"
_MAX_BYTES = 256 * 1024 * 1024
# Parsed at a time: a millisecond or two.
_PIECE_BYTES = 64 * 1024
_READ_SECONDS = 900.0


@dataclass(frozen=True, slots=True, kw_only=True)
class EndedBatch:
    """A batch that has results. `id` and `output_file_id` are the provider's."""

    account: Deployment
    id: str
    owner: str
    payer: Payer
    status: str
    output_file_id: str
    ended_at: datetime


class BatchBilling:
    def __init__(
        self,
        settings: Settings,
        database: Database,
        accounts: ProviderAccounts,
        catalog: DeploymentCatalog,
        shared: SharedScopes,
        ledger: SpendLedger,
        *,
        log_retention: timedelta | None = None,
        max_bytes: int = _MAX_BYTES,
    ) -> None:
        """`log_retention`: the retention of spend logs. Up to `max_bytes` of an output file are read and billed."""
        self._calendar = settings.budget_calendar
        self._bounds_team_keys_by_user = settings.apply_user_budget_to_team_keys
        self._log_retention = log_retention
        self._database = database
        self._accounts = accounts
        self._catalog = catalog
        self._shared = shared
        self._ledger = ledger
        self._max_bytes = max_bytes

    async def bill(self, batch: EndedBatch) -> None:
        """Raises UpstreamError, TimeoutError or what the database says when it should be tried again."""
        if self._log_retention is not None and batch.ended_at <= datetime.now(UTC) - self._log_retention:
            # Its rows may have been deleted by now: nothing would show that it was billed before.
            return
        with self._database.active():
            if await SpendLog.exists(request_id=_request_id(batch, 0)):
                return
            principal, _ = await load_principal(
                batch.payer.key_hash, self._calendar, bounds_team_keys_by_user=self._bounds_team_keys_by_user
            )
        await self._shared.refresh()
        caller = _caller(batch.payer, principal)
        totals = BatchTotals(batch.account, self._models_of(batch, caller))
        async with asyncio.timeout(_READ_SECONDS):
            await self._read(batch, totals)
        batch_id = self._accounts.client_id("batch", ObjectRef(batch.account.id, batch.id, batch.owner))
        facts = {"batch_id": batch_id, "batch_status": batch.status, **totals.facts()}
        # Number 0 last: when its row exists, those of the others do too, even if this process ends in between.
        for number, (name, found) in reversed([*enumerate(sorted(totals.by_model.items()))]):
            event = self._event(batch, caller, name, found)
            self._ledger.record(replaced(event, request_id=_request_id(batch, number), metadata=found.facts | facts))
        log.info("batch billed", batch=batch.id, status=batch.status, **totals.facts())

    def _models_of(self, batch: EndedBatch, caller: Principal) -> list[BatchModel]:
        """The models that the batch names, as far as they are still at its account."""
        found = [self._accounts.find_at(batch.account, caller, name) for name in batch.payer.models]
        return [BatchModel(group, deployment) for group, deployment in found if deployment is not None]

    async def _read(self, batch: EndedBatch, totals: BatchTotals) -> None:
        bytes_left = self._max_bytes
        path = f"/files/{batch.output_file_id}/content"
        async with await self._accounts.request(batch.account, "GET", path) as answer:
            async for chunk in answer.chunks():
                for start in range(0, min(len(chunk), bytes_left), _PIECE_BYTES):
                    totals.feed(chunk[start : min(start + _PIECE_BYTES, bytes_left)])
                    # A file is long: other tasks run between its pieces.
                    await asyncio.sleep(0)
                bytes_left -= len(chunk)
                if bytes_left < 0:
                    log.error("batch output truncated, too large", batch=batch.id)
                    totals.is_truncated = True
                    return
        totals.finish()

    def _event(self, batch: EndedBatch, caller: Principal, name: str, found: ModelTotals) -> SpendEvent:
        """The spend of one model, without its id and metadata."""
        account, source = batch.account, found.source
        cost = batch_cost(Cost(found.input + found.output, found.input, found.output))
        event = spend_event(
            found.usage,
            payer=caller,
            request_id="",
            call_type=_CALL_TYPE,
            endpoint=_ENDPOINT,
            start_time=batch.ended_at,
            end_time=batch.ended_at,
            cost=cost.total,
            model=source.upstream_model if source is not None else name,
            model_id=(source or account).id,
            model_group=found.group,
            provider=account.provider.name,
            api_base=account.api_base,
            is_team_priced=account.is_team_made or (source is not None and source.is_team_made),
        )
        return self._counted(event, caller, found.group)

    def _counted(self, event: SpendEvent, caller: Principal, group: str) -> SpendEvent:
        """The event with the windows and access groups that it counts in; only the team's own of what a team prices."""
        whose = set(event.scopes())
        own = [scope for scope in caller.scopes if (scope.kind, scope.id) in whose and scope.model in ("", group)]
        if event.is_team_priced:
            return replaced(event, windows=windows_of(Reservation(own, (), None)))
        shared = [*self._shared.of_call(caller.tags, self._catalog.access_groups_of(group, caller.team_id))]
        provider = self._shared.of_provider(event.provider)
        scopes = [*own, *shared, *([provider] if provider is not None else [])]
        groups = [scope.id for scope in shared if scope.kind == "access_group"]
        return replaced(event, windows=windows_of(Reservation(scopes, (), None)), access_groups=groups)


def _caller(payer: Payer, principal: Principal | None) -> Principal:
    """Who pays: the key as it is now, with the owners that it had when it created the batch. A key may be deleted."""
    if principal is None:
        principal = Principal(role=Role.KEY_ONLY, key_hash=payer.key_hash)
    elif payer == Payer(payer.key_hash):
        return principal
    return replace(
        principal,
        user_id=payer.user_id,
        team_id=payer.team_id,
        organization_id=payer.organization_id,
        is_session=payer.is_session,
    )


def _request_id(batch: EndedBatch, number: int) -> str:
    """The same in every process and at any time: from the account's address, the batch, and the number of the model."""
    source = f"{account_root(batch.account)}\n{batch.id}"
    return f"batch-{sha256(source.encode()).hexdigest()[:32]}-{number}"
