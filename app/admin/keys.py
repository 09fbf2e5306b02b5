"""Virtual keys: create, look at, change, block, delete."""

from __future__ import annotations

from typing import Any

from quart import Blueprint
from tortoise.expressions import Q

from ..auth.credentials import key_hash_of
from ..auth.principal import current_principal
from ..errors import GatewayError, NotFound, ValidationFailed
from ..models import Budget, VirtualKey
from ..models.budget_period import start_new_period
from ..models.virtual_key import SESSION_TEAM_ID
from ..services import services
from .body import bad_request, identifier, read_body, read_query, text, text_list
from .key_access import check_may_change, check_may_read, check_may_set, is_team_admin, limited_to_calls, refused
from .key_fields import CHANGED_KEY, NEW_KEY
from .key_issue import block_key, change_key, delete_keys, find_key, issue_key, key_answer, need_key

blueprint = Blueprint("admin_keys", __name__)

Answer = dict[str, Any]
_ONE_KEY = {"key": text().required}
_SOME_KEYS = {"keys": text_list(), "key_aliases": text_list()}


@blueprint.post("/key/generate")
async def generate_key() -> Answer:
    principal = current_principal()
    sent = await read_body(NEW_KEY)
    if not principal.is_admin and not await is_team_admin(principal, sent.get("team_id")):
        sent["user_id"] = sent.get("user_id") or principal.user_id
    await check_may_set(principal, sent)
    key, secret = await issue_key(limited_to_calls(principal, sent), principal)
    return {**key_answer(key, secret), "duration": sent.get("duration")}


@blueprint.post("/key/update")
async def update_key() -> Answer:
    principal = current_principal()
    sent = await read_body(CHANGED_KEY)
    given = sent.pop("key", None)
    key = await need_key(given) if given else await _key_by_alias(sent.pop("key_alias", None))
    await check_may_change(principal, [key], deed="change")
    if key.team_id == SESSION_TEAM_ID:
        raise refused("A session cannot be changed. It ends by itself, or by /session/logout.", param="key")
    await check_may_set(principal, sent, key)
    key = await change_key(key, limited_to_calls(principal, sent, key), principal)
    return {**key.as_wire(), "key": given or key.token}


async def _key_by_alias(alias: str | None) -> VirtualKey:
    if alias is None:
        raise ValidationFailed([("", "either key or key_alias must be provided")])
    key = await VirtualKey.get_or_none(key_alias=alias)
    if key is None:
        raise NotFound(f"Key not found. No key with key_alias='{alias}'.", param="key_alias")
    return key


@blueprint.post("/key/delete")
async def delete_key() -> Answer:
    sent = await read_body(_SOME_KEYS)
    given, aliases = sent.get("keys") or [], sent.get("key_aliases") or []
    if not given and not aliases:
        raise ValidationFailed([("keys", "Send keys or key_aliases", "missing")])
    doomed = await _doomed(given, aliases)
    await check_may_change(current_principal(), doomed, deed="delete")
    async with services().database.transaction():
        await delete_keys(doomed, current_principal())
    for key in doomed:
        services().keys.forget(key.token)
    found = {key.token for key in doomed}, {key.key_alias for key in doomed}
    deleted = [name for name in given if key_hash_of(name) in found[0]]
    return {"deleted_keys": deleted + [alias for alias in aliases if alias in found[1]]}


async def _doomed(given: list[str], aliases: list[str]) -> list[VirtualKey]:
    if len(given) + len(aliases) > 1000:
        raise bad_request("At most 1000 keys can be deleted in one call", "keys")
    hashes = [key_hash_of(name) for name in given]
    doomed = await VirtualKey.filter(Q(token__in=hashes) | Q(key_alias__in=aliases))
    if not doomed:
        raise NotFound("No keys found", type="internal_server_error")
    return doomed


@blueprint.post("/key/block")
async def block() -> Answer:
    return await _set_blocked(is_blocked=True)


@blueprint.post("/key/unblock")
async def unblock() -> Answer:
    return await _set_blocked(is_blocked=False)


async def _set_blocked(*, is_blocked: bool) -> Answer:
    """For admins and admins of the key's team: an owner could otherwise lift a block that was put on them."""
    principal = current_principal()
    key = await need_key((await read_body(_ONE_KEY))["key"])
    if not principal.is_admin and not await is_team_admin(principal, key.team_id):
        raise refused("Only an admin of this instance or of the key's team may block or unblock a key")
    return (await block_key(key, principal, is_blocked=is_blocked)).as_wire()


@blueprint.get("/key/info")
async def key_info() -> Answer:
    principal = current_principal()
    given = read_query({"key": identifier()})["key"] or principal.key_hash
    key = await find_key(given) if given != principal.key_hash else await VirtualKey.get_or_none(token=given)
    if key is None:
        raise NotFound("Key not found in database", param="key")
    await check_may_read(principal, key)
    return {"key": given, "info": await _info(key)}


async def _info(key: VirtualKey) -> Answer:
    await start_new_period(key)
    budget = await Budget.get_or_none(budget_id=key.budget_id) if key.budget_id else None
    info = {name: value for name, value in key.as_wire().items() if name != "token"}
    return {
        **info,
        "litellm_budget_table": budget.as_wire() if budget is not None else None,
        "litellm_organization_table": None,
        "litellm_project_table": None,
    }


@blueprint.post("/v2/key/info")
async def keys_info() -> Answer:
    """Several keys at once; unknown ones and those of others are left out."""
    given = (await read_body({"keys": text_list().required}))["keys"][:1000]
    rows = []
    for key in await VirtualKey.filter(token__in=[key_hash_of(name) for name in given]):
        try:
            await check_may_read(current_principal(), key)
        except GatewayError:
            continue
        rows.append(key.as_wire())
    return {"key": given, "info": rows}
