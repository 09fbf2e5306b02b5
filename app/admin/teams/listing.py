"""Lists of teams: narrowed, sorted and cut by the database."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from quart import Blueprint
from tortoise.expressions import Q, Subquery
from tortoise.models import Model
from tortoise.queryset import QuerySet

from ...auth.principal import Principal, current_principal
from ...errors import PlainDenial
from ...models import DeletedTeam, Team, TeamMembership, VirtualKey
from ...web.fields import Table, identifier, read_query, takes, text
from ..paging import order_of, page_field, read_page, rows_of, size_field
from .rows import count_per_team, members_of, team_json

blueprint = Blueprint("admin_team_list", __name__)

Answer = dict[str, Any]
_MAX_TEAMS = 1000
_SORTS = (
    *("team_id", "team_alias", "organization_id", "created_at", "updated_at", "spend", "max_budget"),
    *("tpm_limit", "rpm_limit", "blocked", "budget_reset_at"),
)
_OF_TEAMS: Table = {"user_id": identifier(), "organization_id": identifier()}
_LIST: Table = {**_OF_TEAMS, "page": page_field(), "page_size": size_field(_MAX_TEAMS)}
_PAGED: Table = {
    **_OF_TEAMS,
    **dict.fromkeys(("team_id", "team_alias", "search", "search_team_id_match", "status"), identifier()),
    "page": page_field(),
    "page_size": size_field(),
    "sort_by": text(),
    "sort_order": text(),
}
_CHOICE: Table = {"team_id": identifier(), "team_alias": identifier()}


def _visible(principal: Principal, asked: Answer, table: type[Model] = Team) -> QuerySet[Any]:
    """The teams that a list may show.

    Raises 401 (E2) unless a caller who does not see all asks for their own, or administers an organization.
    """
    user_id, organization_id = asked["user_id"], asked["organization_id"]
    query = rows_of(table)
    if not principal.can_read_all and (user_id is None or user_id != principal.user_id):
        if not principal.organizations or organization_id not in (None, *principal.organizations):
            raise PlainDenial(
                f"Only admin users can query all teams/other teams. Your user role={principal.role.value}",
                status=401,
                is_nested=True,
            )
        query = query.filter(organization_id__in=principal.organizations)
    if user_id is not None:
        query = query.filter(team_id__in=_joined(user_id))
    return query.filter(organization_id=organization_id) if organization_id else query


def _joined(user_id: str) -> Subquery:
    return Subquery(TeamMembership.filter(user_id=user_id).values("team_id"))


@blueprint.get("/team/list")
@takes(query=_LIST)
async def list_teams() -> list[Answer]:
    """The newest 1000 teams with their members, or a page of them; keys are asked for per team or by /key/list."""
    asked = read_query(page=1, page_size=_MAX_TEAMS)
    query = _visible(current_principal(), asked).order_by("-created_at", "team_id")
    teams = await query.offset((asked["page"] - 1) * asked["page_size"]).limit(asked["page_size"])
    return [{**row, "keys": [], "team_memberships": []} for row in await _shown(teams)]


@blueprint.get("/v2/team/list")
@takes(query=_PAGED)
async def list_teams_in_pages() -> Answer:
    """Teams, or with `status=deleted` the tombstones of teams."""
    asked = read_query(page=1, page_size=10, sort_order="asc")
    is_deleted = asked["status"] == "deleted"
    query = _matching(_visible(current_principal(), asked, DeletedTeam if is_deleted else Team), asked)
    sort = asked["sort_by"] if asked["sort_by"] in _SORTS else "created_at"
    order = order_of(sort, asked["sort_order"], "id" if is_deleted else "team_id")
    page = await read_page(query, asked["page"], asked["page_size"], *order)
    return {
        "teams": await _tombstones(page.rows) if is_deleted else await _shown(page.rows),
        "total": page.total,
        "page": page.number,
        "page_size": page.size,
        "total_pages": page.total_pages,
    }


def _matching(query: QuerySet[Any], asked: Answer) -> QuerySet[Any]:
    if asked["team_id"]:
        query = query.filter(team_id=asked["team_id"])
    if asked["team_alias"]:
        query = query.filter(team_alias__icontains=asked["team_alias"])
    if asked["search"]:
        is_exact = (asked["search_team_id_match"] or "").lower() == "exact"
        by_id = Q(team_id=asked["search"]) if is_exact else Q(team_id__icontains=asked["search"])
        query = query.filter(Q(team_alias__icontains=asked["search"]) | by_id)
    return query


async def _shown(teams: Sequence[Team]) -> list[Answer]:
    team_ids = [team.team_id for team in teams]
    members = await members_of(team_ids)
    keys, people = await count_per_team(VirtualKey, team_ids), await count_per_team(TeamMembership, team_ids)
    return [
        {
            **team_json(team, members[team.team_id]),
            "members_count": people.get(team.team_id, 0),
            "keys_count": keys.get(team.team_id, 0),
        }
        for team in teams
    ]


async def _tombstones(teams: Sequence[DeletedTeam]) -> list[Answer]:
    return [
        {**team_json(team, team.members), "members_count": len(team.members), "keys_count": 0, "status": "deleted"}
        for team in teams
    ]


@blueprint.get("/team/filter/ui")
@takes(query=_CHOICE)
async def choose_teams() -> list[Answer]:
    """The first 50 teams whose id or alias contains a text, for a field that offers them; others see their own."""
    principal, asked = current_principal(), read_query()
    query = rows_of(Team)
    if not principal.can_read_all:
        own = Q(team_id__in=_joined(principal.user_id or "")) | Q(organization_id__in=principal.organizations)
        query = query.filter(own if principal.organizations else Q(team_id__in=_joined(principal.user_id or "")))
    for name in _CHOICE:
        if asked[name]:
            query = query.filter(**{f"{name}__icontains": asked[name]})
    teams = await query.order_by("team_alias", "team_id").limit(50)
    return [{"team_id": team.team_id, "team_alias": team.team_alias} for team in teams]
