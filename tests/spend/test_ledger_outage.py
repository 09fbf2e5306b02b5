"""PostgreSQL is down, silent, cut or read-only: spend waits in the journal and is written when it is back."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import pytest

from tests.services.postgres import PostgresServer
from tests.spend.ledgers import PRICE, SpendInstance, add_alice, event, instance_of
from tests.tcp_proxy import TcpProxy


@asynccontextmanager
async def instance_behind_a_proxy(url: str, state_dir: Path) -> AsyncIterator[tuple[SpendInstance, TcpProxy]]:
    parts = urlsplit(url)
    async with TcpProxy("127.0.0.1", parts.port or 5432) as proxy:
        through = urlunsplit(parts._replace(netloc=f"{parts.username}@127.0.0.1:{proxy.port}"))
        async with instance_of(through, state_dir) as instance:
            await add_alice(instance.database)
            yield instance, proxy


@pytest.fixture
async def outage(migrated_postgres_url: str, tmp_path: Path) -> AsyncIterator[tuple[SpendInstance, TcpProxy]]:
    async with instance_behind_a_proxy(migrated_postgres_url, tmp_path / "state") as both:
        yield both


async def everything_is_written(instance: SpendInstance, count: int) -> None:
    assert await instance.log_count() == count
    assert set((await instance.totals()).values()) == {count * PRICE}
    assert instance.files("*.jsonl") == instance.files("*.rejected") == []
    assert instance.ledger.waiting == 0


async def test_a_long_outage_sets_nothing_aside(outage: tuple[SpendInstance, TcpProxy]) -> None:
    instance, proxy = outage
    instance.ledger.record(event(0))
    proxy.refuse()
    proxy.cut()
    for number in range(1, 12):
        instance.ledger.record(event(number))
        await instance.ledger.flush()
    assert instance.ledger.waiting == 12
    proxy.accept()
    await instance.ledger.flush()
    await everything_is_written(instance, 12)


async def test_connections_that_are_cut_in_the_middle_of_writing_lose_and_double_nothing(
    outage: tuple[SpendInstance, TcpProxy],
) -> None:
    instance, proxy = outage
    await instance.ledger.start()
    for number in range(300):
        instance.ledger.record(event(number))
        if number % 10 == 0:
            proxy.cut()
        await asyncio.sleep(0.004)
    await instance.ledger.stop()
    await instance.ledger.flush()
    await everything_is_written(instance, 300)


async def test_a_database_that_falls_silent_does_not_hold_up_the_calls(outage: tuple[SpendInstance, TcpProxy]) -> None:
    instance, proxy = outage
    proxy.pause()
    flush = asyncio.create_task(instance.ledger.flush())
    instance.ledger.record(event(0))
    await asyncio.sleep(0.2)
    async with asyncio.timeout(0.1):
        instance.ledger.record(event(1))
    proxy.resume()
    await flush
    await instance.ledger.flush()
    await everything_is_written(instance, 2)


async def test_the_next_start_writes_what_an_outage_left_behind(
    outage: tuple[SpendInstance, TcpProxy], migrated_postgres_url: str
) -> None:
    instance, proxy = outage
    await instance.ledger.start()
    proxy.refuse()
    proxy.cut()
    for number in range(5):
        instance.ledger.record(event(number))
    await instance.ledger.stop()
    assert len(instance.files("*.jsonl")) >= 1
    proxy.accept()
    async with instance_of(instance.database.url, instance.state_dir) as heir:
        await heir.ledger.start()
        await heir.ledger.stop()
        await everything_is_written(heir, 5)


async def test_a_database_that_only_reads_for_a_while_sets_nothing_aside(
    migrated_postgres_url: str, postgres_server: PostgresServer, tmp_path: Path
) -> None:
    name = urlsplit(migrated_postgres_url).path.lstrip("/")
    async with instance_of(migrated_postgres_url, tmp_path / "state") as instance:
        await add_alice(instance.database)
        await instance.database.close()
    postgres_server.execute(f'ALTER DATABASE "{name}" SET default_transaction_read_only = on')
    async with instance_of(migrated_postgres_url, tmp_path / "state") as instance:
        for number in range(7):
            instance.ledger.record(event(number))
            await instance.ledger.flush()
        assert instance.ledger.waiting == 7
        await instance.ledger.stop()
    postgres_server.execute(f'ALTER DATABASE "{name}" RESET default_transaction_read_only')
    async with instance_of(migrated_postgres_url, tmp_path / "state") as instance:
        await instance.ledger.start()
        await instance.ledger.stop()
        await everything_is_written(instance, 7)


async def test_an_outage_does_not_use_up_the_files_of_the_process(outage: tuple[SpendInstance, TcpProxy]) -> None:
    instance, proxy = outage
    proxy.refuse()
    proxy.cut()
    for number in range(20):
        instance.ledger.record(event(number))
        await instance.ledger.flush()
    assert len(instance.files("*.jsonl")) == 2
    proxy.accept()
    await instance.ledger.flush()
    await everything_is_written(instance, 20)


async def test_spend_that_the_disk_does_not_take_is_written_from_memory(
    migrated_sqlite_url: str, tmp_path: Path
) -> None:
    (tmp_path / "state").mkdir()
    (tmp_path / "state" / "journal").write_text("in the way")
    async with instance_of(migrated_sqlite_url, tmp_path / "state") as instance:
        await add_alice(instance.database)
        for number in range(3):
            instance.ledger.record(event(number))
        assert instance.ledger.waiting == 3
        await instance.ledger.flush()
        await everything_is_written(instance, 3)


async def test_a_deadlock_does_not_set_a_good_event_aside(migrated_postgres_url: str, tmp_path: Path) -> None:
    async with instance_of(migrated_postgres_url, tmp_path / "state") as instance:
        await add_alice(instance.database)
        await instance.database.fetch(
            "CREATE FUNCTION busy() RETURNS trigger LANGUAGE plpgsql AS "
            "$body$ BEGIN RAISE EXCEPTION 'deadlock' USING ERRCODE = '40P01'; END $body$"
        )
        await instance.database.fetch(
            "CREATE TRIGGER busy BEFORE INSERT ON spend_log FOR EACH ROW WHEN (NEW.end_user = 'busy') "
            "EXECUTE FUNCTION busy()"
        )
        instance.ledger.record(event(0, request_id="a", call_type="x" * 200))
        instance.ledger.record(event(1, request_id="b", end_user="busy"))
        for _ in range(3):
            await instance.ledger.flush()
        assert instance.files("*.rejected") == []
        await instance.database.fetch("DROP TRIGGER busy ON spend_log")
        await instance.ledger.flush()
        assert await instance.log_count() == 1
        (rejected,) = instance.files("*.rejected")
        assert len(rejected.read_bytes().splitlines()) == 1
