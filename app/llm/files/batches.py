"""Batches that clients run at a provider, through the gateway.

Whose a batch is, and encrypted who pays for it, stands in its metadata at the provider, next to the client's own
(owner.py). Every answer of the provider about a batch is shown to batch_watcher.py: when one has ended,
its output is read once in the background and billed at the provider's price for batches (batch_billing.py).
"""

from __future__ import annotations

from typing import Any

import msgspec

from ...auth.principal import Principal
from ...deployments.deployment import Deployment
from ...errors import InvalidRequest
from ...protocols.json_fields import as_mapping
from ...protocols.openai import GATEWAY_FIELDS
from .accounts import ProviderAccounts
from .batch_watcher import BatchWatcher
from .files import Wanted, models_of_file
from .lists import Answered, listed, read_limit
from .object_ids import ObjectRef
from .owner import OWNER_ENTRY, owner_in, payer_of

_PATH = "/batches"
# A provider takes sixteen entries; one is ours.
_MAX_METADATA = 15
_FILES = ("input_file_id", "output_file_id", "error_file_id")
_PAGE = 100
_USUAL_LIMIT = 20

_encode = msgspec.json.Encoder().encode


class ProviderBatches:
    def __init__(self, accounts: ProviderAccounts, meter: BatchWatcher) -> None:
        self._accounts = accounts
        self._meter = meter

    async def create(self, principal: Principal, path: str, body: Answered) -> Answered:
        """Run the calls of a file that was uploaded for it. The caller must be granted its models, now as then."""
        self._accounts.refuse(principal, path)
        for name in ("input_file_id", "endpoint", "completion_window"):
            if not isinstance(body.get(name), str) or not body[name]:
                raise InvalidRequest(f"{_PATH}: Missing required parameter: '{name}'.", param=name)
        file, account = self._accounts.open("file", body["input_file_id"], principal)
        models = models_of_file(await self._accounts.ask(account, "GET", f"/files/{file.provider_id}"))
        if not models:
            raise InvalidRequest("The file was not uploaded with purpose 'batch'.", param="input_file_id")
        await self._accounts.admit(principal, path, models)
        left_out = GATEWAY_FIELDS | {"model", "custom_llm_provider", "metadata"}
        sent = {name: value for name, value in body.items() if name not in left_out}
        signature = self._accounts.signature(file.owner, payer_of(principal, models))
        sent |= {"input_file_id": file.provider_id, "metadata": _signed(body.get("metadata"), signature)}
        row = await self._accounts.ask(account, "POST", _PATH, (), _encode(sent))
        self._meter.see(row, account, signature)
        return self._shown(row, account, file.owner)

    async def list_own(self, principal: Principal, path: str, wanted: Wanted, asked: dict[str, str]) -> Answered:
        """The caller's own batches at one account; an admin's list is whole."""
        # It may take many calls of the provider, so it counts as one of the caller's.
        await self._accounts.admit(principal, path, ())
        account = self._accounts.choose(principal, wanted.model, wanted.provider)
        query = {"limit": str(_PAGE)}
        if asked.get("after"):
            query["after"] = self._accounts.open("batch", asked["after"], principal)[0].provider_id
        return await listed(
            self._accounts,
            account,
            principal,
            _PATH,
            query,
            most=read_limit(asked.get("limit"), usual=_USUAL_LIMIT, most=_PAGE),
            owner_of=_owner_of,
            shown=self._shown,
        )

    async def show(self, principal: Principal, path: str, id: str) -> Answered:
        """How far a batch is."""
        ref, account = self._found(principal, path, id)
        row = await self._accounts.ask(account, "GET", f"{_PATH}/{ref.provider_id}")
        return self._shown(row, account, ref.owner)

    async def cancel(self, principal: Principal, path: str, id: str) -> Answered:
        """Stop a batch; what is done stays done."""
        ref, account = self._found(principal, path, id)
        row = await self._accounts.ask(account, "POST", f"{_PATH}/{ref.provider_id}/cancel", (), b"")
        return self._shown(row, account, ref.owner)

    def _found(self, principal: Principal, path: str, id: str) -> tuple[ObjectRef, Deployment]:
        self._accounts.refuse(principal, path)
        return self._accounts.open("batch", id, principal)

    def _shown(self, row: Answered, account: Deployment, owner: str) -> Answered:
        """A batch with ids that its owner can use, and without our notes. Whoever sees it, the meter sees it too."""
        self._meter.see(row, account)
        metadata = as_mapping(row.get("metadata"))
        shown = {**row, "id": self._accounts.encrypt("batch", ObjectRef(account.id, str(row.get("id")), owner))}
        for name in _FILES:
            if row.get(name):
                shown[name] = self._accounts.encrypt("file", ObjectRef(account.id, str(row[name]), owner))
        own = {name: value for name, value in metadata.items() if name != OWNER_ENTRY}
        return {**shown, "metadata": own or None}


def _signed(metadata: Any, signature: str) -> dict[str, Any]:
    """The client's metadata and ours. Raises InvalidRequest (400) for what the provider would not take."""
    if metadata is not None and not isinstance(metadata, dict):
        raise InvalidRequest(f"{_PATH}: 'metadata' must be an object.", param="metadata")
    own = {name: value for name, value in (metadata or {}).items() if name != OWNER_ENTRY}
    if len(own) > _MAX_METADATA:
        raise InvalidRequest(f"{_PATH}: 'metadata' takes up to {_MAX_METADATA} entries.", param="metadata")
    return {**own, OWNER_ENTRY: signature}


def _owner_of(row: Answered) -> str:
    return owner_in(str(as_mapping(row.get("metadata")).get(OWNER_ENTRY) or ""))
