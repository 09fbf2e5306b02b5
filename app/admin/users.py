"""Users: create, look at, change, delete."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from quart import Blueprint
from tortoise.exceptions import IntegrityError

from ..auth.credentials import hash_password
from ..auth.principal import Principal, current_principal
from ..auth.roles import Role
from ..errors import Conflict, NotFound, PlainDenial, ValidationFailed
from ..models import Budget, Team, TeamMembership, User, VirtualKey
from ..models.budget_period import start_new_period
from ..models.user import ADMIN_USER_ID
from ..models.virtual_key import SESSION_TEAM_ID
from ..services import services
from .audit_trail import USERS, record_change
from .body import (
    Field,
    Table,
    WrongValue,
    bad_request,
    email,
    flag,
    identifier,
    one_of,
    read_body,
    read_query,
    text,
    text_list,
)
from .key_access import refused
from .key_fields import KEY, LIMITS, reset_of
from .key_issue import delete_keys, issue_key, key_answer

blueprint = Blueprint("admin_users", __name__)

Answer = dict[str, Any]
_MOST_KEYS = 100
_ROLES = {
    Role.PROXY_ADMIN: ("everything on this instance", "Admin (All Permissions)"),
    Role.PROXY_ADMIN_VIEWER: ("sees everything, changes nothing", "Admin (View Only)"),
    Role.INTERNAL_USER: ("own keys and own spend", "Internal User (Create/Delete/View)"),
    Role.INTERNAL_USER_VIEWER: ("own keys and own spend, read only", "Internal User (View Only)"),
}


def _no_password(value: Any) -> Any:
    raise WrongValue("A password is set by /user/update", "extra_forbidden")


_USER: Table = {
    **LIMITS,
    "user_alias": identifier(),
    "user_email": email(),
    "user_role": one_of(*_ROLES),
    "sso_user_id": identifier(),
    "organization_id": identifier(),
}
# What /user/new hands on to the key that it creates; the budget and the limits are the user's.
_OF_KEY = (
    "key_alias duration aliases config permissions team_id allowed_routes key_type router_settings blocked "
    "allowed_cache_controls budget_fallbacks budget_limits"
).split()
_NEW_USER: Table = {
    **_USER,
    **{name: KEY[name] for name in _OF_KEY},
    "user_id": identifier(),
    "teams": Field(lambda value: _team_ids(value), empty=list),
    "auto_create_key": flag(),
    "password": Field(_no_password),
}
_CHANGED_USER: Table = {**_USER, "user_id": identifier(), "password": text(1024)}


def _team_ids(value: Any) -> list[str]:
    """Teams are ids, or objects with a `team_id`."""
    items = value if isinstance(value, list) else [value]
    found = [item.get("team_id") if isinstance(item, dict) else item for item in items]
    if not all(isinstance(team_id, str) and team_id for team_id in found):
        raise WrongValue("This must be a list of team ids", "list_type")
    return list(dict.fromkeys(text().read(team_id) for team_id in found))


def user_columns(sent: Mapping[str, Any]) -> dict[str, Any]:
    """The columns that a request sets, and only those."""
    columns = {name: sent[name] for name in _USER if name in sent}
    if "budget_duration" in sent:
        columns["budget_reset_at"] = reset_of(sent["budget_duration"], datetime.now(UTC))
    return columns


@blueprint.post("/user/new")
async def create_user() -> Answer:
    principal = current_principal()
    sent = await read_body(_NEW_USER)
    await _check_teams([*sent.get("teams", []), *filter(None, [sent.get("team_id")])])
    async with services().database.transaction():
        user = await _insert(user_columns(sent), sent.get("user_id") or str(uuid.uuid4()))
        for team_id in sent.get("teams", []):
            await TeamMembership.create(team_id=team_id, user_id=user.user_id)
        await record_change("created", USERS, user.user_id, after=user.as_wire())
        answer = await _first_key(sent, user, principal)
    services().keys.forget_user(user.user_id)
    return {**answer, **user.as_wire(), "teams": sent.get("teams", [])}


async def _check_teams(team_ids: list[str]) -> None:
    for team_id in team_ids:
        if not await Team.exists(team_id=team_id):
            raise bad_request(f"Team not found, passed team_id={team_id}", "teams")


async def _insert(columns: dict[str, Any], user_id: str) -> User:
    if await User.exists(user_id=user_id):
        raise Conflict(f"User with id {user_id} already exists", param="user_id")
    await _check_email(columns.get("user_email"))
    try:
        return await User.create(user_id=user_id, **columns)
    except IntegrityError:
        raise Conflict("A user with this id, email or sso_user_id already exists") from None


async def _check_email(email: str | None) -> None:
    if email is not None and await User.exists(user_email=email):
        raise Conflict(f"User with email {email} already exists", param="user_email")


async def _first_key(sent: Mapping[str, Any], user: User, principal: Principal) -> Answer:
    if not sent.get("auto_create_key", True):
        return {"key": "", "token": None, "token_id": None, "key_name": None, "expires": None}
    fields = {name: sent[name] for name in _OF_KEY if name in sent}
    key, secret = await issue_key({**fields, "user_id": user.user_id, "models": user.models}, principal)
    return key_answer(key, secret)


@blueprint.post("/user/update")
async def update_user() -> Answer:
    sent = await read_body(_CHANGED_USER)
    user = await _sent_user(sent)
    columns = user_columns(sent)
    if columns.get("user_email") not in (None, user.user_email):
        await _check_email(columns["user_email"])
    if sent.get("password"):
        columns["password"] = await asyncio.to_thread(hash_password, sent["password"])
    before = user.as_wire()
    user.update_from_dict(columns)
    async with services().database.transaction():
        try:
            await user.save(update_fields=[*columns, "updated_at"])
        except IntegrityError:
            raise Conflict("A user with this email or sso_user_id already exists") from None
        if "password" in columns:
            # Whoever knew the old one must not stay signed in.
            await VirtualKey.filter(user_id=user.user_id, team_id=SESSION_TEAM_ID).delete()
        after = {name: value for name, value in user.as_wire().items() if before[name] != value}
        changed = {**after, "password": "changed"} if "password" in columns else after
        await record_change("updated", USERS, user.user_id, before=before, after=changed)
    services().keys.forget_user(user.user_id)
    return {"user_id": user.user_id, "data": user.as_wire()}


async def _sent_user(sent: Mapping[str, Any]) -> User:
    """By id; else by address, which then is no change."""
    if sent.get("user_id"):
        user = await User.get_or_none(user_id=sent["user_id"])
    elif sent.get("user_email"):
        user = await User.get_or_none(user_email=sent["user_email"])
    else:
        raise ValidationFailed([("", "Either user id or user email must be provided")])
    if user is None:
        raise NotFound(f"User not found: {sent.get('user_id') or sent.get('user_email')}", param="user_id")
    return user


@blueprint.post("/user/delete")
async def delete_users() -> tuple[str, dict[str, str]]:
    """Delete users with their keys and memberships; answers how many users that were."""
    user_ids = list(dict.fromkeys((await read_body({"user_ids": text_list().required}))["user_ids"]))
    users = await User.filter(user_id__in=user_ids)
    missing = set(user_ids) - {user.user_id for user in users}
    if missing:
        raise PlainDenial(f"User not found, passed user_id={min(missing)}", status=404)
    async with services().database.transaction():
        keys = await VirtualKey.filter(user_id__in=user_ids)
        await delete_keys(keys, current_principal())
        await delete_memberships(user_ids)
        for user in users:
            await user.delete()
            await record_change("deleted", USERS, user.user_id, before=user.as_wire())
    for user_id in user_ids:
        services().keys.forget_user(user_id)
    return str(len(users)), {"content-type": "application/json"}


async def delete_memberships(user_ids: list[str]) -> None:
    """Memberships of these users with the budgets that belong to one membership only."""
    rows = TeamMembership.filter(user_id__in=user_ids)
    budgets = [row.budget_id for row in await rows if row.budget_id]
    await rows.delete()
    await Budget.filter(budget_id__in=budgets, budget_id__startswith="member-").delete()


@blueprint.get("/user/available_roles")
async def available_roles() -> Answer:
    return {role.value: {"description": text, "ui_label": label} for role, (text, label) in _ROLES.items()}


async def _asked_user(principal: Principal) -> tuple[str | None, User | None]:
    """The user that a request is about: the one it names, else the caller. Raises 403 for somebody else's."""
    user_id = read_query({"user_id": identifier()})["user_id"] or principal.user_id
    if user_id != principal.user_id and not principal.can_read_all:
        raise refused(f"Not allowed to see another user. Your role={principal.role.value}")
    user = await User.get_or_none(user_id=user_id) if user_id else None
    if user is not None:
        await start_new_period(user)
    if user is None and user_id == ADMIN_USER_ID and principal.is_admin:
        # The built-in admin need not have a row.
        user = User(user_id=ADMIN_USER_ID, user_role=Role.PROXY_ADMIN.value, spend=0)
    return user_id, user


async def _teams_of(user_id: str) -> list[Team]:
    team_ids = [row.team_id async for row in TeamMembership.filter(user_id=user_id).limit(1000)]
    return await Team.filter(team_id__in=team_ids).order_by("team_id")


@blueprint.get("/user/info")
async def user_info() -> Answer:
    """A user with the newest of their keys (at most 100) and their teams."""
    user_id, user = await _asked_user(current_principal())
    if user is None:
        raise NotFound(f"User {user_id} not found", param="user_id")
    teams = await _teams_of(user.user_id)
    aliases = {team.team_id: team.team_alias for team in teams}
    keys = (
        await VirtualKey.filter(VirtualKey.not_of_sessions(), user_id=user_id).order_by("-created_at").limit(_MOST_KEYS)
    )
    return {
        "user_id": user_id,
        "user_info": {**user.as_wire(), "organization_memberships": [], "teams": list(aliases)},
        "keys": [{**key.as_wire(), "team_alias": aliases.get(key.team_id or "")} for key in keys],
        "teams": [team.as_wire() for team in teams],
    }


@blueprint.get("/v2/user/info")
async def user_info_flat() -> Answer:
    user_id, user = await _asked_user(current_principal())
    if user is None:
        raise PlainDenial(f"User not found: {user_id}", status=404)
    teams = [team.team_id for team in await _teams_of(user.user_id)]
    return {**user.as_wire(), "teams": teams, "model_max_budget_usage": []}
