"""A batch is one transaction: replays add nothing, and a circle of transactions is left by trying again."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import asyncpg
import pytest

from app.models import EndUser, SpendLog, VirtualKey
from app.spend.batch import BatchWriter
from tests.services.postgres import PostgresServer
from tests.spend.ledgers import KEY_HASH, PRICE, SpendInstance, add_alice, deadlocks, event, instance_of


@pytest.fixture
async def instance(database_url: str, tmp_path: Path) -> AsyncIterator[SpendInstance]:
    async with instance_of(database_url, tmp_path / "state") as opened:
        await add_alice(opened.database)
        yield opened


def writer_of(instance: SpendInstance) -> BatchWriter:
    return BatchWriter(instance.database, tracks_end_users=True)


async def test_a_batch_of_which_a_part_is_there_adds_the_other_part(instance: SpendInstance) -> None:
    writer = writer_of(instance)
    events = [event(number, end_user="customer") for number in range(1200)]
    await writer.write(await writer.prepare(events[:700]))
    await writer.write(await writer.prepare(events))
    await writer.write(await writer.prepare(events))
    assert set((await instance.totals()).values()) == {1200 * PRICE}
    with instance.database.active():
        assert (await EndUser.get()).spend == 1200 * PRICE


async def test_an_empty_batch_is_nothing(instance: SpendInstance) -> None:
    writer = writer_of(instance)
    await writer.write(await writer.prepare([]))
    assert await instance.log_count() == 0


async def test_what_fails_in_the_middle_leaves_nothing_behind(instance: SpendInstance) -> None:
    await instance.database.fetch("ALTER TABLE daily_entity_spend RENAME TO elsewhere")
    instance.ledger.record(event())
    await instance.ledger.flush()
    assert set((await instance.totals()).values()) == {0}
    await instance.database.fetch("ALTER TABLE elsewhere RENAME TO daily_entity_spend")
    await instance.ledger.flush()
    assert set((await instance.totals()).values()) == {PRICE}


async def test_calls_get_their_turn_while_a_large_batch_is_made(instance: SpendInstance) -> None:
    turns = 0

    async def take_turns() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    beside = asyncio.create_task(take_turns())
    await writer_of(instance).prepare([event(number) for number in range(5000)])
    beside.cancel()
    assert turns > 30


async def test_a_deadlock_is_left_by_trying_again(
    migrated_postgres_url: str, postgres_server: PostgresServer, tmp_path: Path
) -> None:
    """Another transaction locks our second key, then wants our first: the server ends that with the shorter timeout."""
    second = "b" * 64
    lock = "SELECT 1 FROM virtual_key WHERE token = $1 FOR UPDATE"
    async with instance_of(migrated_postgres_url, tmp_path / "state") as instance:
        await add_alice(instance.database)
        with instance.database.active():
            await VirtualKey.create(token=second)
        instance.ledger.record(event(0))
        instance.ledger.record(event(1, key_hash=second))
        other = await asyncpg.connect(migrated_postgres_url)
        async with other.transaction():
            await other.execute("SET LOCAL deadlock_timeout = '30s'")
            await other.execute(lock, second)
            flush = asyncio.create_task(instance.ledger.flush())
            await asyncio.sleep(0.3)  # it has locked the first key and waits for the second
            await other.execute(lock, KEY_HASH)
        await flush
        await other.close()
        with instance.database.active():
            assert {row.spend for row in await VirtualKey.all()} == {PRICE}
            assert await SpendLog.all().count() == 2
        assert deadlocks(postgres_server, migrated_postgres_url) == 1
