"""The embedded database: Tortoise's SQLite client plus exact money and writers that wait for each other.

As it comes, whoever is cancelled while the file is being opened keeps the lock of the connection, and every statement
after it waits for ever; or leaves a connection that lacks half of its settings.

SQLite has no decimal type: `+` and `SUM` on decimal text would go through floats. Two functions of our own keep money
exact, so that the same statements serve both databases (see `Database.plus` and `Database.total`).
"""

from __future__ import annotations

import sqlite3
from decimal import Context, Decimal
from typing import Any

from tortoise.backends.base.client import ConnectionWrapper, TransactionalDBClient, TransactionContext
from tortoise.backends.sqlite.client import SqliteClient, SqliteTransactionContext, SqliteTransactionWrapper
from tortoise.connection import get_connections
from tortoise.exceptions import TransactionManagementError

# Twice the digits of a money column: the default context would round sums of more than 28.
_EXACT = Context(prec=60)


def decimal_add(left: str | None, right: str | None) -> str:
    return format(_EXACT.add(Decimal(str(left or 0)), Decimal(str(right or 0))), "f")


def decimal_max(left: str | None, right: str | None) -> str:
    return format(max(Decimal(str(left or 0)), Decimal(str(right or 0))), "f")


class DecimalSum:
    """Aggregate: the exact sum of decimal text."""

    def __init__(self) -> None:
        self.sum = Decimal(0)

    def step(self, value: str | None) -> None:
        if value is not None:
            self.sum = _EXACT.add(self.sum, Decimal(str(value)))

    def finalize(self) -> str:
        return format(self.sum, "f")


class QuarterdeckSqliteClient(SqliteClient):
    async def create_connection(self, with_db: bool) -> None:
        try:
            await super().create_connection(with_db)
        except BaseException:  # whatever ended it, a cancellation too: a whole connection or none
            incomplete, self._connection = self._connection, None
            if incomplete is not None:
                incomplete.stop()
            raise

    def acquire_connection(self) -> ConnectionWrapper[Any]:
        return ReleasingConnection(self._lock, self)

    async def _post_connect(self) -> None:
        await super()._post_connect()
        connection: Any = self._connection
        await connection.create_function("decimal_add", 2, decimal_add, deterministic=True)
        await connection.create_function("decimal_max", 2, decimal_max, deterministic=True)
        # aiosqlite offers no public create_aggregate; its worker thread is the only one that may touch the handle.
        await connection._execute(connection._conn.create_aggregate, "decimal_sum", 1, DecimalSum)

    def _in_transaction(self) -> TransactionContext:
        return ReleasingTransaction(ImmediateTransaction(self), self._lock)


class ReleasingConnection(ConnectionWrapper[Any]):
    """Releases the lock of the connection when the file cannot be opened, or when nobody waits for it any more."""

    async def __aenter__(self) -> Any:
        await self._lock.acquire()
        try:
            await self.ensure_connection()
        except BaseException:  # whatever ended it, a cancellation too
            self._lock.release()
            raise
        return self.connection


class ReleasingTransaction(SqliteTransactionContext):
    """Releases the lock of the connection when the transaction cannot start, which another process may prevent."""

    async def __aenter__(self) -> TransactionalDBClient:
        await self._trxlock.acquire()
        try:
            await self.ensure_connection()
            client: TransactionalDBClient = self.connection
            self.token = get_connections().set(self.connection_name, self.connection)
            try:
                await self.connection.begin()
            except BaseException:  # whatever ended it, a cancellation too: reset the current connection
                get_connections().reset(self.token)
                raise
        except BaseException:  # the same for the lock
            self._trxlock.release()
            raise
        return client


class ImmediateTransaction(SqliteTransactionWrapper):
    """Takes the write lock at once: a transaction that starts by reading could not upgrade while another one writes."""

    async def begin(self) -> None:
        try:
            await self._connection.commit()
            await self._connection.execute("BEGIN IMMEDIATE")
        except sqlite3.OperationalError as error:
            raise TransactionManagementError(error) from error


client_class = QuarterdeckSqliteClient
