"""The duration grammar of the contract, and the calendar on which budgets start anew.

`<whole number><unit>` with the units s, m (minutes), h, d, w and mo (calendar months), or one of the words hourly,
daily, weekly and monthly. A key's life counts from now. A budget's period ends on the calendar, in the budgets' own
time zone: a day at the reset time (midnight), a week on Monday, 30 days and months on the first of a month.

Hours, minutes and seconds are counted from local midnight in real time, so that an hour is an hour also on the two
days of a year on which clocks change. A midnight that clocks leap over is the moment of the leap, one that comes
twice is the first of the two.

Two ways to cut time into periods, which agree for up to a day, 7 days, 30 days and one month:
`next_reset` counts other lengths from the current day (`3d` is two midnights from tomorrow), for budgets that
remember when they start anew; `period_start` and `period_end` count them from one fixed Monday, the same for every
process that looks, for budgets that remember nothing.
"""

from __future__ import annotations

import re
from calendar import monthrange
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta, tzinfo
from functools import lru_cache
from typing import Any
from zoneinfo import ZoneInfo

_GRAMMAR = re.compile(r"(\d{1,9})(s|m|h|d|w|mo)", re.ASCII)
_CLOCK = re.compile(r"(\d{1,2}):(\d{2})", re.ASCII)
_WORDS = {"hourly": "1h", "daily": "24h", "weekly": "7d", "monthly": "30d"}
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 7 * 86400}
_DAY = 86400
_EXAMPLES = "Use a format like '1h', '24h', '7d', or '30d'."

# Periods that follow no part of the calendar are counted from this day, a Monday.
_FIRST_DAY = date(1970, 1, 5)
_MIDNIGHT = time()


@dataclass(frozen=True, slots=True)
class BudgetCalendar:
    """Whose midnight ends a day: a time zone, and the time at which a day of it begins."""

    zone: tzinfo = UTC
    time_of_day: time = _MIDNIGHT

    def starts_at(self, day: date) -> datetime:
        """The moment in UTC at which this day begins, as budgets count it."""
        return _moment(day, self.time_of_day, self.zone)

    def day_of(self, moment: datetime) -> date:
        """The last day that has begun at this moment."""
        return _day_of(moment, self.time_of_day, self.zone)


UTC_CALENDAR = BudgetCalendar()


@dataclass(frozen=True, slots=True)
class Duration:
    """`count` times `unit`, as written; `mo` has no fixed length. `str()` gives the text that is read back."""

    count: int
    unit: str

    @property
    def seconds(self) -> int | None:
        """The fixed length, None for months."""
        return None if self.unit == "mo" else self.count * _SECONDS[self.unit]

    def __str__(self) -> str:
        return f"{self.count}{self.unit}"


@lru_cache(maxsize=1024)
def parse_duration(text: str) -> Duration:
    """Read `30s`, `10m`, `24h`, `7d`, `2w`, `1mo` or a word. Raises ValueError that shows the text and the grammar."""
    word = text.strip().lower()
    match = _GRAMMAR.fullmatch(_WORDS.get(word, word))
    if match is None:
        raise ValueError(f"'{text[:40]}' is not a duration. {_EXAMPLES}")
    duration = Duration(int(match[1]), match[2])
    if duration.count == 0:
        raise ValueError(f"'{text[:40]}' is no time at all. {_EXAMPLES}")
    return duration


def time_zone(value: Any) -> tzinfo:
    """Read the name of a time zone, as `Europe/Berlin`. Raises ValueError that says what to write instead."""
    name = value.strip() if isinstance(value, str) else ""
    if name.upper() in ("UTC", "Z"):
        return UTC  # known also where no time zone data is installed
    try:
        return ZoneInfo(name)
    except (LookupError, ValueError, OSError):
        raise ValueError(
            "is no time zone that this machine knows; write a name such as Europe/Berlin or UTC "
            "(a machine without time zone data needs the package tzdata)"
        ) from None


def time_of_day(value: Any) -> time:
    """Read `HH:MM`. Raises ValueError that says what to write instead.

    YAML reads an unquoted 12:30 as the number 750: minutes since midnight, which is what it is taken for.
    """
    hour = minute = -1
    if isinstance(value, int) and not isinstance(value, bool) and value >= 60:
        hour, minute = divmod(value, 60)
    elif isinstance(value, str) and (match := _CLOCK.fullmatch(value.strip())) is not None:
        hour, minute = int(match[1]), int(match[2])
    if not (0 <= hour < 24 and 0 <= minute < 60):
        raise ValueError('is no time of a day; write it as "HH:MM", for example "06:30"')
    return time(hour, minute)


def life_ends_at(text: str, now: datetime) -> datetime:
    """The moment `text` after `now`; a month later is the same day, or the last one of a shorter month.

    Raises ValueError for a text that is no duration, or one that ends after the year 9999.
    """
    duration = parse_duration(text)
    try:
        if duration.seconds is not None:
            return now + timedelta(seconds=duration.seconds)
        first = _months_later(now.date(), duration.count)
        last_day = monthrange(first.year, first.month)[1]
        return now.replace(year=first.year, month=first.month, day=min(now.day, last_day))
    except (OverflowError, ValueError):
        raise _too_far(text) from None


def next_reset(text: str, now: datetime, calendar: BudgetCalendar = UTC_CALENDAR) -> datetime:
    """When a budget of this period that starts anew `now` does so again: a boundary of the calendar, in UTC.

    Raises ValueError for a text that is no duration, or one that ends after the year 9999.
    """
    duration = parse_duration(text)
    try:
        if not _follows_days(duration):
            return _whole_parts_later(duration, now, calendar)
        today = calendar.day_of(now)
        return calendar.starts_at(_bounds_of_days(duration, today, counted_from=today)[1])
    except (OverflowError, ValueError):
        raise _too_far(text) from None


def period_start(text: str, now: datetime, calendar: BudgetCalendar = UTC_CALENDAR) -> datetime:
    """When the period that `now` is in began, in UTC; every process says the same. Raises as `next_reset` does."""
    return _period(text, now, calendar)[0]


def period_end(text: str, now: datetime, calendar: BudgetCalendar = UTC_CALENDAR) -> datetime:
    """When the period that `now` is in ends and the next one starts, in UTC. Raises as `next_reset` does."""
    return _period(text, now, calendar)[1]


def _period(text: str, now: datetime, calendar: BudgetCalendar) -> tuple[datetime, datetime]:
    duration = parse_duration(text)
    try:
        if _follows_days(duration):
            first, end = _bounds_of_days(duration, calendar.day_of(now), counted_from=_FIRST_DAY)
            return calendar.starts_at(first), calendar.starts_at(end)
        return _parts_of_day(duration, now, calendar)
    except (OverflowError, ValueError):
        raise _too_far(text) from None


# ---- days and longer -----------------------------------------------------------------------------------------------


def _follows_days(duration: Duration) -> bool:
    return duration.seconds is None or duration.seconds % _DAY == 0


def _bounds_of_days(duration: Duration, today: date, *, counted_from: date) -> tuple[date, date]:
    """The first day of the period that holds `today`, and the first day after it."""
    if duration.seconds is None or duration.seconds == 30 * _DAY:
        count = duration.count if duration.seconds is None else 1
        month = today.replace(day=1)
        # Of several months: whole ones of the calendar (3mo starts in January, April, …), or from this month on.
        into = (today.year * 12 + today.month - 1) % count if counted_from is _FIRST_DAY else 0
        first = _months_later(month, -into)
        return first, _months_later(first, count)
    days = duration.seconds // _DAY
    into = (today - (_FIRST_DAY if days == 7 else counted_from)).days % days
    first = today - timedelta(days=into)
    return first, first + timedelta(days=days)


def _months_later(day: date, months: int) -> date:
    """The first of the month that is so many months later."""
    years, month = divmod(day.month - 1 + months, 12)
    year = day.year + years
    if not 1 <= year <= 9999:
        raise OverflowError
    return date(year, month + 1, 1)


def _moment(day: date, clock: time, zone: tzinfo) -> datetime:
    """The first moment at which clocks show this, or the one after the leap that left it out."""
    return datetime.combine(day, clock, zone).astimezone(UTC)


def _day_of(moment: datetime, clock: time, zone: tzinfo) -> date:
    """The last day of which `clock` has come. A zone may repeat or leave out hours, and once left out a whole day."""
    day = moment.astimezone(zone).date()
    while _moment(day, clock, zone) > moment:
        day -= timedelta(days=1)
    while _moment(day + timedelta(days=1), clock, zone) <= moment:
        day += timedelta(days=1)
    return day


# ---- parts of days -------------------------------------------------------------------------------------------------


def _whole_parts_later(duration: Duration, now: datetime, calendar: BudgetCalendar) -> datetime:
    """The end of the current part of the day; of a length beyond a day: that many hours after the hour that runs."""
    seconds = duration.seconds or 0
    if seconds < _DAY:
        return _parts_of_day(duration, now, calendar)[1]
    unit = timedelta(seconds=_SECONDS[duration.unit])
    midnight = _moment(_day_of(now, _MIDNIGHT, calendar.zone), _MIDNIGHT, calendar.zone)
    return midnight + (now - midnight) // unit * unit + timedelta(seconds=seconds)


def _parts_of_day(duration: Duration, now: datetime, calendar: BudgetCalendar) -> tuple[datetime, datetime]:
    length, zone = timedelta(seconds=duration.seconds or 0), calendar.zone
    if length > timedelta(days=1):
        first = _moment(_FIRST_DAY, _MIDNIGHT, zone)
        start = first + (now - first) // length * length
        return start, start + length
    today = _day_of(now, _MIDNIGHT, zone)
    midnight, next_midnight = (_moment(day, _MIDNIGHT, zone) for day in (today, today + timedelta(days=1)))
    start = midnight + (now - midnight) // length * length
    return start, min(start + length, next_midnight)


def _too_far(text: str) -> ValueError:
    return ValueError(f"'{text[:40]}' ends too far in the future.")
