"""PostgreSQL is down, silent, cut or read-only: spend waits in the journal and is written when it is back."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import pytest

from tests.services.postgres import PostgresServer
from tests.spend.ledgers import PRICE, Books, add_alice, books_of, event
from tests.tcp_proxy import TcpProxy


@asynccontextmanager
async def books_behind_a_proxy(url: str, state_dir: Path) -> AsyncIterator[tuple[Books, TcpProxy]]:
    parts = urlsplit(url)
    async with TcpProxy("127.0.0.1", parts.port or 5432) as proxy:
        through = urlunsplit(parts._replace(netloc=f"{parts.username}@127.0.0.1:{proxy.port}"))
        async with books_of(through, state_dir) as books:
            await add_alice(books.database)
            yield books, proxy


@pytest.fixture
async def outage(migrated_postgres_url: str, tmp_path: Path) -> AsyncIterator[tuple[Books, TcpProxy]]:
    async with books_behind_a_proxy(migrated_postgres_url, tmp_path / "state") as both:
        yield both


async def everything_is_written(books: Books, count: int) -> None:
    assert await books.log_count() == count
    assert set((await books.totals()).values()) == {count * PRICE}
    assert books.files("*.jsonl") == books.files("*.rejected") == []
    assert books.ledger.waiting == 0


async def test_a_long_outage_sets_nothing_aside(outage: tuple[Books, TcpProxy]) -> None:
    books, proxy = outage
    books.ledger.record(event(0))
    proxy.refuse()
    proxy.cut()
    for number in range(1, 12):
        books.ledger.record(event(number))
        await books.ledger.flush()
    assert books.ledger.waiting == 12
    proxy.accept()
    await books.ledger.flush()
    await everything_is_written(books, 12)


async def test_connections_that_are_cut_in_the_middle_of_writing_lose_and_double_nothing(
    outage: tuple[Books, TcpProxy],
) -> None:
    books, proxy = outage
    await books.ledger.start()
    for number in range(300):
        books.ledger.record(event(number))
        if number % 10 == 0:
            proxy.cut()
        await asyncio.sleep(0.004)
    await books.ledger.stop()
    await books.ledger.flush()
    await everything_is_written(books, 300)


async def test_a_database_that_falls_silent_does_not_hold_up_the_calls(outage: tuple[Books, TcpProxy]) -> None:
    books, proxy = outage
    proxy.pause()
    flush = asyncio.create_task(books.ledger.flush())
    books.ledger.record(event(0))
    await asyncio.sleep(0.2)
    async with asyncio.timeout(0.1):
        books.ledger.record(event(1))
    proxy.resume()
    await flush
    await books.ledger.flush()
    await everything_is_written(books, 2)


async def test_the_next_start_writes_what_an_outage_left_behind(
    outage: tuple[Books, TcpProxy], migrated_postgres_url: str
) -> None:
    books, proxy = outage
    await books.ledger.start()
    proxy.refuse()
    proxy.cut()
    for number in range(5):
        books.ledger.record(event(number))
    await books.ledger.stop()
    assert len(books.files("*.jsonl")) >= 1
    proxy.accept()
    async with books_of(books.database.url, books.state_dir) as heir:
        await heir.ledger.start()
        await heir.ledger.stop()
        await everything_is_written(heir, 5)


async def test_a_database_that_only_reads_for_a_while_sets_nothing_aside(
    migrated_postgres_url: str, postgres_server: PostgresServer, tmp_path: Path
) -> None:
    name = urlsplit(migrated_postgres_url).path.lstrip("/")
    async with books_of(migrated_postgres_url, tmp_path / "state") as books:
        await add_alice(books.database)
        await books.database.close()
    postgres_server.execute(f'ALTER DATABASE "{name}" SET default_transaction_read_only = on')
    async with books_of(migrated_postgres_url, tmp_path / "state") as books:
        for number in range(7):
            books.ledger.record(event(number))
            await books.ledger.flush()
        assert books.ledger.waiting == 7
        await books.ledger.stop()
    postgres_server.execute(f'ALTER DATABASE "{name}" RESET default_transaction_read_only')
    async with books_of(migrated_postgres_url, tmp_path / "state") as books:
        await books.ledger.start()
        await books.ledger.stop()
        await everything_is_written(books, 7)


async def test_an_outage_does_not_use_up_the_files_of_the_process(outage: tuple[Books, TcpProxy]) -> None:
    books, proxy = outage
    proxy.refuse()
    proxy.cut()
    for number in range(20):
        books.ledger.record(event(number))
        await books.ledger.flush()
    assert len(books.files("*.jsonl")) == 2
    proxy.accept()
    await books.ledger.flush()
    await everything_is_written(books, 20)


async def test_spend_that_the_disk_does_not_take_is_written_from_memory(
    migrated_sqlite_url: str, tmp_path: Path
) -> None:
    (tmp_path / "state").mkdir()
    (tmp_path / "state" / "journal").write_text("in the way")
    async with books_of(migrated_sqlite_url, tmp_path / "state") as books:
        await add_alice(books.database)
        for number in range(3):
            books.ledger.record(event(number))
        assert books.ledger.waiting == 3
        await books.ledger.flush()
        await everything_is_written(books, 3)


async def test_a_deadlock_does_not_set_a_good_event_aside(migrated_postgres_url: str, tmp_path: Path) -> None:
    async with books_of(migrated_postgres_url, tmp_path / "state") as books:
        await add_alice(books.database)
        await books.database.fetch(
            "CREATE FUNCTION busy() RETURNS trigger LANGUAGE plpgsql AS "
            "$body$ BEGIN RAISE EXCEPTION 'deadlock' USING ERRCODE = '40P01'; END $body$"
        )
        await books.database.fetch(
            "CREATE TRIGGER busy BEFORE INSERT ON spend_log FOR EACH ROW WHEN (NEW.end_user = 'busy') "
            "EXECUTE FUNCTION busy()"
        )
        books.ledger.record(event(0, request_id="a", call_type="x" * 200))
        books.ledger.record(event(1, request_id="b", end_user="busy"))
        for _ in range(3):
            await books.ledger.flush()
        assert books.files("*.rejected") == []
        await books.database.fetch("DROP TRIGGER busy ON spend_log")
        await books.ledger.flush()
        assert await books.log_count() == 1
        (rejected,) = books.files("*.rejected")
        assert len(rejected.read_bytes().splitlines()) == 1
