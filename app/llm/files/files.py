"""Files that clients store at a provider, through the gateway.

There is no table of them: a file's id holds its account and owner (object_ids.py), and its name at the provider begins
with the owner's tag, so that a list shows a caller's own files only, and with the models that a batch file names.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import re
from dataclasses import dataclass, replace

import msgspec

from ...auth.principal import Principal
from ...deployments.deployment import Deployment
from ...errors import InvalidRequest
from ...protocols.batch_file import models_of_batch, renamed_batch
from ...protocols.multipart import Form, Part, form_type, new_boundary, parse_form
from ...protocols.openai.request import GATEWAY_FIELDS
from ..upstream.client import Answer
from .accounts import ProviderAccounts
from .lists import JsonObject, list_own_rows, read_limit
from .object_ids import ObjectRef

_PATH = "/files"
_OWNER_PREFIX = re.compile(r"([0-9a-f]{24})\.([A-Za-z0-9_-]*?)\.\.")
_MAX_ENCODED_MODELS = 200
# Fields of a form that are for the gateway, besides those of every call.
_ROUTING_FIELDS = frozenset({"model", "target_model_names", "custom_llm_provider", "metadata"})
_PAGE = 1000
_MAX_LIMIT = 10_000


@dataclass(frozen=True, slots=True, kw_only=True)
class AccountSelector:
    """The account that a client selects: that of a model or of a provider; the default one without either."""

    model: str | None = None
    provider: str | None = None


class ProviderFiles:
    def __init__(self, accounts: ProviderAccounts) -> None:
        self._accounts = accounts

    async def upload(
        self, principal: Principal, path: str, body: bytes, content_type: str, wanted: AccountSelector
    ) -> JsonObject:
        """Store a file. Models in a batch file must be granted, and are renamed to the provider's names."""
        self._accounts.refuse(principal, path)
        form = parse_form(body, content_type)
        file = _file_of(form)
        wanted = AccountSelector(
            model=_single_model(form.texts("target_model_names")) or form.text("model") or wanted.model,
            provider=form.text("custom_llm_provider") or wanted.provider,
        )
        models: tuple[str, ...] = ()
        if form.text("purpose") == "batch":
            models = await asyncio.to_thread(models_of_batch, file.value)
            if wanted.model is None and wanted.provider is None:
                wanted = AccountSelector(model=models[0])
        admitted = dict.fromkeys((*models, *([wanted.model] if wanted.model is not None else [])))
        await self._accounts.admit(principal, path, tuple(admitted))
        account = self._accounts.choose(principal, wanted.model, wanted.provider)
        if models:
            names = {model: self._accounts.upstream_model_at(account, principal, model) for model in models}
            file = replace(file, value=await asyncio.to_thread(renamed_batch, file.value, names))
        owner = self._accounts.owner(principal)
        encoded = _encode_form(form, file, _owner_prefix(owner, models))
        row = await self._accounts.request_json(account, "POST", _PATH, (), *encoded)
        return self._to_client(row, account, owner)

    async def list_own(
        self, principal: Principal, path: str, wanted: AccountSelector, arguments: dict[str, str]
    ) -> JsonObject:
        """The caller's own files at one account, in the provider's order; an admin sees all."""
        # It may take many calls to the provider, so it counts as a call of the caller's.
        await self._accounts.admit(principal, path, ())
        account = self._accounts.choose(principal, wanted.model, wanted.provider)
        query = {name: arguments[name] for name in ("purpose", "order") if arguments.get(name)} | {"limit": str(_PAGE)}
        if arguments.get("after"):
            query["after"] = self._accounts.resolve("file", arguments["after"], principal)[0].provider_id
        return await list_own_rows(
            self._accounts,
            account,
            principal,
            _PATH,
            query,
            limit=read_limit(arguments.get("limit"), default=_MAX_LIMIT, max_limit=_MAX_LIMIT),
            owner_of=_owner_of,
            to_client=self._to_client,
        )

    async def show(self, principal: Principal, path: str, id: str) -> JsonObject:
        """The provider's row of a file."""
        ref, account = self._resolve(principal, path, id)
        row = await self._accounts.request_json(account, "GET", f"{_PATH}/{ref.provider_id}")
        return {**self._to_client(row, account, ref.owner), "id": id}

    async def delete(self, principal: Principal, path: str, id: str) -> JsonObject:
        ref, account = self._resolve(principal, path, id)
        row = await self._accounts.request_json(account, "DELETE", f"{_PATH}/{ref.provider_id}")
        return {**row, "id": id}

    async def content(self, principal: Principal, path: str, id: str) -> Answer:
        """The open response with the file's bytes, which the caller closes."""
        ref, account = self._resolve(principal, path, id)
        return await self._accounts.request(account, "GET", f"{_PATH}/{ref.provider_id}/content")

    def _resolve(self, principal: Principal, path: str, id: str) -> tuple[ObjectRef, Deployment]:
        self._accounts.refuse(principal, path)
        return self._accounts.resolve("file", id, principal)

    def _to_client(self, row: JsonObject, account: Deployment, owner: str) -> JsonObject:
        ref = ObjectRef(account.id, str(row.get("id")), owner)
        return {
            **row,
            "id": self._accounts.client_id("file", ref),
            "filename": _OWNER_PREFIX.sub("", str(row.get("filename")), 1),
        }


def _file_of(form: Form) -> Part:
    """The file part. Raises InvalidRequest (400) without a file or without `purpose`."""
    files = form.files("file")
    for name, is_there in (("file", bool(files)), ("purpose", form.text("purpose") is not None)):
        if not is_there:
            raise InvalidRequest(f"{_PATH}: Missing required parameter: '{name}'.", param=name)
    return files[0]


def _encode_form(form: Form, file: Part, tag: str) -> tuple[bytes, str]:
    """The form for the provider: the file name with the owner's prefix, without fields for the gateway."""
    forwarded = form.without({*GATEWAY_FIELDS, *_ROUTING_FIELDS, "file"})
    prefixed = replace(file, name="file", filename=f"{tag}{file.filename or 'file'}")
    boundary = new_boundary()
    return Form((*forwarded.parts, prefixed)).encoded(boundary), form_type(boundary)


def _single_model(given: list[str]) -> str | None:
    names = [name.strip() for text in given for name in text.split(",") if name.strip()]
    if len(names) > 1:
        raise InvalidRequest("A file is kept at one account: name one model.", param="target_model_names")
    return names[0] if names else None


def _owner_prefix(owner: str, models: tuple[str, ...]) -> str:
    """The prefix of a file's name at the provider. Raises InvalidRequest (400) when it would be too long."""
    encoded = base64.urlsafe_b64encode(msgspec.json.encode(models)).decode().rstrip("=") if models else ""
    if len(encoded) > _MAX_ENCODED_MODELS:
        raise InvalidRequest("The models of the file have too long names.", param="file")
    return f"{owner}.{encoded}.."


def models_of_file(row: JsonObject) -> tuple[str, ...]:
    """The models that a batch file names, read from its name at the provider."""
    match = _OWNER_PREFIX.match(str(row.get("filename")))
    encoded = match[2] if match is not None else ""
    try:
        raw = base64.urlsafe_b64decode(encoded + "=" * (-len(encoded) % 4))
        return msgspec.json.decode(raw, type=tuple[str, ...]) if raw else ()
    except (binascii.Error, msgspec.MsgspecError):
        return ()


def _owner_of(row: JsonObject) -> str:
    match = _OWNER_PREFIX.match(str(row.get("filename")))
    return match[1] if match is not None else ""
