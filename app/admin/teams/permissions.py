"""What members of a team may do with its keys, and its models, one list that two admins may edit at the same time."""

from __future__ import annotations

from typing import Any

from quart import Blueprint

from ...auth.model_access import NO_MODEL
from ...auth.principal import current_principal
from ...errors import Forbidden
from ...models import Team
from ...web.fields import Table, bad_request, identifier, read_body, read_query, takes, text_list
from ..changes import VERSION, expected_version
from .access import TeamPermissions, check_bounds, check_may_manage, check_may_own, permissions_over
from .fields import ALWAYS_PERMITTED, MEMBER_PERMISSIONS, check_permissions
from .rows import change_team, need_team, team_row

blueprint = Blueprint("admin_team_permissions", __name__)

Answer = dict[str, Any]
_ONE: Table = {"team_id": identifier().required}
_CHANGE: Table = {**VERSION, **_ONE, "team_member_permissions": text_list().required}
_MODELS: Table = {**VERSION, **_ONE, "models": text_list().required}


@blueprint.get("/team/permissions_list")
@takes(query=_ONE)
async def list_permissions() -> Answer:
    """What members may do, and all that could be permitted."""
    team = await need_team(read_query()["team_id"])
    if await permissions_over(current_principal(), team) < TeamPermissions.MEMBER:
        raise Forbidden("Only members of a team may see it", param="None")
    return {
        "team_id": team.team_id,
        "team_member_permissions": list(dict.fromkeys([*ALWAYS_PERMITTED, *team.team_member_permissions])),
        "all_available_permissions": list(MEMBER_PERMISSIONS),
    }


@blueprint.post("/team/permissions_update")
@takes(body=_CHANGE)
async def update_permissions() -> Answer:
    """Replace what members may do. Raises 400 for what is no permission."""
    sent = await read_body()
    team = await need_team(sent["team_id"])
    await check_may_manage(current_principal(), team)
    check_permissions(sent["team_member_permissions"])
    permissions = list(dict.fromkeys(sent["team_member_permissions"]))

    async def columns_of(_: Team) -> Answer:
        return {"team_member_permissions": permissions}

    return await team_row(await change_team(team.team_id, columns_of, version=expected_version(sent)))


# ---- models ----------------------------------------------------------------------------------------------------------


@blueprint.post("/team/model/add")
@takes(body=_MODELS)
async def add_models() -> Answer:
    """Add to the models of a team; those that are there stay where they are."""
    sent = await _sent()
    team = await need_team(sent["team_id"])
    await check_may_own(current_principal(), team, "add models to a team")

    async def columns_of(team: Team) -> Answer:
        before = [model for model in team.models if model != NO_MODEL]
        columns = {"models": list(dict.fromkeys([*before, *sent["models"]]))}
        if team.organization_id is not None:
            await check_bounds({"models": sent["models"]}, team.organization_id)
        return columns

    return await team_row(await change_team(team.team_id, columns_of, version=expected_version(sent)))


@blueprint.post("/team/model/delete")
@takes(body=_MODELS)
async def delete_models() -> Answer:
    """Take models from a team. Without its last one it has none, where an empty list would mean all of them."""
    sent = await _sent()
    team = await need_team(sent["team_id"])
    await check_may_manage(current_principal(), team)

    async def columns_of(team: Team) -> Answer:
        remaining = [model for model in team.models if model not in sent["models"]]
        return {"models": remaining or ([NO_MODEL] if team.models else [])}

    return await team_row(await change_team(team.team_id, columns_of, version=expected_version(sent)))


async def _sent() -> Answer:
    sent = await read_body()
    if not sent["models"] or not all(sent["models"]):
        raise bad_request("Send at least one model", "models")
    return sent
