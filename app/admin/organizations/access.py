"""Organizations as the API writes them, and who may see and manage which.

Admins and admin viewers of the instance see all. An admin of an organization manages its members and its teams, and
sees all of it. Its other members see it, themselves in it, and their own teams.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ...auth.principal import Principal
from ...errors import Forbidden, NotFound
from ...models import Budget, Organization, OrganizationMembership, Team, TeamMembership, User
from ..teams.rows import team_json

Answer = dict[str, Any]
_MAX_ROWS = 10_000


async def need_organization_row(organization_id: str | None) -> Organization:
    """Raises 404."""
    organization = await Organization.get_or_none(organization_id=organization_id or "")
    if organization is None:
        raise NotFound(f"Organization not found, passed organization_id={organization_id}", param="organization_id")
    return organization


def administers(principal: Principal, organization_id: str) -> bool:
    """Whether the caller is an admin of the instance or of this organization."""
    return principal.is_admin or organization_id in principal.organizations


def check_may_administer(principal: Principal, organization_id: str) -> None:
    """Raises 403 for all but admins of the instance and of this organization."""
    if not administers(principal, organization_id):
        raise Forbidden(
            "Only a proxy admin or an admin of the organization may do this. "
            f"You are {principal.role.value}, passed organization_id={organization_id}",
            param="organization_id",
        )


async def organizations_of(principal: Principal) -> list[str] | None:
    """The organizations that the caller may see; None means all."""
    if principal.can_read_all:
        return None
    if principal.user_id is None:
        return []
    rows = OrganizationMembership.filter(user_id=principal.user_id).limit(1000)
    return [row.organization_id async for row in rows]


async def organization_rows(organizations: Sequence[Organization], principal: Principal) -> list[Answer]:
    """Organizations with budget, members and teams, as far as the caller may see them: five statements for all."""
    ids = [organization.organization_id for organization in organizations]
    memberships = await OrganizationMembership.filter(organization_id__in=ids).order_by("id").limit(_MAX_ROWS)
    budget_ids = {row.budget_id for row in organizations} | {row.budget_id for row in memberships}
    budgets = {budget.budget_id: budget for budget in await Budget.filter(budget_id__in=budget_ids - {None})}
    users = {user.user_id: user for user in await User.filter(user_id__in={row.user_id for row in memberships})}
    members: dict[str, list[Answer]] = {organization_id: [] for organization_id in ids}
    for row in memberships:
        if _sees_all(principal, row.organization_id) or row.user_id == principal.user_id:
            shown = membership_json(row, users.get(row.user_id), budgets.get(row.budget_id or ""))
            members[row.organization_id].append(shown)
    teams = await _teams(ids, principal)
    return [
        {
            **organization.to_json(),
            "litellm_budget_table": _wire(budgets.get(organization.budget_id or "")),
            "members": members[organization.organization_id],
            "teams": teams[organization.organization_id],
        }
        for organization in organizations
    ]


def _sees_all(principal: Principal, organization_id: str) -> bool:
    return principal.can_read_all or organization_id in principal.organizations


async def _teams(ids: Sequence[str], principal: Principal) -> dict[str, list[Answer]]:
    """Teams per organization, without their members."""
    found: dict[str, list[Answer]] = {organization_id: [] for organization_id in ids}
    joined: set[str] = set()
    if principal.user_id is not None and not principal.can_read_all:
        joined = {row.team_id async for row in TeamMembership.filter(user_id=principal.user_id).limit(1000)}
    rows = Team.filter(organization_id__in=list(ids)).order_by("-created_at", "team_id").limit(_MAX_ROWS)
    for team in await rows:
        if _sees_all(principal, team.organization_id or "") or team.team_id in joined:
            found[team.organization_id or ""].append(team_json(team))
    return found


def membership_json(row: OrganizationMembership, user: User | None, budget: Budget | None) -> Answer:
    """One membership with whose it is and its budget."""
    shown = ("user_id", "user_email", "user_alias")
    return {
        **row.to_json(),
        "user_email": user.user_email if user is not None else None,
        "user": {name: getattr(user, name) for name in shown} if user is not None else None,
        "litellm_budget_table": _wire(budget),
    }


def _wire(budget: Budget | None) -> Answer | None:
    return budget.to_json() if budget is not None else None
