"""Who comes into a team and who leaves it: one membership row each, so that two additions at once never lose one."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from typing import Any

from quart import Blueprint
from tortoise.exceptions import IntegrityError

from ...auth.principal import Principal, current_principal
from ...errors import Forbidden, InvalidRequest, PlainDenial, ValidationFailed
from ...models import Budget, OrganizationMembership, Team, TeamMembership, User, VirtualKey
from ...services import services
from ...web.fields import (
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
from ..audit.trail import TEAMS, USERS, record_change
from ..keys.changes import delete_keys
from ..users.access import refuse_reserved_id
from .access import TeamPermissions, check_may_manage, permissions_over
from .budgets import new_member_budget
from .defaults import available_team_ids
from .fields import MEMBER
from .rows import MEMBER_BUDGET, default_budget, membership_row, need_team, team_row

blueprint = Blueprint("admin_team_members", __name__)

Answer = dict[str, Any]
_MAX_MEMBERS = 500
_MAX_USERS = 5_000

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
    permissions = await _permissions_to_add(principal, team, sent)
    if len(sent["member"]) > _MAX_MEMBERS:
        raise bad_request(f"Send at most {_MAX_MEMBERS} members in one call", "member")
    for number, member in enumerate(sent["member"]):
        if not member.get("user_id") and not member.get("user_email"):
            raise ValidationFailed([(f"member.{number}", "Either user_id or user_email must be provided", "missing")])
    users, memberships = [], []
    async with services().database.transaction():
        for member in sent["member"]:
            user, membership = await _add(team, member, sent, permissions)
            users.append(shown_user(user, principal))
            memberships.append(membership)
        await _record_added(team, [membership["user_id"] for membership in memberships])
    services().keys.forget_team(team.team_id)
    return {**await team_row(team), "updated_users": users, "updated_team_memberships": memberships}


async def _permissions_to_add(principal: Principal, team: Team, sent: Mapping[str, Any]) -> TeamPermissions:
    """Who manages the team adds anybody; a user may join an available team as a plain member. Raises 403."""
    permissions = await permissions_over(principal, team)
    if permissions >= TeamPermissions.TEAM_ADMIN:
        return permissions
    is_self = [member.get("user_id") for member in sent["member"]] == [principal.user_id]
    is_plain = is_self and sent["member"][0].get("role") in (None, "user") and not any(name in sent for name in TERMS)
    if principal.user_id is None or not is_plain or team.team_id not in await available_team_ids():
        raise Forbidden("Only an admin of this instance, of the organization or of the team may add members")
    return permissions


async def _add(
    team: Team, member: Mapping[str, Any], terms: Mapping[str, Any], permissions: TeamPermissions
) -> tuple[User, Answer]:
    may_create = permissions is TeamPermissions.UNRESTRICTED
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
    permissions = await check_may_manage(principal, team)
    members = await _everybody(principal, team) if sent.get("all_users") else sent.get("members", [])
    if not sent.get("all_users") and not 0 < len(members) <= _MAX_MEMBERS:
        raise bad_request(f"Send 1 to {_MAX_MEMBERS} members, or all_users", "members")
    results = [await _result(team, member, sent, permissions, principal) for member in members]
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
    if await User.all().count() > _MAX_USERS + len(present):
        raise bad_request(f"There are more than {_MAX_USERS} users: send them as members", "all_users")
    user_ids = await User.all().order_by("user_id").values_list("user_id", flat=True)
    return [{"user_id": user_id, "role": "user"} for user_id in user_ids if user_id not in present]


async def _result(
    team: Team, member: Mapping[str, Any], terms: Mapping[str, Any], permissions: TeamPermissions, principal: Principal
) -> Answer:
    """One addition in its own transaction; a refusal is its result."""
    named = {"user_id": member.get("user_id"), "user_email": member.get("user_email")}
    try:
        if not any(named.values()):
            raise bad_request("Either user_id or user_email must be provided")
        async with services().database.transaction():
            user, membership = await _add(team, member, terms, permissions)
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


# What an addition may say of the membership's own budget -> column of that budget.
TERMS = {
    "max_budget_in_team": "max_budget",
    "budget_duration": "budget_duration",
    "allowed_models": "allowed_models",
    "tpm_limit": "tpm_limit",
    "rpm_limit": "rpm_limit",
}


async def user_of(member: Mapping[str, Any], *, may_create: bool, organization_id: str | None = None) -> User:
    """The user whom an addition names by id or address, created as `internal_user` when there is none.

    Raises 404 when the caller may not create users, 400 for an address that another id has, 403 for a reserved id.
    """
    user_id, email = member.get("user_id"), member.get("user_email")
    user = await _known(user_id, email)
    if user is not None:
        return user
    if not may_create:
        raise PlainDenial(f"User not found: {user_id or email}", status=404, is_nested=True)
    refuse_reserved_id(current_principal(), user_id)
    if email is not None and await User.exists(user_email=email):
        raise PlainDenial(f"User with email {email} exists under another id", status=400, is_nested=True)
    return await _created(user_id or str(uuid.uuid4()), email, organization_id)


async def _known(user_id: str | None, email: str | None) -> User | None:
    return await User.get_or_none(user_id=user_id) if user_id else await User.get_or_none(user_email=email)


async def _created(user_id: str, email: str | None, organization_id: str | None) -> User:
    """A new user; of an organization's team, it belongs to the organization too."""
    try:
        async with services().database.transaction():
            user = await User.create(
                user_id=user_id, user_email=email, user_role="internal_user", organization_id=organization_id
            )
            if organization_id is not None:
                await OrganizationMembership.create(
                    organization_id=organization_id, user_id=user_id, user_role="internal_user"
                )
            await record_change("created", USERS, user_id, after=user.to_json())
    except IntegrityError:
        # Somebody created the same user in between.
        found = await _known(user_id, None) or await _known(None, email)
        if found is None:
            raise
        return found
    return user


async def join(team: Team, user_id: str, role: str | None, terms: Mapping[str, Any]) -> Answer:
    """Add one membership, with a budget of its own when `terms` say so. Raises 400 for a member."""
    if await TeamMembership.exists(team_id=team.team_id, user_id=user_id):
        raise _already_in(user_id)
    own = await new_member_budget({column: terms[name] for name, column in TERMS.items() if name in terms})
    default = await default_budget(team)
    reset_at = own.budget_reset_at if own is not None else default.budget_reset_at if default is not None else None
    try:
        row = await TeamMembership.create(
            team_id=team.team_id,
            user_id=user_id,
            role=role or "user",
            budget_id=own.budget_id if own is not None else None,
            budget_reset_at=reset_at,
        )
    except IntegrityError:
        raise _already_in(user_id) from None
    return membership_row(row, own, default)


def _already_in(user_id: str) -> InvalidRequest:
    return InvalidRequest(f"User already in team. Member: user_id={user_id}", type="team_member_already_in_team")


def shown_user(user: User, principal: Principal) -> Answer:
    """Who adds somebody learns no more of them than the list of members shows, except an admin of the instance."""
    row = user.to_json()
    return row if principal.is_admin else {name: row[name] for name in ("user_id", "user_email", "user_alias")}
