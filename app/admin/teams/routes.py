"""Teams: create, change, block, and delete with their keys, memberships and own budgets, leaving tombstones."""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from quart import Blueprint
from tortoise.exceptions import IntegrityError

from ...auth.principal import Principal, current_principal
from ...errors import NotFound, ValidationFailed
from ...models import Budget, DeletedTeam, Team, TeamMembership, VirtualKey
from ...models.virtual_key import SESSION_TEAM_ID
from ...services import services
from ...web.fields import Table, bad_request, identifier, json_object, read_body, records, takes, text_list
from ..audit.trail import TEAMS, changed_by, record_change
from ..changes import VERSION, expected_version
from ..keys.changes import delete_keys
from .access import TeamPermissions, check_bounds, check_may_manage, check_may_own, check_may_place, editable_part
from .budgets import drop_default_budget, write_default_budget
from .defaults import with_team_defaults
from .fields import MEMBER, TEAM, team_columns
from .members import join, user_of
from .rows import DEFAULT_BUDGET, MEMBER_BUDGET, change_team, find_team, members_of, need_team, team_row

blueprint = Blueprint("admin_teams", __name__)

Answer = dict[str, Any]
_BOUNDED = ("models", "max_budget", "tpm_limit", "rpm_limit")

_NEW_TEAM: Table = {
    **TEAM,
    "team_id": identifier(),
    "members_with_roles": records(MEMBER),
    "admins": text_list(),
    "members": text_list(),
}
_CHANGED_TEAM: Table = {**TEAM, **VERSION, "team_id": identifier().required}
# Metadata are merged here: null clears them, where an empty object changes nothing.
_PATCHED_TEAM: Table = {**TEAM, **VERSION, "metadata": replace(json_object(), empty=None)}
_ONE_TEAM: Table = {**VERSION, "team_id": identifier().required}


@blueprint.post("/team/new")
@takes(body=_NEW_TEAM)
async def create_team() -> Answer:
    """The caller becomes the team's first admin member, as clients expect."""
    principal = current_principal()
    sent = await with_team_defaults(await read_body())
    columns, members = team_columns(sent), _first_members(sent)
    await _check_place(principal, columns)
    async with services().database.transaction():
        team = await _insert(sent, columns)
        await _join_first(team, members, principal)
        await record_change("created", TEAMS, team.team_id, after=team.to_json())
    return await team_row(team)


def _first_members(sent: Mapping[str, Any]) -> list[Answer]:
    """`members_with_roles`, and the two older lists of ids. Raises 422 for one that names nobody."""
    members: list[Answer] = list(sent.get("members_with_roles", []))
    for number, member in enumerate(members):
        if not member.get("user_id") and not member.get("user_email"):
            problem = (f"members_with_roles.{number}", "Either user_id or user_email must be provided", "missing")
            raise ValidationFailed([problem])
    members += [{"user_id": user_id, "role": "admin"} for user_id in sent.get("admins", []) if user_id]
    return members + [{"user_id": user_id, "role": "user"} for user_id in sent.get("members", []) if user_id]


async def _check_place(principal: Principal, columns: Mapping[str, Any]) -> None:
    """Raises 400 for an unknown organization, and for more than it has; 403 for one that is not the caller's."""
    organization_id = columns.get("organization_id")
    if organization_id is None and not principal.is_admin:
        raise bad_request("Admins of an organization must name it: organization_id", "organization_id")
    check_may_place(principal, organization_id)
    if organization_id is not None:
        await check_bounds(columns, organization_id)


async def _insert(sent: Mapping[str, Any], columns: dict[str, Any]) -> Team:
    team_id = sent.get("team_id") or str(uuid.uuid4())
    if team_id == SESSION_TEAM_ID or await Team.exists(team_id=team_id) or await _was_of_others(team_id):
        raise bad_request(f"Team id = {team_id} already exists. Please use a different team id.", "team_id")
    draft = Team(team_id=team_id, team_alias=columns.get("team_alias"), metadata={})
    budget_id = await write_default_budget(sent, draft)
    if budget_id is not None:
        columns = {**columns, "metadata": {**columns.get("metadata", {}), DEFAULT_BUDGET: budget_id}}
    try:
        return await Team.create(team_id=team_id, **columns)
    except IntegrityError:
        raise bad_request(f"Team id = {team_id} already exists.", "team_id") from None


async def _was_of_others(team_id: str) -> bool:
    """Spend and models of a deleted team still go by its id, so nobody but an admin of the instance gives it again."""
    return not current_principal().is_admin and await DeletedTeam.exists(team_id=team_id)


async def _join_first(team: Team, members: list[Answer], principal: Principal) -> None:
    """Each once, with the first role that was named; then the creator."""
    roles: dict[str, str | None] = {}
    for member in members:
        user = await user_of(member, may_create=True, organization_id=team.organization_id)
        roles.setdefault(user.user_id, member.get("role"))
    if principal.user_id is not None:
        roles.setdefault(principal.user_id, "admin")
    for user_id, role in roles.items():
        await join(team, user_id, role, {})


@blueprint.post("/team/update")
@takes(body=_CHANGED_TEAM)
async def update_team() -> Answer:
    """Write what was sent. `metadata` replace the old ones, except what the API keeps in them."""
    sent = await read_body()
    team = await _update(sent.pop("team_id") or "", sent, is_merge=False)
    return {"team_id": team.team_id, "data": await team_row(team)}


@blueprint.patch("/team/<team_id>")
@takes(body=_PATCHED_TEAM)
async def patch_team(team_id: str) -> Answer:
    """The same with `metadata` merged (RFC 7396); answers the flat row."""
    return await team_row(await _update(team_id, await read_body(), is_merge=True))


async def _update(team_id: str, sent: Mapping[str, Any], *, is_merge: bool) -> Team:
    principal = current_principal()
    found = await find_team(team_id)
    if found is None:
        raise NotFound(f"Team not found, passed team_id={team_id}", type="internal_server_error")
    permissions = await check_may_manage(principal, found)

    async def columns_of(team: Team) -> Answer:
        is_restricted = permissions < TeamPermissions.UNRESTRICTED
        part = editable_part(sent, team) if is_restricted else sent
        columns = team_columns(part, team, is_merge=is_merge, is_restricted=is_restricted)
        await _check_organization(principal, columns, team)
        budget_id = await write_default_budget(part, team)
        if budget_id is not None:
            columns["metadata"] = {**columns.get("metadata", team.metadata), DEFAULT_BUDGET: budget_id}
        return columns

    return await change_team(team_id, columns_of, version=expected_version(sent))


async def _check_organization(principal: Principal, columns: Mapping[str, Any], team: Team) -> None:
    """A team that stays is checked for what changes, one that moves for all that it has."""
    organization_id = columns.get("organization_id", team.organization_id)
    check_may_place(principal, organization_id, team.organization_id)
    if organization_id is None:
        return
    if organization_id != team.organization_id:
        await check_bounds({**{name: getattr(team, name) for name in _BOUNDED}, **columns}, organization_id)
    elif any(name in columns for name in _BOUNDED):
        await check_bounds(columns, organization_id)


@blueprint.post("/team/block")
@takes(body=_ONE_TEAM)
async def block_team() -> Answer:
    """Refuse calls by all keys of the team."""
    return await _set_blocked(is_blocked=True)


@blueprint.post("/team/unblock")
@takes(body=_ONE_TEAM)
async def unblock_team() -> Answer:
    """Undo it."""
    return await _set_blocked(is_blocked=False)


async def _set_blocked(*, is_blocked: bool) -> Answer:
    """Not for admins of the team, who could otherwise lift a block that was put on them."""
    sent = await read_body()
    team = await need_team(sent["team_id"])
    await check_may_own(current_principal(), team, "block or unblock a team")

    async def columns_of(_: Team) -> Answer:
        return {"blocked": is_blocked}

    deed = "blocked" if is_blocked else "unblocked"
    return await team_row(await change_team(team.team_id, columns_of, action=deed, version=expected_version(sent)))


_MAX_TEAMS = 1000
_TEAMS: Table = {"team_ids": text_list().required}


@blueprint.post("/team/delete")
@takes(body=_TEAMS)
async def delete_teams() -> Answer:
    """All of them or none. Raises 404 (E2) for an unknown one."""
    principal = current_principal()
    team_ids = list(dict.fromkeys((await read_body())["team_ids"]))
    if not 0 < len(team_ids) <= _MAX_TEAMS:
        raise bad_request(f"Send 1 to {_MAX_TEAMS} team_ids", "team_ids")
    teams = [await need_team(team_id) for team_id in team_ids]
    for team in teams:
        await check_may_own(principal, team, "delete a team")
    async with services().database.transaction():
        keys = await archive_teams(teams, principal)
    forget_teams(teams, keys)
    return {"deleted_teams": team_ids}


async def archive_teams(teams: Sequence[Team], principal: Principal) -> list[VirtualKey]:
    """Delete teams and all that hangs on them, with tombstones and audit rows; inside the caller's transaction.

    Answers the deleted keys: hand them to `forget_teams` after the transaction.
    """
    team_ids = [team.team_id for team in teams]
    keys = await VirtualKey.filter(team_id__in=team_ids)
    await delete_keys(keys, principal)
    members = await members_of(team_ids)
    memberships = TeamMembership.filter(team_id__in=team_ids)
    budgets = [row.budget_id for row in await memberships if row.budget_id]
    await Budget.filter(budget_id__in=budgets, budget_id__startswith=MEMBER_BUDGET).delete()
    await memberships.delete()
    for team in teams:
        await drop_default_budget(team)
        kept = {name: getattr(team, name) for name in team._meta.fields_map if name != "version"}
        await DeletedTeam.create(
            **kept,
            members=members[team.team_id],
            deleted_by=principal.user_id,
            deleted_by_api_key=principal.key_hash[:64],
            litellm_changed_by=changed_by(),
        )
        await team.delete()
        await record_change("deleted", TEAMS, team.team_id, before=team.to_json(members[team.team_id]))
    return keys


def forget_teams(teams: Sequence[Team], keys: Sequence[VirtualKey]) -> None:
    """Make what was deleted unusable at once."""
    for key in keys:
        services().keys.forget(key.token)
    for team in teams:
        services().keys.forget_team(team.team_id)
