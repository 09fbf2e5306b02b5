"""Whose spend a caller may see, and the small SQL that all spend routes share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import date, timedelta
from decimal import Decimal
from typing import Any

from ..auth.principal import Principal
from ..errors import PlainDenial
from ..services import services
from .body import Field, WrongValue
from .key_access import refused

# More days than this are a report, not a page: every sum would read the whole table.
MOST_DAYS = 400


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

    return Field(read)


def check_days(first: date | None, last: date | None) -> tuple[date, date]:
    """Both ends of a range, in order and not too far apart. Raises 400 (E2)."""
    if first is None or last is None:
        raise PlainDenial("Please provide start_date and end_date", status=400, is_nested=True)
    if last < first:
        raise PlainDenial("end_date is before start_date", status=400, is_nested=True)
    if last - first >= timedelta(days=MOST_DAYS):
        raise PlainDenial(f"Ask for at most {MOST_DAYS} days at once", status=400, is_nested=True)
    return first, last


def own_only(principal: Principal, where: Where, *, user_id: str | None, user_column: str) -> Where:
    """Narrow a query down to what the caller may see. Raises 403 for somebody else's spend."""
    if principal.can_read_all:
        return where.add(f"{user_column} = {{}}", user_id) if user_id else where
    if user_id is not None and user_id != principal.user_id:
        raise refused("You are not authorized to see another user's spend")
    if principal.user_id is None:
        return where.add("api_key = {}", principal.key_hash)
    return where.add(f"{user_column} = {{}}", principal.user_id)


async def sums(select: str, where: Where, rest: str) -> list[dict[str, Any]]:
    """Rows of `daily_spend`; `{spend}` in the SQL is the exact total of a group."""
    database = services().database
    sql = f"SELECT {select} FROM daily_spend {where.sql} {rest}".replace("{spend}", database.total("spend"))  # noqa: S608 (no value in the text)
    return await database.fetch(sql, where.parameters)


def usd(value: Any) -> float:
    """An exact total as the JSON number that clients read."""
    return float(Decimal(str(value or 0)))
