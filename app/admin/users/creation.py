"""A new user in one transaction: the row, memberships of teams and organizations, the first key, the audit row."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Mapping
from typing import Any

from tortoise.exceptions import IntegrityError

from ...auth.principal import Principal
from ...auth.roles import Role
from ...errors import Conflict
from ...models import Budget, Organization, OrganizationMembership, Team, TeamMembership, User
from ...services import services
from ...web.fields import bad_request, read_fields
from ..audit.trail import USERS, record_change
from ..changes import create_row, transaction
from ..keys.changes import key_answer
from ..keys.grants import issue_within, write_own_spend
from ..keys.policy import within_ceilings
from ..settings.sections import read_section
from ..teams.rows import MEMBER_BUDGET
from .fields import OF_KEY, USER_DEFAULTS, user_columns

Answer = dict[str, Any]
_READERS = (Role.PROXY_ADMIN.value, Role.PROXY_ADMIN_VIEWER.value)


async def with_user_defaults(sent: Mapping[str, Any]) -> dict[str, Any]:
    """A new user's fields, those that were left out from `default_internal_user_params`; not for admins and viewers.

    What was set by the API lies over the configuration file. Raises 422 when either holds what no user can have.
    """
    if sent.get("user_role") in _READERS:
        return dict(sent)
    stored = (await read_section("litellm_settings")).get("default_internal_user_params")
    configured = services().settings.default_internal_user_params or {}
    defaults = {**configured, **(stored if isinstance(stored, dict) else {})}
    left_out = {name: value for name, value in defaults.items() if value is not None and name not in sent}
    return {**read_fields(left_out, USER_DEFAULTS), **sent}


def organizations_in(sent: Mapping[str, Any]) -> list[str]:
    """The organizations that a request names, each once."""
    named = [*(sent.get("organizations") or []), sent.get("organization_id")]
    return list(dict.fromkeys(name for name in named if name))


async def create_user(sent: Mapping[str, Any], organizations: list[str], principal: Principal) -> Answer:
    """Answers what /user/new does. Raises 400 for an unknown team or organization, 409 for a user that exists."""
    teams: list[dict[str, Any]] = list(sent.get("teams") or [])
    team_ids = [team["team_id"] for team in teams]
    await _check_teams([*team_ids, *filter(None, [sent.get("team_id")])])
    await _check_organizations(organizations)
    await write_own_spend(principal)
    async with transaction():
        # The first organization is the one that a user is made for, whose admins may change and delete them.
        home = {"organization_id": organizations[0]} if organizations else {}
        user = await _insert({**user_columns(sent), **home}, sent.get("user_id") or str(uuid.uuid4()))
        for team in teams:
            await _join_team(user, team, principal)
        for organization_id in organizations:
            role = user.user_role or Role.INTERNAL_USER.value
            home_of = {"organization_id": organization_id, "user_id": user.user_id}
            await create_row(OrganizationMembership, **home_of, user_role=role)
        await record_change("created", USERS, user.user_id, after=user.to_json())
        answer = await _first_key(sent, user, principal)
    return {**answer, **user.to_json(), "teams": team_ids, "organizations": organizations}


async def _check_teams(team_ids: Iterable[str]) -> None:
    for team_id in team_ids:
        if not await Team.exists(team_id=team_id):
            raise bad_request(f"Team not found, passed team_id={team_id}", "teams")


async def _check_organizations(organizations: Iterable[str]) -> None:
    for organization_id in organizations:
        if not await Organization.exists(organization_id=organization_id):
            raise bad_request(f"Organization not found, passed organization_id={organization_id}", "organizations")


async def _insert(columns: dict[str, Any], user_id: str) -> User:
    if await User.exists(user_id=user_id):
        raise Conflict(f"User with id {user_id} already exists", param="user_id")
    await check_email(columns.get("user_email"))
    try:
        return await create_row(User, user_id=user_id, **columns)
    except IntegrityError:
        raise Conflict("A user with this id, email or sso_user_id already exists") from None


async def check_email(email: str | None) -> None:
    """Raises 409 for an address that somebody has."""
    if email is not None and await User.exists(user_email=email):
        raise Conflict(f"User with email {email} already exists", param="user_email")


async def _join_team(user: User, team: Mapping[str, Any], principal: Principal) -> None:
    budget_id = None
    if team.get("max_budget_in_team") is not None:
        budget_id = f"{MEMBER_BUDGET}{uuid.uuid4()}"
        ceiling, by = team["max_budget_in_team"], principal.user_id
        await create_row(Budget, owners=[user], budget_id=budget_id, max_budget=ceiling, created_by=by)
    named = {"team_id": team["team_id"], "user_id": user.user_id, "role": team.get("user_role") or "user"}
    await create_row(TeamMembership, owners=[user], **named, budget_id=budget_id)


async def _first_key(sent: Mapping[str, Any], user: User, principal: Principal) -> Answer:
    if not sent.get("auto_create_key", True):
        return {"key": "", "token": None, "token_id": None, "key_name": None, "expires": None}
    fields = {name: sent[name] for name in OF_KEY if name in sent}
    fields = within_ceilings({**fields, "user_id": user.user_id, "models": user.models}, is_new=True)
    key, secret = await issue_within(principal, fields, named=sent)
    return key_answer(key, secret)
