"""Who comes into a team and who leaves it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from quart import Blueprint

from ..auth.principal import Principal, current_principal
from ..errors import Forbidden, InvalidRequest, PlainDenial, ValidationFailed
from ..models import Budget, Team, TeamMembership, User, VirtualKey
from ..services import services
from ..web.fields import (
    Field,
    Table,
    bad_request,
    duration,
    email,
    flag,
    identifier,
    money,
    read_body,
    records,
    takes,
    text_list,
    whole,
)
from .audit_trail import TEAMS, record_change
from .key_issue import delete_keys
from .team_access import Power, check_may_manage, power_over
from .team_defaults import available_team_ids
from .team_fields import MEMBER
from .team_join import TERMS, join, shown_user, user_of
from .team_rows import MEMBER_BUDGET, need_team, team_row

blueprint = Blueprint("admin_team_members", __name__)

Answer = dict[str, Any]
_MOST_MEMBERS = 500
_MOST_USERS = 5_000

_TERMS: Table = {
    "max_budget_in_team": money(),
    "budget_duration": duration(),
    "allowed_models": text_list(),
    "tpm_limit": whole(),
    "rpm_limit": whole(),
}
_MEMBERS: Field = records(MEMBER)
_ADDITION: Table = {**_TERMS, "team_id": identifier().required, "member": _MEMBERS.required}
_BULK: Table = {**_TERMS, "team_id": identifier().required, "members": _MEMBERS, "all_users": flag()}
_REMOVAL: Table = {"team_id": identifier().required, "user_id": identifier(), "user_email": email()}


@blueprint.post("/team/member_add")
@takes(body=_ADDITION)
async def add_members() -> Answer:
    """Add users to a team, all or none; one that does not exist is created, with the role `internal_user`."""
    principal = current_principal()
    sent = await read_body()
    team = await need_team(sent["team_id"])
    power = await _power_to_add(principal, team, sent)
    if len(sent["member"]) > _MOST_MEMBERS:
        raise bad_request(f"Send at most {_MOST_MEMBERS} members in one call", "member")
    for number, member in enumerate(sent["member"]):
        if not member.get("user_id") and not member.get("user_email"):
            raise ValidationFailed([(f"member.{number}", "Either user_id or user_email must be provided", "missing")])
    users, memberships = [], []
    async with services().database.transaction():
        for member in sent["member"]:
            user, membership = await _add(team, member, sent, power)
            users.append(shown_user(user, principal))
            memberships.append(membership)
        await _record_added(team, [membership["user_id"] for membership in memberships])
    services().keys.forget_team(team.team_id)
    return {**await team_row(team), "updated_users": users, "updated_team_memberships": memberships}


async def _power_to_add(principal: Principal, team: Team, sent: Mapping[str, Any]) -> Power:
    """Who manages the team adds anybody; a user may join an available team as a plain member. Raises 403."""
    power = await power_over(principal, team)
    if power >= Power.TEAM_ADMIN:
        return power
    is_self = [member.get("user_id") for member in sent["member"]] == [principal.user_id]
    is_plain = is_self and sent["member"][0].get("role") in (None, "user") and not any(name in sent for name in TERMS)
    if principal.user_id is None or not is_plain or team.team_id not in await available_team_ids():
        raise Forbidden("Only an admin of this instance, of the organization or of the team may add members")
    return power


async def _add(team: Team, member: Mapping[str, Any], terms: Mapping[str, Any], power: Power) -> tuple[User, Answer]:
    may_create = power is Power.UNRESTRICTED
    user = await user_of(member, may_create=may_create, organization_id=team.organization_id)
    return user, await join(team, user.user_id, member.get("role"), terms)


async def _record_added(team: Team, user_ids: list[str]) -> None:
    await record_change("updated", TEAMS, team.team_id, before={}, after={"members_added": user_ids})


@blueprint.post("/team/bulk_member_add")
@takes(body=_BULK)
async def add_many_members() -> Answer:
    """Add up to 500 members, or all users; each succeeds or fails on its own."""
    principal = current_principal()
    sent = await read_body()
    team = await need_team(sent["team_id"])
    power = await check_may_manage(principal, team)
    members = await _everybody(principal, team) if sent.get("all_users") else sent.get("members", [])
    if not sent.get("all_users") and not 0 < len(members) <= _MOST_MEMBERS:
        raise bad_request(f"Send 1 to {_MOST_MEMBERS} members, or all_users", "members")
    results = [await _result(team, member, sent, power, principal) for member in members]
    services().keys.forget_team(team.team_id)
    added = sum(result["success"] for result in results)
    return {
        "team_id": team.team_id,
        "results": results,
        "total_requested": len(results),
        "successful_additions": added,
        "failed_additions": len(results) - added,
        "updated_team": await team_row(team),
    }


async def _everybody(principal: Principal, team: Team) -> list[Answer]:
    """All users who are not in the team yet. Raises 403 for all but admins of the instance, 400 when they are many."""
    if not principal.is_admin:
        raise Forbidden("Only a proxy admin may add all users to a team", param="all_users")
    present = {row.user_id async for row in TeamMembership.filter(team_id=team.team_id)}
    if await User.all().count() > _MOST_USERS + len(present):
        raise bad_request(f"There are more than {_MOST_USERS} users: send them as members", "all_users")
    user_ids = await User.all().order_by("user_id").values_list("user_id", flat=True)
    return [{"user_id": user_id, "role": "user"} for user_id in user_ids if user_id not in present]


async def _result(
    team: Team, member: Mapping[str, Any], terms: Mapping[str, Any], power: Power, principal: Principal
) -> Answer:
    """One addition in its own transaction; a refusal is its result."""
    named = {"user_id": member.get("user_id"), "user_email": member.get("user_email")}
    try:
        if not any(named.values()):
            raise bad_request("Either user_id or user_email must be provided")
        async with services().database.transaction():
            user, membership = await _add(team, member, terms, power)
            await _record_added(team, [user.user_id])
    except (PlainDenial, InvalidRequest) as refusal:
        nothing = {"updated_user": None, "updated_team_membership": None}
        return {**named, "success": False, "error": refusal.message, **nothing}
    shown = {"updated_user": shown_user(user, principal), "updated_team_membership": membership}
    return {"user_id": user.user_id, "user_email": user.user_email, "success": True, "error": None, **shown}


@blueprint.post("/team/member_delete")
@takes(body=_REMOVAL)
async def remove_member() -> Answer:
    """Take a user out of a team, and delete the keys that they hold for it."""
    principal = current_principal()
    sent = await read_body()
    if not sent.get("user_id") and not sent.get("user_email"):
        raise ValidationFailed([("", "Either user_id or user_email must be provided")])
    team = await need_team(sent["team_id"])
    await check_may_manage(principal, team)
    row = await membership_of(team.team_id, sent)
    if row is None:
        raise PlainDenial("User not found in team", status=400, is_nested=True)
    async with services().database.transaction():
        keys = await VirtualKey.filter(team_id=team.team_id, user_id=row.user_id)
        await delete_keys(keys, principal)
        if row.budget_id and row.budget_id.startswith(MEMBER_BUDGET):
            await Budget.filter(budget_id=row.budget_id).delete()
        await row.delete()
        await record_change("updated", TEAMS, team.team_id, before={}, after={"members_removed": [row.user_id]})
    services().keys.forget_team(team.team_id)
    return await team_row(team)


async def membership_of(team_id: str, sent: Mapping[str, Any]) -> TeamMembership | None:
    """The membership that a request names by `user_id` or `user_email`."""
    user_id = sent.get("user_id")
    if not user_id:
        user = await User.get_or_none(user_email=sent.get("user_email") or "")
        user_id = user.user_id if user is not None else ""
    return await TeamMembership.get_or_none(team_id=team_id, user_id=user_id)
