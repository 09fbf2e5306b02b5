"""Users: create, look at, change, delete; many in one call, each of which succeeds or fails for itself."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

from quart import Blueprint
from tortoise.exceptions import IntegrityError

from ...auth.principal import Principal, current_principal
from ...auth.roles import Role
from ...errors import Conflict, GatewayError, NotFound, PlainDenial, ValidationFailed
from ...models import Budget, Invitation, OrganizationMembership, Team, TeamMembership, User, VirtualKey
from ...models.budget_period import start_new_period
from ...models.user import ADMIN_USER_ID
from ...models.virtual_key import SESSION_TEAM_ID
from ...security.credentials import hash_password
from ...web.fields import (
    Table,
    bad_request,
    flag,
    identifier,
    json_object,
    read_body,
    read_fields,
    read_query,
    takes,
    text_list,
)
from ..audit.trail import USERS, record_change
from ..changes import change_row, delete_row, delete_rows, expected_version, transaction
from ..keys.access import refused
from ..keys.changes import delete_keys
from ..keys.routes import MAX_ITEMS, objects
from ..teams.rows import MEMBER_BUDGET, team_json
from .access import (
    check_may_change_users,
    check_may_create_user,
    may_see_user,
    organizations_of,
    seen_keys,
    seen_memberships,
    seen_teams,
    seen_user,
)
from .creation import check_email, create_user, organizations_in, with_user_defaults
from .fields import CHANGED_USER, NEW_USER, ROLES, user_columns

blueprint = Blueprint("admin_users", __name__)

Answer = dict[str, Any]
_MAX_KEYS = 100
_MAX_DELETED = 500
_WHO: Table = {"user_id": identifier()}


@blueprint.post("/user/new")
@takes(body=NEW_USER)
async def new_user() -> Answer:
    principal = current_principal()
    sent = await with_user_defaults(await read_body())
    organizations = organizations_in(sent)
    await check_may_create_user(principal, sent, organizations)
    return await create_user(sent, organizations, principal)


@blueprint.post("/user/update")
@takes(body=CHANGED_USER)
async def update_user() -> Answer:
    sent = await read_body()
    user = await change_user(sent, current_principal(), version=expected_version(sent))
    return {"user_id": user.user_id, "data": user.to_json()}


async def change_user(sent: Mapping[str, Any], principal: Principal, *, version: int | None) -> User:
    """Write the fields that were sent, and only those. Raises 403, 404 and 409."""
    user = await _sent_user(sent)
    await check_may_change_users(principal, [user], {n: sent[n] for n in sent if not _names_the_user(n, sent)})
    columns = user_columns(sent)
    if columns.get("user_email") not in (None, user.user_email):
        await check_email(columns["user_email"])
    if sent.get("password"):
        columns["password"] = await asyncio.to_thread(hash_password, sent["password"])
    try:
        async with transaction():
            await change_row(user, columns, table=USERS, object_id=user.user_id, version=version)
            if "password" in columns:
                await record_change("updated", USERS, user.user_id, before={}, after={"password": "changed"})
                await end_sessions(user)
    except IntegrityError:
        raise Conflict("A user with this email or sso_user_id already exists") from None
    return user


def _names_the_user(name: str, sent: Mapping[str, Any]) -> bool:
    """An address that finds the user is no change of it."""
    return name == "user_email" and not sent.get("user_id")


async def end_sessions(user: User, *, but: str | None = None) -> None:
    """Sign a user out everywhere, `but` for the session of one hash: whoever knew the old password is out."""
    sessions = VirtualKey.filter(user_id=user.user_id, team_id=SESSION_TEAM_ID)
    await delete_rows(sessions.exclude(token=but) if but else sessions, owners=[user])


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
@takes(body={"user_ids": text_list().required})
async def delete_users() -> tuple[str, dict[str, str]]:
    """Delete users with their keys, memberships and invitations; answers how many users that were."""
    user_ids = list(dict.fromkeys((await read_body())["user_ids"]))
    if len(user_ids) > _MAX_DELETED:
        raise bad_request(f"At most {_MAX_DELETED} users can be deleted in one call", "user_ids")
    users = await User.filter(user_id__in=user_ids)
    missing = set(user_ids) - {user.user_id for user in users}
    if missing:
        raise PlainDenial(f"User not found, passed user_id={min(missing)}", status=404)
    await check_may_change_users(current_principal(), users, {})
    async with transaction():
        await delete_keys(await VirtualKey.filter(user_id__in=user_ids), current_principal())
        await _delete_memberships(users)
        await delete_rows(OrganizationMembership.filter(user_id__in=user_ids), owners=users)
        await Invitation.filter(user_id__in=user_ids).delete()
        for user in users:
            await delete_row(user)
            await record_change("deleted", USERS, user.user_id, before=user.to_json())
    return str(len(users)), {"content-type": "application/json"}


async def _delete_memberships(users: Sequence[User]) -> None:
    """Memberships of teams, with the budgets that belong to one membership only."""
    memberships = TeamMembership.filter(user_id__in=[user.user_id for user in users])
    budgets = [membership.budget_id for membership in await memberships if membership.budget_id]
    await delete_rows(memberships, owners=users)
    own_budgets = Budget.filter(budget_id__in=budgets, budget_id__startswith=MEMBER_BUDGET)
    await delete_rows(own_budgets, owners=users)


@blueprint.get("/user/available_roles")
async def available_roles() -> Answer:
    return {role.value: {"description": text, "ui_label": label} for role, (text, label) in ROLES.items()}


async def _requested_user(principal: Principal) -> tuple[str | None, User | None]:
    """The user that a request is about: the one it names, else the caller. Raises 403 for somebody else's."""
    user_id = read_query()["user_id"] or principal.user_id
    if not await may_see_user(principal, user_id):
        raise refused(f"Not allowed to see another user. Your role={principal.role.value}")
    user = await User.get_or_none(user_id=user_id) if user_id else None
    if user is not None:
        await start_new_period(user)
    if user is None and user_id == ADMIN_USER_ID and principal.is_admin:
        # The built-in admin need not have a row.
        user = User(user_id=ADMIN_USER_ID, user_role=Role.PROXY_ADMIN.value, spend=0)
    return user_id, user


async def _teams_of(user_id: str) -> list[Team]:
    """The user's teams that the caller may see."""
    team_ids = [row.team_id async for row in TeamMembership.filter(user_id=user_id).limit(1000)]
    return await Team.filter(seen_teams(current_principal(), user_id), team_id__in=team_ids).order_by("team_id")


@blueprint.get("/user/info")
@takes(query=_WHO)
async def user_info() -> Answer:
    """A user with the newest of their keys (at most 100) and their teams, as far as the caller may see them."""
    user_id, user = await _requested_user(current_principal())
    if user is None:
        raise NotFound(f"User {user_id} not found", param="user_id")
    teams = await _teams_of(user.user_id)
    aliases = {team.team_id: team.team_alias for team in teams}
    seen = VirtualKey.not_of_sessions() & seen_keys(current_principal(), user, aliases)
    keys = await VirtualKey.filter(seen, user_id=user_id).order_by("-created_at").limit(_MAX_KEYS)
    return {
        "user_id": user_id,
        "user_info": {**seen_user(current_principal(), user), **await _memberships(user), "teams": list(aliases)},
        "keys": [{**key.to_json(), "team_alias": aliases.get(key.team_id or "")} for key in keys],
        "teams": [team_json(team) for team in teams],
    }


async def _memberships(user: User) -> Answer:
    rows = (await organizations_of([user.user_id]))[user.user_id]
    seen = seen_memberships(current_principal(), user.user_id, rows)
    return {"organization_memberships": seen, "model_max_budget_usage": []}


@blueprint.get("/v2/user/info")
@takes(query=_WHO)
async def user_info_flat() -> Answer:
    user_id, user = await _requested_user(current_principal())
    if user is None:
        raise PlainDenial(f"User not found: {user_id}", status=404)
    teams = [team.team_id for team in await _teams_of(user.user_id)]
    return {**seen_user(current_principal(), user), **await _memberships(user), "teams": teams}


# ---- many in one call ------------------------------------------------------------------------------------------------

_BULK: Table = {"users": objects(CHANGED_USER), "all_users": flag(), "user_updates": json_object()}
_OF_ONE_USER = ("user_id", "user_email", "password", "sso_user_id", "version")


@blueprint.post("/user/bulk_update")
@takes(body=_BULK)
async def update_users() -> Answer:
    sent = await read_body()
    items = await _everybody(sent) if sent.get("all_users") else sent.get("users") or []
    if not items:
        raise bad_request("Send users, or all_users with user_updates", "users")
    results = [await _updated(item) for item in items]
    successes = sum(result["success"] for result in results)
    return {
        "results": results,
        "total_requested": len(results),
        "successful_updates": successes,
        "failed_updates": len(results) - successes,
    }


async def _everybody(sent: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
    """The same change for every user. Raises 400 when there are more than one call may change."""
    change = sent.get("user_updates") or {}
    if not change:
        raise bad_request("all_users needs user_updates", "user_updates")
    for name in _OF_ONE_USER:
        if name in change:
            raise bad_request(f"'{name}' cannot be the same for all users", "user_updates")
    user_ids = await User.all().order_by("user_id").limit(MAX_ITEMS + 1).values_list("user_id", flat=True)
    if len(user_ids) > MAX_ITEMS:
        raise bad_request(f"There are more than {MAX_ITEMS} users: name those to change in `users`", "all_users")
    return [{**change, "user_id": user_id} for user_id in user_ids]


async def _updated(item: Mapping[str, Any]) -> Answer:
    named = {name: item.get(name) if isinstance(item.get(name), str) else None for name in ("user_id", "user_email")}
    try:
        sent = read_fields(item, CHANGED_USER)
        user = await change_user(sent, current_principal(), version=sent.get("version"))
    except GatewayError as problem:
        return {**named, "success": False, "error": problem.message, "updated_user": None}
    row = user.to_json()
    return {
        "user_id": row["user_id"],
        "user_email": row["user_email"],
        "success": True,
        "error": None,
        "updated_user": row,
    }
