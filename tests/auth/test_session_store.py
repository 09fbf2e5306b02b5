"""A console session in the database: readable by its id and this instance's salt key only, until it expires."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

import pytest

from app.auth.session_store import ConsoleSessionStore
from app.errors import ServiceUnavailable
from app.models import ConsoleSession
from app.settings import Settings
from app.storage.database import Database

DATA = {"eu": {"key": "sk-of-the-worker"}}


@pytest.fixture
async def database(migrated_sqlite_url: str) -> AsyncIterator[Database]:
    opened = Database(Settings(database_url=migrated_sqlite_url))
    await opened.open()
    with opened.active():
        yield opened
    await opened.close()


def _in(minutes: int) -> datetime:
    return datetime.now(UTC) + timedelta(minutes=minutes)


@pytest.mark.usefixtures("database")
async def test_a_session_is_read_back_and_ends_when_it_is_deleted() -> None:
    store = ConsoleSessionStore("salt")
    await store.save("id", DATA, _in(5))
    assert await store.load("id") == DATA
    await store.delete("id")
    assert await store.load("id") is None


@pytest.mark.usefixtures("database")
async def test_the_table_holds_neither_the_id_nor_the_credential() -> None:
    await ConsoleSessionStore("salt").save("the-id", DATA, _in(5))
    row = await ConsoleSession.all().get()
    assert "the-id" not in row.session_hash
    assert "sk-of-the-worker" not in row.data


@pytest.mark.usefixtures("database")
async def test_a_session_of_another_salt_key_is_signed_out() -> None:
    await ConsoleSessionStore("salt").save("id", DATA, _in(5))
    assert await ConsoleSessionStore("another salt").load("id") is None


@pytest.mark.usefixtures("database")
async def test_an_expired_session_is_nobody_s_and_leaves_with_the_next_one() -> None:
    store = ConsoleSessionStore("salt")
    await store.save("old", DATA, _in(-1))
    assert await store.load("old") is None
    await store.save("new", DATA, _in(5))
    assert await ConsoleSession.all().count() == 1


async def test_a_database_that_is_away_signs_nobody_out(free_port: int) -> None:
    """None would send people to the sign-in; 503 lets them try again."""
    database = Database(Settings(database_url=f"postgresql://nobody@127.0.0.1:{free_port}/nothing"))
    await database.open()
    with database.active(), pytest.raises(ServiceUnavailable):
        await ConsoleSessionStore("salt").load("id")
    await database.close()
