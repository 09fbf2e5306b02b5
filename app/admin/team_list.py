"""Lists of teams."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from quart import Blueprint
from tortoise.expressions import Q
from tortoise.functions import Count
from tortoise.queryset import QuerySet

from ..auth.principal import Principal, current_principal
from ..errors import PlainDenial
from ..models import Team, TeamMembership, VirtualKey
from .body import Table, identifier, read_query, text
from .paging import order_of, page_field, read_page, rows_of, size_field
from .team_rows import members_of

blueprint = Blueprint("admin_team_list", __name__)

Answer = dict[str, Any]
_MOST_TEAMS = 1000
_SORTS = ("team_id", "team_alias", "created_at", "updated_at", "spend", "max_budget")
_OF_TEAMS: Table = {"user_id": identifier(), "organization_id": identifier()}
_PAGED: Table = {
    **_OF_TEAMS,
    **dict.fromkeys(("team_id", "team_alias", "search"), identifier()),
    "page": page_field(),
    "page_size": size_field(),
    "sort_by": text(),
    "sort_order": text(),
}


async def _visible(principal: Principal, asked: dict[str, Any]) -> QuerySet[Any]:
    """The teams that a list may show. Raises 401 (E2) unless a caller who does not see all asks for their own."""
    user_id = asked["user_id"]
    if not principal.can_read_all and (user_id is None or user_id != principal.user_id):
        raise PlainDenial(
            f"Only admin users can query all teams/other teams. Your user role={principal.role.value}",
            status=401,
            is_nested=True,
        )
    query = rows_of(Team)
    if user_id is not None:
        rows = TeamMembership.filter(user_id=user_id).limit(_MOST_TEAMS)
        query = query.filter(team_id__in=[row.team_id async for row in rows])
    if asked["organization_id"]:
        query = query.filter(organization_id=asked["organization_id"])
    return query


@blueprint.get("/team/list")
async def list_teams() -> list[Answer]:
    """The newest 1000 teams with their members; keys are asked for per team or by /key/list."""
    query = await _visible(current_principal(), read_query(_OF_TEAMS))
    teams = await query.order_by("-created_at", "team_id").limit(_MOST_TEAMS)
    return [{**row, "keys": [], "team_memberships": []} for row in await _shown(teams)]


@blueprint.get("/v2/team/list")
async def list_teams_in_pages() -> Answer:
    asked = read_query(_PAGED, page=1, page_size=10, sort_order="asc")
    query = await _visible(current_principal(), asked)
    if asked["team_id"]:
        query = query.filter(team_id=asked["team_id"])
    if asked["team_alias"]:
        query = query.filter(team_alias__icontains=asked["team_alias"])
    if asked["search"]:
        query = query.filter(Q(team_alias__icontains=asked["search"]) | Q(team_id__icontains=asked["search"]))
    sort = asked["sort_by"] if asked["sort_by"] in _SORTS else "created_at"
    page = await read_page(query, asked["page"], asked["page_size"], *order_of(sort, asked["sort_order"], "team_id"))
    return {
        "teams": await _shown(page.rows),
        "total": page.total,
        "page": page.number,
        "page_size": page.size,
        "total_pages": page.total_pages,
    }


async def _shown(teams: Sequence[Team]) -> list[Answer]:
    team_ids = [team.team_id for team in teams]
    members = await members_of(team_ids)
    counts = (
        VirtualKey.filter(team_id__in=team_ids)
        .annotate(count=Count("token"))
        .group_by("team_id")
        .values("team_id", "count")
    )
    keys = {row["team_id"]: row["count"] for row in await counts}
    return [
        {
            **team.as_wire(members[team.team_id]),
            "members_count": len(members[team.team_id]),
            "keys_count": keys.get(team.team_id, 0),
        }
        for team in teams
    ]
