"""Deleting teams: with their keys, memberships and own budgets, leaving tombstones."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from quart import Blueprint

from ..auth.principal import Principal, current_principal
from ..models import Budget, DeletedTeam, Team, TeamMembership, VirtualKey
from ..services import services
from ..web.fields import Table, bad_request, read_body, takes, text_list
from .audit_trail import TEAMS, changed_by, record_change
from .key_issue import delete_keys
from .team_access import check_may_own
from .team_budgets import drop_default_budget
from .team_rows import MEMBER_BUDGET, members_of, need_team

blueprint = Blueprint("admin_team_deletion", __name__)

Answer = dict[str, Any]
_MOST_TEAMS = 1000
_TEAMS: Table = {"team_ids": text_list().required}


@blueprint.post("/team/delete")
@takes(body=_TEAMS)
async def delete_teams() -> Answer:
    """All of them or none. Raises 404 (E2) for an unknown one."""
    principal = current_principal()
    team_ids = list(dict.fromkeys((await read_body())["team_ids"]))
    if not 0 < len(team_ids) <= _MOST_TEAMS:
        raise bad_request(f"Send 1 to {_MOST_TEAMS} team_ids", "team_ids")
    teams = [await need_team(team_id) for team_id in team_ids]
    for team in teams:
        await check_may_own(principal, team, "delete a team")
    async with services().database.transaction():
        keys = await bury_teams(teams, principal)
    forget_teams(teams, keys)
    return {"deleted_teams": team_ids}


async def bury_teams(teams: Sequence[Team], principal: Principal) -> list[VirtualKey]:
    """Delete teams and all that hangs on them, with tombstones and audit rows; inside the caller's transaction.

    Answers the deleted keys: hand them to `forget_teams` after the transaction.
    """
    team_ids = [team.team_id for team in teams]
    keys = await VirtualKey.filter(team_id__in=team_ids)
    await delete_keys(keys, principal)
    members = await members_of(team_ids)
    memberships = TeamMembership.filter(team_id__in=team_ids)
    budgets = [row.budget_id for row in await memberships if row.budget_id]
    await Budget.filter(budget_id__in=budgets, budget_id__startswith=MEMBER_BUDGET).delete()
    await memberships.delete()
    for team in teams:
        await drop_default_budget(team)
        kept = {name: getattr(team, name) for name in team._meta.fields_map if name != "version"}
        await DeletedTeam.create(
            **kept,
            members=members[team.team_id],
            deleted_by=principal.user_id,
            deleted_by_api_key=principal.key_hash[:64],
            litellm_changed_by=changed_by(),
        )
        await team.delete()
        await record_change("deleted", TEAMS, team.team_id, before=team.as_wire(members[team.team_id]))
    return keys


def forget_teams(teams: Sequence[Team], keys: Sequence[VirtualKey]) -> None:
    """Make what was deleted unusable at once."""
    for key in keys:
        services().keys.forget(key.token)
    for team in teams:
        services().keys.forget_team(team.team_id)
