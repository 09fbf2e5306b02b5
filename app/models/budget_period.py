"""Budgets that start anew: spend goes back to zero when its period is over.

Done when a row is read for use, so that a reset is never late for the call that needs it.
"""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal

from ..durations import next_reset
from .team import Team
from .user import User
from .virtual_key import VirtualKey


async def start_new_period(row: VirtualKey | User | Team) -> None:
    """Reset `row.spend` if `row.budget_reset_at` has passed. Of several processes exactly one writes the reset."""
    due, now = row.budget_reset_at, datetime.now(UTC)
    if due is None or row.budget_duration is None or due > now:
        return
    table = type(row)
    await table.filter(pk=row.pk, budget_reset_at=due).update(
        spend=Decimal(0), budget_reset_at=next_reset(row.budget_duration, now)
    )
    fresh = await table.get(pk=row.pk)
    row.spend, row.budget_reset_at = fresh.spend, fresh.budget_reset_at
