"""The duration grammar of the contract, and the calendar on which budgets start anew.

`<whole number><unit>` with the units s, m (minutes), h, d, w and mo (calendar months), or one of the words hourly,
daily, weekly and monthly. A key's life counts from now. A budget's period ends on the calendar, in UTC: a day at
midnight, a week on Monday, 30 days and months on the first of a month.
"""

from __future__ import annotations

import calendar
import re
from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta

_GRAMMAR = re.compile(r"(\d{1,9})(s|m|h|d|w|mo)", re.ASCII)
_WORDS = {"hourly": "1h", "daily": "24h", "weekly": "7d", "monthly": "30d"}
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 7 * 86400}
_DAY = 86400
_EXAMPLES = "Use a format like '1h', '24h', '7d', or '30d'."


@dataclass(frozen=True, slots=True)
class Duration:
    """`count` times `unit`, as written; `mo` has no fixed length."""

    count: int
    unit: str

    @property
    def seconds(self) -> int | None:
        """The fixed length, None for months."""
        return None if self.unit == "mo" else self.count * _SECONDS[self.unit]


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


def life_ends_at(text: str, now: datetime) -> datetime:
    """The moment `text` after `now`; a month later is the same day, or the last one of a shorter month.

    Raises ValueError for a text that is no duration, or one that ends after the year 9999.
    """
    duration = parse_duration(text)
    try:
        if duration.seconds is None:
            return _months_later(now, duration.count)
        return now + timedelta(seconds=duration.seconds)
    except (OverflowError, ValueError):
        raise ValueError(f"'{text[:40]}' ends too far in the future.") from None


def next_reset(text: str, now: datetime) -> datetime:
    """When a budget of this period starts anew: the next boundary of the calendar after `now`, in UTC.

    Raises ValueError for a text that is no duration, or one that ends after the year 9999.
    """
    duration = parse_duration(text)
    try:
        return _boundary(duration, now.astimezone(UTC))
    except (OverflowError, ValueError):
        raise ValueError(f"'{text[:40]}' ends too far in the future.") from None


def _boundary(duration: Duration, now: datetime) -> datetime:
    today = datetime.combine(now.date(), time(), UTC)
    seconds = duration.seconds
    if seconds is None:
        return _months_later(today.replace(day=1), duration.count)
    if duration.unit in ("d", "w") or seconds % _DAY == 0:
        return _whole_days(seconds // _DAY, today)
    if seconds > _DAY:
        unit = _SECONDS[duration.unit]
        elapsed = int((now - today).total_seconds())
        return today + timedelta(seconds=elapsed - elapsed % unit + seconds)
    passed = int((now - today).total_seconds()) // seconds
    return today + timedelta(seconds=(passed + 1) * seconds)


def _whole_days(days: int, today: datetime) -> datetime:
    if days == 7:
        return today + timedelta(days=7 - today.weekday())
    if days == 30:
        return _months_later(today.replace(day=1), 1)
    return today + timedelta(days=days)


def _months_later(moment: datetime, months: int) -> datetime:
    years, month = divmod(moment.month - 1 + months, 12)
    year = moment.year + years
    if year > 9999:
        raise OverflowError
    last_day = calendar.monthrange(year, month + 1)[1]
    return moment.replace(year=year, month=month + 1, day=min(moment.day, last_day))
