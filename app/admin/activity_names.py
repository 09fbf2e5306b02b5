"""What is known of the keys and entities that an answer of daily activity names."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from ..models import DeletedTeam, DeletedVirtualKey, EndUser, Organization, Tag, Team, User, VirtualKey
from .activity_figures import Answer
from .activity_rows import END_USERS, ORGANIZATIONS, TAGS, TEAMS, Entity


async def keys_by_token(tokens: Collection[str]) -> dict[str, VirtualKey | DeletedVirtualKey]:
    """Keys by hash; a deleted one keeps its name."""
    live = {key.token: key for key in await VirtualKey.filter(token__in=tokens)}
    found: dict[str, VirtualKey | DeletedVirtualKey] = {}
    gone = [token for token in tokens if token not in live]
    if gone:
        for deleted in await DeletedVirtualKey.filter(token__in=gone).order_by("id"):
            found[deleted.token] = deleted
    return {**found, **live}


async def key_names(tokens: Collection[str]) -> dict[str, Answer]:
    """`metadata` of each key, also of one that was never known here."""
    found = await keys_by_token(tokens)
    owners = {row.user_id for row in found.values() if row.user_id}
    users = User.filter(user_id__in=owners).values("user_id", "user_email")
    emails = {user["user_id"]: user["user_email"] for user in await users} if owners else {}
    return {token: _key_name(found.get(token), emails) for token in tokens}


def _key_name(row: VirtualKey | DeletedVirtualKey | None, emails: Mapping[str, Any]) -> Answer:
    return {
        "key_alias": row.key_alias if row is not None else None,
        "team_id": row.team_id if row is not None else None,
        "user_id": row.user_id if row is not None else None,
        "user_email": emails.get(row.user_id) if row is not None and row.user_id else None,
        "key_exists": isinstance(row, VirtualKey),
    }


async def entity_names(entity: Entity, ids: Collection[str]) -> dict[str, Answer]:
    """`metadata` of each entity that has a row."""
    if not ids:
        return {}
    if entity is TEAMS:
        return {id: {"team_alias": alias} for id, alias in (await team_aliases(ids)).items()}
    if entity is ORGANIZATIONS:
        organizations = await Organization.filter(organization_id__in=ids)
        return {row.organization_id: {"organization_alias": row.organization_alias} for row in organizations}
    if entity is TAGS:
        return {row.tag_name: {"description": row.description} for row in await Tag.filter(tag_name__in=ids)}
    if entity is END_USERS:
        return {row.user_id: {"alias": row.alias} for row in await EndUser.filter(user_id__in=ids)}
    users = await User.filter(user_id__in=ids)
    return {user.user_id: {"user_email": user.user_email, "user_alias": user.user_alias} for user in users}


async def team_aliases(ids: Collection[str]) -> dict[str, str | None]:
    """Aliases of teams, deleted ones included."""
    found: dict[str, str | None] = {row.team_id: row.team_alias for row in await Team.filter(team_id__in=ids)}
    gone = [id for id in ids if id not in found]
    if gone:
        for row in await DeletedTeam.filter(team_id__in=gone).order_by("id"):
            found[row.team_id] = row.team_alias
    return found
