"""What an instance spent in the past days, reported once a period whatever number of processes asks.

A row of the stored configuration says up to which day reports went out. Whoever moves it on sends the next one.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, timedelta
from decimal import Decimal
from typing import Any

from tortoise.exceptions import IntegrityError

from ..models import ConfigEntry, Team
from ..storage.database import Database

_NAME, _UNTIL = "spend_report", "told_until"
_MAX_DAYS = 400
_LARGEST = 10
_DAY = timedelta(days=1)

Amounts = tuple[tuple[str, Decimal], ...]


@dataclass(frozen=True, slots=True)
class SpendReport:
    """USD of whole UTC days, `first` and `last` included. `models` and `teams` are the largest ones, largest first."""

    first: date
    last: date
    total: Decimal
    requests: int
    models: Amounts
    teams: Amounts


class SpendReports:
    def __init__(self, database: Database) -> None:
        self._database = database

    async def due(self, days: int, today: date) -> SpendReport | None:
        """The report of the days since the last one, once they are so many; None for all but one of those who ask.

        The first call of all starts the count. Raises what the database raises.
        """
        last = today - _DAY
        with self._database.active():
            row = await ConfigEntry.get_or_none(param_name=_NAME)
            if row is None:
                await self._begin(last)
                return None
            reported_until = _day(row.param_value.get(_UNTIL)) or last
            if (last - reported_until).days < days:
                return None
            changed = {_UNTIL: last.isoformat()}
            mine = ConfigEntry.filter(param_name=_NAME, revision=row.revision)
            if not await mine.update(param_value=changed, revision=row.revision + 1):
                return None  # another process sends it
        return await self._report(max(reported_until + _DAY, last - _MAX_DAYS * _DAY), last)

    async def _begin(self, last: date) -> None:
        try:
            await ConfigEntry.create(param_name=_NAME, param_value={_UNTIL: last.isoformat()})
        except IntegrityError:
            return  # another process did

    async def _report(self, first: date, last: date) -> SpendReport:
        spend = self._database.total("spend")
        (whole,) = await self._sums(f"{spend} AS spend, SUM(api_requests) AS requests", "all", first, last)
        teams = await self._largest("team", "entity_id", first, last)
        with self._database.active():
            aliases = {row.team_id: row.team_alias async for row in Team.filter(team_id__in=[id for id, _ in teams])}
        return SpendReport(
            first=first,
            last=last,
            total=Decimal(str(whole["spend"] or 0)),
            requests=int(whole["requests"] or 0),
            models=await self._largest("all", "model", first, last),
            teams=tuple((aliases.get(id) or id, amount) for id, amount in teams),
        )

    async def _largest(self, kind: str, column: str, first: date, last: date) -> Amounts:
        """(name, USD) of those who spent most."""
        spend = self._database.total("spend")
        order = f"GROUP BY {column} ORDER BY CAST({spend} AS REAL) DESC, {column} LIMIT {_LARGEST}"
        rows = await self._sums(f"{column} AS name, {spend} AS spend", kind, first, last, f"AND {column} <> '' {order}")
        return tuple((str(row["name"]), Decimal(str(row["spend"]))) for row in rows)

    async def _sums(self, select: str, kind: str, first: date, last: date, rest: str = "") -> list[dict[str, Any]]:
        """Over a kind's daily totals, those without the keys."""
        sql = (
            f"SELECT {select} FROM daily_entity_spend "  # noqa: S608 (no value in the text)
            f"WHERE kind = $1 AND api_key = $2 AND date >= $3 AND date <= $4 {rest}"
        )
        return await self._database.fetch(sql, (kind, "", first.isoformat(), last.isoformat()))


def _day(text: object) -> date | None:
    try:
        return date.fromisoformat(str(text))
    except ValueError:
        return None
