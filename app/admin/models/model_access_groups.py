"""Access groups that are words in `model_info.access_groups` of deployments, and the budget of such a word."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from quart import Blueprint
from tortoise.exceptions import DoesNotExist

from ...auth.principal import current_principal
from ...deployments.catalog import Deployment
from ...errors import Conflict, NotFound
from ...models import ChangedMeanwhile, ModelAccessGroupBudget, StoredDeployment
from ...models.columns import json_value
from ...services import services
from ...web.fields import Table, bad_request, identifier, may_exist, read_body, takes, text_list
from ..audit.trail import ACCESS_GROUPS, record_change
from ..changes import deployments_changed
from ..spend.budget_fields import WITH_BUDGET, budget_link, drop_own_budget, with_budget

blueprint = Blueprint("admin_access_groups", __name__)

Answer = dict[str, Any]
OWN_BUDGET = "access-group-"
_MODELS: Table = {"model_names": text_list(), "model_ids": text_list()}
_NEW: Table = {**_MODELS, "access_group": identifier().required}


def _group_row(group: str, members: Sequence[Deployment]) -> Answer:
    names = list(dict.fromkeys(one.public_name for one in members))
    return {"access_group": group, "model_names": names, "deployment_count": len(members)}


def _members(group: str) -> list[Deployment]:
    """The deployments of a group, those of the configuration file included. Raises 404 for a group without any."""
    members = services().deployments.access_groups().get(group)
    if not members:
        raise NotFound(f"Access group '{group[:80]}' not found", param="access_group")
    return members


@blueprint.post("/access_group/new")
@takes(body=_NEW)
async def create_group() -> Answer:
    sent = await read_body()
    group = sent["access_group"]
    if group is None:
        raise bad_request("access_group must not be empty", "access_group")
    if group in services().deployments.access_groups():
        raise Conflict(f"Access group '{group}' already exists. Change it with PUT.", param="access_group")
    rows = await _named(sent)
    changed = await _write(group, {row.model_id for row in rows}, "created")
    return {**_group_row(group, _members(group)), "models_updated": changed}


async def _named(sent: Mapping[str, Any]) -> list[StoredDeployment]:
    """The stored deployments that a body names. Raises 400 for none, and for one that only the file knows."""
    names, ids = sent.get("model_names") or [], sent.get("model_ids") or []
    if not names and not ids:
        raise bad_request("Send model_names or model_ids", "model_names")
    stored = await StoredDeployment.all()
    public = {row.model_id: row.model_info.get("team_public_model_name") or row.model_name for row in stored}
    known = {*public.values(), *(row.model_name for row in stored)}
    missing = [name for name in names if name not in known] + [id for id in ids if id not in public]
    if missing:
        raise bad_request(
            f"Not in the database: {', '.join(missing[:20])}. Access groups of models in the configuration file are "
            "set there, by model_info.access_groups."
        )
    chosen = [row for row in stored if public[row.model_id] in names or row.model_name in names]
    return [row for row in stored if row in chosen or row.model_id in ids]


async def _write(group: str, model_ids: set[str], action: str) -> int:
    """Make exactly these stored deployments the group's; answers how many changed. Raises 409 when raced."""
    changed: list[str] = []
    try:
        async with services().database.transaction():
            for row in await StoredDeployment.all().order_by("model_id"):
                groups = [str(one) for one in row.model_info.get("access_groups") or []]
                is_wanted = row.model_id in model_ids
                if (group in groups) is is_wanted:
                    continue
                groups = [*groups, group] if is_wanted else [one for one in groups if one != group]
                columns = {"model_info": {**row.model_info, "access_groups": groups}}
                await row.write({**columns, "updated_by": current_principal().user_id}, expected_version=row.version)
                changed.append(row.model_id)
            await record_change(
                action, ACCESS_GROUPS, group, after={"model_ids": sorted(model_ids), "changed": sorted(changed)}
            )
    except (ChangedMeanwhile, DoesNotExist):
        raise Conflict("One of the models was changed meanwhile; try again") from None
    await deployments_changed()
    return len(changed)


@blueprint.get("/access_group/list")
async def list_groups() -> Answer:
    groups = services().deployments.access_groups()
    return {"access_groups": [_group_row(group, groups[group]) for group in sorted(groups)]}


@blueprint.get("/access_group/<path:access_group>/info")
async def group_info(access_group: str) -> Answer:
    return _group_row(access_group, _members(access_group))


@blueprint.put("/access_group/<path:access_group>/update")
@takes(body=_MODELS)
async def update_group(access_group: str) -> Answer:
    """The models of the body become the stored models of the group, and no others."""
    _members(access_group)
    rows = await _named(await read_body())
    changed = await _write(access_group, {row.model_id for row in rows}, "updated")
    return {**_group_row(access_group, _members(access_group)), "models_updated": changed}


@blueprint.delete("/access_group/<path:access_group>/delete")
async def delete_group(access_group: str) -> Answer:
    """Take the word off all stored models. 400 when only the configuration file uses it."""
    if not any(one.is_stored for one in _members(access_group)):
        raise bad_request("This access group is in the configuration file; change it there", "access_group")
    changed = await _write(access_group, set(), "deleted")
    async with services().database.transaction():
        link = await ModelAccessGroupBudget.get_or_none(access_group=access_group)
        if link is not None:
            await link.delete()
            await drop_own_budget(link.budget_id, prefix=OWN_BUDGET)
    services().keys.forget_all()
    message = f"Access group '{access_group}' deleted successfully"
    return {"access_group": access_group, "models_updated": changed, "message": message}


# ---- budget --------------------------------------------------------------------------------------------------------


async def _budget_row(link: ModelAccessGroupBudget) -> Answer:
    names = ("access_group", "budget_id", "spend", "budget_reset_at", "created_at", "updated_at")
    return await with_budget({name: json_value(getattr(link, name)) for name in names})


async def _need_budget(group: str) -> ModelAccessGroupBudget:
    link = await ModelAccessGroupBudget.get_or_none(access_group=group) if may_exist(group) else None
    if link is None:
        raise NotFound(f"Access group '{group[:80]}' has no budget", param="access_group")
    return link


@blueprint.get("/access_group/<path:access_group>/budget")
async def group_budget(access_group: str) -> Answer:
    return await _budget_row(await _need_budget(access_group))


@blueprint.put("/access_group/<path:access_group>/budget")
@takes(body=WITH_BUDGET)
async def set_group_budget(access_group: str) -> Answer:
    """A budget of its own (`max_budget` …), or one that exists (`budget_id`); only what is sent changes."""
    _members(access_group)
    sent = await read_body()
    async with services().database.transaction():
        link = await ModelAccessGroupBudget.get_or_none(access_group=access_group)
        columns = await budget_link(link.budget_id if link is not None else None, sent, prefix=OWN_BUDGET)
        if link is None:
            link = await ModelAccessGroupBudget.create(access_group=access_group, **columns)
        elif columns:
            await link.update_from_dict(columns).save(update_fields=[*columns, "updated_at"])
        await record_change("updated", ACCESS_GROUPS, access_group, after={"budget_id": link.budget_id})
    services().keys.forget_all()
    return await _budget_row(link)


@blueprint.delete("/access_group/<path:access_group>/budget")
async def delete_group_budget(access_group: str) -> Answer:
    async with services().database.transaction():
        link = await _need_budget(access_group)
        await link.delete()
        await drop_own_budget(link.budget_id, prefix=OWN_BUDGET)
        await record_change("updated", ACCESS_GROUPS, access_group, before={"budget_id": link.budget_id})
    services().keys.forget_all()
    return {"message": f"Budget of access group '{access_group}' deleted successfully"}
