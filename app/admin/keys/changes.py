"""Writing virtual keys: issue, change, delete. Each deed is one transaction with its audit row.

Which key has which access group is written on both sides: `access_group_ids` and `assigned_key_ids`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

from tortoise.exceptions import IntegrityError

from ...auth.principal import Principal
from ...errors import Conflict, InvalidRequest, NotFound
from ...models import AccessGroup, Budget, ChangedMeanwhile, DeprecatedKey, VirtualKey
from ...security.credentials import KEY_PREFIX, hash_key, key_hash_of, key_name, new_virtual_key
from ...services import services
from ...web.fields import bad_request
from ..audit.trail import KEYS, changed_by, record_change
from ..changes import change_row
from .fields import IN_METADATA, key_columns

_CUSTOM_KEY = re.compile(r"sk-[\x21-\x7e]+")
_MIN_KEY = 16
_TRIES = 3


async def issue_key(sent: Mapping[str, Any], principal: Principal) -> tuple[VirtualKey, str]:
    """Create a key from checked fields; answers the row and the secret, which is nowhere else.

    Raises 400 for a custom key or alias that cannot be, 404 for an unknown budget, 409 for a key that exists.
    """
    secret = custom_secret(sent["key"]) if sent.get("key") else new_virtual_key()
    columns = key_columns(sent)
    if columns.get("auto_rotate") and not columns.get("rotation_interval"):
        raise bad_request("auto_rotate needs a rotation_interval such as 30d", "rotation_interval")
    await check_budget(columns.get("budget_id"))
    columns.update(token=hash_key(secret), key_name=key_name(secret), created_by=principal.user_id)
    async with services().database.transaction():
        await check_unused(columns["token"], "key")
        await _check_alias(columns.get("key_alias"))
        try:
            key = await VirtualKey.create(**columns, updated_by=principal.user_id)
        except IntegrityError:
            raise alias_taken(columns.get("key_alias")) from None
        await assign_access_groups(key.token, [], key.access_group_ids)
        await record_change("created", KEYS, key.token, after=key.to_json())
    services().keys.forget(key.token)
    return key, secret


def custom_secret(key: str, param: str = "key") -> str:
    """A secret that the caller chose, once it is one. Raises 400."""
    if not key.startswith(KEY_PREFIX):
        raise bad_request("A custom key must start with 'sk-'", param)
    if len(key) < _MIN_KEY or not _CUSTOM_KEY.fullmatch(key):
        message = f"A custom key must have at least {_MIN_KEY} printable characters and no spaces"
        raise bad_request(message, param)
    return key


async def check_unused(token: str, param: str) -> None:
    """Raises 409 when a key has this hash, or had it before it was regenerated."""
    if await VirtualKey.exists(token=token) or await DeprecatedKey.exists(token=token):
        raise Conflict("This key exists already. Change it with /key/update.", param=param)


async def change_key(
    key: VirtualKey, sent: Mapping[str, Any], principal: Principal, *, version: int | None = None
) -> VirtualKey:
    """Write the fields that were sent, and only those. `version` is the row's that the caller read, if they say it.

    Raises 400 and 404 as `issue_key`, 409 when somebody else was faster.
    """
    await check_budget(sent.get("budget_id"))
    if sent.get("spend") is not None:
        # What is still in the journal belongs to the time before.
        await services().ledger.flush()
    # Fields inside the metadata are written with their neighbours: another one's must not get lost.
    is_merged = "metadata" not in sent and any(name in sent for name in IN_METADATA)
    for tries_left in reversed(range(_TRIES)):
        guard = key.version if version is None and is_merged else version
        try:
            await _write(key, {**key_columns(sent, key.metadata), "updated_by": principal.user_id}, guard)
            break
        except Conflict:
            if version is not None or not tries_left:
                raise
            key = await need_key(key.token)
    await forget_key(key.token)
    return key


async def _write(key: VirtualKey, columns: Mapping[str, Any], version: int | None) -> None:
    groups = list(key.access_group_ids)
    if columns.get("key_alias") not in (None, key.key_alias):
        await _check_alias(columns["key_alias"])
    try:
        async with services().database.transaction():
            await change_row(key, columns, table=KEYS, object_id=key.token, version=version)
            await assign_access_groups(key.token, groups, key.access_group_ids)
    except IntegrityError:
        raise alias_taken(columns.get("key_alias")) from None


async def forget_key(token: str) -> None:
    """Let the next call see the change, also one under a secret from before that is still good."""
    for hashed in await hashes_of([token]):
        services().keys.forget(hashed)


async def hashes_of(tokens: Iterable[str]) -> list[str]:
    """The hashes of keys, and the earlier ones of each that a grace period keeps."""
    tokens = list(tokens)
    rows = DeprecatedKey.filter(active_token__in=tokens, revoke_at__gt=datetime.now(UTC))
    return tokens + [row.token async for row in rows]


async def block_key(
    key: VirtualKey, principal: Principal, *, is_blocked: bool, version: int | None = None
) -> VirtualKey:
    columns = {"blocked": is_blocked, "updated_by": principal.user_id}
    deed = "blocked" if is_blocked else "unblocked"
    await change_row(key, columns, table=KEYS, object_id=key.token, action=deed, version=version)
    await forget_key(key.token)
    return key


async def delete_keys(keys: Iterable[VirtualKey], principal: Principal) -> list[str]:
    """Archive each key with an audit row, in the caller's transaction; answers the hashes to be forgotten after it."""
    keys = list(keys)
    hashes = await hashes_of(key.token for key in keys)
    for key in keys:
        before = key.to_json()
        await key.archive(
            deleted_by=principal.user_id, deleted_by_api_key=principal.key_hash[:64], changed_by=changed_by()
        )
        await assign_access_groups(key.token, key.access_group_ids, [])
        await record_change("deleted", KEYS, key.token, before=before)
    await DeprecatedKey.filter(active_token__in=[key.token for key in keys]).delete()
    return hashes


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
    row = key.to_json()
    moved = {name: key.metadata.get(name) for name in IN_METADATA}
    return {**moved, **row, "key": secret, "token_id": key.token, "litellm_budget_table": None}


_GROUP_TRIES = 5


async def assign_access_groups(token: str, before: Iterable[str], after: Iterable[str]) -> None:
    """Write a key's groups into the groups too, inside the transaction of the key's change.

    Raises 404 for a group that does not exist and is new to the key, 409 when a group never holds still.
    """
    old, new = set(before), set(after)
    for group_id in sorted(old ^ new):
        await _assign(group_id, token, is_assigned=group_id in new)


async def _assign(group_id: str, token: str, *, is_assigned: bool) -> None:
    for tries_left in reversed(range(_GROUP_TRIES)):
        group = await AccessGroup.get_or_none(access_group_id=group_id)
        if group is None and is_assigned:
            raise NotFound(f"Access group not found: {group_id}", param="access_group_ids")
        if group is None or (token in group.assigned_key_ids) is is_assigned:
            return
        others = [one for one in group.assigned_key_ids if one != token]
        tokens = [*others, token] if is_assigned else others
        try:
            await group.write({"assigned_key_ids": tokens}, expected_version=group.version)
            return
        except ChangedMeanwhile:
            if not tries_left:
                raise Conflict(f"Access group {group_id} is being changed by others. Try again.") from None
