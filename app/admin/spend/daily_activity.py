"""Daily activity of users, teams, organizations, tags and end users: sums per UTC day, with breakdowns."""

from __future__ import annotations

from asyncio import gather
from dataclasses import replace

import msgspec
from quart import Blueprint, Response

from ...auth.principal import current_principal
from ...models import TeamMembership, VirtualKey
from ...web.fields import Table, identifier, listed, read_query, takes, whole
from ..keys.access import refused
from ..paging import page_field, size_field
from .daily_figures import Answer, Figures, days_to_json, totals_of
from .daily_names import entity_names, key_names
from .daily_rows import (
    DIMENSIONS,
    END_USERS,
    ORGANIZATIONS,
    TAGS,
    TEAMS,
    USERS,
    Entity,
    Scope,
    days_with_traffic,
    largest,
    sums_of_entities,
    sums_of_keys,
    totals,
)
from .visibility import check_days, day, days_between, named_key

blueprint = Blueprint("admin_activity", __name__)

# How many keys and entities a day names when nobody says: an answer of a month stays small, one of a day names many.
_KEY_DAYS = 300
_FEWEST, _FEWEST_IN_GROUPS = 10, 3
# A key has a row for each of its tags, so naming one costs more.
_FEWEST_OF_TAGS = 6
_MAX_KEY_DAYS = 30_000
_ALL_DAYS = 1000

DATES: Table = {
    "start_date": day(),
    "end_date": day(),
    # Accepted and without effect: days are UTC days, as they are kept.
    "timezone": whole(-1440, 1440),
}
_COMMON: Table = {
    **DATES,
    "model": identifier(),
    "api_key": identifier(),
    "page": page_field(),
    "page_size": size_field(1000),
    "api_key_limit": whole(1, 1000),
}
_OF_USERS: Table = {**_COMMON, "user_id": identifier()}
_OF_TEAMS: Table = {**_COMMON, "team_ids": listed(), "exclude_team_ids": listed()}
_OF_ORGANIZATIONS: Table = {**_COMMON, "organization_ids": listed(), "exclude_organization_ids": listed()}
_OF_TAGS: Table = {**_COMMON, "tags": listed(), "exclude_tags": listed()}
_OF_END_USERS: Table = {**_COMMON, "end_user_ids": listed(), "exclude_end_user_ids": listed()}


@blueprint.get("/user/daily/activity")
@takes(query=_OF_USERS)
async def user_activity() -> Response:
    asked = read_query(page=1, page_size=50)
    return await _answer(users_scope(asked), asked)


@blueprint.get("/user/daily/activity/aggregated")
@takes(query=_OF_USERS)
async def user_activity_at_once() -> Response:
    """The same without pages."""
    asked = {**read_query(), "page": 1, "page_size": _ALL_DAYS}
    return await _answer(users_scope(asked), asked)


@blueprint.get("/team/daily/activity")
@takes(query=_OF_TEAMS)
async def team_activity() -> Response:
    asked = read_query(page=1, page_size=10)
    return await _answer(await _teams_scope(asked), asked)


@blueprint.get("/team/daily/activity/aggregated")
@takes(query=_OF_TEAMS)
async def team_activity_at_once() -> Response:
    asked = {**read_query(), "page": 1, "page_size": _ALL_DAYS}
    return await _answer(await _teams_scope(asked), asked)


@blueprint.get("/organization/daily/activity")
@takes(query=_OF_ORGANIZATIONS)
async def organization_activity() -> Response:
    asked = read_query(page=1, page_size=10)
    return await _answer(_organizations_scope(asked), asked)


@blueprint.get("/organization/daily/activity/aggregated")
@takes(query=_OF_ORGANIZATIONS)
async def organization_activity_at_once() -> Response:
    asked = {**read_query(), "page": 1, "page_size": _ALL_DAYS}
    return await _answer(_organizations_scope(asked), asked)


@blueprint.get("/tag/daily/activity")
@takes(query=_OF_TAGS)
async def tag_activity() -> Response:
    asked = read_query(page=1, page_size=10)
    return await _answer(await _tags_scope(asked), asked)


@blueprint.get("/tag/daily/activity/aggregated")
@takes(query=_OF_TAGS)
async def tag_activity_at_once() -> Response:
    asked = {**read_query(), "page": 1, "page_size": _ALL_DAYS}
    return await _answer(await _tags_scope(asked), asked)


@blueprint.get("/customer/daily/activity")
@blueprint.get("/end_user/daily/activity")
@takes(query=_OF_END_USERS)
async def end_user_activity() -> Response:
    asked = read_query(page=1, page_size=10)
    return await _answer(_end_users_scope(asked), asked)


@blueprint.get("/customer/daily/activity/aggregated")
@takes(query=_OF_END_USERS)
async def end_user_activity_at_once() -> Response:
    asked = {**read_query(), "page": 1, "page_size": _ALL_DAYS}
    return await _answer(_end_users_scope(asked), asked)


# ---- what a caller may see -----------------------------------------------------------------------------------------


def _scope(entity: Entity, asked: Answer, ids: list[str] | None, without: list[str] | None = None) -> Scope:
    """`ids` None is everybody's, an empty list is nobody's. Raises 400 for a wrong range."""
    first, last = check_days(asked["start_date"], asked["end_date"])
    key = asked.get("api_key")
    return Scope(
        entity=entity,
        days=days_between(first, last),
        ids=ids,
        without=without or (),
        keys=[named_key(key)] if key else None,
        model=asked.get("model"),
    )


def users_scope(asked: Answer) -> Scope:
    """Everybody's calls for those who see all, else the caller's own. Raises 403 for somebody else's."""
    principal, user_id = current_principal(), asked.get("user_id")
    if principal.can_read_all:
        return _scope(USERS, asked, [user_id] if user_id else None)
    if user_id is not None and user_id != principal.user_id:
        raise refused("You are not authorized to see another user's spend")
    if principal.user_id is None:
        return _scope(USERS, {**asked, "api_key": principal.key_hash}, None)
    return _scope(USERS, asked, [principal.user_id])


async def _teams_scope(asked: Answer) -> Scope:
    """The teams that were asked for; those of the caller unless the caller sees all. Raises 403 for others."""
    principal, wanted = current_principal(), asked["team_ids"]
    if not principal.can_read_all:
        rows = TeamMembership.filter(user_id=principal.user_id or "").limit(1000)
        own = [row.team_id async for row in rows]
        if wanted and not set(wanted) <= set(own):
            raise refused("You are not a member of these teams")
        return _scope(TEAMS, asked, wanted or own, asked["exclude_team_ids"])
    return _scope(TEAMS, asked, wanted or None, asked["exclude_team_ids"])


def _organizations_scope(asked: Answer) -> Scope:
    """The same for organizations that the caller administers."""
    principal, wanted = current_principal(), asked["organization_ids"]
    if not principal.can_read_all:
        if wanted and not set(wanted) <= set(principal.organizations):
            raise refused("You are not an admin of these organizations")
        return _scope(ORGANIZATIONS, asked, wanted or list(principal.organizations), asked["exclude_organization_ids"])
    return _scope(ORGANIZATIONS, asked, wanted or None, asked["exclude_organization_ids"])


async def _tags_scope(asked: Answer) -> Scope:
    """Whoever does not see all sees what their own keys spent on tags."""
    principal = current_principal()
    scope = _scope(TAGS, asked, asked["tags"] or None, asked["exclude_tags"])
    if principal.can_read_all:
        return scope
    own = [principal.key_hash]
    if principal.user_id is not None:
        own += [key["token"] for key in await VirtualKey.filter(user_id=principal.user_id).limit(999).values("token")]
    if scope.keys and not set(scope.keys) <= set(own):
        raise refused("You are not authorized to see the spend of another user's key")
    return scope if scope.keys else replace(scope, keys=own)


def _end_users_scope(asked: Answer) -> Scope:
    return _scope(END_USERS, asked, asked["end_user_ids"] or None, asked["exclude_end_user_ids"])


# ---- the answer ----------------------------------------------------------------------------------------------------


async def _answer(scope: Scope, asked: Answer) -> Response:
    """Days with traffic, newest first, `page_size` days a page; the totals are those of the page."""
    days = await days_with_traffic(scope)
    start = (asked["page"] - 1) * asked["page_size"]
    shown = days[start : start + asked["page_size"]]
    figures, is_cut = await _figures(scope.on(shown), asked["api_key_limit"])
    results, total = days_to_json(shown, figures)
    pages = -(-len(days) // asked["page_size"])
    paging = {"page": asked["page"], "total_pages": pages, "has_more": asked["page"] < pages}
    return encoded({"results": results, "metadata": {**totals_of(total), **paging, "api_keys_are_capped": is_cut}})


async def _figures(scope: Scope, limit: int | None) -> tuple[Figures, bool]:
    """The rows of an answer, and whether keys were left out of its breakdowns."""
    if not scope.days:
        return Figures(), False
    keys, entities = await largest(scope)
    usual = max(_FEWEST, _KEY_DAYS // len(scope.days))
    named = max(_FEWEST_OF_TAGS, _KEY_DAYS // len(scope.days) // 2) if scope.entity is TAGS else usual
    most = named if limit is None else min(limit, max(_FEWEST, _MAX_KEY_DAYS // len(scope.days)))
    tokens, ids = keys.largest(most), entities.largest(usual)
    is_cut = keys.is_cut or len(keys.spend) > most
    within = scope
    if scope.entity not in (USERS, TEAMS) and scope.ids is None and scope.keys is None:
        # One key may serve every end user: its rows are those of the entities that are shown.
        within, is_cut = replace(scope, ids=ids), is_cut or entities.is_cut or len(entities.spend) > usual
    # Each of these is in the answer a dozen times a day.
    in_groups = tokens if limit is not None else tokens[: max(_FEWEST_IN_GROUPS, most // 3)]
    figures = Figures()
    # Two connections: while rows of one are read, the database looks for those of the other.
    await gather(
        _add_totals(figures, scope, ids, within, tokens[len(in_groups) :]),
        _add_keys(figures, within, tokens, in_groups),
    )
    return figures, is_cut


async def _add_totals(figures: Figures, scope: Scope, ids: list[str], within: Scope, others: list[str]) -> None:
    figures.keys = await sums_of_keys(within, others, ("date", "api_key"))
    figures.totals = await totals(scope)
    figures.entities = await sums_of_entities(scope, ids)
    figures.entity_names = await entity_names(scope.entity, ids)


async def _add_keys(figures: Figures, within: Scope, tokens: list[str], in_groups: list[str]) -> None:
    figures.keys_in_groups = await sums_of_keys(within, in_groups, ("date", "api_key", *DIMENSIONS))
    figures.keys_in_entities = await sums_of_keys(within, in_groups, ("date", "api_key", "entity"))
    figures.key_names = await key_names(tokens)


def encoded(answer: Answer) -> Response:
    """A large answer as JSON: the framework's own encoder takes longer than the database."""
    return Response(msgspec.json.encode(answer), content_type="application/json")
