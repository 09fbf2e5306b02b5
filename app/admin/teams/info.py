"""One team as its page shows it, the caller's own membership, and the teams that anybody may join."""

from __future__ import annotations

from typing import Any

from quart import Blueprint
from tortoise.expressions import Q

from ...auth.principal import Principal, current_principal
from ...errors import Forbidden, GatewayError, PlainDenial
from ...models import AccessGroup, Organization, Team, TeamMembership, User, VirtualKey
from ...models.budget_period import start_new_period
from ...web.fields import Table, identifier, read_query, takes, whole
from .access import TeamPermissions, edit_access, permissions_over
from .defaults import available_team_ids
from .rows import count_per_team, default_budget, membership_rows, need_team, team_row

blueprint = Blueprint("admin_team_info", __name__)

Answer = dict[str, Any]
_MAX_KEYS = 100
_INFO: Table = {"team_id": identifier().required, "key_limit": whole(0, _MAX_KEYS)}


@blueprint.get("/team/info")
@takes(query=_INFO)
async def team_info() -> Answer:
    """A team with its members and the newest of its keys (`key_limit`, at most 100); members see their own keys."""
    principal = current_principal()
    asked = read_query(key_limit=_MAX_KEYS)
    team = await Team.get_or_none(team_id=asked["team_id"])
    if team is None:
        raise GatewayError(
            f"Team not found, passed team id: {asked['team_id']}.", status=404, type="auth_error", param="None"
        )
    permissions = await permissions_over(principal, team)
    if permissions < TeamPermissions.MEMBER:
        raise Forbidden("Only members of a team may see it", param="None")
    await start_new_period(team)
    keys = VirtualKey.filter(_visible_keys(principal, permissions), team_id=team.team_id).order_by(
        "-created_at", "token"
    )
    return {
        "team_id": team.team_id,
        "team_info": {**await _whole_row(team), "caller_edit_access": edit_access(permissions)},
        "keys": [key.to_json() for key in await keys.limit(asked["key_limit"])],
        "team_memberships": await membership_rows(team),
    }


def _visible_keys(principal: Principal, permissions: TeamPermissions) -> Q:
    if permissions >= TeamPermissions.READER:
        return Q()
    own = Q(token=principal.key_hash)
    return own | Q(user_id=principal.user_id) if principal.user_id is not None else own


async def _whole_row(team: Team) -> Answer:
    row = await team_row(team)
    members = row["members_with_roles"]
    users = await User.filter(user_id__in=[member["user_id"] for member in members])
    aliases = {user.user_id: user.user_alias for user in users}
    budget = await default_budget(team)
    organization = (
        await Organization.get_or_none(organization_id=team.organization_id) if team.organization_id else None
    )
    return {
        **row,
        "members_with_roles": [{**member, "user_alias": aliases.get(member["user_id"])} for member in members],
        "team_member_budget_table": budget.to_json() if budget is not None else None,
        "organization_models": organization.models if organization is not None else [],
        "model_max_budget_usage": [],
        **await _of_access_groups(team),
    }


async def _of_access_groups(team: Team) -> Answer:
    groups = await AccessGroup.filter(access_group_id__in=team.access_group_ids) if team.access_group_ids else []

    def all_of(column: str) -> list[str]:
        return list(dict.fromkeys(name for group in groups for name in getattr(group, column)))

    return {
        "access_group_models": all_of("access_model_names"),
        "access_group_mcp_server_ids": all_of("access_mcp_server_ids"),
        "access_group_agent_ids": all_of("access_agent_ids"),
    }


@blueprint.get("/team/<team_id>/members/me")
async def own_membership(team_id: str) -> Answer:
    """The caller's role, spend and budget in a team. Raises 404 (E2) for who is not in it."""
    principal = current_principal()
    team = await need_team(team_id)
    row = None
    if principal.user_id is not None:
        row = await TeamMembership.get_or_none(team_id=team_id, user_id=principal.user_id)
    if row is None:
        raise PlainDenial(f"User={principal.user_id} not found in team={team_id}", status=404, is_nested=True)
    user = await User.get_or_none(user_id=row.user_id)
    membership = (await membership_rows(team, [row]))[0]
    reset_at = row.budget_reset_at.isoformat() if row.budget_reset_at is not None else None
    return {
        **membership,
        "user_email": user.user_email if user is not None else None,
        "team_alias": team.team_alias,
        "role": row.role,
        "budget_reset_at": reset_at,
    }


@blueprint.get("/team/available")
async def list_available_teams() -> list[Answer]:
    """Teams that any user may join, without those that the caller is in; of their members only the number."""
    user_id = current_principal().user_id
    team_ids = await available_team_ids()
    if user_id is not None and team_ids:
        joined = TeamMembership.filter(team_id__in=team_ids, user_id=user_id)
        team_ids = sorted(set(team_ids) - {row.team_id async for row in joined})
    teams = await Team.filter(team_id__in=team_ids).order_by("team_alias", "team_id") if team_ids else []
    people = await count_per_team(TeamMembership, team_ids)
    return [
        {
            "team_id": team.team_id,
            "team_alias": team.team_alias,
            "description": team.metadata.get("description"),
            "models": team.models,
            "members_with_roles": [],
            "members_count": people.get(team.team_id, 0),
        }
        for team in teams
    ]


@blueprint.get("/team/metadata_schema")
async def metadata_schema() -> Answer:
    """No schema is set for metadata: dashboards then offer free fields."""
    return {}
