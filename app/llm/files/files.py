"""Files that clients keep at a provider, through the gateway.

There is no table of them: a file's id says where it is and whose (object_ids.py), and its name at the provider begins
with the tag of its owner, so that a list shows a caller's own files only, and with the models that a batch of it names.
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
from ...protocols.openai import GATEWAY_FIELDS
from ..upstream.client import Answer
from .accounts import ProviderAccounts
from .lists import Answered, listed, read_limit
from .object_ids import ObjectRef

_PATH = "/files"
_TAGGED = re.compile(r"([0-9a-f]{24})\.([A-Za-z0-9_-]*?)\.\.")
_MAX_TAG = 200
# Words of the gateway in a form, besides those of every call.
_OWN_FIELDS = frozenset({"model", "target_model_names", "custom_llm_provider", "metadata"})
_PAGE = 1000
_MAX_LISTED = 10_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """Which account a client means: that of a model, or of a provider; None: the usual one."""

    model: str | None = None
    provider: str | None = None


class ProviderFiles:
    def __init__(self, accounts: ProviderAccounts) -> None:
        self._accounts = accounts

    async def upload(self, principal: Principal, path: str, body: bytes, content_type: str, wanted: Wanted) -> Answered:
        """Keep a file. One for a batch has its models renamed to what the provider calls them; they must be granted."""
        self._accounts.refuse(principal, path)
        form = parse_form(body, content_type)
        file = _file_of(form)
        wanted = Wanted(
            model=_one_model(form.texts("target_model_names")) or form.text("model") or wanted.model,
            provider=form.text("custom_llm_provider") or wanted.provider,
        )
        models: tuple[str, ...] = ()
        if form.text("purpose") == "batch":
            models = await asyncio.to_thread(models_of_batch, file.value)
            if wanted.model is None and wanted.provider is None:
                wanted = Wanted(model=models[0])
        named = dict.fromkeys((*models, *([wanted.model] if wanted.model is not None else [])))
        await self._accounts.admit(principal, path, tuple(named))
        account = self._accounts.choose(principal, wanted.model, wanted.provider)
        if models:
            names = {model: self._accounts.name_at(account, principal, model) for model in models}
            file = replace(file, value=await asyncio.to_thread(renamed_batch, file.value, names))
        owner = self._accounts.owner(principal)
        kept = await self._accounts.ask(account, "POST", _PATH, (), *_encoded(form, file, _tag(owner, models)))
        return self._shown(kept, account, owner)

    async def list_own(self, principal: Principal, path: str, wanted: Wanted, asked: dict[str, str]) -> Answered:
        """The caller's own files at one account, newest first as the provider lists them; an admin's list is whole."""
        # It may take many calls of the provider, so it counts as one of the caller's.
        await self._accounts.admit(principal, path, ())
        account = self._accounts.choose(principal, wanted.model, wanted.provider)
        query = {name: asked[name] for name in ("purpose", "order") if asked.get(name)} | {"limit": str(_PAGE)}
        if asked.get("after"):
            query["after"] = self._accounts.open("file", asked["after"], principal)[0].provider_id
        return await listed(
            self._accounts,
            account,
            principal,
            _PATH,
            query,
            most=read_limit(asked.get("limit"), usual=_MAX_LISTED, most=_MAX_LISTED),
            owner_of=_owner_of,
            shown=self._shown,
        )

    async def show(self, principal: Principal, path: str, id: str) -> Answered:
        """What the provider says about a file."""
        ref, account = self._found(principal, path, id)
        row = await self._accounts.ask(account, "GET", f"{_PATH}/{ref.provider_id}")
        return {**self._shown(row, account, ref.owner), "id": id}

    async def delete(self, principal: Principal, path: str, id: str) -> Answered:
        ref, account = self._found(principal, path, id)
        row = await self._accounts.ask(account, "DELETE", f"{_PATH}/{ref.provider_id}")
        return {**row, "id": id}

    async def content(self, principal: Principal, path: str, id: str) -> Answer:
        """The open answer with the file's bytes; whoever gets it closes it."""
        ref, account = self._found(principal, path, id)
        return await self._accounts.open_answer(account, "GET", f"{_PATH}/{ref.provider_id}/content")

    def _found(self, principal: Principal, path: str, id: str) -> tuple[ObjectRef, Deployment]:
        self._accounts.refuse(principal, path)
        return self._accounts.open("file", id, principal)

    def _shown(self, row: Answered, account: Deployment, owner: str) -> Answered:
        ref = ObjectRef(account.id, str(row.get("id")), owner)
        return {
            **row,
            "id": self._accounts.encrypt("file", ref),
            "filename": _TAGGED.sub("", str(row.get("filename")), 1),
        }


def _file_of(form: Form) -> Part:
    """Raises InvalidRequest (400) without a file, or without what it is for."""
    files = form.files("file")
    for name, is_there in (("file", bool(files)), ("purpose", form.text("purpose") is not None)):
        if not is_there:
            raise InvalidRequest(f"{_PATH}: Missing required parameter: '{name}'.", param=name)
    return files[0]


def _encoded(form: Form, file: Part, tag: str) -> tuple[bytes, str]:
    """The form for the provider: the file under its owner's name, without what was said to the gateway."""
    kept = form.without({*GATEWAY_FIELDS, *_OWN_FIELDS, "file"})
    tagged = replace(file, name="file", filename=f"{tag}{file.filename or 'file'}")
    boundary = new_boundary()
    return Form((*kept.parts, tagged)).encoded(boundary), form_type(boundary)


def _one_model(given: list[str]) -> str | None:
    names = [name.strip() for text in given for name in text.split(",") if name.strip()]
    if len(names) > 1:
        raise InvalidRequest("A file is kept at one account: name one model.", param="target_model_names")
    return names[0] if names else None


def _tag(owner: str, models: tuple[str, ...]) -> str:
    """What the file's name begins with at the provider. Raises InvalidRequest (400) when it would be too long."""
    named = base64.urlsafe_b64encode(msgspec.json.encode(models)).decode().rstrip("=") if models else ""
    if len(named) > _MAX_TAG:
        raise InvalidRequest("The models of the file have too long names.", param="file")
    return f"{owner}.{named}.."


def models_of_file(row: Answered) -> tuple[str, ...]:
    """The models that a batch file of ours names, by what its provider says about it."""
    match = _TAGGED.match(str(row.get("filename")))
    named = match[2] if match is not None else ""
    try:
        raw = base64.urlsafe_b64decode(named + "=" * (-len(named) % 4))
        return msgspec.json.decode(raw, type=tuple[str, ...]) if raw else ()
    except (binascii.Error, msgspec.MsgspecError):
        return ()


def _owner_of(row: Answered) -> str:
    match = _TAGGED.match(str(row.get("filename")))
    return match[1] if match is not None else ""
