"""Teams: create, look at, change, block, delete."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from quart import Blueprint
from tortoise.exceptions import IntegrityError

from ..auth.principal import current_principal
from ..errors import Forbidden, GatewayError, NotFound
from ..models import Budget, Team, TeamMembership, User, VirtualKey
from ..models.budget_period import start_new_period
from ..models.virtual_key import SESSION_TEAM_ID
from ..services import services
from .audit_trail import TEAMS, record_change
from .body import (
    Table,
    bad_request,
    email,
    flag,
    identifier,
    json_object,
    one_of,
    read_body,
    read_query,
    records,
    text_list,
    whole,
)
from .key_fields import BUDGET_WINDOWS, LIMITS, key_columns, reset_of
from .key_issue import delete_keys
from .team_rows import MEMBER_BUDGET, check_may_manage, is_member, membership_rows, need_team, team_row

blueprint = Blueprint("admin_teams", __name__)

Answer = dict[str, Any]
_MOST_KEYS = 100

MEMBER: Table = {"role": one_of("admin", "user"), "user_id": identifier(), "user_email": email()}
_TEAM: Table = {
    **LIMITS,
    "team_alias": identifier(),
    "organization_id": identifier(),
    "model_aliases": json_object(),
    "default_team_member_models": text_list(),
    "team_member_permissions": text_list(),
    "access_group_ids": text_list(),
    "router_settings": json_object(),
    "budget_limits": BUDGET_WINDOWS,
    "tpd_limit": whole(),
    "blocked": flag(),
}
_NEW_TEAM: Table = {**_TEAM, "team_id": identifier(), "members_with_roles": records(MEMBER)}
_CHANGED_TEAM: Table = {**_TEAM, "team_id": identifier().required}
_ONE_TEAM: Table = {"team_id": identifier().required}
# What an admin of a team may change without being an admin of the instance: nothing that raises its ceilings.
_TEAM_ADMIN_FIELDS = ("team_alias", "metadata", "team_member_permissions", "default_team_member_models")
_MEMBER_PERMISSIONS = (
    "/key/generate",
    "/key/update",
    "/key/delete",
    "/key/info",
    "/key/list",
    "/key/block",
    "/key/unblock",
)


def _columns(sent: Mapping[str, Any], team: Team | None = None) -> dict[str, Any]:
    """The columns that a request sets, and only those. Raises 400 for what contradicts itself."""
    columns = {name: sent[name] for name in _TEAM if name in sent}
    if "budget_duration" in sent:
        columns["budget_reset_at"] = reset_of(sent["budget_duration"], datetime.now(UTC))
    if sent.get("budget_limits"):
        columns["budget_limits"] = key_columns({"budget_limits": sent["budget_limits"]})["budget_limits"]
    ceiling = columns.get("max_budget", team.max_budget if team else None)
    soft = columns.get("soft_budget", team.soft_budget if team else None)
    if ceiling is not None and soft is not None and soft >= ceiling:
        raise bad_request(f"soft_budget ({soft:f}) must be lower than max_budget ({ceiling:f})", "soft_budget")
    for permission in columns.get("team_member_permissions", []):
        if permission not in _MEMBER_PERMISSIONS:
            known = ", ".join(_MEMBER_PERMISSIONS)
            raise bad_request(f"'{permission[:80]}' is no permission; use {known}", "team_member_permissions")
    return columns


@blueprint.post("/team/new")
async def create_team() -> Answer:
    """The caller becomes the team's first admin member, as clients expect."""
    principal = current_principal()
    sent = await read_body(_NEW_TEAM)
    team_id = sent.get("team_id") or str(uuid.uuid4())
    members = [member for member in sent.get("members_with_roles", []) if member.get("user_id")]
    roles = {member["user_id"]: member.get("role") or "user" for member in members}
    if principal.user_id is not None:
        roles.setdefault(principal.user_id, "admin")
    async with services().database.transaction():
        if team_id == SESSION_TEAM_ID or await Team.exists(team_id=team_id):
            raise bad_request(f"Team id = {team_id} already exists. Please use a different team id.", "team_id")
        try:
            team = await Team.create(team_id=team_id, **_columns(sent))
        except IntegrityError:
            raise bad_request(f"Team id = {team_id} already exists.", "team_id") from None
        for user_id, role in roles.items():
            await TeamMembership.create(team_id=team_id, user_id=user_id, role=role)
        await record_change("created", TEAMS, team_id, after=team.as_wire())
    return await team_row(team)


@blueprint.post("/team/update")
async def update_team() -> Answer:
    principal = current_principal()
    sent = await read_body(_CHANGED_TEAM)
    team = await Team.get_or_none(team_id=sent["team_id"] or "")
    if team is None:
        raise NotFound(f"Team not found, passed team_id={sent['team_id']}", type="internal_server_error")
    await check_may_manage(principal, team.team_id)
    columns = _columns(sent, team)
    for name in columns:
        if not principal.is_admin and name not in _TEAM_ADMIN_FIELDS:
            raise Forbidden(f"Only a proxy admin may change '{name}' of a team", param=name)
    await _write(team, columns, "updated")
    return {"team_id": team.team_id, "data": await team_row(team)}


async def _write(team: Team, columns: Mapping[str, Any], deed: str) -> None:
    before = team.as_wire()
    team.update_from_dict(dict(columns))
    async with services().database.transaction():
        await team.save(update_fields=[*columns, "updated_at"])
        after = {name: value for name, value in team.as_wire().items() if before[name] != value}
        await record_change(deed, TEAMS, team.team_id, before=before, after=after)
    services().keys.forget_team(team.team_id)


@blueprint.post("/team/block")
async def block_team() -> Answer:
    return await _set_blocked(is_blocked=True)


@blueprint.post("/team/unblock")
async def unblock_team() -> Answer:
    return await _set_blocked(is_blocked=False)


async def _set_blocked(*, is_blocked: bool) -> Answer:
    """For admins of the instance: an admin of the team could otherwise lift a block that was put on it."""
    principal = current_principal()
    if not principal.is_admin:
        raise Forbidden("Only a proxy admin may block or unblock a team")
    team = await need_team((await read_body(_ONE_TEAM))["team_id"])
    await _write(team, {"blocked": is_blocked}, "blocked" if is_blocked else "unblocked")
    return await team_row(team)


@blueprint.post("/team/delete")
async def delete_teams() -> Answer:
    """Delete teams with their keys and memberships."""
    team_ids = list(dict.fromkeys((await read_body({"team_ids": text_list().required}))["team_ids"]))
    teams = [await need_team(team_id) for team_id in team_ids]
    async with services().database.transaction():
        keys = await VirtualKey.filter(team_id__in=team_ids)
        await delete_keys(keys, current_principal())
        members = TeamMembership.filter(team_id__in=team_ids)
        budgets = [row.budget_id for row in await members if row.budget_id]
        await Budget.filter(budget_id__in=budgets, budget_id__startswith=MEMBER_BUDGET).delete()
        await members.delete()
        for team in teams:
            await team.delete()
            await record_change("deleted", TEAMS, team.team_id, before=team.as_wire())
    for key in keys:
        services().keys.forget(key.token)
    return {"deleted_teams": team_ids}


@blueprint.get("/team/info")
async def team_info() -> Answer:
    """A team with its members and the newest of its keys (`key_limit`, at most 100)."""
    principal = current_principal()
    asked = read_query({"team_id": identifier().required, "key_limit": whole(0, _MOST_KEYS)}, key_limit=_MOST_KEYS)
    team = await Team.get_or_none(team_id=asked["team_id"])
    if team is None:
        raise GatewayError(
            f"Team not found, passed team id: {asked['team_id']}.", status=404, type="auth_error", param="None"
        )
    if not principal.can_read_all and not await is_member(principal, team.team_id):
        raise Forbidden("Only members of a team may see it", param="None")
    await start_new_period(team)
    keys = await VirtualKey.filter(team_id=team.team_id).order_by("-created_at").limit(asked["key_limit"])
    return {
        "team_id": team.team_id,
        "team_info": await _with_aliases(await team_row(team)),
        "keys": [key.as_wire() for key in keys],
        "team_memberships": await membership_rows(team.team_id),
    }


async def _with_aliases(row: Answer) -> Answer:
    members = row["members_with_roles"]
    users = await User.filter(user_id__in=[member["user_id"] for member in members])
    aliases = {user.user_id: user.user_alias for user in users}
    named = [{**member, "user_alias": aliases.get(member["user_id"])} for member in members]
    return {**row, "members_with_roles": named, "team_member_budget_table": None}
