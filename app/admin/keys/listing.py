"""Lists of virtual keys and of their aliases."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from quart import Blueprint
from tortoise.expressions import Q
from tortoise.queryset import QuerySet

from ...auth.principal import current_principal
from ...models import AccessGroup, DeletedVirtualKey, Team, User, VirtualKey
from ...models.virtual_key import SESSION_TEAM_ID
from ...security.credentials import key_hash_of
from ...web.fields import Table, bad_request, flag, identifier, moment, read_query, takes, text
from ..paging import order_of, page_field, read_capped_page, rows_of, size_field
from .access import visible_keys

blueprint = Blueprint("admin_key_list", __name__)

Answer = dict[str, Any]
_SORTS = ("spend", "max_budget", "created_at", "updated_at", "token", "key_alias")
_STATUSES = ("active", "expired", "revoked", "deleted")
_EXACT = ("team_id", "organization_id", "project_id", "agent_id")
_LIST: Table = {
    "page": page_field(),
    "size": size_field(),
    **dict.fromkeys(("user_id", "key_hash", "key_alias", "search", "access_group_id", *_EXACT), identifier()),
    "substring_matching": flag(),
    "return_full_object": flag(),
    "include_team_keys": flag(),
    "include_created_by_keys": flag(),
    "sort_by": text(),
    "sort_order": text(),
    "expand": text(),
    "status": text(),
    "expires": moment(),
}
_ALIASES: Table = {"page": page_field(), "size": size_field(), "search": identifier(), "team_id": identifier()}


@blueprint.get("/key/list")
@takes(query=_LIST)
async def list_keys() -> Answer:
    asked = read_query(page=1, size=10, sort_order="desc")
    _check(asked)
    visible = await visible_keys(
        current_principal(),
        user_id=asked["user_id"],
        team_id=asked["team_id"],
        organization_id=asked["organization_id"],
        with_team_keys=bool(asked["include_team_keys"]),
        with_created_keys=bool(asked["include_created_by_keys"]),
    )
    order = order_of(asked["sort_by"] or "created_at", asked["sort_order"], "token")
    query = (await _query(asked)).filter(visible)
    page = await read_capped_page(query, asked["page"], asked["size"], *order)
    return {
        "keys": await _shown(page.rows, asked),
        "total_count": page.total,
        "total_is_capped": page.is_capped,
        "current_page": page.number,
        "total_pages": page.total_pages,
    }


def _check(asked: dict[str, Any]) -> None:
    if asked["sort_by"] not in (None, *_SORTS):
        raise bad_request(f"sort_by must be one of {', '.join(_SORTS)}", "sort_by")
    if asked["sort_order"].lower() not in ("asc", "desc"):
        raise bad_request("sort_order must be asc or desc", "sort_order")
    if asked["status"] not in (None, *_STATUSES):
        raise bad_request(f"status must be one of {', '.join(_STATUSES)}", "status")


async def _query(asked: dict[str, Any]) -> QuerySet[Any]:
    is_deleted = asked["status"] == "deleted"
    query = _without_sessions(rows_of(DeletedVirtualKey if is_deleted else VirtualKey), asked["team_id"])
    if asked["status"] and not is_deleted:
        query = query.filter(VirtualKey.with_status(asked["status"]))
    if asked["expires"]:
        query = query.filter(expires__lte=asked["expires"])
    for name in _EXACT:
        if asked[name]:
            query = query.filter(**{name: asked[name]})
    if asked["key_hash"]:
        query = query.filter(token=key_hash_of(asked["key_hash"]))
    if asked["access_group_id"]:
        group = await AccessGroup.get_or_none(access_group_id=asked["access_group_id"])
        query = query.filter(token__in=group.assigned_key_ids if group is not None else [])
    operator = "icontains" if asked["substring_matching"] else ""
    for name in ("key_alias", "user_id"):
        if asked[name]:
            query = query.filter(**{f"{name}__{operator}" if operator else name: asked[name]})
    return query.filter(_found_by(asked["search"])) if asked["search"] else query


def _without_sessions(query: QuerySet[Any], team_id: str | None) -> QuerySet[Any]:
    """A team's keys are no sessions already, and the index of the team needs no further condition."""
    is_needless = team_id is not None and team_id != SESSION_TEAM_ID
    return query if is_needless else query.filter(VirtualKey.not_of_sessions())


def _found_by(word: str) -> Q:
    return (
        Q(key_alias__icontains=word)
        | Q(key_name__iendswith=word)
        | Q(token__startswith=word)
        | Q(user_id__icontains=word)
    )


async def _shown(keys: Sequence[VirtualKey], asked: dict[str, Any]) -> list[Any]:
    if not asked["return_full_object"]:
        return [key.token for key in keys]
    rows = [key.to_json() for key in keys]
    teams = await Team.filter(team_id__in={key.team_id for key in keys if key.team_id}).only("team_id", "team_alias")
    aliases = {team.team_id: team.team_alias for team in teams}
    for row in rows:
        row["team_alias"] = aliases.get(row["team_id"])
    if "user" in (asked["expand"] or "").split(","):
        owners = {key.user_id for key in keys if key.user_id}
        users = {user.user_id: user for user in await User.filter(user_id__in=owners)}
        for row in rows:
            user = users.get(row["user_id"] or "")
            row["user"] = None if user is None else _owner(user)
    return rows


def _owner(user: User) -> Answer:
    return {"user_id": user.user_id, "user_email": user.user_email, "user_alias": user.user_alias}


@blueprint.get("/key/aliases")
@takes(query=_ALIASES)
async def list_aliases() -> Answer:
    asked = read_query(page=1, size=50)
    visible = await visible_keys(
        current_principal(), user_id=None, team_id=asked["team_id"], with_team_keys=True, with_created_keys=False
    )
    query = _without_sessions(rows_of(VirtualKey), asked["team_id"]).filter(visible, key_alias__isnull=False)
    if asked["team_id"]:
        query = query.filter(team_id=asked["team_id"])
    if asked["search"]:
        query = query.filter(key_alias__icontains=asked["search"])
    page = await read_capped_page(query, asked["page"], asked["size"], "key_alias")
    return {
        "aliases": [key.key_alias for key in page.rows],
        "total_count": page.total,
        "total_is_capped": page.is_capped,
        "current_page": page.number,
        "total_pages": page.total_pages,
        "size": page.size,
    }
