"""Virtual keys: create, look at, change, block, delete; many in one call, each succeeds or fails for itself."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from typing import Any

from quart import Blueprint
from tortoise.expressions import Q

from ...auth.principal import Principal, current_principal
from ...errors import GatewayError, NotFound, PlainDenial, ValidationFailed
from ...models import Budget, Organization, VirtualKey
from ...models.budget_period import start_new_period
from ...models.virtual_key import SESSION_TEAM_ID
from ...security.credentials import key_hash_of
from ...web.fields import (
    Field,
    Table,
    WrongValue,
    bad_request,
    identifier,
    read_body,
    read_fields,
    read_query,
    table_schema,
    takes,
    text,
    text_list,
)
from ..changes import VERSION, expected_version, transaction
from .access import KeyAccess, check_may_set, check_permission, is_team_admin, limited_to_calls, refused
from .changes import block_key, change_key, delete_keys, find_key, key_answer, need_key
from .fields import CHANGED_KEY, NEW_KEY
from .grants import guarded_version, issue_within, tightened, write_own_spend
from .policy import ruled_new_key, within_ceilings

blueprint = Blueprint("admin_keys", __name__)

Answer = dict[str, Any]
_ONE_KEY: Table = {"key": text().required, **VERSION}
_SOME_KEYS: Table = {"keys": text_list(), "key_aliases": text_list()}
_MAX_KEYS = 1000
_SERVICE_ACCOUNT = "/key/service-account/generate"


@blueprint.post("/key/generate")
@takes(body=NEW_KEY)
async def generate_key() -> Answer:
    principal = current_principal()
    named = await read_body()
    sent = await ruled_new_key(principal, named)
    if not principal.is_admin and not await is_team_admin(principal, sent.get("team_id")):
        sent["user_id"] = sent.get("user_id") or principal.user_id
    await check_may_set(principal, sent)
    return await _issued(sent, principal, named)


async def _issued(sent: dict[str, Any], principal: Principal, named: Mapping[str, Any]) -> Answer:
    await write_own_spend(principal)
    key, secret = await issue_within(principal, sent, named=named)
    return {**key_answer(key, secret), "duration": sent.get("duration")}


@blueprint.post("/key/service-account/generate")
@takes(body=NEW_KEY)
async def generate_service_account_key() -> Answer:
    """A key of a team and of nobody in it: it stays when people leave."""
    principal = current_principal()
    named = await read_body()
    if not named.get("team_id"):
        raise PlainDenial(
            "team_id is required for service account keys. Please specify `team_id` in the request body.", status=400
        )
    sent = await ruled_new_key(principal, named)
    sent.pop("user_id", None)
    await check_may_set(principal, sent, route=_SERVICE_ACCOUNT)
    account = sent.get("key_alias") or str(uuid.uuid4())
    metadata = {**(sent.get("metadata") or {}), "service_account_id": account}
    return await _issued({**sent, "metadata": metadata}, principal, named)


@blueprint.post("/key/update")
@takes(body=CHANGED_KEY)
async def update_key() -> Answer:
    principal = current_principal()
    sent = within_ceilings(await read_body())
    given = sent.pop("key", None)
    key = await need_key(given) if given else await _key_by_alias(sent.pop("key_alias", None))
    await KeyAccess(principal).check_may_change([key], action="change", route="/key/update")
    key = await _changed(key, sent, principal, version=guarded_version(principal, sent, key))
    return {**key.to_json(), "key": given or key.token}


async def _changed(key: VirtualKey, sent: dict[str, Any], principal: Principal, *, version: int | None) -> VirtualKey:
    """Write what the caller may write. Raises 400, 403, 404 and 409."""
    refuse_session(key)
    await check_may_set(principal, sent, key)
    fields = await tightened(principal, limited_to_calls(principal, sent, key), key)
    return await change_key(key, fields, principal, version=version)


def refuse_session(key: VirtualKey) -> None:
    """Raises 403 for the key of somebody's sign-in."""
    if key.team_id == SESSION_TEAM_ID:
        raise refused("A session cannot be changed. It ends by itself, or by /session/logout.", param="key")


async def _key_by_alias(alias: str | None) -> VirtualKey:
    if alias is None:
        raise ValidationFailed([("", "either key or key_alias must be provided")])
    key = await VirtualKey.get_or_none(key_alias=alias)
    if key is None:
        raise NotFound(f"Key not found. No key with key_alias='{alias}'.", param="key_alias")
    return key


@blueprint.post("/key/delete")
@takes(body=_SOME_KEYS)
async def delete_key() -> Answer:
    sent = await read_body()
    given, aliases = sent.get("keys") or [], sent.get("key_aliases") or []
    if not given and not aliases:
        raise ValidationFailed([("keys", "Send keys or key_aliases", "missing")])
    keys = await _named_keys(given, aliases)
    await KeyAccess(current_principal()).check_may_change(keys, action="delete", route="/key/delete")
    async with transaction():
        await delete_keys(keys, current_principal())
    hashes, known_aliases = {key.token for key in keys}, {key.key_alias for key in keys}
    deleted = [name for name in given if key_hash_of(name) in hashes]
    return {"deleted_keys": deleted + [alias for alias in aliases if alias in known_aliases]}


async def _named_keys(given: list[str], aliases: list[str]) -> list[VirtualKey]:
    if len(given) + len(aliases) > _MAX_KEYS:
        raise bad_request(f"At most {_MAX_KEYS} keys can be deleted in one call", "keys")
    hashes = [key_hash_of(name) for name in given]
    keys = await VirtualKey.filter(Q(token__in=hashes) | Q(key_alias__in=aliases))
    if not keys:
        raise NotFound("No keys found", type="internal_server_error")
    return keys


@blueprint.post("/key/block")
@takes(body=_ONE_KEY)
async def block() -> Answer:
    return await _set_blocked("/key/block", is_blocked=True)


@blueprint.post("/key/unblock")
@takes(body=_ONE_KEY)
async def unblock() -> Answer:
    return await _set_blocked("/key/unblock", is_blocked=False)


async def _set_blocked(route: str, *, is_blocked: bool) -> Answer:
    """Not for an owner, who could otherwise lift a block that was put on them."""
    principal = current_principal()
    sent = await read_body()
    key = await need_key(sent["key"])
    access = KeyAccess(principal)
    if access.owns(key) and not is_blocked and not principal.is_admin:
        raise refused("Nobody but a proxy admin unblocks a key of their own")
    if not await access.administers(key):
        role = await access.in_team(key.team_id)
        if not role.is_member:
            raise refused("Only an admin of this instance or of the key's team may block or unblock a key")
        check_permission(role, route)
    return (await block_key(key, principal, is_blocked=is_blocked, version=expected_version(sent))).to_json()


@blueprint.get("/key/info")
@takes(query={"key": identifier()})
async def key_info() -> Answer:
    principal = current_principal()
    given = read_query()["key"] or principal.key_hash
    key = await find_key(given) if given != principal.key_hash else await VirtualKey.get_or_none(token=given)
    if key is None:
        raise NotFound("Key not found in database", param="key")
    if not await KeyAccess(principal).may_read(key):
        raise refused(f"You are not allowed to access this key's info. Your role={principal.role.value}")
    return {"key": given, "info": await _info(key)}


async def _info(key: VirtualKey) -> Answer:
    await start_new_period(key)
    budget = await Budget.get_or_none(budget_id=key.budget_id) if key.budget_id else None
    organization = await Organization.get_or_none(organization_id=key.organization_id) if key.organization_id else None
    info = {name: value for name, value in key.to_json().items() if name != "token"}
    return {
        **info,
        "litellm_budget_table": budget.to_json() if budget is not None else None,
        "litellm_organization_table": organization.to_json() if organization is not None else None,
        "litellm_project_table": None,
    }


@blueprint.post("/v2/key/info")
@takes(body={"keys": text_list().required})
async def keys_info() -> Answer:
    """Several keys at once, at most 1000; unknown ones and those of others are left out."""
    given = (await read_body())["keys"][:_MAX_KEYS]
    access = KeyAccess(current_principal())
    keys = await VirtualKey.filter(token__in=[key_hash_of(name) for name in given])
    return {"key": given, "info": [key.to_json() for key in keys if await access.may_read(key)]}


@blueprint.post("/key/health")
async def key_health() -> Answer:
    """The guard let the key in, so it is good; no logging callback hangs on a single key here."""
    return {"key": "healthy", "logging_callbacks": None}


# ---- many in one call ------------------------------------------------------------------------------------------------

MAX_ITEMS = 500
_ITEM: Table = {**CHANGED_KEY, "key": text().required}


def objects(item: Table) -> Field:
    """A list of JSON objects whose fields are checked one object at a time, so that one bad one spoils no other."""

    def read(value: Any) -> list[Mapping[str, Any]]:
        if not isinstance(value, list) or not all(isinstance(entry, dict) for entry in value):
            raise WrongValue("This must be a list of JSON objects", "list_type")
        if len(value) > MAX_ITEMS:
            raise bad_request(f"At most {MAX_ITEMS} in one call, got {len(value)}")
        return value

    return Field(read, empty=list, schema={"type": "array", "maxItems": MAX_ITEMS, "items": table_schema(item)})


@blueprint.post("/key/bulk_update")
@takes(body={"keys": objects(_ITEM)})
async def update_keys() -> Answer:
    principal = current_principal()
    items = (await read_body()).get("keys")
    if not items:
        raise PlainDenial("No keys provided for update", status=400, is_nested=True)
    changed: list[Answer] = []
    failed: list[Answer] = []
    for item in items:
        name = item.get("key") if isinstance(item.get("key"), str) else None
        try:
            changed.append({"key": name, "key_info": await _updated(item, principal)})
        except GatewayError as problem:
            failed.append({"key": name, "key_info": None, "failed_reason": problem.message})
    return {"total_requested": len(items), "successful_updates": changed, "failed_updates": failed}


async def _updated(item: Mapping[str, Any], principal: Principal) -> Answer:
    sent = within_ceilings(read_fields(item, _ITEM))
    key = await need_key(sent.pop("key"))
    return (await _changed(key, sent, principal, version=sent.get("version"))).to_json()
