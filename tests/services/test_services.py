"""The parts that tests stand on work themselves."""

from __future__ import annotations

import socket
import sqlite3
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import asyncpg
import pytest
from playwright.async_api import Page
from redis.asyncio import Redis

from tests.services.command import REPOSITORY
from tests.services.environment import clear_environment
from tests.services.ports import free_port as find_free_port
from tests.services.run_directory import Reaper, is_running


async def test_postgres_answers_with_an_empty_database(postgres_url: str) -> None:
    connection = await asyncpg.connect(postgres_url)
    assert await connection.fetchval("SELECT count(*) FROM pg_tables WHERE schemaname = 'public'") == 0
    await connection.execute("CREATE TABLE left_behind (id int)")
    await connection.close()


async def test_postgres_database_is_new_for_each_test(postgres_url: str) -> None:
    connection = await asyncpg.connect(postgres_url)
    assert await connection.fetchval("SELECT to_regclass('left_behind')") is None
    await connection.close()


async def test_redis_answers_empty(redis_url: str) -> None:
    async with Redis.from_url(redis_url) as client:
        assert await client.dbsize() == 0
        assert await client.set("left-behind", "1")


async def test_redis_is_emptied_for_each_test(redis_url: str) -> None:
    async with Redis.from_url(redis_url) as client:
        assert await client.get("left-behind") is None


async def test_chromium_renders_a_page(page: Page) -> None:
    await page.set_content("<title>Deck</title><h1>All hands</h1><script>document.title += ' ' + (40 + 2)</script>")
    assert await page.title() == "Deck 42"
    assert await page.get_by_role("heading").inner_text() == "All hands"


def test_sqlite_url_names_an_absolute_path(sqlite_url: str) -> None:
    assert sqlite_url.startswith("sqlite:////")
    assert not Path(sqlite_url.removeprefix("sqlite:///")).exists()


async def test_migrated_database_has_our_tables(database_url: str) -> None:
    if database_url.startswith("sqlite"):
        with sqlite3.connect(database_url.removeprefix("sqlite:///")) as file:
            count = file.execute("SELECT count(*) FROM sqlite_master WHERE type = 'table'").fetchone()[0]
    else:
        connection = await asyncpg.connect(database_url)
        count = await connection.fetchval("SELECT count(*) FROM pg_tables WHERE schemaname = 'public'")
        await connection.close()
    assert count > 5


def test_free_ports_in_a_row_can_be_listened_on() -> None:
    first = find_free_port(3)
    listeners = [socket.create_server(("127.0.0.1", first + offset)) for offset in range(3)]
    for listener in listeners:
        listener.close()


def test_environment_of_the_developer_is_out_of_sight(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-private")
    monkeypatch.setenv("LITELLM_MASTER_KEY", "sk-private")
    clear_environment()
    answer = subprocess.run(["env"], check=True, stdout=subprocess.PIPE, text=True).stdout
    assert "sk-private" not in answer


def test_services_end_with_a_run_that_was_killed() -> None:
    program = """
        import os, signal, subprocess
        from tests.services.run_directory import Reaper
        reaper = Reaper()
        server = subprocess.Popen(["sleep", "600"], start_new_session=True)
        reaper.directory.note_process(server.pid)
        print(server.pid, reaper.directory.path, flush=True)
        os.kill(os.getpid(), signal.SIGKILL)
    """
    command = [sys.executable, "-c", textwrap.dedent(program)]
    answer = subprocess.run(command, cwd=REPOSITORY, stdout=subprocess.PIPE, text=True, check=False).stdout
    pid, path = answer.split()
    deadline = time.monotonic() + 10
    while (is_running(int(pid)) or Path(path).exists()) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not is_running(int(pid))
    assert not Path(path).exists()


def test_reaper_removes_the_directory_of_a_run_that_ends() -> None:
    reaper = Reaper()
    reaper.close()
    assert not reaper.directory.path.exists()
