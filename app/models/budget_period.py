"""Budget resets: spend goes back to zero when its period is over.

`start_new_period` does it when a row is read for use, so that a reset is never late for the call that needs it;
`start_due_periods` does it in the background for the rows that nobody reads. Whose period it is:

    own `budget_duration`        the row's `budget_reset_at`: keys, users, teams
    that of its shared budget    the row's `budget_reset_at` too, so that of two customers with one budget each has a
                                 period: members, end users, tags, access groups, keys without a duration of their own
    that of its own budget row   `Budget.budget_reset_at`: organizations

A period without an end (`budget_reset_at` is null) has only just begun: it gets an end, and keeps its spend. Every
reset is one conditional UPDATE, so that of several processes exactly one does it and what is spent after that stays.
"""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from tortoise.expressions import F, Q
from tortoise.models import Model
from tortoise.transactions import in_transaction

from ..durations import UTC_CALENDAR, BudgetCalendar, next_reset
from .access_group import ModelAccessGroupBudget
from .budget import Budget
from .end_user import EndUser
from .organization import Organization
from .tag import Tag
from .team import Team, TeamMembership
from .user import User
from .virtual_key import VirtualKey

BudgetedRow = VirtualKey | User | Team | TeamMembership | EndUser | Tag | ModelAccessGroupBudget | Organization

# Tables with a period of their own, and those whose rows share one. Keys are both.
_OWN: tuple[type[VirtualKey | User | Team], ...] = (VirtualKey, User, Team)
_SHARED: tuple[type[TeamMembership | EndUser | Tag | ModelAccessGroupBudget], ...] = (
    TeamMembership,
    EndUser,
    Tag,
    ModelAccessGroupBudget,
)
_PAUSE_SECONDS = 0.01


async def start_new_period(
    row: BudgetedRow, budget: Budget | None = None, *, calendar: BudgetCalendar = UTC_CALENDAR
) -> None:
    """Reset `row.spend` if its period is over. Of several processes exactly one writes the reset.

    `budget` is the one that bounds the row, also one that it has by default; without it the row's `budget_id` is read
    when that matters. Afterwards `row` holds the spend and the reset time of the database.
    """
    own_duration = getattr(row, "budget_duration", None)
    if own_duration is None and budget is None:
        budget_id = getattr(row, "budget_id", None)
        budget = await Budget.get_or_none(budget_id=budget_id) if budget_id else None
    if isinstance(row, Organization):
        if budget is not None and await _reset_budget(budget, datetime.now(UTC), calendar):
            await _refresh(row)
        return
    now, due = datetime.now(UTC), row.budget_reset_at
    reset_at = _next_reset(own_duration, budget, now, calendar)
    if reset_at is None:
        return
    if due is None or now < due:
        # Begun just now, or longer than its budget's period is by now. Nothing is wiped.
        if due is None or (own_duration is None and reset_at < due):
            await type(row).filter(pk=row.pk, budget_reset_at=due).update(budget_reset_at=reset_at)
            await _refresh(row)
        return
    await type(row).filter(pk=row.pk, budget_reset_at=due).update(**_reset_columns(type(row)), budget_reset_at=reset_at)
    await _refresh(row)


def _next_reset(
    own_duration: str | None, budget: Budget | None, now: datetime, calendar: BudgetCalendar
) -> datetime | None:
    """When a period that starts now ends; None without a period. One end for all who share a budget that names it."""
    if own_duration is not None:
        return next_reset(own_duration, now, calendar)
    if budget is None or budget.budget_duration is None:
        return None
    if budget.budget_reset_at is not None and budget.budget_reset_at > now:
        return budget.budget_reset_at
    return next_reset(budget.budget_duration, now, calendar)


def _reset_columns(table: type[Model]) -> dict[str, Any]:
    """The columns of a reset, without the time of the next one."""
    columns: dict[str, Any] = {"spend": Decimal(0)}
    if "spend_epoch" in table._meta.fields_map:
        columns["spend_epoch"] = F("spend_epoch") + 1
    return columns


async def _refresh(row: BudgetedRow) -> None:
    """Take over what the database says now; a row that was deleted meanwhile stays as it was read."""
    fresh = await type(row).get_or_none(pk=row.pk)
    if fresh is not None:
        for name in ("spend", "spend_epoch", "budget_reset_at"):
            if name in row._meta.fields_map:
                setattr(row, name, getattr(fresh, name))


async def _reset_budget(budget: Budget, now: datetime, calendar: BudgetCalendar) -> bool:
    """Move a budget of organizations on to its next period, and them with it. Whether their rows have changed.

    `budget.budget_reset_at` is what the database holds afterwards.
    """
    if budget.budget_duration is None:
        return False
    due = budget.budget_reset_at
    if due is not None and due > now:
        return False
    reset_at = next_reset(budget.budget_duration, now, calendar)
    async with in_transaction():
        rows = Budget.filter(budget_id=budget.budget_id, budget_reset_at=due)
        if await rows.update(budget_reset_at=reset_at) and due is not None:
            await Organization.filter(budget_id=budget.budget_id).update(**_reset_columns(Organization))
    fresh = await Budget.get_or_none(budget_id=budget.budget_id)
    budget.budget_reset_at = fresh.budget_reset_at if fresh is not None else reset_at
    return due is not None


# ---- the rows that nobody reads ------------------------------------------------------------------------------------


async def start_due_periods(
    now: datetime, batch: int = 500, *, calendar: BudgetCalendar = UTC_CALENDAR, run_seconds: float = 60.0
) -> dict[str, int]:
    """Reset the rows of all tables whose period was over by `now`; answers how many per table, without the zeros.

    Goes by index, in transactions of `batch` rows each, and stops after about `run_seconds`: what is left is reset
    when it is read, or by the next round. Rows that somebody else is writing to are left to the next round as well,
    so it never waits for a spend ledger, and no deadlock can come of it.
    """
    stop_at = time.monotonic() + run_seconds
    done: dict[str, int] = {}
    # Budgets first: what shares one then gets the end of the budget's new period.
    for table in (Budget, *_OWN, *_SHARED):
        count = 0
        while time.monotonic() < stop_at:
            looked_at, reset = await _reset_batch(table, now, batch, calendar)
            count += reset
            if looked_at < batch:
                break
            await asyncio.sleep(_PAUSE_SECONDS)  # calls go first
        if count:
            done[(Organization if table is Budget else table)._meta.db_table] = count
    return done


async def _reset_batch(
    table: type[Budget | BudgetedRow], now: datetime, batch: int, calendar: BudgetCalendar
) -> tuple[int, int]:
    """Reset up to `batch` due rows in one transaction: how many were looked at, and how many of them were reset."""
    due = _due(table, now)
    if not await table.filter(due).exists():
        return 0, 0
    async with in_transaction():
        rows = await table.filter(due).order_by("budget_reset_at").limit(batch).select_for_update(skip_locked=True)
        ends = await _ends(rows, now, calendar)
        count = 0
        for end, keys in ends.items():
            # On SQLite nothing is locked, but this transaction is the only one that writes.
            changed = table.filter(due, pk__in=keys)
            if end is None:
                await changed.update(budget_reset_at=None)
            elif table is Budget:
                await changed.update(budget_reset_at=end)
                count += await _reset_organizations(keys)
            else:
                count += await changed.update(**_reset_columns(table), budget_reset_at=end)
    return len(rows), count


async def _reset_organizations(budget_ids: list[str]) -> int:
    """Locks them in the order in which ledgers write to them, so that the two cannot wait for each other."""
    theirs = Organization.filter(budget_id__in=budget_ids)
    locked = await theirs.order_by("organization_id").only("organization_id").select_for_update()
    if not locked:
        return 0
    return await theirs.filter(pk__in=[row.pk for row in locked]).update(**_reset_columns(Organization))


def _due(table: type[Budget | BudgetedRow], now: datetime) -> Q:
    """Rows whose time has come."""
    if table is Budget:
        return Q(budget_reset_at__lte=now, budget_duration__isnull=False)
    if table in _SHARED:
        # A row without a budget of its own may have one by default, which only those who read it know.
        return Q(budget_reset_at__lte=now, budget_id__isnull=False)
    return Q(budget_reset_at__lte=now)


async def _ends(
    rows: Sequence[Budget | BudgetedRow], now: datetime, calendar: BudgetCalendar
) -> Mapping[datetime | None, list[Any]]:
    """Keys of the rows by the end of their new period; None for those that have no period any more."""
    shared = {row.budget_id for row in rows if not isinstance(row, Budget | User | Team) and row.budget_id}
    budgets = {budget.budget_id: budget for budget in await Budget.filter(budget_id__in=shared)} if shared else {}
    ends: dict[datetime | None, list[Any]] = defaultdict(list)
    for row in rows:
        own_duration = getattr(row, "budget_duration", None)
        budget = budgets.get(getattr(row, "budget_id", None))
        try:
            end = _next_reset(own_duration, budget, now, calendar)
        except ValueError:
            end = None  # no duration at all, which a reader of the row will say; it must not stop the others
        ends[end].append(row.pk)
    return ends
