"""The list of users."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from quart import Blueprint
from tortoise.expressions import Q
from tortoise.functions import Count
from tortoise.queryset import QuerySet

from ..errors import PlainDenial
from ..models import TeamMembership, User, VirtualKey
from .body import Table, identifier, listed, read_query, text
from .paging import order_of, page_field, read_page, rows_of, size_field

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
    "sort_by": text(),
    "sort_order": text(),
}


@blueprint.get("/user/list")
async def list_users() -> Answer:
    asked = read_query(_LIST, page=1, page_size=25, sort_order="desc")
    if asked["sort_by"] not in (None, *_SORTS):
        raise PlainDenial(f"sort_by must be one of {', '.join(_SORTS)}", status=400, is_nested=True)
    if asked["sort_order"].lower() not in ("asc", "desc"):
        raise PlainDenial("sort_order must be asc or desc", status=400, is_nested=True)
    order = order_of(asked["sort_by"] or "created_at", asked["sort_order"], "user_id")
    page = await read_page(await _query(asked), asked["page"], asked["page_size"], *order)
    return {
        "users": await _shown(page.rows),
        "total": page.total,
        "page": page.number,
        "page_size": page.size,
        "total_pages": page.total_pages,
    }


async def _query(asked: dict[str, Any]) -> QuerySet[Any]:
    query = rows_of(User)
    if asked["role"]:
        query = query.filter(user_role=asked["role"])
    if asked["user_email"]:
        query = query.filter(user_email__icontains=asked["user_email"])
    for parameter, column in (("user_ids", "user_id"), ("sso_user_ids", "sso_user_id")):
        if asked[parameter]:
            query = query.filter(**{f"{column}__in": asked[parameter]})
    if asked["team"]:
        members = [row.user_id async for row in TeamMembership.filter(team_id=asked["team"]).limit(10_000)]
        query = query.filter(user_id__in=members)
    if asked["search"]:
        word = asked["search"]
        query = query.filter(Q(user_id__icontains=word) | Q(user_email__icontains=word) | Q(user_alias__icontains=word))
    return query


async def _shown(users: Sequence[User]) -> list[Answer]:
    user_ids = [user.user_id for user in users]
    counts = (
        VirtualKey.filter(VirtualKey.not_of_sessions(), user_id__in=user_ids)
        .annotate(count=Count("token"))
        .group_by("user_id")
        .values("user_id", "count")
    )
    keys = {row["user_id"]: row["count"] for row in await counts}
    teams: dict[str, list[str]] = {}
    for membership in await TeamMembership.filter(user_id__in=user_ids).order_by("team_id"):
        teams.setdefault(membership.user_id, []).append(membership.team_id)
    return [
        {
            **user.as_wire(),
            "teams": teams.get(user.user_id, []),
            "organization_memberships": [],
            "key_count": keys.get(user.user_id, 0),
        }
        for user in users
    ]
