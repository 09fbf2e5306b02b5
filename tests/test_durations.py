"""Durations: the grammar, lives of keys, and the calendar of budgets."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.durations import Duration, life_ends_at, next_reset, parse_duration

# The moment at which the contract was measured: a Saturday.
SATURDAY = datetime(2026, 11, 21, 20, 18, 30, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "duration"),
    [
        ("30s", Duration(30, "s")),
        ("10m", Duration(10, "m")),
        ("24h", Duration(24, "h")),
        ("7d", Duration(7, "d")),
        ("2w", Duration(2, "w")),
        ("1mo", Duration(1, "mo")),
        ("hourly", Duration(1, "h")),
        ("daily", Duration(24, "h")),
        ("weekly", Duration(7, "d")),
        ("Monthly", Duration(30, "d")),
    ],
)
def test_reads_the_grammar(text: str, duration: Duration) -> None:
    assert parse_duration(text) == duration


@pytest.mark.parametrize("text", ["", "5x", "d", "-1d", "1.5h", "1 d", "0d", "1y", "٣d", "1d2h", "9999999999s"])
def test_refuses_what_is_no_duration(text: str) -> None:
    with pytest.raises(ValueError, match="Use a format like"):
        parse_duration(text)


def test_a_life_counts_from_now() -> None:
    assert life_ends_at("10m", SATURDAY) == SATURDAY + timedelta(minutes=10)
    assert life_ends_at("30d", SATURDAY) == SATURDAY + timedelta(days=30)


def test_a_month_of_life_ends_on_the_last_day_of_a_shorter_month() -> None:
    assert life_ends_at("1mo", datetime(2026, 1, 31, 12, tzinfo=UTC)) == datetime(2026, 2, 28, 12, tzinfo=UTC)
    assert life_ends_at("13mo", SATURDAY) == datetime(2027, 12, 21, 20, 18, 30, tzinfo=UTC)


@pytest.mark.parametrize("text", ["999999999w", "999999999mo", "99999999d"])
def test_a_life_without_end_in_the_calendar_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="too far"):
        life_ends_at(text, SATURDAY)
    with pytest.raises(ValueError, match="too far"):
        next_reset(text, SATURDAY)


@pytest.mark.parametrize(
    ("text", "reset"),
    [
        ("1d", datetime(2026, 11, 22, tzinfo=UTC)),
        ("24h", datetime(2026, 11, 22, tzinfo=UTC)),
        ("7d", datetime(2026, 11, 23, tzinfo=UTC)),
        ("1w", datetime(2026, 11, 23, tzinfo=UTC)),
        ("30d", datetime(2026, 12, 1, tzinfo=UTC)),
        ("3d", datetime(2026, 11, 24, tzinfo=UTC)),
        ("2w", datetime(2026, 12, 5, tzinfo=UTC)),
        ("48h", datetime(2026, 11, 23, tzinfo=UTC)),
        ("1h", datetime(2026, 11, 21, 21, tzinfo=UTC)),
        ("6h", datetime(2026, 11, 22, tzinfo=UTC)),
        ("30m", datetime(2026, 11, 21, 20, 30, tzinfo=UTC)),
        ("20s", datetime(2026, 11, 21, 20, 18, 40, tzinfo=UTC)),
        ("36h", datetime(2026, 11, 23, 8, tzinfo=UTC)),
        ("1mo", datetime(2026, 12, 1, tzinfo=UTC)),
        ("2mo", datetime(2027, 1, 1, tzinfo=UTC)),
    ],
)
def test_a_budget_starts_anew_on_the_calendar(text: str, reset: datetime) -> None:
    assert next_reset(text, SATURDAY) == reset


def test_a_boundary_itself_belongs_to_the_period_that_starts() -> None:
    midnight_on_monday = datetime(2026, 11, 23, tzinfo=UTC)
    assert next_reset("1d", midnight_on_monday) == datetime(2026, 11, 24, tzinfo=UTC)
    assert next_reset("7d", midnight_on_monday) == datetime(2026, 11, 30, tzinfo=UTC)
    assert next_reset("1h", midnight_on_monday) == datetime(2026, 11, 23, 1, tzinfo=UTC)


def test_the_calendar_is_that_of_utc() -> None:
    late_in_lima = datetime(2026, 11, 21, 20, tzinfo=timezone(timedelta(hours=-5)))
    assert next_reset("1d", late_in_lima) == datetime(2026, 11, 23, tzinfo=UTC)


@given(
    st.integers(1, 500),
    st.sampled_from(["s", "m", "h", "d", "w", "mo"]),
    st.integers(0, 10 * 365 * 86400),
)
def test_a_reset_is_always_in_the_future(count: int, unit: str, seconds: int) -> None:
    moment = SATURDAY + timedelta(seconds=seconds)
    assert next_reset(f"{count}{unit}", moment) > moment
