"""Terms of one member in a team: role, budget, limits, and what was spent."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from quart import Blueprint

from ...auth.principal import current_principal
from ...errors import PlainDenial, ValidationFailed
from ...models import Budget, Team, TeamMembership, User
from ...models.columns import json_value
from ...services import services
from ...web.fields import (
    Table,
    bad_request,
    duration,
    email,
    identifier,
    may_exist,
    moment,
    money,
    one_of,
    read_body,
    takes,
    text_list,
    whole,
)
from ..audit.trail import TEAMS, record_change
from .access import check_may_manage
from .budgets import write_member_budget
from .members import membership_of
from .rows import default_budget, need_team

blueprint = Blueprint("admin_team_member_update", __name__)

Answer = dict[str, Any]
_TEMPORARY = ("temp_budget_increase", "temp_budget_expiry")
# Field of the request -> column of the member's budget.
_OF_BUDGET = {
    "max_budget_in_team": "max_budget",
    **{name: name for name in ("tpm_limit", "rpm_limit", "budget_duration", "allowed_models", *_TEMPORARY)},
}
_CHANGE: Table = {
    "team_id": identifier().required,
    "user_id": identifier(),
    "user_email": email(),
    "role": one_of("admin", "user"),
    "max_budget_in_team": money(),
    "tpm_limit": whole(),
    "rpm_limit": whole(),
    "budget_duration": duration(),
    "allowed_models": text_list(),
    "temp_budget_increase": money(),
    "temp_budget_expiry": moment(),
}
_RESET: Table = {"reset_to": money()}


@blueprint.post("/team/member_update")
@takes(body=_CHANGE)
async def update_member() -> Answer:
    """Write what was sent of one member's terms; the budget becomes the member's own."""
    sent = await read_body()
    if not sent.get("user_id") and not sent.get("user_email"):
        raise ValidationFailed([("", "Either user_id or user_email must be provided")])
    if (_TEMPORARY[0] in sent) != (_TEMPORARY[1] in sent):
        raise ValidationFailed([("temp_budget_expiry", "Send temp_budget_increase and temp_budget_expiry together")])
    if (sent.get(_TEMPORARY[0]) is None) != (sent.get(_TEMPORARY[1]) is None):
        raise ValidationFailed([("temp_budget_expiry", "A temporary increase needs an end")])
    team = await need_team(sent["team_id"])
    await check_may_manage(current_principal(), team)
    row = await membership_of(team.team_id, sent)
    if row is None:
        raise not_in_team(sent.get("user_id") or sent.get("user_email"), team.team_id)
    async with services().database.transaction():
        budget = await _write(team, row, sent)
    services().keys.forget_team(team.team_id)
    return await _answer(team, row, budget)


def not_in_team(user: str | None, team_id: str) -> PlainDenial:
    """404 in the words of the member routes (E2)."""
    return PlainDenial(f"User={user} not found in team={team_id}", status=404, is_nested=True)


async def _write(team: Team, row: TeamMembership, sent: Mapping[str, Any]) -> Budget | None:
    columns = {column: sent[name] for name, column in _OF_BUDGET.items() if name in sent}
    budget = await write_member_budget(row, columns, team)
    before, after = {"role": row.role}, {"role": sent.get("role") or row.role}
    if after != before:
        row.role = after["role"]
        await row.save(update_fields=["role"])
    changed = {name: json_value(sent[name]) for name in _OF_BUDGET if name in sent}
    member = {"member": row.user_id}
    await record_change(
        "updated", TEAMS, team.team_id, before={**member, **before}, after={**member, **after, **changed}
    )
    return budget


async def _answer(team: Team, row: TeamMembership, own: Budget | None) -> Answer:
    budget = own or await default_budget(team)
    user = await User.get_or_none(user_id=row.user_id)
    terms = {name: json_value(getattr(budget, column)) if budget else None for name, column in _OF_BUDGET.items()}
    return {
        "user_id": row.user_id,
        "user_email": user.user_email if user is not None else None,
        "team_id": row.team_id,
        "role": row.role,
        **terms,
    }


@blueprint.post("/team/<team_id>/member/<user_id>/reset_spend")
@takes(body=_RESET)
async def reset_member_spend(team_id: str, user_id: str) -> Answer:
    """Set what a member spent in this period down to `reset_to` USD, 0 unless sent. Raises 400 for more than it is."""
    sent = await read_body()
    team = await need_team(team_id)
    await check_may_manage(current_principal(), team)
    # What is still in the journal belongs to the time before.
    await services().ledger.flush()
    row = await TeamMembership.get_or_none(team_id=team_id, user_id=user_id) if may_exist(user_id) else None
    if row is None:
        raise not_in_team(user_id, team_id)
    reset_to, before = sent.get("reset_to") or Decimal(0), row.spend
    if reset_to > before:
        raise bad_request(f"reset_to ({reset_to:f}) must not be more than the current spend ({before:f})", "reset_to")
    row.spend = reset_to
    member = {"member": user_id}
    async with services().database.transaction():
        await row.save(update_fields=["spend"])
        spends = {**member, "spend": float(before)}, {**member, "spend": float(reset_to)}
        await record_change("updated", TEAMS, team_id, before=spends[0], after=spends[1])
    services().keys.forget_team(team_id)
    budget = await Budget.get_or_none(budget_id=row.budget_id) if row.budget_id else await default_budget(team)
    return {
        "team_id": team_id,
        "user_id": user_id,
        "spend": float(reset_to),
        "previous_spend": float(before),
        "max_budget": json_value(budget.max_budget) if budget is not None else None,
        "budget_reset_at": json_value(row.budget_reset_at),
    }
