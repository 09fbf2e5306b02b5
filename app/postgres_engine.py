"""PostgreSQL: Tortoise's client, with transactions that give everything back when their connection is lost.

As it comes, a transaction whose BEGIN or ROLLBACK fails keeps its dead connection: it is never released to the pool,
and the task that opened it goes on talking to it for ever. A background task would not survive the first outage.
"""

from __future__ import annotations

from typing import Any

import asyncpg
from tortoise.backends.asyncpg.client import AsyncpgDBClient, TransactionWrapper
from tortoise.backends.base.client import TransactionalDBClient, TransactionContext, TransactionContextPooled
from tortoise.connection import get_connections


class QuarterdeckPostgresClient(AsyncpgDBClient):
    def _in_transaction(self) -> TransactionContext:
        return CarefulTransaction(TransactionWrapper(self), self._pool_init_lock)


class CarefulTransaction(TransactionContextPooled):
    async def __aenter__(self) -> TransactionalDBClient:
        await self.ensure_connection()
        pool = self._pool()
        connection = self.client._connection = await pool.acquire()
        self.token = get_connections().set(self.connection_name, self.client)
        try:
            await self.client.begin()
        except BaseException:  # whatever ended it, a cancellation too: give everything back
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
