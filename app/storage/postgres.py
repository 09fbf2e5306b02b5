"""PostgreSQL: Tortoise's client, with a timeout on its pool, and transactions that release their connection for sure.

As it comes, a transaction whose BEGIN or ROLLBACK fails keeps its dead connection: it is never released to the pool,
and the task that opened it goes on talking to it for ever. A background task would not survive the first outage.
"""

from __future__ import annotations

import asyncio
from typing import Any

import asyncpg
from tortoise.backends.asyncpg.client import AsyncpgDBClient, TransactionWrapper
from tortoise.backends.base.client import (
    PoolConnectionWrapper,
    TransactionalDBClient,
    TransactionContext,
    TransactionContextPooled,
)
from tortoise.connection import get_connections


class QuarterdeckPostgresClient(AsyncpgDBClient):
    def __init__(self, *, queue_seconds: float, **credentials: Any) -> None:
        """`queue_seconds`: seconds that a statement waits for a free connection before that counts as an outage."""
        super().__init__(**credentials)
        self.queue_seconds = queue_seconds

    async def create_pool(self, *, dsn: str | None = None, **options: Any) -> asyncpg.Pool:
        """`dsn`: what only an address can say to the driver, as which certificates to use."""
        return await asyncpg.create_pool(dsn, **options)

    def acquire_connection(self) -> PoolConnectionWrapper[asyncpg.Connection]:
        return AcquireWithTimeout(self, self._pool_init_lock, self.queue_seconds)

    def _in_transaction(self) -> TransactionContext:
        return ReleasingTransaction(TransactionWrapper(self), self._pool_init_lock, self.queue_seconds)


class AcquireWithTimeout(PoolConnectionWrapper[asyncpg.Connection]):
    def __init__(self, client: AsyncpgDBClient, pool_lock: asyncio.Lock, queue_seconds: float) -> None:
        super().__init__(client, pool_lock)
        self._queue_seconds = queue_seconds

    async def __aenter__(self) -> asyncpg.Connection:
        await self.ensure_connection()
        self.connection = await self.client._pool.acquire(timeout=self._queue_seconds)
        return self.connection


class ReleasingTransaction(TransactionContextPooled):
    def __init__(self, connection: TransactionWrapper, pool_lock: asyncio.Lock, queue_seconds: float) -> None:
        super().__init__(connection, pool_lock)
        self._queue_seconds = queue_seconds

    async def __aenter__(self) -> TransactionalDBClient:
        await self.ensure_connection()
        pool = self._pool()
        connection = self.client._connection = await pool.acquire(timeout=self._queue_seconds)
        self.token = get_connections().set(self.connection_name, self.client)
        try:
            await self.client.begin()
        except BaseException:  # whatever ended it, a cancellation too: release the connection
            get_connections().reset(self.token)
            await pool.release(connection)
            raise
        return self.client

    async def __aexit__(self, exc_type: Any, exc_val: Any, exc_tb: Any) -> None:
        try:
            if self.client._finalized:
                return
            if exc_type is None:
                await self.client.commit()
            else:
                await self.client.rollback()
        finally:
            get_connections().reset(self.token)
            await self._pool().release(self.client._connection)

    def _pool(self) -> asyncpg.Pool:
        return self.client._parent._pool


client_class = QuarterdeckPostgresClient
