"""The models of a team, one list that two admins may edit at the same time."""

from __future__ import annotations

from typing import Any

from quart import Blueprint

from ..auth.principal import current_principal
from ..models import Team
from ..web.fields import Table, bad_request, identifier, read_body, takes, text_list
from .changes import VERSION, expected_version
from .team_access import check_bounds, check_may_manage, check_may_own
from .team_rows import change_team, need_team, team_row

blueprint = Blueprint("admin_team_models", __name__)

Answer = dict[str, Any]
_NO_MODEL = "no-default-models"
_MODELS: Table = {**VERSION, "team_id": identifier().required, "models": text_list().required}


@blueprint.post("/team/model/add")
@takes(body=_MODELS)
async def add_models() -> Answer:
    """Add to the models of a team; those that are there stay where they are."""
    sent = await _sent()
    team = await need_team(sent["team_id"])
    await check_may_own(current_principal(), team, "add models to a team")

    async def columns_of(team: Team) -> Answer:
        kept = [model for model in team.models if model != _NO_MODEL]
        columns = {"models": list(dict.fromkeys([*kept, *sent["models"]]))}
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
        kept = [model for model in team.models if model not in sent["models"]]
        return {"models": kept or ([_NO_MODEL] if team.models else [])}

    return await team_row(await change_team(team.team_id, columns_of, version=expected_version(sent)))


async def _sent() -> Answer:
    sent = await read_body()
    if not sent["models"] or not all(sent["models"]):
        raise bad_request("Send at least one model", "models")
    return sent
