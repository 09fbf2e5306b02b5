"""Windows: ceilings that stand beside a holder's own budget, each with a period of its own (`budget_limits`,
`model_max_budget`, budgets of providers and of the whole instance). What was spent in one is a row of `budget_window`;
a row of an older period counts as zero, so that nothing needs to be reset.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from typing import Any

from tortoise.expressions import Q

from ..durations import BudgetCalendar, period_end, period_start
from ..models import BudgetWindow
from .scopes import BudgetScope

# The one period of a ceiling that never starts anew.
_EVER = datetime(2000, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class WindowCeiling:
    """A ceiling as it was declared. `period` "" never starts anew."""

    kind: str
    id: str
    label: str
    period: str
    max_budget: Decimal
    model: str = ""


def budget_windows(kind: str, id: str, label: str, declared: Any) -> Iterator[WindowCeiling]:
    """`[{"budget_duration": "1h", "max_budget": 5}, …]`; entries of another shape are ignored."""
    for entry in declared if isinstance(declared, Sequence) else ():
        ceiling = _amount(entry.get("max_budget")) if isinstance(entry, Mapping) else None
        if ceiling is not None and _is_period(entry.get("budget_duration")):
            yield WindowCeiling(kind, id, label, entry["budget_duration"], ceiling)


def model_windows(kind: str, id: str, label: str, declared: Any) -> Iterator[WindowCeiling]:
    """`{"gpt-4o": {"max_budget": 5, "budget_duration": "1d"}}`; also `budget_limit`, `time_period`, or an amount."""
    for model, entry in declared.items() if isinstance(declared, Mapping) else ():
        facts = entry if isinstance(entry, Mapping) else {"max_budget": entry}
        ceiling = _amount(facts.get("max_budget", facts.get("budget_limit")))
        period = facts.get("budget_duration", facts.get("time_period"))
        if ceiling is not None:
            yield WindowCeiling(kind, id, label, str(period) if _is_period(period) else "", ceiling, str(model))


def _amount(value: Any) -> Decimal | None:
    try:
        amount = Decimal(str(value))
    except InvalidOperation:
        return None
    return amount if amount.is_finite() and amount >= 0 else None


def _is_period(value: Any) -> bool:
    try:
        period_end(value, datetime.now(UTC))
    except (ValueError, AttributeError, TypeError):
        return False
    return True


async def window_scopes(
    ceilings: Sequence[WindowCeiling], calendar: BudgetCalendar, now: datetime
) -> list[BudgetScope]:
    """The ceilings with what was spent in their current periods, in one query for all of them."""
    if not ceilings:
        return []
    holders = sorted({(ceiling.kind, ceiling.id) for ceiling in ceilings})
    condition = Q()
    for kind, id in holders:
        condition |= Q(kind=kind, id=id)
    rows = {(row.kind, row.id, row.model, row.period): row async for row in BudgetWindow.filter(condition)}
    found = [rows.get((ceiling.kind, ceiling.id, ceiling.model, ceiling.period)) for ceiling in ceilings]
    return [_scope(ceiling, row, calendar, now) for ceiling, row in zip(ceilings, found, strict=True)]


def _scope(ceiling: WindowCeiling, row: BudgetWindow | None, calendar: BudgetCalendar, now: datetime) -> BudgetScope:
    starts_at, resets_at = _EVER, None
    if ceiling.period:
        starts_at, resets_at = period_start(ceiling.period, now, calendar), period_end(ceiling.period, now, calendar)
    spend = Decimal(0)
    if row is not None and row.starts_at >= starts_at:
        # It began later than the calendar says now: the time zone of budgets was changed meanwhile. What is spent is
        # added to the row that is there, which passes over whatever began earlier.
        starts_at, spend = row.starts_at, row.spend
    return BudgetScope(
        ceiling.kind,
        ceiling.id,
        ceiling.label,
        ceiling.max_budget,
        spend,
        resets_at=resets_at,
        model=ceiling.model,
        period=ceiling.period,
        starts_at=starts_at,
    )
