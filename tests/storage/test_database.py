"""The database of one instance: where it is, how it is brought up to date, and that money stays exact."""

from __future__ import annotations

import asyncio
import sqlite3
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from decimal import Decimal
from functools import reduce
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from tortoise import Tortoise

from app.models import StoredDeployment, User, VirtualKey
from app.settings import Settings
from app.settings.config_file import SettingsError
from app.storage.database import Database, sqlite_path
from app.storage.sqlite import DecimalSum, decimal_add
from tests.conftest import MASTER_KEY
from tests.services.command import run_quarterdeck
from tests.services.quarterdeck import QuarterdeckFactory

_INITIAL = "0001_initial"


@asynccontextmanager
async def opened(url: str) -> AsyncIterator[Database]:
    database = Database(Settings(database_url=url))
    await database.open()
    yield database
    await database.close()


def migrate(url: str, folder: Path) -> subprocess.CompletedProcess[str]:
    return run_quarterdeck(
        "migrate", environment={"DATABASE_URL": url, "LITELLM_MASTER_KEY": MASTER_KEY}, directory=folder
    )


@pytest.fixture(params=["sqlite", "postgres"])
def empty_url(request: pytest.FixtureRequest) -> str:
    url: str = request.getfixturevalue(f"{request.param}_url")
    return url


# ---- migrations ----------------------------------------------------------------------------------------------------


def test_migrate_says_what_it_applied_and_then_that_nothing_is_left(empty_url: str, tmp_path: Path) -> None:
    first, second = migrate(empty_url, tmp_path), migrate(empty_url, tmp_path)
    assert (first.returncode, second.returncode) == (0, 0)
    assert first.stdout.splitlines()[0] == f"applied {_INITIAL}"
    assert second.stdout == "nothing to migrate\n"


async def test_two_that_migrate_at_once_do_it_once(empty_url: str, tmp_path: Path) -> None:
    both = await asyncio.gather(*(asyncio.to_thread(migrate, empty_url, tmp_path) for _ in range(2)))
    assert [finished.returncode for finished in both] == [0, 0], "\n".join(finished.stdout for finished in both)
    assert sorted(finished.stdout.splitlines()[-1] for finished in both)[-1] == "nothing to migrate"


async def test_an_empty_database_is_filled_at_the_start(empty_url: str) -> None:
    async with opened(empty_url) as database:
        assert await database.prepare()
        assert await database.prepare() == []
        with database.active():
            assert await VirtualKey.all().count() == 0


async def test_postgresql_that_is_behind_is_refused_with_the_command_to_run(migrated_postgres_url: str) -> None:
    """Behind: a migration that the code has is not among those that the database remembers."""
    connection = await asyncpg.connect(migrated_postgres_url)
    await connection.execute("DELETE FROM tortoise_migrations WHERE id = (SELECT max(id) FROM tortoise_migrations)")
    await connection.close()
    async with opened(migrated_postgres_url) as database:
        with pytest.raises(
            SettingsError, match=r"^database: 1 migration\(s\) are pending .* run: quarterdeck migrate$"
        ):
            await database.prepare()


async def test_an_instance_does_not_start_on_postgresql_that_is_behind(
    migrated_postgres_url: str, tmp_path: Path, free_port: int
) -> None:
    connection = await asyncpg.connect(migrated_postgres_url)
    await connection.execute("DELETE FROM tortoise_migrations WHERE id = (SELECT max(id) FROM tortoise_migrations)")
    await connection.close()
    environment = {"DATABASE_URL": migrated_postgres_url, "LITELLM_MASTER_KEY": MASTER_KEY}
    finished = await asyncio.to_thread(
        run_quarterdeck, "--port", str(free_port), environment=environment, directory=tmp_path
    )
    assert finished.returncode == 2
    assert finished.stdout.strip().endswith("run: quarterdeck migrate")
    assert "Traceback" not in finished.stdout


async def test_models_that_admins_of_teams_made_are_known_after_an_upgrade(database_url: str, tmp_path: Path) -> None:
    """By their author: nothing said it before. Who is an admin of the instance, or not known, made none for a team."""
    authors = {"of-master-key": "default_user_id", "of-admin": "ada", "of-nobody": None, "of-team": "tom"}
    async with opened(database_url) as database:
        with database.active():
            await User.create(user_id="ada", user_role="proxy_admin")
            await User.create(user_id="tom", user_role="internal_user")
            for id, author in authors.items():
                await StoredDeployment.create(model_id=id, model_name=id, litellm_params="", created_by=author)
        for statement in (
            "ALTER TABLE deployment DROP COLUMN is_team_made",
            "DELETE FROM tortoise_migrations WHERE name = '0004_team_made_models'",
        ):
            await database.execute_many(statement, [()])
    assert migrate(database_url, tmp_path).stdout.splitlines()[0] == "applied 0004_team_made_models"
    async with opened(database_url) as database:
        with database.active():
            assert [row.model_id async for row in StoredDeployment.filter(is_team_made=True)] == ["of-team"]


async def _shape(database: Database) -> dict[str, list[Any]]:
    """Columns, indexes and unique keys of each table, without the names that a database makes up."""
    if database.is_sqlite:
        return await _sqlite_shape(database)
    columns = await database.fetch(
        "SELECT table_name, column_name, data_type, is_nullable, column_default, character_maximum_length, "
        "numeric_precision, numeric_scale FROM information_schema.columns WHERE table_schema = 'public'"
    )
    indexes = await database.fetch(
        "SELECT t.relname AS table_name, i.indisunique, i.indisprimary, "
        "pg_get_indexdef(i.indexrelid) AS definition FROM pg_index i JOIN pg_class t ON t.oid = i.indrelid "
        "JOIN pg_namespace n ON n.oid = t.relnamespace WHERE n.nspname = 'public'"
    )
    shape: dict[str, list[Any]] = {}
    for row in columns:
        shape.setdefault(row.pop("table_name"), []).append(str(sorted(row.items())))
    for row in indexes:
        definition = row["definition"].partition(" ON ")[2]
        if " WHERE " in definition or "gin_trgm_ops" in definition:
            continue  # a migration can say these, a model cannot
        shape[row["table_name"]].append(str((row["indisunique"], row["indisprimary"], definition)))
    return _without_history(shape)


async def _sqlite_shape(database: Database) -> dict[str, list[Any]]:
    shape: dict[str, list[Any]] = {}
    tables = await database.fetch("SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%'")
    for table in (row["name"] for row in tables):
        for row in await database.fetch(f"PRAGMA table_info({table})"):
            shape.setdefault(table, []).append(str((row["name"], row["type"], row["notnull"], row["dflt_value"])))
        for index in await database.fetch(f"PRAGMA index_list({table})"):
            if index["partial"]:
                continue
            parts = await database.fetch(f"PRAGMA index_info({index['name']})")
            shape[table].append(str((index["unique"], [part["name"] for part in parts])))
    return _without_history(shape)


def _without_history(shape: dict[str, list[Any]]) -> dict[str, list[Any]]:
    return {table: sorted(parts) for table, parts in shape.items() if table != "tortoise_migrations"}


@pytest.mark.parametrize("kind", ["sqlite", "postgres"])
async def test_the_migrated_tables_are_those_of_the_models(
    kind: str, tmp_path: Path, sqlite_url: str, postgres_url: str, migrated_postgres_url: str
) -> None:
    fresh_url = sqlite_url if kind == "sqlite" else postgres_url
    migrated_url = f"sqlite:///{tmp_path}/migrated.db" if kind == "sqlite" else migrated_postgres_url
    async with opened(fresh_url) as fresh, opened(migrated_url) as migrated:
        await migrated.migrate()
        with fresh.active():
            await Tortoise.generate_schemas(safe=False)
        assert await _shape(migrated) == await _shape(fresh)


async def test_the_tables_that_the_issue_names_are_there(database_url: str) -> None:
    async with opened(database_url) as database:
        tables = set(await _shape(database))
    assert tables >= {
        "virtual_key",
        "user_account",
        "team",
        "team_membership",
        "budget",
        "deployment",
        "spend_log",
        "daily_spend",
        "login_code",
        "console_session",
        "audit_log",
    }


# ---- where it is ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "path"),
    [
        ("sqlite:////var/lib/quarterdeck.db", "/var/lib/quarterdeck.db"),
        ("sqlite://quarterdeck.db", "quarterdeck.db"),
        ("sqlite:///quarterdeck.db", "quarterdeck.db"),
        ("sqlite:///no-such-folder/quarterdeck.db", "no-such-folder/quarterdeck.db"),
        ("sqlite://.quarterdeck/quarterdeck.db", ".quarterdeck/quarterdeck.db"),
        ("sqlite:///tmp/quarterdeck.db", "/tmp/quarterdeck.db"),
        ("sqlite:////tmp/quarterdeck.db?mode=rwc", "/tmp/quarterdeck.db"),
    ],
)
def test_every_spelling_of_a_file_is_understood(url: str, path: str) -> None:
    assert sqlite_path(url) == Path(path)


async def test_the_folder_of_the_file_is_made(tmp_path: Path) -> None:
    async with opened(f"sqlite:///{tmp_path}/deep/er/quarterdeck.db") as database:
        await database.prepare()
    assert (tmp_path / "deep/er/quarterdeck.db").is_file()


async def test_sslmode_of_the_address_is_obeyed(migrated_postgres_url: str) -> None:
    """The server of the tests speaks no TLS: `prefer` goes on without it, `require` does not."""
    async with opened(f"{migrated_postgres_url}?sslmode=prefer") as database:
        assert await database.is_healthy()
    async with opened(f"{migrated_postgres_url}?sslmode=require") as database:
        assert not await database.is_healthy()


async def test_a_statement_waits_for_a_free_connection_only_so_long(migrated_postgres_url: str) -> None:
    settings = Settings(database_url=migrated_postgres_url, database_pool_size=2, database_connection_timeout=0.2)
    database = Database(settings)
    await database.open()
    try:
        holders = [asyncio.create_task(database.fetch("SELECT pg_sleep(1)")) for _ in range(2)]
        await asyncio.sleep(0.3)
        with pytest.raises(TimeoutError):
            await database.fetch("SELECT 1 AS one")
        with pytest.raises(TimeoutError):
            async with database.transaction():
                await database.fetch("SELECT 1 AS one")
        await asyncio.gather(*holders)
        assert await database.fetch("SELECT 1 AS one") == [{"one": 1}]
    finally:
        await database.close()


async def test_two_databases_in_one_process_keep_apart(tmp_path: Path) -> None:
    async with opened(f"sqlite:///{tmp_path}/a.db") as one, opened(f"sqlite:///{tmp_path}/b.db") as two:
        await one.prepare()
        await two.prepare()
        with one.active():
            await VirtualKey.create(token="a")
            with two.active():
                assert await VirtualKey.all().count() == 0
            assert await VirtualKey.all().count() == 1


async def test_writers_on_one_file_wait_for_each_other(migrated_sqlite_url: str) -> None:
    async def write(name: str) -> None:
        async with opened(migrated_sqlite_url) as database:
            for number in range(20):
                async with database.transaction():
                    await VirtualKey.all().count()
                    await VirtualKey.create(token=f"{name}{number}")

    await asyncio.gather(write("a"), write("b"), write("c"))
    with sqlite3.connect(migrated_sqlite_url.removeprefix("sqlite:///")) as file:
        assert file.execute("SELECT count(*) FROM virtual_key").fetchone() == (60,)


async def test_a_transaction_that_fails_leaves_nothing(database_url: str) -> None:
    async with opened(database_url) as database:
        with pytest.raises(RuntimeError):
            async with database.transaction():
                await VirtualKey.create(token="a")
                raise RuntimeError
        with database.active():
            assert await VirtualKey.all().count() == 0


def test_instances_of_two_processes_share_one_file(
    quarterdeck_process: QuarterdeckFactory, migrated_sqlite_url: str
) -> None:
    for instance in [quarterdeck_process(database_url=migrated_sqlite_url) for _ in range(2)]:
        assert instance.is_running


# ---- money ---------------------------------------------------------------------------------------------------------

_MONEY = st.decimals(
    min_value=Decimal("-999999999999999999"), max_value=Decimal("999999999999999999"), places=12, allow_nan=False
)


def _scaled(amount: Decimal) -> int:
    """Millionths of a millionth of a USD, by whole numbers only."""
    sign, digits, exponent = amount.as_tuple()
    assert isinstance(exponent, int)
    whole: int = int("".join(map(str, digits)) or "0") * 10 ** (exponent + 12)
    return -whole if sign else whole


@given(left=_MONEY, right=_MONEY)
def test_sums_on_sqlite_are_exact_to_the_last_digit(left: Decimal, right: Decimal) -> None:
    found = decimal_add(format(left, "f"), format(right, "f"))
    assert "E" not in found.upper()
    assert _scaled(Decimal(found)) == _scaled(left) + _scaled(right)


@given(amounts=st.lists(_MONEY, max_size=20))
def test_totals_on_sqlite_are_exact_to_the_last_digit(amounts: list[Decimal]) -> None:
    total = DecimalSum()
    for amount in [*amounts, None]:
        total.step(None if amount is None else format(amount, "f"))
    assert _scaled(Decimal(total.finalize())) == sum(map(_scaled, amounts))


_CENTS = st.decimals(min_value=Decimal(0), max_value=Decimal(1000), places=12, allow_nan=False)


@given(amounts=st.lists(_CENTS, min_size=1, max_size=8))
@hypothesis_settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
async def test_both_databases_add_and_total_alike(database_url: str, amounts: list[Decimal]) -> None:
    async with opened(database_url) as database:
        with database.active():
            await VirtualKey.all().delete()
            await VirtualKey.create(token="sum", spend=Decimal(0))
            for number, amount in enumerate(amounts):
                await VirtualKey.create(token=f"part {number}", spend=amount)
        for amount in amounts:
            await database.execute_many(
                f"UPDATE virtual_key SET spend = {database.plus('spend', '$1')} WHERE token = $2", [[amount, "sum"]]
            )
        rows = await database.fetch(
            f"SELECT {database.total('spend')} AS total FROM virtual_key WHERE token <> $1", ["sum"]
        )
        expected = reduce(lambda left, right: left + right, amounts)
        assert Decimal(rows[0]["total"]) == expected
        with database.active():
            assert (await VirtualKey.get(token="sum")).spend == expected


async def test_a_total_of_nothing_is_zero(database_url: str) -> None:
    async with opened(database_url) as database:
        rows = await database.fetch(f"SELECT {database.total('spend')} AS total FROM virtual_key")
        assert Decimal(rows[0]["total"]) == 0
