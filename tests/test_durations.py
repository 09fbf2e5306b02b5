"""Durations: the grammar, lives of keys, and the calendar of budgets."""

from __future__ import annotations

from datetime import UTC, datetime, time, timedelta, timezone
from itertools import pairwise
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.durations import (
    BudgetCalendar,
    Duration,
    life_ends_at,
    next_reset,
    parse_duration,
    period_end,
    period_start,
    time_of_day,
    time_zone,
)

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


# ---- a time zone and a time of day of one's own ----------------------------------------------------------------------

BERLIN = BudgetCalendar(ZoneInfo("Europe/Berlin"))
LONDON_AT_SIX = BudgetCalendar(ZoneInfo("Europe/London"), time(6, 30))


def in_berlin(*parts: int, fold: int = 0) -> datetime:
    return datetime(*parts, tzinfo=ZoneInfo("Europe/Berlin"), fold=fold).astimezone(UTC)  # type: ignore[arg-type, misc]


def test_a_day_ends_at_midnight_of_the_budgets_time_zone() -> None:
    assert next_reset("1d", in_berlin(2026, 7, 1, 23, 59), BERLIN) == in_berlin(2026, 7, 2)
    assert next_reset("1d", in_berlin(2026, 7, 2), BERLIN) == in_berlin(2026, 7, 3)
    assert next_reset("30d", in_berlin(2026, 7, 31, 23, 59), BERLIN) == in_berlin(2026, 8, 1)


def test_a_day_begins_at_the_time_that_was_set() -> None:
    early = datetime(2026, 12, 1, 6, 29, tzinfo=UTC)
    for text in ("1d", "30d", "1mo"):
        assert next_reset(text, early, LONDON_AT_SIX) == datetime(2026, 12, 1, 6, 30, tzinfo=UTC)
    assert next_reset("1h", early, LONDON_AT_SIX) == datetime(2026, 12, 1, 7, tzinfo=UTC)
    assert period_start("7d", early, LONDON_AT_SIX) == datetime(2026, 11, 30, 6, 30, tzinfo=UTC)


def test_a_day_is_as_long_as_clocks_make_it() -> None:
    spring, autumn = in_berlin(2026, 3, 29), in_berlin(2026, 10, 25)
    assert next_reset("1d", spring, BERLIN) - spring == timedelta(hours=23)
    assert next_reset("1d", autumn, BERLIN) - autumn == timedelta(hours=25)


def test_an_hour_is_an_hour_also_when_clocks_change() -> None:
    first_time = in_berlin(2026, 10, 25, 2, 30)
    second_time = in_berlin(2026, 10, 25, 2, 30, fold=1)
    assert next_reset("1h", first_time, BERLIN) == in_berlin(2026, 10, 25, 2, fold=1)
    assert next_reset("1h", second_time, BERLIN) == in_berlin(2026, 10, 25, 3)
    # The last part of such a day is shorter or longer than a quarter of it, and ends with it all the same.
    assert period_end("6h", in_berlin(2026, 3, 29, 23), BERLIN) == in_berlin(2026, 3, 30)


def test_a_midnight_that_clocks_leap_over_is_the_moment_of_the_leap() -> None:
    cairo = ZoneInfo("Africa/Cairo")  # 2026-04-24: from midnight straight to 01:00
    day_before = datetime(2026, 4, 23, 12, tzinfo=cairo)
    assert next_reset("1d", day_before, BudgetCalendar(cairo)) == datetime(2026, 4, 24, 1, tzinfo=cairo).astimezone(UTC)


def test_a_day_that_a_zone_left_out_is_no_period() -> None:
    apia = ZoneInfo("Pacific/Apia")  # there was no 30 December 2011
    noon = datetime(2011, 12, 29, 12, tzinfo=apia)
    reset = next_reset("1d", noon, BudgetCalendar(apia))
    assert reset == datetime(2011, 12, 31, tzinfo=apia)
    assert next_reset("1d", reset, BudgetCalendar(apia)) == datetime(2012, 1, 1, tzinfo=apia)


def test_periods_of_several_days_and_months_are_the_same_for_everyone() -> None:
    assert period_start("2w", SATURDAY) == datetime(2026, 11, 9, tzinfo=UTC)
    assert period_end("2w", SATURDAY) == datetime(2026, 11, 23, tzinfo=UTC)
    assert period_start("3mo", SATURDAY) == datetime(2026, 10, 1, tzinfo=UTC)
    assert period_end("3mo", SATURDAY) == datetime(2027, 1, 1, tzinfo=UTC)
    assert period_start("12mo", SATURDAY) == datetime(2026, 1, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    ("value", "clock"), [("00:00", time()), ("6:30", time(6, 30)), (" 23:59 ", time(23, 59)), (750, time(12, 30))]
)
def test_reads_a_time_of_day(value: Any, clock: time) -> None:
    assert time_of_day(value) == clock


@pytest.mark.parametrize("value", ["", "24:00", "12:60", "noon", "12:30:00", "-1:00", 9, 1440, True, None, 7.5])
def test_refuses_what_is_no_time_of_day(value: Any) -> None:
    with pytest.raises(ValueError, match="HH:MM"):
        time_of_day(value)


def test_reads_a_time_zone() -> None:
    assert time_zone("Europe/Berlin") == ZoneInfo("Europe/Berlin")
    assert time_zone(" utc ") is UTC


@pytest.mark.parametrize("value", ["", "Mars/Olympus", "Europe", "../../etc/passwd", "/etc/localtime", "a\0b", 3, None])
def test_refuses_what_is_no_time_zone(value: Any) -> None:
    with pytest.raises(ValueError, match="Europe/Berlin or UTC"):
        time_zone(value)


# ---- promises for every duration, moment and calendar ---------------------------------------------------------------

ZONES = """
UTC Europe/Berlin America/New_York America/Havana America/Sao_Paulo Asia/Kathmandu Asia/Gaza Africa/Cairo
Africa/Casablanca Australia/Lord_Howe Pacific/Apia Pacific/Chatham Pacific/Kiritimati America/Scoresbysund
""".split()
DURATIONS = st.builds(Duration, st.integers(1, 500), st.sampled_from(["s", "m", "h", "d", "w", "mo"]))
LENGTHS = DURATIONS.map(str)
MOMENTS = st.datetimes(datetime(1990, 1, 1), datetime(2045, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001 (bounds are naive)
CALENDARS = st.builds(
    BudgetCalendar,
    st.sampled_from(ZONES).map(time_zone),
    st.times().map(lambda clock: clock.replace(second=0, microsecond=0)),
)
# Lengths for which the calendar itself has periods: both ways of counting are one.
PARTS_OF_THE_CALENDAR = st.sampled_from(["20s", "7m", "1h", "6h", "7h", "1d", "24h", "7d", "1w", "30d", "1mo"])


@given(DURATIONS)
def test_a_duration_is_read_back_as_it_was_written(duration: Duration) -> None:
    assert parse_duration(str(duration)) == duration


@given(LENGTHS, MOMENTS, CALENDARS)
def test_now_lies_in_its_period_and_before_the_reset(text: str, now: datetime, calendar: BudgetCalendar) -> None:
    assert period_start(text, now, calendar) <= now < period_end(text, now, calendar)
    assert now < next_reset(text, now, calendar)


@given(LENGTHS, MOMENTS, CALENDARS, st.floats(0, 1, exclude_max=True))
def test_everyone_within_a_period_sees_the_same_one(
    text: str, now: datetime, calendar: BudgetCalendar, part: float
) -> None:
    start, end = period_start(text, now, calendar), period_end(text, now, calendar)
    within = min(start + (end - start) * part, end - timedelta(microseconds=1))
    assert (period_start(text, within, calendar), period_end(text, within, calendar)) == (start, end)


@given(LENGTHS, MOMENTS, CALENDARS)
def test_periods_leave_no_gap_and_do_not_overlap(text: str, now: datetime, calendar: BudgetCalendar) -> None:
    starts = [period_start(text, now, calendar)]
    for _ in range(6):
        starts.append(period_end(text, starts[-1], calendar))
        assert period_start(text, starts[-1], calendar) == starts[-1]
    for start, end in pairwise(starts):
        assert start < end
        assert period_start(text, end - timedelta(microseconds=1), calendar) == start


@given(PARTS_OF_THE_CALENDAR, MOMENTS, CALENDARS)
def test_a_reset_on_the_calendar_is_the_end_of_the_period(text: str, now: datetime, calendar: BudgetCalendar) -> None:
    assert next_reset(text, now, calendar) == period_end(text, now, calendar)


@given(LENGTHS, MOMENTS, CALENDARS)
def test_a_reset_is_never_further_off_than_its_length(text: str, now: datetime, calendar: BudgetCalendar) -> None:
    seconds = parse_duration(text).seconds
    if seconds is not None and seconds != 30 * 86400:
        a_change_of_clocks = timedelta(hours=25)  # a zone that crossed the date line
        assert next_reset(text, now, calendar) - now <= timedelta(seconds=seconds) + a_change_of_clocks


@given(LENGTHS, MOMENTS, MOMENTS)
def test_who_starts_later_never_lives_shorter(text: str, one: datetime, other: datetime) -> None:
    earlier, later = sorted((one, other))
    assert earlier < life_ends_at(text, earlier) <= life_ends_at(text, later)


@given(DURATIONS, st.integers(1, 500), MOMENTS)
def test_a_longer_life_never_ends_earlier(duration: Duration, more: int, now: datetime) -> None:
    longer = Duration(duration.count + more, duration.unit)
    assert life_ends_at(str(duration), now) < life_ends_at(str(longer), now)
