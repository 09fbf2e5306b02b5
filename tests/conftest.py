"""Fixtures of all tests: real databases, Redis, Chromium, and Quarterdeck as a separate process.

Nothing is started before a test asks for it, and all of it ends with the run (tests/services/run_directory.py).
Async tests and fixtures need no mark, and all of one process share one event loop: that is what lets tests use the one
browser of the process, since Playwright's objects belong to the loop that made them.
"""

from __future__ import annotations

import gc
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any, Protocol

import pytest
from playwright.async_api import Browser, Page
from redis import Redis

from tests.services import ports
from tests.services.chromium import launched_chromium
from tests.services.environment import clear_environment
from tests.services.postgres import PostgresServer, postgres_of
from tests.services.quarterdeck import QuarterdeckFactory
from tests.services.redis import start_redis
from tests.services.run_directory import Reaper, RunDirectory
from tests.services.shortcuts import take_shortcuts
from tests.services.templates import MigratedPostgres, copy_migrated_sqlite

MASTER_KEY = "sk-master-key-of-the-tests-0123456789"

_REAPER = pytest.StashKey[Reaper]()
_RUN = pytest.StashKey[RunDirectory]()

# Started first, so that a run does not end with one process busy for a minute and the others done.
_LONGEST = (
    "tests/test_schemathesis.py",
    "tests/server/demo/test_demo.py",
    "tests/llm/test_shared_enforcement.py",
    "tests/llm/test_crash.py",
    "tests/spend/test_ledger_storm.py",
    "tests/console/",
)


class _WorkerNode(Protocol):
    """What we use of a node of pytest-xdist, as its controller sees it."""

    config: pytest.Config
    workerinput: dict[str, Any]


def pytest_configure(config: pytest.Config) -> None:
    clear_environment()
    take_shortcuts()
    handed_down = getattr(config, "workerinput", None)  # there in a worker of pytest-xdist only
    if handed_down is not None:
        config.stash[_RUN] = RunDirectory(Path(handed_down["run_directory"]))
        return
    reaper = Reaper()
    config.stash[_REAPER] = reaper
    config.stash[_RUN] = reaper.directory


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: _WorkerNode) -> None:
    node.workerinput["run_directory"] = str(node.config.stash[_RUN].path)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: not item.nodeid.startswith(_LONGEST))


def pytest_collection_finish() -> None:
    """Take what was imported out of the garbage collector's sight: each look through it costs a fifth of a second."""
    gc.collect()
    gc.freeze()


def pytest_unconfigure(config: pytest.Config) -> None:
    if _REAPER in config.stash:
        config.stash[_REAPER].close()


@pytest.fixture(scope="session")
def run_directory(pytestconfig: pytest.Config) -> RunDirectory:
    return pytestconfig.stash[_RUN]


@pytest.fixture(scope="session")
def postgres_server(run_directory: RunDirectory) -> PostgresServer:
    """The run's PostgreSQL, shared by all processes: make a database of your own on it."""
    return postgres_of(run_directory)


@pytest.fixture
def postgres_url(postgres_server: PostgresServer) -> Iterator[str]:
    """An empty PostgreSQL database of this test."""
    with postgres_server.new_database() as url:
        yield url


@pytest.fixture(scope="session")
def migrated_postgres(run_directory: RunDirectory, postgres_server: PostgresServer) -> MigratedPostgres:
    """Lends PostgreSQL databases with all tables."""
    return MigratedPostgres(run_directory, postgres_server)


@pytest.fixture
def migrated_postgres_url(migrated_postgres: MigratedPostgres) -> Iterator[str]:
    """A PostgreSQL database of this test with all tables: what one that `quarterdeck migrate` made is like."""
    with migrated_postgres.lent() as url:
        yield url


@pytest.fixture
def sqlite_url(tmp_path: Path) -> str:
    """A SQLite database of this test; its file is not there yet."""
    return f"sqlite:///{tmp_path}/quarterdeck.db"


@pytest.fixture
def migrated_sqlite_url(sqlite_url: str, run_directory: RunDirectory) -> str:
    """A SQLite database of this test with all tables: a copy of one that `quarterdeck migrate` made for the run."""
    copy_migrated_sqlite(run_directory, Path(sqlite_url.removeprefix("sqlite:///")))
    return sqlite_url


@pytest.fixture(params=["sqlite", "postgres"])
def database_url(request: pytest.FixtureRequest) -> str:
    """A migrated database of this test; the test runs once on SQLite and once on PostgreSQL."""
    url: str = request.getfixturevalue(f"migrated_{request.param}_url")
    return url


@pytest.fixture(scope="session")
def redis_server_url(run_directory: RunDirectory) -> str:
    """The Redis of this process."""
    return start_redis(run_directory)


@pytest.fixture
def redis_url(redis_server_url: str) -> str:
    """An empty Redis that no other test uses meanwhile, not even for pub/sub."""
    with Redis.from_url(redis_server_url) as client:
        client.flushall()
    return redis_server_url


@pytest.fixture(scope="session")
async def browser() -> AsyncIterator[Browser]:
    """The Chromium of this process, by Playwright's async API: its sync API cannot live beside pytest-asyncio."""
    async with launched_chromium() as chromium:
        yield chromium


@pytest.fixture
async def page(browser: Browser) -> AsyncIterator[Page]:
    """A page of this test in a context of its own: no cookies, light, 1440 x 900."""
    context = await browser.new_context(viewport={"width": 1440, "height": 900})
    yield await context.new_page()
    await context.close()


@pytest.fixture
def free_port() -> int:
    """A TCP port that nothing listens on; for several in a row: tests.services.ports.free_port(count)."""
    return ports.free_port()


@pytest.fixture
def quarterdeck_process(run_directory: RunDirectory, tmp_path: Path) -> Iterator[QuarterdeckFactory]:
    """Start Quarterdeck in processes of this test: `quarterdeck_process({"model_list": [...]}, database_url=...)`."""
    factory = QuarterdeckFactory(run_directory, tmp_path, MASTER_KEY)
    yield factory
    factory.close()
