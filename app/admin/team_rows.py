"""Teams as the API writes them: the row, its members, and who may see or change it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from ..auth.principal import Principal
from ..errors import Forbidden, PlainDenial
from ..models import Budget, Team, TeamMembership, User

Answer = dict[str, Any]
MEMBER_BUDGET = "member-"


async def members_of(team_ids: Iterable[str]) -> dict[str, list[Answer]]:
    """`members_with_roles` per team, in the order of joining."""
    found: dict[str, list[Answer]] = {team_id: [] for team_id in team_ids}
    rows = await TeamMembership.filter(team_id__in=list(found)).order_by("id")
    users = {user.user_id: user for user in await User.filter(user_id__in={row.user_id for row in rows})}
    for row in rows:
        user = users.get(row.user_id)
        email = user.user_email if user is not None else None
        found[row.team_id].append({"user_id": row.user_id, "user_email": email, "role": row.role})
    return found


async def team_row(team: Team) -> Answer:
    return team.as_wire((await members_of([team.team_id]))[team.team_id])


async def need_team(team_id: str) -> Team:
    """Raises 404 in the words of the team routes (E2)."""
    team = await Team.get_or_none(team_id=team_id)
    if team is None:
        raise PlainDenial(f"Team not found, passed team_id={team_id}", status=404, is_nested=True)
    return team


async def is_member(principal: Principal, team_id: str) -> bool:
    if principal.team_id == team_id:
        return True
    return principal.user_id is not None and await TeamMembership.exists(team_id=team_id, user_id=principal.user_id)


async def check_may_manage(principal: Principal, team_id: str) -> None:
    """Raises 403 unless the caller is an admin of this instance or of the team."""
    if principal.is_admin:
        return
    if principal.user_id is not None:
        membership = await TeamMembership.get_or_none(team_id=team_id, user_id=principal.user_id)
        if membership is not None and membership.is_admin:
            return
    raise Forbidden("Only an admin of this instance or of the team may do this", type="auth_error")


async def membership_rows(team_id: str) -> list[Answer]:
    rows = await TeamMembership.filter(team_id=team_id).order_by("id")
    budget_ids = [row.budget_id for row in rows if row.budget_id]
    budgets = {budget.budget_id: budget for budget in await Budget.filter(budget_id__in=budget_ids)}
    return [membership_row(row, budgets.get(row.budget_id or "")) for row in rows]


def membership_row(row: TeamMembership, budget: Budget | None) -> Answer:
    return {
        **row.as_wire(),
        "litellm_budget_table": budget.as_wire() if budget is not None else None,
        "budget_source": "custom" if budget is not None else "none",
    }
