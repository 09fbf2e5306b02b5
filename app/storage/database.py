"""The database of one instance: connections, migrations, and the few ways in which two dialects differ.

Each app owns one TortoiseContext. `Database.bind` is an ASGI wrapper that makes it current for a request;
tasks that are created inside inherit it. Two apps in one process therefore never share a connection.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import re
import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import asyncpg
import structlog
from tortoise.backends.base.client import BaseDBAsyncClient
from tortoise.context import TortoiseContext, _current_context
from tortoise.exceptions import BaseORMException, DBConnectionError
from tortoise.migrations.executor import MigrationExecutor
from tortoise.transactions import in_transaction

from ..settings import Settings
from ..settings.config_file import SettingsError
from .postgres_url import PostgresAddress, create_schema, parse_postgres_url
from .private_files import create_private

log = structlog.get_logger(__name__)

# What a query raises when the database cannot be reached, as opposed to a query that is wrong.
DATABASE_AWAY = (
    OSError,
    asyncpg.PostgresConnectionError,
    asyncpg.InterfaceError,
    asyncpg.CannotConnectNowError,
    asyncpg.TooManyConnectionsError,
    asyncpg.AdminShutdownError,
    asyncpg.CrashShutdownError,
    asyncpg.QueryCanceledError,
    DBConnectionError,
)

# What it raises when it was reached and refuses: a constraint, a deadlock, a value that does not fit.
DATABASE_REFUSED = (BaseORMException, asyncpg.PostgresError, sqlite3.Error)

_APP = "quarterdeck"
_MIGRATIONS = Path(__file__).resolve().parents[2] / "migrations"
_MIGRATION_LOCK = 7_214_903_355_118
_HAS_SCHEMA = "SELECT 1 FROM pg_namespace WHERE nspname = $1"
_PLACEHOLDER = re.compile(r"\$(\d+)")

ASGIApp = Callable[[Any, Any, Any], Awaitable[None]]


class Database:
    """One instance's database. Open it once per process, before anything asks a model."""

    def __init__(self, settings: Settings) -> None:
        self.url = settings.database_url
        self.is_sqlite = self.url.startswith("sqlite://")
        self.dialect = "sqlite" if self.is_sqlite else "postgresql"
        self._address = None if self.is_sqlite else parse_postgres_url(self.url)
        self._pool_size = settings.database_pool_size
        self._queue_seconds = settings.database_connection_timeout
        self._context = TortoiseContext()

    # ---- life ------------------------------------------------------------------------------------------------------

    async def open(self) -> None:
        """Load the models; connections are made when they are first needed."""
        if self.is_sqlite:
            path = sqlite_path(self.url)
            create_private(path)
            # A file that cannot be opened raises here, and not in a thread of the driver.
            sqlite3.connect(path).close()
        with self.active():
            await self._context.init(config=self._config())

    async def close(self) -> None:
        if self._context.inited:
            with self.active():
                await self._context.connections.close_all(discard=True)

    @contextmanager
    def active(self) -> Iterator[None]:
        """Make this database the current one for the code below."""
        token = _current_context.set(self._context)
        try:
            yield
        finally:
            _current_context.reset(token)

    def bind(self, app: ASGIApp) -> ASGIApp:
        """Wrap an ASGI app so that each of its requests sees this database."""

        async def bound(scope: Any, receive: Any, send: Any) -> None:
            with self.active():
                await app(scope, receive, send)

        return bound

    async def is_healthy(self, timeout_seconds: float = 1.0) -> bool:
        """Whether a trivial query answers in time."""
        query = asyncio.create_task(self.fetch("SELECT 1 AS one"))
        query.add_done_callback(lambda done: done.cancelled() or done.exception())
        # Not awaited when it is late: the driver waits for the other side even to give up.
        await asyncio.wait({query}, timeout=timeout_seconds)
        if not query.done():
            query.cancel()
            return False
        problem = query.exception()
        if problem is not None and not isinstance(problem, (*DATABASE_AWAY, *DATABASE_REFUSED)):
            raise problem
        return problem is None

    # ---- migrations ------------------------------------------------------------------------------------------------

    async def migrate(self) -> list[str]:
        """Apply what is pending, one process at a time; returns the names applied."""
        with self.active():
            async with self._migration_lock():
                executor = self._executor()
                pending = await self._pending(executor)
                await executor.migrate()
        return pending

    async def prepare(self) -> list[str]:
        """What a server does at start: bring an embedded or empty database up to date, refuse one that is behind.

        Raises SettingsError with the command to run.
        """
        with self.active():
            if await self._has_all_migrations():
                return []
            pending = await self._pending(self._executor())
            if not pending:
                return []
            is_empty = "tortoise_migrations" not in await self._tables()
        if self.is_sqlite or is_empty:
            log.info("database migration started", pending=len(pending))
            return await self.migrate()
        with self.active():
            async with self._migration_lock():
                # Another instance may be filling the empty database just now.
                pending = await self._pending(self._executor())
        if not pending:
            return []
        raise SettingsError(
            f"database: {len(pending)} migration(s) are pending ({pending[0]} …); run: quarterdeck migrate"
        )

    async def _has_all_migrations(self) -> bool:
        """Whether every file was applied. The executor knows too, but loads their whole history, which costs 40 MB."""
        if "tortoise_migrations" not in await self._tables():
            return False
        applied = {row["name"] for row in await self.fetch("SELECT name FROM tortoise_migrations")}
        return {path.stem for path in _MIGRATIONS.glob("[0-9]*.py")} <= applied

    def _executor(self) -> MigrationExecutor:
        return MigrationExecutor(self.connection(), self._config()["apps"])

    async def _pending(self, executor: MigrationExecutor) -> list[str]:
        if "tortoise_migrations" not in await self._tables():
            await executor.loader.build_graph()
            return [key.name for key in executor.loader.graph.nodes]
        return [step.migration.name for step in await executor.plan() if not step.backward]

    async def _tables(self) -> set[str]:
        if self.is_sqlite:
            rows = await self.fetch("SELECT name FROM sqlite_master WHERE type = 'table'")
        else:
            rows = await self.fetch(
                "SELECT tablename AS name FROM pg_tables WHERE schemaname = ANY (current_schemas(false))"
            )
        return {row["name"] for row in rows}

    @asynccontextmanager
    async def _migration_lock(self) -> AsyncIterator[None]:
        """PostgreSQL: an advisory lock on a connection of its own. SQLite: a lock on the folder of the file."""
        if self.is_sqlite:
            folder = os.open(sqlite_path(self.url).parent, os.O_RDONLY)
            try:
                await asyncio.to_thread(fcntl.flock, folder, fcntl.LOCK_EX)
                yield
            finally:
                os.close(folder)
            return
        address = self._postgres()
        connection = await asyncpg.connect(**address.credentials)
        try:
            await connection.execute("SELECT pg_advisory_lock($1)", _MIGRATION_LOCK)
            # Asked first: who may not create a schema may still use one.
            if address.schema and not await connection.fetchval(_HAS_SCHEMA, address.schema):
                await connection.execute(create_schema(address.schema))
            yield
        finally:
            await connection.close()

    # ---- statements ------------------------------------------------------------------------------------------------

    def connection(self) -> BaseDBAsyncClient:
        """The current connection: the transaction's inside `transaction()`, else the shared one."""
        return self._context.connections.get(self.dialect)

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[None]:
        with self.active():
            async with in_transaction(self.dialect):
                yield

    async def fetch(self, sql: str, parameters: Sequence[Any] = ()) -> list[dict[str, Any]]:
        """Rows of one statement written with `$1` placeholders. Parameters are always bound, never pasted."""
        with self.active():
            rows: list[dict[str, Any]] = await self.connection().execute_query_dict(
                self._with_placeholders(sql), self._bound(parameters)
            )
            return rows

    async def rows(self, sql: str, parameters: Sequence[Any] = ()) -> list[Sequence[Any]]:
        """The same by position: a thousand rows as dictionaries take longer to make than to read."""
        with self.active():
            result: tuple[int, Any] = await self.connection().execute_query(
                self._with_placeholders(sql), self._bound(parameters)
            )
            return list(result[1])

    async def execute_many(self, sql: str, rows: Sequence[Sequence[Any]]) -> None:
        """Run one statement for every row of parameters."""
        with self.active():
            await self.connection().execute_many(self._with_placeholders(sql), [self._bound(row) for row in rows])

    async def now(self) -> datetime:
        """The clock that all instances share: PostgreSQL's; on SQLite, whose users are on one machine, our own."""
        if self.is_sqlite:
            return datetime.now(UTC)
        now: datetime = (await self.fetch("SELECT clock_timestamp() AS now"))[0]["now"]
        return now

    def plus(self, left: str, right: str) -> str:
        """SQL for an exact sum of two amounts of money."""
        return f"decimal_add({left}, {right})" if self.is_sqlite else f"{left} + {right}"

    def larger(self, left: str, right: str) -> str:
        """SQL for the larger of two amounts of money."""
        return f"decimal_max({left}, {right})" if self.is_sqlite else f"GREATEST({left}, {right})"

    def total(self, column: str) -> str:
        """SQL for the exact total of a column of money over a group; read it with `Decimal`."""
        return f"COALESCE(decimal_sum({column}), '0')" if self.is_sqlite else f"COALESCE(SUM({column}), 0)"

    def _with_placeholders(self, sql: str) -> str:
        return _PLACEHOLDER.sub(r"?\1", sql) if self.is_sqlite else sql

    def _bound(self, parameters: Sequence[Any]) -> list[Any]:
        return [_sqlite_value(value) for value in parameters] if self.is_sqlite else list(parameters)

    def _postgres(self) -> PostgresAddress:
        assert self._address is not None, "SQLite has no address"
        return self._address

    def _config(self) -> dict[str, Any]:
        if self.is_sqlite:
            credentials: dict[str, Any] = {
                "file_path": str(sqlite_path(self.url)),
                "busy_timeout": 10_000,
                "synchronous": "NORMAL",
            }
            engine = "app.storage.sqlite"
        else:
            address = self._postgres()
            credentials = {
                **address.credentials,
                "minsize": 1,
                "maxsize": max(2, address.pool_size or self._pool_size),
                "queue_seconds": address.pool_seconds or self._queue_seconds,
            }
            engine = "app.storage.postgres"
        return {
            # Tortoise keeps prepared INSERTs per connection name for the whole process: one name per dialect.
            "connections": {self.dialect: {"engine": engine, "credentials": credentials}},
            "apps": {_APP: {"models": ["app.models"], "default_connection": self.dialect, "migrations": "migrations"}},
            "use_tz": True,
            "timezone": "UTC",
        }


def sqlite_path(url: str) -> Path:
    """`sqlite:///relative.db` and `sqlite:////absolute.db`, as the field writes them; also `sqlite://relative.db`."""
    path = url.removeprefix("sqlite://").partition("?")[0]
    if path.startswith("//"):
        return Path(path[1:])
    absolute = Path(path)
    # Half of the field reads three slashes as relative; an existing directory tells which of the two was meant.
    if path.startswith("/") and (absolute.parent == Path("/") or not absolute.parent.is_dir()):
        return Path(path[1:])
    return absolute


def _sqlite_value(value: Any) -> Any:
    """Decimals and times as the ORM stores them in SQLite, so that both ways of writing compare alike."""
    kind = type(value).__name__
    if kind == "Decimal":
        return format(value, "f")
    if kind == "datetime":
        return value.isoformat(" ")
    return value


# For `tortoise -c app.storage.database.MODELS_CONFIG makemigrations`, which never opens this database.
MODELS_CONFIG = Database(Settings(database_url="sqlite://.quarterdeck/makemigrations.db"))._config()
