"""Many rows in one statement: new rows, and amounts that are added to rows. The one place where dialects differ.

PostgreSQL gets the rows of a statement as one JSON document: encoding it is the cheapest thing that the event loop can
do for them, and the work of taking it apart is the server's. SQLite runs one statement for every row, in its thread.

On PostgreSQL rows are locked in the order of their keys, by code point, and the caller visits tables in one order, each
once: two processes that add to the same rows wait for each other and never in a circle. SQLite has one writer anyway.
"""

# ruff: noqa: S608 (statements are put together from the constants of totals.py; every value is a bound parameter)

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from typing import Any, Literal

import msgspec

from ..storage.database import Database

# Rows that are encoded without letting calls in between: half a millisecond.
_ROWS_PER_STEP = 100

Row = Sequence[Any]
# key: which row it is. money, count: added to. latest: the later of two times. new: written by an insert only.
Role = Literal["key", "money", "count", "latest", "new"]


@dataclass(frozen=True, slots=True)
class Column:
    """One column: its name, its PostgreSQL type, and what happens to it when its row is there already."""

    name: str
    type: str
    role: Role = "new"


@dataclass(frozen=True)
class Table:
    """The columns of one table that the ledger writes, keys first, in the order of the rows that it is handed.

    `period_start` names a key-like time: a row that begins later replaces the amounts, one that began earlier is passed
    over.
    """

    name: str
    columns: tuple[Column, ...]
    period_start: str | None = None

    @cached_property
    def names(self) -> list[str]:
        return [column.name for column in self.columns]

    @cached_property
    def keys(self) -> list[str]:
        return [column.name for column in self.columns if column.role == "key"]

    @cached_property
    def record(self) -> type[msgspec.Struct]:
        """A row as an object, which is encoded faster than a dictionary."""
        return msgspec.defstruct("Record", self.names, gc=False)


@dataclass(frozen=True, slots=True)
class Statement:
    """One statement over many rows, encoded, so that nothing but the database is waited for while it holds locks."""

    sql: str
    ids: Sequence[str]
    parameters: Sequence[Sequence[Any]]


Verb = Literal["insert", "add", "upsert"]


class BulkWriter:
    """Prepares statements over many rows, and runs them in the transaction that is open."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._texts: dict[tuple[str, Verb], str] = {}

    async def statement(self, verb: Verb, table: Table, rows: Iterable[Row]) -> Statement:
        """One statement that writes all rows, each key once. Calls get their turn every few hundred rows.

        insert: rows whose key (of one column) is there are left alone. add: rows that are not there are passed over.
        upsert: rows that are not there are made.
        """
        text = self._texts.get((table.name, verb))
        if text is None:
            text = self._texts[table.name, verb] = _text(verb, table, self._database)
        ids: list[str] = []
        parameters: list[Sequence[Any]] = []
        documents: list[bytes] = []
        remaining = iter(rows)
        while piece := list(islice(remaining, _ROWS_PER_STEP)):
            if verb == "insert":
                ids.extend(row[0] for row in piece)
            if self._database.is_sqlite:
                parameters.extend(_sqlite_row(table, row) for row in piece)
            else:
                documents.append(msgspec.json.encode([table.record(*row) for row in piece])[1:-1])
            await asyncio.sleep(0)
        if documents:
            parameters.append([f"[{b','.join(documents).decode()}]"])
        return Statement(text, ids, parameters)

    async def insert_new(self, table: Table, statement: Statement) -> set[str]:
        """Run an `insert`, answer the keys of the rows that were not there. Nothing is run for no rows."""
        if not statement.parameters:
            return set()
        key = table.keys[0]
        if not self._database.is_sqlite:
            return {row[key] for row in await self._database.fetch(statement.sql, statement.parameters[0])}
        # The transaction holds the write lock already: no other writer comes between the query and the insert.
        # One text whatever their number: each text is cached compiled.
        ids = msgspec.json.encode(statement.ids).decode()
        known = await self._database.fetch(
            f"SELECT {key} AS id FROM {table.name} WHERE {key} IN (SELECT value FROM json_each($1))", [ids]
        )
        fresh = set(statement.ids) - {row["id"] for row in known}
        rows = [row for id, row in zip(statement.ids, statement.parameters, strict=True) if id in fresh]
        await self._database.execute_many(statement.sql, rows)
        return fresh

    async def run(self, statement: Statement) -> None:
        """Run an `add` or an `upsert`. Nothing is run for no rows."""
        if not statement.parameters:
            return
        if self._database.is_sqlite:
            await self._database.execute_many(statement.sql, statement.parameters)
        else:
            await self._database.fetch(statement.sql, statement.parameters[0])


def _text(verb: Verb, table: Table, database: Database) -> str:
    writers = _SQLITE if database.is_sqlite else _POSTGRESQL
    return writers[verb](table, database)


# ---- both dialects -------------------------------------------------------------------------------------------------


def _conflict(table: Table, database: Database) -> str:
    """What an INSERT does when its row is there."""
    sums = _sums(table, database, "excluded")
    if table.period_start is None:
        return f"ON CONFLICT ({', '.join(table.keys)}) DO UPDATE SET {_assignments(sums)}"
    old, new = f"{table.name}.{table.period_start}", f"excluded.{table.period_start}"
    sums = {name: f"CASE WHEN {new} > {old} THEN excluded.{name} ELSE {sum} END" for name, sum in sums.items()}
    sums[table.period_start] = new
    return f"ON CONFLICT ({', '.join(table.keys)}) DO UPDATE SET {_assignments(sums)} WHERE {new} >= {old}"


def _sums(table: Table, database: Database, source: str, *, is_bound: bool = False) -> dict[str, str]:
    """Column -> its value after adding. `source` has the amounts; with `is_bound` they are parameters instead."""
    values: dict[str, str] = {}
    for number, column in enumerate(table.columns, 1):
        old, new = f"{table.name}.{column.name}", f"${number}" if is_bound else f"{source}.{column.name}"
        if column.role == "money":
            values[column.name] = database.plus(old, new)
        elif column.role == "count":
            values[column.name] = f"{old} + {new}"
        elif column.role == "latest":
            values[column.name] = f"CASE WHEN {old} > {new} THEN {old} ELSE {new} END"
    return values


def _assignments(values: dict[str, str]) -> str:
    return ", ".join(f"{name} = {value}" for name, value in values.items())


def _quoted(names: Sequence[str]) -> str:
    """`user` is a word of SQL and a column of ours."""
    return ", ".join(f'"{name}"' for name in names)


# ---- PostgreSQL ----------------------------------------------------------------------------------------------------


def _source(table: Table) -> str:
    types = ", ".join(f'"{column.name}" {column.type}' for column in table.columns)
    return f"json_to_recordset($1::json) AS sent ({types})"


def _order(keys: Sequence[str], source: str) -> str:
    """By code point: the same in every process, and cheap to compare."""
    return "ORDER BY " + ", ".join(f'{source}.{key} COLLATE "C"' for key in keys)


def _insert_new(table: Table, database: Database) -> str:
    keys = table.keys
    return (
        f"INSERT INTO {table.name} ({_quoted(table.names)}) SELECT {_quoted(table.names)} FROM {_source(table)} "
        f"{_order(keys, 'sent')} ON CONFLICT ({keys[0]}) DO NOTHING RETURNING {keys[0]}"
    )


def _upsert(table: Table, database: Database) -> str:
    return (
        f"INSERT INTO {table.name} ({_quoted(table.names)}) SELECT {_quoted(table.names)} FROM {_source(table)} "
        f"{_order(table.keys, 'sent')} {_conflict(table, database)}"
    )


def _add(table: Table, database: Database) -> str:
    """Rows are locked in order by the inner query; the update can only reach what that has answered."""
    keys = table.keys
    is_same = " AND ".join(f"{table.name}.{key} = sent.{key}" for key in keys)
    is_locked = " AND ".join(f"{table.name}.{key} = locked.{key}" for key in keys)
    return (
        f"WITH locked AS (SELECT sent.* FROM {_source(table)} JOIN {table.name} ON {is_same} "
        f"{_order(keys, 'sent')} FOR NO KEY UPDATE OF {table.name}) "
        f"UPDATE {table.name} SET {_assignments(_sums(table, database, 'locked'))} FROM locked WHERE {is_locked}"
    )


# ---- SQLite --------------------------------------------------------------------------------------------------------


def _sqlite_insert(table: Table, database: Database) -> str:
    marks = ", ".join(f"${number}" for number in range(1, len(table.columns) + 1))
    return f"INSERT INTO {table.name} ({_quoted(table.names)}) VALUES ({marks})"


def _sqlite_upsert(table: Table, database: Database) -> str:
    return f"{_sqlite_insert(table, database)} {_conflict(table, database)}"


def _sqlite_add(table: Table, database: Database) -> str:
    is_same = " AND ".join(f"{key} = ${number}" for number, key in enumerate(table.keys, 1))
    return f"UPDATE {table.name} SET {_assignments(_sums(table, database, '', is_bound=True))} WHERE {is_same}"


def _sqlite_row(table: Table, row: Row) -> list[Any]:
    """A row of parameters with its documents as the JSON text that SQLite stores."""
    return [
        msgspec.json.encode(value).decode() if column.type == "jsonb" else value
        for column, value in zip(table.columns, row, strict=True)
    ]


_POSTGRESQL: dict[Verb, Callable[[Table, Database], str]] = {"insert": _insert_new, "add": _add, "upsert": _upsert}
_SQLITE: dict[Verb, Callable[[Table, Database], str]] = {
    "insert": _sqlite_insert,
    "add": _sqlite_add,
    "upsert": _sqlite_upsert,
}
