"""What is known of the keys and entities that an answer of daily activity names."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from tortoise import Model

from ...models import DeletedTeam, DeletedVirtualKey, EndUser, Organization, Tag, Team, User, VirtualKey
from .daily_figures import Answer
from .daily_rows import END_USERS, ORGANIZATIONS, TAGS, TEAMS, USERS, Entity

_OF_A_KEY = ("token", "key_alias", "key_name", "team_id", "user_id")


async def keys_by_token(tokens: Collection[str]) -> dict[str, Answer]:
    """Names of keys by hash, with `key_exists`; a deleted one keeps its name."""
    live = {key["token"]: key for key in await VirtualKey.filter(token__in=tokens).values(*_OF_A_KEY)}
    found = {token: {**key, "key_exists": True} for token, key in live.items()}
    gone = [token for token in tokens if token not in found]
    if gone:
        for key in await DeletedVirtualKey.filter(token__in=gone).order_by("id").values(*_OF_A_KEY):
            found[key["token"]] = {**key, "key_exists": False}
    return found


async def key_names(tokens: Collection[str]) -> dict[str, Answer]:
    """`metadata` of each key, also of one that was never known here."""
    if not tokens:
        return {}
    found = await keys_by_token(tokens)
    owners = {key["user_id"] for key in found.values() if key["user_id"]}
    users = User.filter(user_id__in=owners).values("user_id", "user_email")
    emails = {user["user_id"]: user["user_email"] for user in await users} if owners else {}
    return {token: _key_name(found.get(token, {}), emails) for token in tokens}


def _key_name(key: Answer, emails: Mapping[str, Any]) -> Answer:
    return {
        "key_alias": key.get("key_alias"),
        "team_id": key.get("team_id"),
        "user_id": key.get("user_id"),
        "user_email": emails.get(key.get("user_id") or ""),
        "key_exists": key.get("key_exists", False),
    }


# Entity -> its table, the column of its id, and what is told of it.
_ROWS: dict[Entity, tuple[type[Model], str, tuple[str, ...]]] = {
    ORGANIZATIONS: (Organization, "organization_id", ("organization_alias",)),
    TAGS: (Tag, "tag_name", ("description",)),
    END_USERS: (EndUser, "user_id", ("alias",)),
    USERS: (User, "user_id", ("user_email", "user_alias")),
}


async def entity_names(entity: Entity, ids: Collection[str]) -> dict[str, Answer]:
    """`metadata` of each entity that has a row."""
    if not ids:
        return {}
    if entity is TEAMS:
        return {id: {"team_alias": alias} for id, alias in (await team_aliases(ids)).items()}
    model, column, told = _ROWS[entity]
    rows = await model.filter(**{f"{column}__in": ids}).values(column, *told)
    return {row[column]: {name: row[name] for name in told} for row in rows}


async def team_aliases(ids: Collection[str]) -> dict[str, str | None]:
    """Aliases of teams, deleted ones included."""
    teams = await Team.filter(team_id__in=ids).values("team_id", "team_alias")
    found: dict[str, str | None] = {row["team_id"]: row["team_alias"] for row in teams}
    gone = [id for id in ids if id not in found]
    if gone:
        for row in await DeletedTeam.filter(team_id__in=gone).order_by("id").values("team_id", "team_alias"):
            found[row["team_id"]] = row["team_alias"]
    return found
