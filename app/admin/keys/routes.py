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
from ...services import services
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
from ..changes import VERSION, expected_version
from .access import KeyAccess, check_may_set, check_permission, is_team_admin, limited_to_calls, refused
from .changes import block_key, change_key, delete_keys, find_key, issue_key, key_answer, need_key
from .fields import CHANGED_KEY, NEW_KEY
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
    sent = await ruled_new_key(principal, await read_body())
    if not principal.is_admin and not await is_team_admin(principal, sent.get("team_id")):
        sent["user_id"] = sent.get("user_id") or principal.user_id
    await check_may_set(principal, sent)
    return await _issued(sent, principal)


async def _issued(sent: dict[str, Any], principal: Principal) -> Answer:
    key, secret = await issue_key(limited_to_calls(principal, sent), principal)
    return {**key_answer(key, secret), "duration": sent.get("duration")}


@blueprint.post("/key/service-account/generate")
@takes(body=NEW_KEY)
async def generate_service_account_key() -> Answer:
    """A key of a team and of nobody in it: it stays when people leave."""
    principal = current_principal()
    sent = await read_body()
    if not sent.get("team_id"):
        raise PlainDenial(
            "team_id is required for service account keys. Please specify `team_id` in the request body.", status=400
        )
    sent = await ruled_new_key(principal, sent)
    sent.pop("user_id", None)
    await check_may_set(principal, sent, route=_SERVICE_ACCOUNT)
    account = sent.get("key_alias") or str(uuid.uuid4())
    return await _issued(
        {**sent, "metadata": {**(sent.get("metadata") or {}), "service_account_id": account}}, principal
    )


@blueprint.post("/key/update")
@takes(body=CHANGED_KEY)
async def update_key() -> Answer:
    principal = current_principal()
    sent = within_ceilings(await read_body())
    given = sent.pop("key", None)
    key = await need_key(given) if given else await _key_by_alias(sent.pop("key_alias", None))
    await KeyAccess(principal).check_may_change([key], deed="change", route="/key/update")
    refuse_session(key)
    await check_may_set(principal, sent, key)
    fields = limited_to_calls(principal, sent, key)
    key = await change_key(key, fields, principal, version=expected_version(sent))
    return {**key.to_json(), "key": given or key.token}


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
    doomed = await _doomed(given, aliases)
    await KeyAccess(current_principal()).check_may_change(doomed, deed="delete", route="/key/delete")
    async with services().database.transaction():
        hashes = await delete_keys(doomed, current_principal())
    for token in hashes:
        services().keys.forget(token)
    found = {key.token for key in doomed}, {key.key_alias for key in doomed}
    deleted = [name for name in given if key_hash_of(name) in found[0]]
    return {"deleted_keys": deleted + [alias for alias in aliases if alias in found[1]]}


async def _doomed(given: list[str], aliases: list[str]) -> list[VirtualKey]:
    if len(given) + len(aliases) > _MAX_KEYS:
        raise bad_request(f"At most {_MAX_KEYS} keys can be deleted in one call", "keys")
    hashes = [key_hash_of(name) for name in given]
    doomed = await VirtualKey.filter(Q(token__in=hashes) | Q(key_alias__in=aliases))
    if not doomed:
        raise NotFound("No keys found", type="internal_server_error")
    return doomed


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


MAX_ITEMS = 500
_ITEM: Table = {**CHANGED_KEY, "key": text().required}


def objects(item: Table) -> Field:
    """A list of JSON objects whose fields are checked one object at a time, so that one bad one spoils no other."""

    def read(value: Any) -> list[Mapping[str, Any]]:
        if not isinstance(value, list) or not all(isinstance(one, dict) for one in value):
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
    refuse_session(key)
    await check_may_set(principal, sent, key)
    version = expected_version({"version": sent["version"]}) if sent.get("version") else None
    return (await change_key(key, sent, principal, version=version)).to_json()
