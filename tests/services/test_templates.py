"""A database that one test gives back is as new for the next, or gone."""

from __future__ import annotations

import asyncpg
import pytest

from tests.services.postgres import PostgresServer
from tests.services.run_directory import RunDirectory
from tests.services.templates import MigratedPostgres

CODES = "INSERT INTO login_code SELECT 'code-' || n, 'payload', now() FROM generate_series(1, {}) AS n"


@pytest.fixture
def lender(run_directory: RunDirectory, postgres_server: PostgresServer) -> MigratedPostgres:
    return MigratedPostgres(run_directory, postgres_server)


async def test_what_a_test_wrote_is_not_there_for_the_next(lender: MigratedPostgres) -> None:
    next_id = "SELECT nextval(pg_get_serial_sequence('team_membership', 'id'))"
    with lender.lent() as first:
        left_open = await asyncpg.connect(first)
        await left_open.execute(CODES.format(1))
        assert await left_open.fetchval(next_id) == 1
    with lender.lent() as second:
        assert second == first
        connection = await asyncpg.connect(second)
        assert await connection.fetchval("SELECT count(*) FROM login_code") == 0
        assert await connection.fetchval("SELECT count(*) FROM tortoise_migrations") > 0
        assert await connection.fetchval(next_id) == 1
        await connection.close()
    assert left_open.is_closed()


@pytest.mark.parametrize(
    "change",
    [
        "CREATE TABLE left_behind (id int)",
        "ALTER TABLE tag ADD COLUMN left_behind int",
        "ALTER TABLE tag ALTER COLUMN tag_name SET DEFAULT 'left behind'",
        "DROP TABLE counter",
        "CREATE INDEX left_behind ON tag (tag_name)",
        "CREATE FUNCTION left_behind() RETURNS int LANGUAGE sql AS 'SELECT 1'",
        "DELETE FROM tortoise_migrations",
        "DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET work_mem = ''1MB''', current_database()); END $$",
        "DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET default_transaction_read_only = on', current_database());"
        "END $$; " + CODES.format(1),
        CODES.format(3000),
    ],
)
async def test_a_database_that_is_another_now_is_dropped(
    change: str, lender: MigratedPostgres, postgres_server: PostgresServer
) -> None:
    with lender.lent() as first:
        connection = await asyncpg.connect(first)
        await connection.execute(change)
        await connection.close()
    name = first.rpartition("/")[2]
    assert not postgres_server.execute(f"SELECT 1 FROM pg_database WHERE datname = '{name}'").strip()


def test_two_at_once_are_two(lender: MigratedPostgres) -> None:
    with lender.lent() as first, lender.lent() as second:
        assert first != second
