"""Budgets of members: one that a team has for all of them, and one per membership that was given its own.

Each runs inside the caller's transaction, with an audit row of its own.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from ...auth.principal import current_principal
from ...models import Budget, Team, TeamMembership
from ..audit.trail import BUDGETS, record_change
from ..changes import change_row
from ..keys.fields import reset_of
from .fields import OF_MEMBER_BUDGET
from .rows import DEFAULT_BUDGET, MEMBER_BUDGET, default_budget

_COPIED = ("max_budget", "soft_budget", "budget_duration", "tpm_limit", "rpm_limit", "allowed_models")


async def write_default_budget(sent: Mapping[str, Any], team: Team) -> str | None:
    """Create or change the budget of members without one of their own.

    Answers the id of a new row, for the team's metadata; None when there is none to remember.
    """
    columns = {column: sent[name] for name, column in OF_MEMBER_BUDGET.items() if name in sent}
    if not columns:
        return None
    columns = {**columns, **_reset(columns)}
    budget = await default_budget(team)
    if "budget_reset_at" in columns:
        members = TeamMembership.filter(team_id=team.team_id, budget_id__isnull=True)
        await members.update(budget_reset_at=columns["budget_reset_at"])
    if budget is not None:
        await change_row(budget, columns, table=BUDGETS, object_id=budget.budget_id)
        return None
    if not any(value is not None for value in columns.values()):
        return None
    alias = (team.team_alias or team.team_id)[:150]
    budget_id = f"team-{alias}-budget-{uuid.uuid4().hex}"
    await _create(budget_id, columns)
    return budget_id


async def drop_default_budget(team: Team) -> None:
    """With its team. A budget under another name may be somebody else's, and stays."""
    budget_id = team.metadata.get(DEFAULT_BUDGET)
    if isinstance(budget_id, str) and budget_id.startswith("team-"):
        await Budget.filter(budget_id=budget_id).delete()


async def new_member_budget(columns: Mapping[str, Any]) -> Budget | None:
    """The budget of a new membership; None without a ceiling or limit of its own."""
    if not any(value not in (None, []) for value in columns.values()):
        return None
    return await _create(f"{MEMBER_BUDGET}{uuid.uuid4()}", {**columns, **_reset(columns)})


async def write_member_budget(row: TeamMembership, columns: Mapping[str, Any], team: Team) -> Budget | None:
    """Change the budget of one membership, and of no other: a shared one is copied first."""
    own = await Budget.get_or_none(budget_id=row.budget_id) if row.budget_id else None
    if not columns:
        return own
    columns = {**columns, **_reset(columns)}
    if own is not None and own.budget_id.startswith(MEMBER_BUDGET):
        await change_row(own, columns, table=BUDGETS, object_id=own.budget_id)
    else:
        base = own or await default_budget(team)
        copied = {name: getattr(base, name) for name in _COPIED} if base is not None else {}
        own = await _create(f"{MEMBER_BUDGET}{uuid.uuid4()}", {**copied, **_reset(copied), **columns})
        row.budget_id, row.budget_reset_at = own.budget_id, own.budget_reset_at
    if "budget_reset_at" in columns:
        row.budget_reset_at = columns["budget_reset_at"]
    await row.save(update_fields=["budget_id", "budget_reset_at"])
    return own


def _reset(columns: Mapping[str, Any]) -> dict[str, Any]:
    if "budget_duration" not in columns:
        return {}
    return {"budget_reset_at": reset_of(columns["budget_duration"], datetime.now(UTC))}


async def _create(budget_id: str, columns: Mapping[str, Any]) -> Budget:
    author = current_principal().user_id
    budget = await Budget.create(budget_id=budget_id, **columns, created_by=author, updated_by=author)
    await record_change("created", BUDGETS, budget_id, after=budget.to_json())
    return budget
