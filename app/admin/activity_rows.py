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

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from decimal import Decimal

from ..services import services
from .activity_figures import BREAKDOWNS, COUNTS, Answer
from .spend_scope import Where, sums

_ENTITY_TABLE = "daily_entity_spend"
_DIMENSIONS = ("date", *BREAKDOWNS.values())
_MEASURES = "{spend} AS spend, " + ", ".join(f"SUM({name}) AS {name}" for name in COUNTS)
_MOST_ROWS_OF_A_DAY = 200
_MOST_CANDIDATES = 1500
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
        where = Where().among("date", self.days) if is_dated else Where()
        if self.entity.table == _ENTITY_TABLE:
            where.add("kind = {}", self.entity.kind)
        if self.ids is not None:
            where.among(self.entity.column, self.ids)
        if self.entity is not USERS:
            where.add(f"{self.entity.column} <> {{}}", "")
        where.none_of(self.entity.column, self.without)
        if self.keys is not None:
            where.among("api_key", self.keys)
        elif self.entity.table == _ENTITY_TABLE:
            where.add("api_key <> {}", "")
        return self._of_model(where)

    def _of_model(self, where: Where) -> Where:
        return where.add("model = {}", self.model) if self.model else where


async def days_with_traffic(scope: Scope) -> list[str]:
    """Newest first."""
    table, where = scope.totals()
    return [row["date"] for row in await sums("date", where, "GROUP BY date ORDER BY date DESC", table=table)]


async def totals(scope: Scope) -> list[Answer]:
    """Sums per day and BREAKDOWNS."""
    table, where = scope.totals()
    dimensions = ", ".join(_DIMENSIONS)
    return await sums(f"{dimensions}, {_MEASURES}", where, f"GROUP BY {dimensions}", table=table)


async def rows_of_keys(scope: Scope, keys: Sequence[str]) -> list[Answer]:
    """Every row of these keys, with `entity`."""
    if not keys:
        return []
    columns = f"{', '.join(_DIMENSIONS)}, api_key, {scope.entity.column} AS entity"
    select = f"{columns}, spend, {', '.join(COUNTS)}"
    return await sums(select, replace(scope, keys=keys).rows_with_keys(), "", table=scope.entity.table)


async def rows_of_entities(scope: Scope, ids: Sequence[str]) -> list[Answer]:
    """Sums per day of these entities."""
    if not ids:
        return []
    table, where = replace(scope, ids=ids).totals()
    column = scope.entity.column if table == scope.entity.table else "entity_id"
    return await sums(f"date, {column} AS entity, {_MEASURES}", where, f"GROUP BY date, {column}", table=table)


@dataclass(slots=True)
class Ranking:
    """Names by spend. `is_cut`: there are, or may be, more."""

    spend: dict[str, Decimal] = field(default_factory=dict)
    is_cut: bool = False

    def largest(self, most: int, start: int = 0) -> list[str]:
        ordered = sorted(self.spend, key=lambda name: (-self.spend[name], name))
        return ordered[start : start + most]


async def largest(scope: Scope) -> tuple[Ranking, Ranking]:
    """Keys and entities that spent most in a scope."""
    if not scope.days:
        return Ranking(), Ranking()
    if _is_small(scope):
        columns = f"api_key, {scope.entity.column}"
        rest = f"AND api_key <> '' GROUP BY {columns} ORDER BY CAST({{spend}} AS REAL) DESC LIMIT {_MOST_CANDIDATES}"
        select = f"api_key, {scope.entity.column} AS entity, {{spend}} AS spend"
        rows = await sums(select, scope.rows_with_keys(), rest, table=scope.entity.table)
        is_cut = len(rows) == _MOST_CANDIDATES
    else:
        each = _rows_of_a_day(scope)
        where = replace(scope, model=None).rows_with_keys(is_dated=False).add("api_key <> {}", "")
        rows = await _of_each_day(scope, scope.entity.table, scope.entity.column, where, each)
        is_cut = _is_full(rows, each)
    keys, entities = _ranking(rows, "api_key", is_cut), _ranking(rows, "entity", is_cut)
    if scope.entity is not USERS and scope.keys is None:
        entities = await _largest_entities(scope)
    return keys, entities


def _is_small(scope: Scope) -> bool:
    """Whether an index leads to the rows of the scope alone; those of teams are ordered by spend besides."""
    return scope.keys is not None or (scope.ids is not None and scope.entity is not TEAMS)


def _rows_of_a_day(scope: Scope) -> int:
    return max(5, min(_MOST_ROWS_OF_A_DAY, _MOST_CANDIDATES // len(scope.days)))


def _is_full(rows: Sequence[Answer], each: int) -> bool:
    counts: defaultdict[str, int] = defaultdict(int)
    for row in rows:
        counts[row["date"]] += 1
    return any(count >= each for count in counts.values())


def _ranking(rows: Sequence[Answer], column: str, is_cut: bool) -> Ranking:
    found: defaultdict[str, Decimal] = defaultdict(Decimal)
    for row in rows:
        if row[column]:
            spend = row["spend"]
            found[row[column]] += spend if isinstance(spend, Decimal) else Decimal(str(spend))
    return Ranking(found, is_cut)


async def _largest_entities(scope: Scope) -> Ranking:
    """By the sums that are kept of each."""
    where = Where().add("kind = {}", scope.entity.kind).add("api_key = {}", "").add("entity_id <> {}", "")
    if scope.ids is not None:
        where.among("entity_id", scope.ids)
    where.none_of("entity_id", scope.without)
    each = _rows_of_a_day(scope)
    rows = await _of_each_day(scope, _ENTITY_TABLE, "entity_id", where, each)
    return _ranking(rows, "entity", _is_full(rows, each))


async def _of_each_day(scope: Scope, table: str, column: str, where: Where, each: int) -> list[Answer]:
    """The `each` rows of every day that cost most: date, api_key, entity, spend."""
    database = services().database
    columns = f"date, api_key, {column} AS entity, model, spend"
    depth = each * _MODEL_DEPTH if scope.model else each
    if database.is_sqlite:
        where = where.copy().among("date", scope.days)
        numbered = "ROW_NUMBER() OVER (PARTITION BY date ORDER BY CAST(spend AS REAL) DESC, id) AS place"
        inner = f"SELECT {columns}, {numbered} FROM {table} {where.sql}"  # noqa: S608 (names of this file)
        outer = Where([f"place <= {int(depth)}"], list(where.parameters))
        source = f"({inner}) AS ranked"
    else:
        outer = Where([], [*where.parameters, list(scope.days)])
        inner_where = " AND ".join([*where.conditions, f"{table}.date = days.day"])
        inner = f"SELECT {columns} FROM {table} WHERE {inner_where} ORDER BY spend DESC LIMIT {int(depth)}"  # noqa: S608 (names of this file)
        source = f"unnest(${len(outer.parameters)}::text[]) AS days(day) CROSS JOIN LATERAL ({inner}) AS ranked"
    if scope.model:
        outer.add("model = {}", scope.model)
    sql = f"SELECT date, api_key, entity, spend FROM {source} {outer.sql}"  # noqa: S608 (names of this file)
    return await database.fetch(sql, outer.parameters)
