"""Batches that clients run at a provider, through the gateway.

The owner of a batch, and encrypted who pays for it, are in its metadata at the provider, next to the client's own
(owner.py). Every row of the provider about a batch goes to the watcher (batch_watcher.py): when a batch has ended, its
output is read once in the background and billed at the provider's price for batches (batch_billing.py).
"""

from __future__ import annotations

from typing import Any

import msgspec

from ...auth.principal import Principal
from ...deployments.deployment import Deployment
from ...errors import InvalidRequest
from ...protocols.json_fields import as_mapping
from ...protocols.openai.request import GATEWAY_FIELDS
from .accounts import ProviderAccounts
from .batch_watcher import BatchWatcher
from .files import AccountSelector, models_of_file
from .lists import JsonObject, list_own_rows, read_limit
from .object_ids import ObjectRef
from .owner import OWNER_METADATA_KEY, owner_of_signature, payer_of

_PATH = "/batches"
# Providers accept sixteen entries; one is the signature.
_MAX_METADATA = 15
_FILES = ("input_file_id", "output_file_id", "error_file_id")
_PAGE = 100
_DEFAULT_LIMIT = 20

_encode = msgspec.json.Encoder().encode


class ProviderBatches:
    def __init__(self, accounts: ProviderAccounts, watcher: BatchWatcher) -> None:
        self._accounts = accounts
        self._watcher = watcher

    async def create(self, principal: Principal, path: str, body: JsonObject) -> JsonObject:
        """Run the calls of a file that was uploaded for it. The caller must be granted its models, now as then."""
        self._accounts.refuse(principal, path)
        for name in ("input_file_id", "endpoint", "completion_window"):
            if not isinstance(body.get(name), str) or not body[name]:
                raise InvalidRequest(f"{_PATH}: Missing required parameter: '{name}'.", param=name)
        file, account = self._accounts.resolve("file", body["input_file_id"], principal)
        models = models_of_file(await self._accounts.request_json(account, "GET", f"/files/{file.provider_id}"))
        if not models:
            raise InvalidRequest("The file was not uploaded with purpose 'batch'.", param="input_file_id")
        await self._accounts.admit(principal, path, models)
        gateway_fields = GATEWAY_FIELDS | {"model", "custom_llm_provider", "metadata"}
        sent = {name: value for name, value in body.items() if name not in gateway_fields}
        signature = self._accounts.signature(file.owner, payer_of(principal, models))
        sent |= {"input_file_id": file.provider_id, "metadata": _with_signature(body.get("metadata"), signature)}
        row = await self._accounts.request_json(account, "POST", _PATH, (), _encode(sent))
        self._watcher.observe(row, account, signature)
        return self._to_client(row, account, file.owner)

    async def list_own(
        self, principal: Principal, path: str, wanted: AccountSelector, arguments: dict[str, str]
    ) -> JsonObject:
        """The caller's own batches at one account; an admin sees all."""
        # It may take many calls to the provider, so it counts as a call of the caller's.
        await self._accounts.admit(principal, path, ())
        account = self._accounts.choose(principal, wanted.model, wanted.provider)
        query = {"limit": str(_PAGE)}
        if arguments.get("after"):
            query["after"] = self._accounts.resolve("batch", arguments["after"], principal)[0].provider_id
        return await list_own_rows(
            self._accounts,
            account,
            principal,
            _PATH,
            query,
            limit=read_limit(arguments.get("limit"), default=_DEFAULT_LIMIT, max_limit=_PAGE),
            owner_of=_owner_of,
            to_client=self._to_client,
        )

    async def show(self, principal: Principal, path: str, id: str) -> JsonObject:
        """The status of a batch."""
        ref, account = self._resolve(principal, path, id)
        row = await self._accounts.request_json(account, "GET", f"{_PATH}/{ref.provider_id}")
        return self._to_client(row, account, ref.owner)

    async def cancel(self, principal: Principal, path: str, id: str) -> JsonObject:
        """Stop a batch; what is done stays done."""
        ref, account = self._resolve(principal, path, id)
        row = await self._accounts.request_json(account, "POST", f"{_PATH}/{ref.provider_id}/cancel", (), b"")
        return self._to_client(row, account, ref.owner)

    def _resolve(self, principal: Principal, path: str, id: str) -> tuple[ObjectRef, Deployment]:
        self._accounts.refuse(principal, path)
        return self._accounts.resolve("batch", id, principal)

    def _to_client(self, row: JsonObject, account: Deployment, owner: str) -> JsonObject:
        """A batch with the ids of clients and without our signature. The watcher observes whatever is shown."""
        self._watcher.observe(row, account)
        metadata = as_mapping(row.get("metadata"))
        batch = {**row, "id": self._accounts.client_id("batch", ObjectRef(account.id, str(row.get("id")), owner))}
        for name in _FILES:
            if row.get(name):
                batch[name] = self._accounts.client_id("file", ObjectRef(account.id, str(row[name]), owner))
        own = {name: value for name, value in metadata.items() if name != OWNER_METADATA_KEY}
        return {**batch, "metadata": own or None}


def _with_signature(metadata: Any, signature: str) -> dict[str, Any]:
    """The client's metadata with the signature. Raises InvalidRequest (400) for what the provider would not take."""
    if metadata is not None and not isinstance(metadata, dict):
        raise InvalidRequest(f"{_PATH}: 'metadata' must be an object.", param="metadata")
    own = {name: value for name, value in (metadata or {}).items() if name != OWNER_METADATA_KEY}
    if len(own) > _MAX_METADATA:
        raise InvalidRequest(f"{_PATH}: 'metadata' takes up to {_MAX_METADATA} entries.", param="metadata")
    return {**own, OWNER_METADATA_KEY: signature}


def _owner_of(row: JsonObject) -> str:
    return owner_of_signature(str(as_mapping(row.get("metadata")).get(OWNER_METADATA_KEY) or ""))
