"""The rows behind daily activity, read through indexes: sums that somebody keeps, and the largest keys of each day.

`daily_spend` has a row per day, key and model; `daily_entity_spend` has the sums that no list may compute again:

    kind            entity_id   api_key
    all             ""          ""        every call
    team, organization, tag, end_user
                    ""          ""        every call that has one (a call with two tags counts once)
                    its id      ""        every call of that one
    organization, tag, end_user
                    its id      a hash    the same for one key

Ranking a million keys would read every row, so the largest are looked for among the largest rows of each day; the
figures of a key that is shown are exact, whichever way it was found.
"""

from __future__ import annotations

from asyncio import gather
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from decimal import Decimal
from typing import Any

from ...services import services
from .daily_figures import BREAKDOWNS, COUNTS, Metrics, Sums
from .visibility import Where

_ENTITY_TABLE = "daily_entity_spend"
DIMENSIONS = tuple(BREAKDOWNS.values())
# Text and whole numbers are read several times faster than the decimals that a SUM is.
_COUNTS = ", ".join(f"CAST(SUM({name}) AS BIGINT)" for name in COUNTS)
_MAX_ROWS_OF_A_DAY = 200
_MAX_CANDIDATES = 1500
# A filter on the model is applied to so many times more rows of a day.
_MODEL_DEPTH = 20


@dataclass(frozen=True, slots=True)
class Entity:
    """Who days are broken down by. `table` and `column` are where its rows with keys are."""

    kind: str
    table: str = _ENTITY_TABLE
    column: str = "entity_id"


USERS = Entity("all", "daily_spend", "user_id")
TEAMS = Entity("team", "daily_spend", "team_id")
ORGANIZATIONS, TAGS, END_USERS = Entity("organization"), Entity("tag"), Entity("end_user")


@dataclass(frozen=True, slots=True, kw_only=True)
class Scope:
    """Which calls: `ids` None is everybody's, `without` leaves entities out, `keys` are hashes (None: any)."""

    entity: Entity
    days: Sequence[str]
    ids: Sequence[str] | None = None
    without: Sequence[str] = ()
    keys: Sequence[str] | None = None
    model: str | None = None

    def on(self, days: Sequence[str]) -> Scope:
        return replace(self, days=days)

    @property
    def _has_sums(self) -> bool:
        """Whether the sums are kept: then no row of a key is read for them."""
        return self.keys is None and not (self.entity is USERS and (self.ids is not None or self.without))

    def totals(self) -> tuple[str, Where]:
        """Table and condition of the sums."""
        if not self._has_sums:
            return self.entity.table, self.rows_with_keys()
        where = Where().add("kind = {}", self.entity.kind).add("api_key = {}", "").among("date", self.days)
        if self.ids is None and not self.without:
            return _ENTITY_TABLE, self._of_model(where.add("entity_id = {}", ""))
        # The sum of all of them is no entity: an empty id must not lead to it.
        where.add("entity_id <> {}", "").none_of("entity_id", self.without)
        if self.ids is not None:
            where.among("entity_id", self.ids)
        return _ENTITY_TABLE, self._of_model(where)

    def rows_with_keys(self, *, is_dated: bool = True) -> Where:
        """Condition of the rows of single keys."""
        where = Where()
        if is_dated:
            self._add_days(where)
        if self.entity.table == _ENTITY_TABLE:
            where.add("kind = {}", self.entity.kind)
            # No parameter: this is the condition of the indexes.
            where.conditions.append("api_key <> ''")
        if self.ids is not None:
            where.among(self.entity.column, self.ids)
        if self.entity is not USERS:
            where.add(f"{self.entity.column} <> {{}}", "")
        where.none_of(self.entity.column, self.without)
        if self.keys is not None:
            where.among("api_key", self.keys)
        return self._of_model(where)

    def _add_days(self, where: Where) -> None:
        """Rows of known keys are next to each other by date: between the first and the last there are no others."""
        if self.keys is not None and self.days:
            where.add("date >= {}", min(self.days)).add("date <= {}", max(self.days))
        else:
            where.among("date", self.days)

    def _of_model(self, where: Where) -> Where:
        return where.add("model = {}", self.model) if self.model else where


async def days_with_traffic(scope: Scope) -> list[str]:
    """Newest first."""
    table, where = scope.totals()
    sql = f"SELECT date FROM {table} {where.sql} GROUP BY date ORDER BY date DESC"  # noqa: S608 (names of this file)
    return [row[0] for row in await services().database.rows(sql, where.parameters)]


async def totals(scope: Scope, by: Sequence[str] = ("date", *DIMENSIONS)) -> list[Sums]:
    """Sums of the whole scope per value of these columns."""
    return await _sums(*scope.totals(), by)


async def sums_of_keys(scope: Scope, keys: Sequence[str], by: Sequence[str]) -> list[Sums]:
    """Sums of these keys per value of these columns; "entity" is one."""
    if not keys:
        return []
    columns = [scope.entity.column if name == "entity" else name for name in by]
    return await _sums(scope.entity.table, replace(scope, keys=keys).rows_with_keys(), columns)


async def sums_of_entities(scope: Scope, ids: Sequence[str]) -> list[Sums]:
    """Sums of these entities per date and entity."""
    if not ids:
        return []
    table, where = replace(scope, ids=ids).totals()
    return await _sums(table, where, ("date", scope.entity.column if table == scope.entity.table else "entity_id"))


async def _sums(table: str, where: Where, by: Sequence[str]) -> list[Sums]:
    database, columns, end = services().database, ", ".join(by), len(by)
    select = f"{columns}, CAST({database.total('spend')} AS TEXT), {_COUNTS}"
    sql = f"SELECT {select} FROM {table} {where.sql} GROUP BY {columns}"  # noqa: S608 (names of this file)
    rows = await database.rows(sql, where.parameters)
    return [(row[:end], Metrics(Decimal(row[end]), *row[end + 1 :])) for row in rows]


@dataclass(slots=True)
class Ranking:
    """Names by spend, about. `is_cut`: there are, or may be, more."""

    spend: dict[str, float] = field(default_factory=dict)
    is_cut: bool = False

    def largest(self, most: int, start: int = 0) -> list[str]:
        ordered = sorted(self.spend, key=lambda name: (-self.spend[name], name))
        return ordered[start : start + most]


# Key, entity, USD.
_Pairs = list[Sequence[Any]]


async def largest(scope: Scope) -> tuple[Ranking, Ranking]:
    """Keys and entities that spent most in a scope."""
    if not scope.days:
        return Ranking(), Ranking()
    looking = _all_pairs(scope) if _is_small(scope) else _largest_rows(scope)
    if scope.entity is USERS or scope.keys is not None:
        pairs, is_cut = await looking
        return _ranking(pairs, 0, is_cut), _ranking(pairs, 1, is_cut)
    (pairs, is_cut), entities = await gather(looking, largest_entities(scope))
    return _ranking(pairs, 0, is_cut), entities


def _is_small(scope: Scope) -> bool:
    """Whether an index leads to the rows of the scope alone; those of teams are ordered by spend besides."""
    return scope.keys is not None or (scope.ids is not None and scope.entity is not TEAMS)


async def _all_pairs(scope: Scope) -> tuple[_Pairs, bool]:
    """What each key spent on each entity in all days, and whether there are more."""
    database, where = services().database, scope.rows_with_keys()
    where.conditions.append("api_key <> ''")
    columns = f"api_key, {scope.entity.column}"
    spend = f"CAST({database.total('spend')} AS DOUBLE PRECISION)"
    sql = (
        f"SELECT {columns}, {spend} FROM {scope.entity.table} {where.sql} "  # noqa: S608 (names of this file)
        f"GROUP BY {columns} ORDER BY 3 DESC LIMIT {_MAX_CANDIDATES}"
    )
    rows = await database.rows(sql, where.parameters)
    return rows, len(rows) == _MAX_CANDIDATES


async def _largest_rows(scope: Scope) -> tuple[_Pairs, bool]:
    """The same of the rows of keys that cost most."""
    where = replace(scope, model=None).rows_with_keys(is_dated=False)
    where.conditions.append("api_key <> ''")
    return await _of_each_day(scope, scope.entity.table, scope.entity.column, where)


async def largest_entities(scope: Scope) -> Ranking:
    """Those that spent most, by the sums that are kept of each; not for users, which have none."""
    where = Where().add("kind = {}", scope.entity.kind)
    where.conditions.append("api_key = ''")
    where.add("entity_id <> {}", "")
    if scope.ids is not None:
        where.among("entity_id", scope.ids)
    where.none_of("entity_id", scope.without)
    pairs, is_cut = await _of_each_day(scope, _ENTITY_TABLE, "entity_id", where)
    return _ranking(pairs, 1, is_cut)


def _ranking(pairs: _Pairs, place: int, is_cut: bool) -> Ranking:
    found: defaultdict[str, float] = defaultdict(float)
    for pair in pairs:
        if pair[place]:
            found[pair[place]] += pair[2]
    return Ranking(found, is_cut)


async def _of_each_day(scope: Scope, table: str, column: str, where: Where) -> tuple[_Pairs, bool]:
    """Sums of the rows of every day that cost most, and whether a day has more."""
    database = services().database
    each = max(5, min(_MAX_ROWS_OF_A_DAY, _MAX_CANDIDATES // len(scope.days)))
    depth = each * _MODEL_DEPTH if scope.model else each
    columns = f"date, api_key, {column} AS entity, model, CAST(spend AS DOUBLE PRECISION) AS amount"
    if database.is_sqlite:
        where = where.copy().among("date", scope.days)
        numbered = "ROW_NUMBER() OVER (PARTITION BY date ORDER BY CAST(spend AS DOUBLE PRECISION) DESC, id) AS place"
        inner = f"SELECT {columns}, {numbered} FROM {table} {where.sql}"  # noqa: S608 (names of this file)
        source, parameters = f"({inner}) AS numbered WHERE place <= {int(depth)}", where.parameters
    else:
        parameters = [*where.parameters, list(scope.days)]
        inner_where = " AND ".join([*where.conditions, f"{table}.date = days.day"])
        inner = f"SELECT {columns} FROM {table} WHERE {inner_where} ORDER BY spend DESC LIMIT {int(depth)}"  # noqa: S608 (names of this file)
        source = f"unnest(${len(parameters)}::text[]) AS days(day) CROSS JOIN LATERAL ({inner}) AS of_day"
    counted = f"SELECT *, COUNT(*) OVER (PARTITION BY date) AS number FROM {source}"  # noqa: S608 (names of this file)
    outer = Where([], list(parameters))
    if scope.model:
        outer.add("model = {}", scope.model)
    sql = (
        f"SELECT api_key, entity, SUM(amount), MAX(number) FROM ({counted}) AS ranked {outer.sql} "  # noqa: S608 (names of this file)
        "GROUP BY api_key, entity"
    )
    rows = await database.rows(sql, outer.parameters)
    return rows, any(row[3] >= depth for row in rows)
