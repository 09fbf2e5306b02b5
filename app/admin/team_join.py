"""How a user gets into a team: one membership row each, so that two additions at once never lose one."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from typing import Any

from tortoise.exceptions import IntegrityError

from ..auth.principal import Principal, current_principal
from ..errors import InvalidRequest, PlainDenial
from ..models import OrganizationMembership, Team, TeamMembership, User
from ..services import services
from .audit_trail import USERS, record_change
from .team_budgets import new_member_budget
from .team_rows import default_budget, membership_row
from .user_access import refuse_reserved_id

Answer = dict[str, Any]

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
            await record_change("created", USERS, user_id, after=user.as_wire())
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
    row = user.as_wire()
    return row if principal.is_admin else {name: row[name] for name in ("user_id", "user_email", "user_alias")}
