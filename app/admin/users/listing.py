"""Lists of users, and how many there are."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from quart import Blueprint
from tortoise.expressions import Q, Subquery
from tortoise.functions import Count
from tortoise.queryset import QuerySet

from ...auth.principal import Principal, current_principal
from ...errors import PlainDenial
from ...models import OrganizationMembership, Team, TeamMembership, User, VirtualKey
from ...web.fields import Table, identifier, listed, read_query, takes, text
from ..keys.access import administered_teams
from ..paging import order_of, page_field, read_capped_page, rows_of, size_field
from .access import is_home, organizations_of, seen_memberships, seen_user

blueprint = Blueprint("admin_user_list", __name__)

Answer = dict[str, Any]
_SORTS = ("user_id", "user_email", "created_at", "spend", "user_alias", "user_role")
_LIST: Table = {
    "page": page_field(),
    "page_size": size_field(),
    "role": identifier(64),
    **dict.fromkeys(("user_email", "search", "team"), identifier()),
    "user_ids": listed(),
    "sso_user_ids": listed(),
    "organization_ids": listed(),
    "sort_by": text(),
    "sort_order": text(),
}
_FIND: Table = {"user_id": identifier(), "user_email": identifier(), "page": page_field(), "page_size": size_field()}


def _denied(message: str, status: int) -> PlainDenial:
    return PlainDenial(message, status=status, is_nested=True)


def _members_of(organizations: Sequence[str]) -> Q:
    members = OrganizationMembership.filter(organization_id__in=organizations)
    return Q(user_id__in=Subquery(members.values("user_id")))


@blueprint.get("/user/list")
@takes(query=_LIST)
async def list_users() -> Answer:
    params = read_query(page=1, page_size=25, sort_order="desc")
    if params["sort_by"] not in (None, *_SORTS):
        raise _denied(f"sort_by must be one of {', '.join(_SORTS)}", 400)
    if params["sort_order"].lower() not in ("asc", "desc"):
        raise _denied("sort_order must be asc or desc", 400)
    order = order_of(params["sort_by"] or "created_at", params["sort_order"], "user_id")
    query = _query(params).filter(_visible(current_principal(), params["organization_ids"]))
    page = await read_capped_page(query, params["page"], params["page_size"], *order)
    return {
        "users": await _shown(page.rows),
        "total": page.total,
        "total_is_capped": page.is_capped,
        "page": page.number,
        "page_size": page.size,
        "total_pages": page.total_pages,
    }


def _visible(principal: Principal, organization_ids: list[str] | None) -> Q:
    """Members of the organizations that were asked for; who does not see all must administer them. Raises 403."""
    if principal.can_read_all:
        return _members_of(organization_ids) if organization_ids else Q()
    if not set(organization_ids or ()) <= set(principal.organizations):
        raise _denied("Only organizations that you administer can be listed", 403)
    return _members_of(organization_ids or principal.organizations)


def _query(params: dict[str, Any]) -> QuerySet[Any]:
    query = rows_of(User)
    if params["role"]:
        query = query.filter(user_role=params["role"])
    if params["user_email"]:
        query = query.filter(user_email__icontains=params["user_email"])
    for parameter, column in (("user_ids", "user_id"), ("sso_user_ids", "sso_user_id")):
        if params[parameter]:
            query = query.filter(**{f"{column}__in": params[parameter]})
    principal = current_principal()
    if params["sso_user_ids"] and not principal.can_read_all:
        # Of others' people it is not theirs to see, so not theirs to guess.
        query = query.filter(organization_id__in=principal.organizations)
    if params["team"]:
        members = TeamMembership.filter(team_id=params["team"])
        query = query.filter(user_id__in=Subquery(members.values("user_id")))
    if params["search"]:
        search = params["search"]
        query = query.filter(
            Q(user_id__icontains=search) | Q(user_email__icontains=search) | Q(user_alias__icontains=search)
        )
    return query


async def _teams_of(user_ids: Sequence[str]) -> dict[str, list[str]]:
    """Team ids per user; for who does not see all, those of the organizations that they administer."""
    principal = current_principal()
    rows = TeamMembership.filter(user_id__in=user_ids)
    if not principal.can_read_all:
        own = Team.filter(organization_id__in=principal.organizations)
        rows = rows.filter(team_id__in=Subquery(own.values("team_id")))
    teams: dict[str, list[str]] = {}
    for membership in await rows.order_by("team_id"):
        teams.setdefault(membership.user_id, []).append(membership.team_id)
    return teams


async def _shown(users: Sequence[User]) -> list[Answer]:
    principal = current_principal()
    user_ids = [user.user_id for user in users]
    counts = (
        VirtualKey.filter(VirtualKey.not_of_sessions(), _seen_keys(principal, users), user_id__in=user_ids)
        .annotate(count=Count("token"))
        .group_by("user_id")
        .values("user_id", "count")
    )
    keys = {row["user_id"]: row["count"] for row in await counts}
    teams = await _teams_of(user_ids)
    organizations = await organizations_of(user_ids)
    return [
        {
            **seen_user(principal, user),
            "teams": teams.get(user.user_id, []),
            "organization_memberships": seen_memberships(principal, user.user_id, organizations[user.user_id]),
            "key_count": keys.get(user.user_id, 0),
        }
        for user in users
    ]


def _seen_keys(principal: Principal, users: Sequence[User]) -> Q:
    """The condition of the keys that count: of people who were not made for the caller's organization, its own."""
    if principal.can_read_all:
        return Q()
    own = Team.filter(organization_id__in=principal.organizations)
    home = [user.user_id for user in users if is_home(principal, user) or user.user_id == principal.user_id]
    return (
        Q(user_id__in=home)
        | Q(organization_id__in=principal.organizations)
        | Q(team_id__in=Subquery(own.values("team_id")))
    )


@blueprint.get("/user/filter/ui")
@takes(query=_FIND)
async def find_users() -> list[Answer]:
    """Id and address of users whose id and address contain what was sent: those whom the caller may know of."""
    params = read_query(page=1, page_size=50)
    query = rows_of(User).filter(await _known_to(current_principal(), params))
    for name in ("user_id", "user_email"):
        if params[name]:
            query = query.filter(**{f"{name}__icontains": params[name]})
    offset = (params["page"] - 1) * params["page_size"]
    rows = query.order_by("user_id").offset(offset).limit(params["page_size"])
    return [{"user_id": user.user_id, "user_email": user.user_email} async for user in rows]


async def _known_to(principal: Principal, params: dict[str, Any]) -> Q:
    """Oneself, members of one's organizations and teams; who administers a team finds others by the whole address."""
    if principal.can_read_all:
        return Q()
    condition = Q(user_id=principal.user_id or "")
    if principal.organizations:
        condition |= _members_of(principal.organizations)
    teams = await administered_teams(principal)
    if teams:
        members = TeamMembership.filter(team_id__in=teams)
        condition |= Q(user_id__in=Subquery(members.values("user_id")))
        if params["user_email"]:
            condition |= Q(user_email=params["user_email"].lower())
    return condition


@blueprint.get("/user/available_users")
async def count_users() -> Answer:
    """How many users and teams there are; nothing here has a licence that would end somewhere."""
    principal = current_principal()
    if principal.can_read_all:
        users, teams = await User.all().count(), await Team.all().count()
    else:
        users = await User.filter(_members_of(principal.organizations)).count()
        teams = await Team.filter(organization_id__in=principal.organizations).count()
    return {
        "total_users": None,
        "total_teams": None,
        "total_users_used": users,
        "total_teams_used": teams,
        "total_users_remaining": None,
        "total_teams_remaining": None,
    }
