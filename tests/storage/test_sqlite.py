"""The embedded database keeps answering, whenever somebody who waits for it is cancelled."""

from __future__ import annotations

import asyncio

import pytest

from app.settings import Settings
from app.storage.database import Database


@pytest.mark.parametrize("turns", range(0, 60, 3))
async def test_a_cancellation_while_the_file_is_opened_leaves_a_database_that_works(
    migrated_sqlite_url: str, turns: int
) -> None:
    database = Database(Settings(database_url=migrated_sqlite_url))
    await database.open()
    try:
        first = asyncio.create_task(database.fetch("SELECT 1 AS one"))
        for _ in range(turns):
            await asyncio.sleep(0.0001)
        first.cancel()
        await asyncio.gather(first, return_exceptions=True)
        async with asyncio.timeout(5):
            total = await database.fetch("SELECT decimal_add('0.1', '0.2') AS total")
            async with database.transaction():
                await database.fetch("SELECT 1 AS one")
    finally:
        await database.close()
    assert total == [{"total": "0.3"}]
