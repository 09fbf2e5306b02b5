"""Deployments that live in the database: add, change, block, delete. Those of the configuration file stay."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from typing import Any

from quart import Blueprint
from tortoise.exceptions import IntegrityError

from ...auth.principal import current_principal
from ...errors import Conflict, Forbidden, GatewayError, NotFound
from ...models import StoredDeployment
from ...services import services
from ...web.fields import Table, bad_request, flag, identifier, json_object, may_exist, read_body, takes, text
from ..audit.trail import MODELS, record_change
from ..changes import VERSION, change_row, delete_row, expected_version, row_written, transaction, write_row
from .rows import check_may_change, check_may_manage, check_target, deployment_row, need_team

blueprint = Blueprint("admin_models", __name__)

Answer = dict[str, Any]
_NEW: Table = {
    "model_name": text().required,
    "litellm_params": json_object().required,
    "model_info": json_object(),
    "blocked": flag(),
}
_CHANGED: Table = {**VERSION, "model_name": text(), "litellm_params": json_object(), "model_info": json_object()}
_ONE: Table = {"id": identifier(), "model_id": identifier()}
# Facts that this instance says itself.
_NOT_WRITTEN = ("id", "db_model", "key", "blocked", "version", "created_at", "created_by", "updated_at", "updated_by")


# ---- adding --------------------------------------------------------------------------------------------------------


@blueprint.post("/model/new")
@takes(body=_NEW)
async def create_model() -> Answer:
    principal = current_principal()
    sent = await read_body()
    name, params, info = sent["model_name"].strip(), sent["litellm_params"], sent.get("model_info") or {}
    team_id = _team_of(info)
    await check_may_manage(principal, team_id)
    if not name:
        raise bad_request("model_name must not be empty", "model_name")
    check_target(principal, params)
    # An id is a name that everybody may call: nobody but admins of the instance chooses one.
    info = {**_written(info), "id": _new_id(info.get("id")) if principal.is_admin else str(uuid.uuid4())}
    if team_id is not None:
        await need_team(team_id)
        info, name = {**info, "team_public_model_name": name}, _internal_name(team_id)
    try:
        async with transaction():
            row = await services().deployments.add(
                name, params, info, principal.user_id or "", is_team_made=not principal.is_admin
            )
            row_written(row)
            if sent.get("blocked") and principal.is_admin:
                await write_row(row, {"blocked": True})
            after = {**row.to_json(), "litellm_params": params}
            await record_change("created", MODELS, row.model_id, after=after)
    except ValueError as problem:
        raise bad_request(str(problem), "litellm_params") from None
    except IntegrityError:
        raise _taken(info["id"]) from None
    return _shown(row)


def _team_of(info: Mapping[str, Any]) -> str | None:
    team_id = info.get("team_id")
    if team_id in (None, ""):
        return None
    if not isinstance(team_id, str):
        raise bad_request("model_info.team_id must be text", "model_info.team_id")
    return team_id


def _written(info: Mapping[str, Any]) -> Answer:
    groups = info.get("access_groups")
    if groups is not None and not (isinstance(groups, list) and all(isinstance(group, str) for group in groups)):
        raise bad_request("model_info.access_groups must be a list of texts", "model_info.access_groups")
    return {name: value for name, value in info.items() if name not in _NOT_WRITTEN}


def _internal_name(team_id: str) -> str:
    """A team's deployment has a name of its own, so that it never mixes with the shared ones of that name."""
    return f"model_name_{team_id[:100]}_{uuid.uuid4()}"


def _new_id(wanted: Any) -> str:
    if wanted in (None, ""):
        return str(uuid.uuid4())
    if not isinstance(wanted, str) or len(wanted) > 255:
        raise bad_request("model_info.id must be text of at most 255 characters", "model_info.id")
    if services().deployments.by_id(wanted) is not None:
        raise _taken(wanted)
    return wanted


def _taken(model_id: str) -> Conflict:
    return Conflict(f"Model with id {model_id} already exists", param="model_info.id")


# ---- changing ------------------------------------------------------------------------------------------------------


@blueprint.post("/model/update")
@takes(body=_CHANGED)
async def update_model() -> Answer:
    """`model_info.id` says which; parameters and facts are merged, null removes one."""
    sent = await read_body()
    model_id = (sent.get("model_info") or {}).get("id")
    if not isinstance(model_id, str) or not model_id:
        raise bad_request("model_info.id is required", "model_info.id")
    return await _update(model_id, sent, bad_request("model not found", "model_info.id"))


@blueprint.patch("/model/<path:model_id>/update")
@takes(body=_CHANGED)
async def patch_model(model_id: str) -> Answer:
    return await _update(model_id, await read_body(), NotFound(f"Model {model_id[:255]} not found on proxy."))


async def _update(model_id: str, sent: Mapping[str, Any], unknown: GatewayError) -> Answer:
    principal = current_principal()
    row = await _need(model_id, unknown)
    await check_may_change(principal, row)
    before = _params_of(row)
    params = _merged(before, sent.get("litellm_params") or {})
    name, info = await _identity_after(row, sent)
    _check_change(row, (before, params), name, info)
    columns: Answer = {"model_name": name, "model_info": info, "updated_by": principal.user_id}
    if info.get("team_id") != row.model_info.get("team_id"):
        columns["is_team_made"] = False  # the admin who moves it takes it over
    if params != before:
        columns["litellm_params"] = services().deployments.encrypt(params)
    # Without a version of the caller's: the one that was merged with, or a change in between would be lost.
    version = expected_version(sent) or row.version
    async with transaction():
        await change_row(row, columns, table=MODELS, object_id=model_id, version=version)
        if params != before:
            await _record_params(model_id, before, params)
    return _shown(row)


def _check_change(row: StoredDeployment, params: tuple[Answer, Answer], name: str, info: Answer) -> None:
    """Raises 400 for parameters that cannot work, 403 for what an admin of a team may not change."""
    principal, (before, after) = current_principal(), params
    try:
        changed = services().deployments.check(name, after, info)
    except ValueError as problem:
        raise bad_request(str(problem), "litellm_params") from None
    if principal.is_admin:
        return
    if before == after:
        return
    check_target(principal, after)
    now = services().deployments.by_id(row.model_id)
    if now is None or (now.provider, now.api_base) != (changed.provider, changed.api_base):
        # The stored key would go there, and nobody but admins of the instance sends it anywhere.
        raise Forbidden("Only a proxy admin may change where a model goes; add another one", param="litellm_params")


async def _record_params(model_id: str, before: Answer, after: Answer) -> None:
    names = [name for name in {**before, **after} if before.get(name) != after.get(name)]
    was, now = ({name: params.get(name) for name in names} for params in (before, after))
    await record_change("updated", MODELS, model_id, before={"litellm_params": was}, after={"litellm_params": now})


async def _identity_after(row: StoredDeployment, sent: Mapping[str, Any]) -> tuple[str, Answer]:
    """Name and facts of a model after a change. Raises 403 for who may not move it to that team, 404 for no team."""
    info = {**_merged(row.model_info, _written(sent.get("model_info") or {})), "id": row.model_id}
    public = (sent.get("model_name") or "").strip() or row.model_info.get("team_public_model_name") or row.model_name
    team_id = _team_of(info)
    if team_id != row.model_info.get("team_id"):
        if not current_principal().is_admin:
            raise Forbidden("Only a proxy admin may move a model to another team", param="model_info.team_id")
        if team_id is not None:
            await need_team(team_id)
    if team_id is None:
        return public, {key: value for key, value in info.items() if key not in ("team_id", "team_public_model_name")}
    stays = team_id == row.model_info.get("team_id")
    name = row.model_name if stays else _internal_name(team_id)
    return name, {**info, "team_public_model_name": public}


def _merged(stored: Mapping[str, Any], sent: Mapping[str, Any]) -> Answer:
    return {name: value for name, value in {**stored, **sent}.items() if value is not None}


async def _need(model_id: str, unknown: GatewayError) -> StoredDeployment:
    """Raises 400 for a model of the configuration file, else `unknown`."""
    row = await StoredDeployment.get_or_none(model_id=model_id) if may_exist(model_id) else None
    if row is not None:
        return row
    if services().deployments.by_id(model_id) is not None:
        raise bad_request(f"Can't edit model. Model in config: change the configuration file. Id={model_id}")
    # To a caller who could not change it either, it may as well be there.
    await check_may_manage(current_principal(), None)
    raise unknown


def _params_of(row: StoredDeployment) -> Answer:
    try:
        return services().deployments.decrypt(row.litellm_params)
    except ValueError as problem:
        raise Conflict(f"The stored parameters cannot be read: {problem}") from None


def _shown(row: StoredDeployment) -> Answer:
    """The stored row; its parameters as everybody may see them, never the ciphertext."""
    deployment = services().deployments.by_id(row.model_id)
    params = deployment_row(deployment, with_address=True)["litellm_params"] if deployment is not None else {}
    return {**row.to_json(), "litellm_params": params}


# ---- blocking and deleting -----------------------------------------------------------------------------------------


@blueprint.post("/model/block")
@takes(body=_ONE)
async def block_model() -> Answer:
    return await _set_blocked(is_blocked=True)


@blueprint.post("/model/unblock")
@takes(body=_ONE)
async def unblock_model() -> Answer:
    return await _set_blocked(is_blocked=False)


async def _set_blocked(*, is_blocked: bool) -> Answer:
    """For admins of the instance: an admin of the team could otherwise lift a block that was put on its model."""
    principal = current_principal()
    await check_may_manage(principal, None)
    row = await _one_of_body()
    action = "blocked" if is_blocked else "unblocked"
    columns = {"blocked": is_blocked, "updated_by": principal.user_id}
    await change_row(row, columns, table=MODELS, object_id=row.model_id, action=action)
    return _shown(row)


async def _one_of_body() -> StoredDeployment:
    sent = await read_body()
    model_id = sent.get("id") or sent.get("model_id")
    if model_id is None:
        raise bad_request("id is required", "id")
    unknown = f"Model with id={model_id} is not in the database; the configuration file owns it, or nobody"
    return await _need(model_id, bad_request(unknown, "id"))


@blueprint.post("/model/delete")
@takes(body=_ONE)
async def delete_model() -> Answer:
    row = await _one_of_body()
    await check_may_change(current_principal(), row)
    async with transaction():
        await delete_row(row)
        await record_change("deleted", MODELS, row.model_id, before=row.to_json())
    return {"message": f"Model: {row.model_id} deleted successfully"}
