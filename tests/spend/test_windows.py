"""Windows: ceilings beside a holder's own budget, and what was spent in their current period."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.durations import BudgetCalendar, period_end, period_start
from app.models import BudgetWindow
from app.settings import Settings
from app.spend.windows import budget_windows, model_windows, window_scopes
from app.storage.database import Database

# fixed dates: every window here is asked for with its time
NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)
NEW_YORK = BudgetCalendar(timezone(timedelta(hours=-5)))


async def test_spend_of_an_older_period_counts_as_zero_and_that_of_a_changed_time_zone_counts(
    database_url: str,
) -> None:
    database = Database(Settings(database_url=database_url))
    await database.open()
    ceilings = list(budget_windows("key", "k", "Key", [{"budget_duration": "30d", "max_budget": 5}]))
    with database.active():
        began = datetime(2026, 11, 1, 5, tzinfo=UTC)  # as New York counts; the calendar is that of UTC by now
        row = await BudgetWindow.create(kind="key", id="k", period="30d", starts_at=began, spend=Decimal(3))
        (scope,) = await window_scopes(ceilings, BudgetCalendar(), NOW)
        assert (scope.spend, scope.starts_at) == (Decimal(3), began)
        assert (await window_scopes(ceilings, NEW_YORK, NOW))[0].counter.name == scope.counter.name
        row.starts_at = datetime(2026, 10, 1, tzinfo=UTC)
        await row.save()
        (scope,) = await window_scopes(ceilings, BudgetCalendar(), NOW)
        assert (scope.spend, scope.starts_at) == (Decimal(0), datetime(2026, 11, 1, tzinfo=UTC))
    await database.close()


WORDS = st.sampled_from(["max_budget", "budget_limit", "budget_duration", "time_period", "gpt-4o", "30d", "1mo", "0d"])
VALUES = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | WORDS
STORED = st.recursive(
    VALUES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(WORDS, inner, max_size=4), max_leaves=12
)


@given(STORED, st.timedeltas(timedelta(days=-2000), timedelta(days=9000)))
def test_whatever_is_stored_its_windows_have_an_amount_and_contain_the_moment(stored: object, later: timedelta) -> None:
    now = NOW + later
    for ceiling in (*budget_windows("key", "k", "Key", stored), *model_windows("key", "k", "Key", stored)):
        assert ceiling.max_budget.is_finite() and ceiling.max_budget >= 0
        if ceiling.period:
            assert period_start(ceiling.period, now, NEW_YORK) <= now < period_end(ceiling.period, now, NEW_YORK)


@pytest.mark.parametrize("period", ["30 days", "999999999d", None, [1]])
def test_a_period_that_is_none_is_left_out_and_a_model_s_ceiling_then_never_starts_anew(period: object) -> None:
    assert not list(budget_windows("key", "k", "Key", [{"budget_duration": period, "max_budget": 5}]))
    (ceiling,) = model_windows("key", "k", "Key", {"chat": {"budget_duration": period, "max_budget": 5}})
    assert ceiling.period == ""
