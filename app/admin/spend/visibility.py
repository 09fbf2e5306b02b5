"""Whose spend a caller may see, and the small SQL that all spend routes share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import date, timedelta
from decimal import Decimal
from typing import Any

from ...errors import PlainDenial
from ...security.credentials import key_hash_of
from ...services import services
from ...web.fields import Field, WrongValue

# More days than this are a report, not a page: every sum would read the whole table.
MAX_DAYS = 400


@dataclass(slots=True)
class Where:
    """Conditions and their bound parameters."""

    conditions: list[str] = field(default_factory=list)
    parameters: list[Any] = field(default_factory=list)

    def add(self, condition: str, value: Any) -> Where:
        """`condition` has one `{}` where the parameter goes."""
        self.parameters.append(value)
        self.conditions.append(condition.format(f"${len(self.parameters)}"))
        return self

    def among(self, column: str, values: Sequence[Any]) -> Where:
        """The column is one of the values; nothing matches when there are none."""
        marks = []
        for value in values:
            self.parameters.append(value)
            marks.append(f"${len(self.parameters)}")
        self.conditions.append(f"{column} IN ({', '.join(marks)})" if marks else "1 = 0")
        return self

    def none_of(self, column: str, values: Sequence[Any]) -> Where:
        """The column is none of the values."""
        for value in values:
            self.add(f"{column} <> {{}}", value)
        return self

    def copy(self) -> Where:
        return Where(list(self.conditions), list(self.parameters))

    @property
    def sql(self) -> str:
        return f"WHERE {' AND '.join(self.conditions)}" if self.conditions else ""


def day() -> Field:
    """YYYY-MM-DD; a time of day behind it is ignored."""

    def read(value: Any) -> date:
        try:
            return date.fromisoformat(str(value)[:10])
        except ValueError:
            raise WrongValue("This must be a day as 2026-11-21", "date_parsing") from None

    return Field(read, schema={"type": "string", "format": "date", "examples": ["2026-11-21"]})


def check_days(first: date | None, last: date | None) -> tuple[date, date]:
    """Both ends of a range, in order and not too far apart. Raises 400 (E2)."""
    if first is None or last is None:
        raise PlainDenial("Please provide start_date and end_date", status=400, is_nested=True)
    if last < first:
        raise PlainDenial("end_date is before start_date", status=400, is_nested=True)
    if last - first >= timedelta(days=MAX_DAYS):
        raise PlainDenial(f"Ask for at most {MAX_DAYS} days at once", status=400, is_nested=True)
    return first, last


def days_between(first: date, last: date) -> list[str]:
    """Every day of a range as text, newest first. A list of days is found by index where a range is scanned."""
    return [(last - timedelta(days=back)).isoformat() for back in range((last - first).days + 1)]


async def sums(select: str, where: Where, rest: str, *, table: str = "daily_spend") -> list[dict[str, Any]]:
    """Rows of a table of daily totals; `{spend}` in the SQL is the exact total of a group."""
    database = services().database
    sql = f"SELECT {select} FROM {table} {where.sql} {rest}".replace("{spend}", database.total("spend"))  # noqa: S608 (no value in the text)
    return await database.fetch(sql, where.parameters)


def named_key(given: str) -> str:
    """Spend names a key by its hash, and the master key by a word."""
    return key_hash_of(given) if given.startswith("sk-") else given[:64]


def usd(value: Any) -> float:
    """An exact total as the JSON number that clients read."""
    return float(Decimal(str(value or 0)))
