"""Who is in a team: membership rows, so that two changes at the same time never lose one."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from typing import Any

from quart import Blueprint
from tortoise.exceptions import IntegrityError

from ..auth.principal import Principal, current_principal
from ..errors import GatewayError, InvalidRequest, PlainDenial, ValidationFailed
from ..models import Budget, TeamMembership, User, VirtualKey
from ..services import services
from .audit_trail import TEAMS, record_change
from .body import Table, email, identifier, money, read_body, records
from .key_issue import delete_keys
from .team_rows import MEMBER_BUDGET, check_may_manage, membership_row, need_team, team_row
from .teams import MEMBER

blueprint = Blueprint("admin_team_members", __name__)

Answer = dict[str, Any]
_ADDITION: Table = {
    "team_id": identifier().required,
    "member": records(MEMBER).required,
    "max_budget_in_team": money(),
}
_REMOVAL: Table = {"team_id": identifier().required, "user_id": identifier(), "user_email": email()}


@blueprint.post("/team/member_add")
async def add_members() -> Answer:
    """Add users to a team; one that does not exist is created, with the role `internal_user`."""
    principal = current_principal()
    sent = await read_body(_ADDITION)
    team = await need_team(sent["team_id"] or "")
    await check_may_manage(principal, team.team_id)
    for number, member in enumerate(sent["member"]):
        if not member.get("user_id") and not member.get("user_email"):
            raise ValidationFailed([(f"member.{number}", "Either user_id or user_email must be provided", "missing")])
    users, memberships = [], []
    async with services().database.transaction():
        for member in sent["member"]:
            user = await _user_of(member, may_create=principal.is_admin)
            users.append(_shown(user, principal))
            memberships.append(await _join(team.team_id, user, member, sent))
        added = [membership["user_id"] for membership in memberships]
        await record_change("updated", TEAMS, team.team_id, before={}, after={"members_added": added})
    services().keys.forget_team(team.team_id)
    return {**await team_row(team), "updated_users": users, "updated_team_memberships": memberships}


def _shown(user: User, principal: Principal) -> Answer:
    """An admin of a team may add anybody, and learns no more of them than the list of members shows."""
    row = user.as_wire()
    return row if principal.is_admin else {name: row[name] for name in ("user_id", "user_email", "user_alias")}


async def _user_of(member: Mapping[str, Any], *, may_create: bool) -> User:
    email = member.get("user_email")
    user_id = member.get("user_id")
    user = await User.get_or_none(user_id=user_id) if user_id else await User.get_or_none(user_email=email)
    if user is not None:
        return user
    if not may_create:
        raise PlainDenial(f"User not found: {user_id or email}", status=404, is_nested=True)
    if email is not None and await User.exists(user_email=email):
        raise PlainDenial(f"User with email {email} exists under another id", status=400, is_nested=True)
    return await User.create(user_id=user_id or str(uuid.uuid4()), user_email=email, user_role="internal_user")


async def _join(team_id: str, user: User, member: Mapping[str, Any], sent: Mapping[str, Any]) -> Answer:
    if await TeamMembership.exists(team_id=team_id, user_id=user.user_id):
        raise _already_in(user)
    budget = None
    if sent.get("max_budget_in_team") is not None:
        budget = await Budget.create(
            budget_id=f"{MEMBER_BUDGET}{uuid.uuid4()}",
            max_budget=sent["max_budget_in_team"],
            created_by=current_principal().user_id,
        )
    try:
        row = await TeamMembership.create(
            team_id=team_id,
            user_id=user.user_id,
            role=member.get("role") or "user",
            budget_id=budget.budget_id if budget is not None else None,
        )
    except IntegrityError:
        raise _already_in(user) from None
    return membership_row(row, budget)


def _already_in(user: User) -> InvalidRequest:
    return InvalidRequest(f"User already in team. Member: user_id={user.user_id}", type="team_member_already_in_team")


@blueprint.post("/team/member_delete")
async def remove_member() -> Answer:
    """Take a user out of a team, and delete the keys that they hold for it."""
    principal = current_principal()
    sent = await read_body(_REMOVAL)
    if not sent.get("user_id") and not sent.get("user_email"):
        raise ValidationFailed([("", "Either user_id or user_email must be provided")])
    team = await need_team(sent["team_id"] or "")
    await check_may_manage(principal, team.team_id)
    row = await _membership(team.team_id, sent)
    async with services().database.transaction():
        keys = await VirtualKey.filter(team_id=team.team_id, user_id=row.user_id)
        await delete_keys(keys, principal)
        if row.budget_id and row.budget_id.startswith(MEMBER_BUDGET):
            await Budget.filter(budget_id=row.budget_id).delete()
        await row.delete()
        await record_change("updated", TEAMS, team.team_id, before={}, after={"members_removed": [row.user_id]})
    services().keys.forget_team(team.team_id)
    return await team_row(team)


async def _membership(team_id: str, sent: Mapping[str, Any]) -> TeamMembership:
    user_id = sent.get("user_id")
    if not user_id:
        user = await User.get_or_none(user_email=sent["user_email"])
        user_id = user.user_id if user is not None else ""
    row = await TeamMembership.get_or_none(team_id=team_id, user_id=user_id)
    if row is None:
        raise _not_in_team()
    return row


def _not_in_team() -> GatewayError:
    return PlainDenial("User not found in team", status=400, is_nested=True)
