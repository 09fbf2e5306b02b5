"""Writing virtual keys: issue, change, delete. Each deed is one transaction with its audit row."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from tortoise.exceptions import IntegrityError

from ..auth.credentials import KEY_PREFIX, hash_key, key_hash_of, key_name, new_virtual_key
from ..auth.principal import Principal
from ..errors import Conflict, InvalidRequest, NotFound
from ..models import Budget, VirtualKey
from ..services import services
from .audit_trail import KEYS, changed_by, record_change
from .body import bad_request
from .key_fields import IN_METADATA, key_columns

_CUSTOM_KEY = re.compile(r"sk-[\x21-\x7e]+")
_SHORTEST_KEY = 16


async def issue_key(sent: Mapping[str, Any], principal: Principal) -> tuple[VirtualKey, str]:
    """Create a key from checked fields; answers the row and the secret, which is nowhere else.

    Raises 400 for a custom key or alias that cannot be, 404 for an unknown budget, 409 for a key that exists.
    """
    secret = _custom(sent["key"]) if sent.get("key") else new_virtual_key()
    columns = key_columns(sent)
    await check_budget(columns.get("budget_id"))
    columns.update(token=hash_key(secret), key_name=key_name(secret), created_by=principal.user_id)
    async with services().database.transaction():
        if await VirtualKey.exists(token=columns["token"]):
            raise Conflict("This key exists already. Change it with /key/update.", param="key")
        await _check_alias(columns.get("key_alias"))
        try:
            key = await VirtualKey.create(**columns, updated_by=principal.user_id)
        except IntegrityError:
            raise alias_taken(columns.get("key_alias")) from None
        await record_change("created", KEYS, key.token, after=key.as_wire())
    services().keys.forget(key.token)
    return key, secret


def _custom(key: str) -> str:
    if not key.startswith(KEY_PREFIX):
        raise bad_request("A custom key must start with 'sk-'", "key")
    if len(key) < _SHORTEST_KEY or not _CUSTOM_KEY.fullmatch(key):
        message = f"A custom key must have at least {_SHORTEST_KEY} printable characters and no spaces"
        raise bad_request(message, "key")
    return key


async def change_key(key: VirtualKey, sent: Mapping[str, Any], principal: Principal) -> VirtualKey:
    """Write the fields that were sent, and only those. Raises 400 and 404 as `issue_key`."""
    columns = key_columns(sent, key.metadata)
    await check_budget(columns.get("budget_id"))
    before = key.as_wire()
    if "spend" in columns:
        # What is still in the journal belongs to the time before.
        await services().ledger.flush()
    async with services().database.transaction():
        if columns.get("key_alias") not in (None, key.key_alias):
            await _check_alias(columns["key_alias"])
        key.update_from_dict({**columns, "updated_by": principal.user_id})
        try:
            await key.save(update_fields=[*columns, "updated_by", "updated_at"])
        except IntegrityError:
            raise alias_taken(columns.get("key_alias")) from None
        await record_change("updated", KEYS, key.token, before=before, after=_changes(before, key.as_wire()))
    services().keys.forget(key.token)
    return key


def _changes(before: Mapping[str, Any], after: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in after.items() if before.get(name) != value}


async def block_key(key: VirtualKey, principal: Principal, *, is_blocked: bool) -> VirtualKey:
    before = {"blocked": key.blocked}
    key.blocked = is_blocked
    key.updated_by = principal.user_id
    async with services().database.transaction():
        await key.save(update_fields=["blocked", "updated_by", "updated_at"])
        deed = "blocked" if is_blocked else "unblocked"
        await record_change(deed, KEYS, key.token, before=before, after={"blocked": is_blocked})
    services().keys.forget(key.token)
    return key


async def delete_keys(keys: Iterable[VirtualKey], principal: Principal) -> None:
    """Bury each key with an audit row; inside the caller's transaction, who forgets them after it."""
    for key in keys:
        before = key.as_wire()
        await key.bury(
            deleted_by=principal.user_id, deleted_by_api_key=principal.key_hash[:64], changed_by=changed_by()
        )
        await record_change("deleted", KEYS, key.token, before=before)


async def find_key(given: str) -> VirtualKey | None:
    """By secret or by hash."""
    return await VirtualKey.get_or_none(token=key_hash_of(given))


async def need_key(given: str) -> VirtualKey:
    key = await find_key(given)
    if key is None:
        raise NotFound("Key not found.", param="key")
    return key


async def check_budget(budget_id: str | None) -> None:
    if budget_id is not None and not await Budget.exists(budget_id=budget_id):
        raise NotFound(f"Budget not found: {budget_id}", param="budget_id")


async def _check_alias(alias: str | None) -> None:
    if alias is not None and await VirtualKey.exists(key_alias=alias):
        raise alias_taken(alias)


def alias_taken(alias: str | None) -> InvalidRequest:
    message = f"Key with alias '{alias}' already exists. Unique key aliases across all keys are required."
    return bad_request(message, "key_alias")


def key_answer(key: VirtualKey, secret: str) -> dict[str, Any]:
    """The answer of /key/generate: the row, what lives in its metadata, and the secret for the only time."""
    row = key.as_wire()
    moved = {name: key.metadata.get(name) for name in IN_METADATA}
    return {**moved, **row, "key": secret, "token_id": key.token, "litellm_budget_table": None}
