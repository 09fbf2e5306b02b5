"""Budget rows: their fields, and the rows that belong to one customer, tag or access group alone."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

from ...auth.principal import current_principal
from ...errors import NotFound, ValidationFailed
from ...models import (
    Budget,
    EndUser,
    ModelAccessGroupBudget,
    Organization,
    OrganizationMembership,
    Tag,
    TeamMembership,
    VirtualKey,
)
from ...services import services
from ...web.fields import Table, duration, identifier, json_object, moment, money, text_list, whole
from ..audit.trail import BUDGETS, record_change
from ..keys.fields import reset_of

Answer = dict[str, Any]

BUDGET: Table = {
    "max_budget": money(),
    "soft_budget": money(),
    "max_parallel_requests": whole(highest=2**31 - 1),
    "tpm_limit": whole(),
    "rpm_limit": whole(),
    "tpd_limit": whole(),
    "budget_duration": duration(),
    "budget_reset_at": moment(),
    "model_max_budget": json_object(),
    "allowed_models": text_list(),
    "temp_budget_increase": money(),
    "temp_budget_expiry": moment(),
}
# For bodies that either name a budget or describe one of their own.
WITH_BUDGET: Table = {**BUDGET, "budget_id": identifier()}

# Who may refer to a budget, and how a refusal calls them.
_USERS = {
    "keys": VirtualKey,
    "team members": TeamMembership,
    "organizations": Organization,
    "members of organizations": OrganizationMembership,
    "customers": EndUser,
    "tags": Tag,
    "access groups": ModelAccessGroupBudget,
}


# Rows whose metadata name a budget for others: kind -> (table, name in the metadata).
_NAMED_IN_METADATA = {
    "teams (for their members)": ("team", "team_member_budget_id"),
    "keys (for their end users)": ("virtual_key", "end_user_budget_id"),
}


def budget_columns(sent: Mapping[str, Any]) -> dict[str, Any]:
    """The columns that a request sets, and only those. Raises 400 for a period that ends too far in the future."""
    columns = {name: sent[name] for name in BUDGET if name in sent}
    if "budget_duration" in sent and sent.get("budget_reset_at") is None:
        columns["budget_reset_at"] = reset_of(sent["budget_duration"], datetime.now(UTC))
    return columns


async def uses_of(budget_id: str) -> dict[str, int]:
    """Who refers to a budget: kind -> how many, without those that do not."""
    counts = {kind: await table.filter(budget_id=budget_id).count() for kind, table in _USERS.items()}
    for kind, (table, name) in _NAMED_IN_METADATA.items():
        value = f"json_extract(metadata, '$.{name}')" if services().database.is_sqlite else f"metadata ->> '{name}'"
        sql = f"SELECT COUNT(*) AS found FROM {table} WHERE {value} = $1"  # noqa: S608 (names of ours)
        counts[kind] = int((await services().database.fetch(sql, [budget_id]))[0]["found"])
    if services().settings.max_end_user_budget_id == budget_id:
        counts["settings (max_end_user_budget_id)"] = 1
    return {kind: count for kind, count in counts.items() if count}


async def unlink(budget_id: str) -> None:
    """Leave every row that refers to a budget without one. Run it inside a transaction."""
    for table in _USERS.values():
        await table.filter(budget_id=budget_id).update(budget_id=None)


async def budgets_of(ids: Iterable[str | None]) -> dict[str, Answer]:
    """Budget id -> row, for lists that show the budget beside each row."""
    rows = await Budget.filter(budget_id__in={id for id in ids if id})
    return {row.budget_id: row.to_json() for row in rows}


async def with_budget(row: Answer) -> Answer:
    """The row with its budget below `litellm_budget_table`."""
    budget_id = row["budget_id"]
    return {**row, "litellm_budget_table": (await budgets_of([budget_id])).get(budget_id)}


async def budget_link(current: str | None, sent: Mapping[str, Any], *, prefix: str) -> dict[str, Any]:
    """The columns `budget_id` and `budget_reset_at` after a request, {} when it does not touch them; as `budget_after`.

    The period is the row's own: two customers that share a budget may have begun at different times.
    """
    budget_id = await budget_after(current, sent, prefix=prefix)
    if budget_id == current and "budget_duration" not in sent and "budget_reset_at" not in sent:
        return {}
    budget = await Budget.get_or_none(budget_id=budget_id) if budget_id else None
    if budget is None:
        return {"budget_id": None, "budget_reset_at": None}
    is_own = budget.budget_id.startswith(prefix)
    reset_at = budget.budget_reset_at if is_own else reset_of(budget.budget_duration, datetime.now(UTC))
    return {"budget_id": budget_id, "budget_reset_at": reset_at}


async def budget_after(current: str | None, sent: Mapping[str, Any], *, prefix: str) -> str | None:
    """The budget that a row refers to after a request; inside the transaction of the change.

    Fields of a budget in the request become a row of its own, whose id begins with `prefix`; it is changed while it
    lasts and deleted when the row gets another budget. Raises 404 for an unknown `budget_id`, 422 for both at once.
    """
    columns = budget_columns(sent)
    says_something = any(value not in (None, {}, []) for value in columns.values())
    named = sent.get("budget_id")
    if named is not None and says_something:
        problem = "Send budget_id, or max_budget and the other fields of a budget, not both"
        raise ValidationFailed([("budget_id", problem, "value_error")])
    own = current if current is not None and current.startswith(prefix) else None
    if "budget_id" in sent and named != current:
        if named is not None and not await Budget.exists(budget_id=named):
            raise NotFound(f"Budget not found: {named}", param="budget_id")
        await drop_own_budget(own, prefix=prefix)
        current, own = named, None
    if own is not None and columns:
        await _change(own, columns)
        return own
    return await _create(prefix, columns) if says_something else current


async def drop_own_budget(budget_id: str | None, *, prefix: str) -> None:
    """Delete the budget of a row that goes, if it belongs to that row alone."""
    if budget_id is not None and budget_id.startswith(prefix):
        await Budget.filter(budget_id=budget_id).delete()


async def _create(prefix: str, columns: Mapping[str, Any]) -> str:
    user_id = current_principal().user_id
    budget_id = f"{prefix}{uuid.uuid4()}"
    row = await Budget.create(budget_id=budget_id, **columns, created_by=user_id, updated_by=user_id)
    await record_change("created", BUDGETS, row.budget_id, after=row.to_json())
    return budget_id


async def _change(budget_id: str, columns: Mapping[str, Any]) -> None:
    row = await Budget.get_or_none(budget_id=budget_id)
    if row is None:
        return
    before = row.to_json()
    await row.write({**columns, "updated_by": current_principal().user_id})
    await record_change("updated", BUDGETS, budget_id, before=before, after=row.to_json())
