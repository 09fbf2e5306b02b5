"""Changes reach all processes within a second; what may have been missed is said, and the channel comes back."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import asyncpg
import pytest
from redis.asyncio import Redis

from app.backends import open_announcer
from app.settings import Settings
from app.storage.announcements import Announcer, ChannelAnnouncer, NullAnnouncer, PostgresAnnouncer
from app.storage.database import Database
from app.storage.redis_announcements import RedisAnnouncer
from tests.source_files import ROOT
from tests.tcp_proxy import TcpProxy

KEY = "key:" + "a" * 64


class Process:
    """One process of an instance, as far as it listens."""

    def __init__(self, announcer: Announcer) -> None:
        self.announcer = announcer
        self.received: list[str] = []
        self.reconnects = 0

    async def start(self) -> None:
        await self.announcer.start(self.received.append, self._count_reconnect)

    def _count_reconnect(self) -> None:
        self.reconnects += 1

    async def listens(self, reconnects: int = 1) -> None:
        await until(lambda: self.reconnects >= reconnects, seconds=15)


async def until(condition: Callable[[], bool], *, seconds: float = 1.0) -> None:
    """Wait for it; a test fails when it takes longer than a change may take to arrive."""
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.005)


@pytest.fixture(params=["postgres", "redis"])
async def server(request: pytest.FixtureRequest) -> AsyncIterator[TcpProxy]:
    """The way to PostgreSQL or Redis, which a test can cut; `address` is the URL that goes this way."""
    url: str = request.getfixturevalue(f"{request.param}_url")
    host, _, rest = url.rpartition(":")
    port, _, name = rest.partition("/")
    async with TcpProxy("127.0.0.1", int(port)) as proxy:
        proxy.address = f"{host}:{proxy.port}/{name}"  # type: ignore[attr-defined]
        yield proxy


def announcer_at(url: str) -> ChannelAnnouncer:
    return RedisAnnouncer(url, "quarterdeck:changes:test") if url.startswith("redis") else PostgresAnnouncer(url)


def address(server: TcpProxy) -> str:
    url: str = server.address  # type: ignore[attr-defined]
    return url


@pytest.fixture
async def pair(server: TcpProxy) -> AsyncIterator[tuple[Process, Process]]:
    """Two processes that listen."""
    first, second = Process(announcer_at(address(server))), Process(announcer_at(address(server)))
    for process in (first, second):
        await process.start()
    for process in (first, second):
        await process.listens()
    yield first, second
    for process in (first, second):
        await process.announcer.stop()


async def test_a_change_reaches_the_other_within_a_second(pair: tuple[Process, Process]) -> None:
    first, second = pair
    first.announcer.announce(KEY)
    await until(lambda: second.received == [KEY])
    second.announcer.announce("team:Größe & Co")
    await until(lambda: first.received == ["team:Größe & Co"])


async def test_no_process_receives_its_own_messages(pair: tuple[Process, Process]) -> None:
    first, second = pair
    first.announcer.announce(KEY)
    second.announcer.announce("config")
    await until(lambda: bool(first.received) and bool(second.received))
    assert (first.received, second.received) == (["config"], [KEY])


async def test_many_changes_at_once_arrive_in_order(pair: tuple[Process, Process]) -> None:
    first, second = pair
    messages = [f"key:{number:064}" for number in range(900)]
    for message in messages:
        first.announcer.announce(message)
    await until(lambda: second.received == messages)


async def test_a_change_is_sent_once_however_often_it_is_announced(pair: tuple[Process, Process]) -> None:
    first, second = pair
    for _ in range(50):
        first.announcer.announce(KEY)
    await until(lambda: second.received == [KEY])


async def test_a_change_that_follows_while_the_first_is_sent_is_received_too() -> None:
    sent: list[str] = []

    class SlowChannel:
        async def send(self, payload: str) -> None:
            sent.append(payload.partition("\n")[2])
            await asyncio.sleep(0.05)

        async def check(self) -> None: ...

        async def close(self) -> None: ...

    async def connect(received: Callable[[str], None], died: Callable[[], None]) -> SlowChannel:
        return SlowChannel()

    announcer = ChannelAnnouncer(connect, (OSError,))
    await announcer.start(lambda _: None, lambda: None)
    for count in (1, 2):
        announcer.announce(KEY)
        await until(lambda count=count: len(sent) == count)  # type: ignore[misc]
    assert sent == [KEY, KEY]
    await announcer.stop()


async def test_too_many_changes_become_one_that_says_all(pair: tuple[Process, Process]) -> None:
    first, second = pair
    for number in range(5000):
        first.announcer.announce(f"user:{number}")
    await until(lambda: second.received == ["all"])


@pytest.mark.parametrize("message", ["user:" + "x" * 500, "team:a\0b", "team:a\nb", "user:\ud800"])
async def test_a_message_that_cannot_be_sent_becomes_all(pair: tuple[Process, Process], message: str) -> None:
    first, second = pair
    first.announcer.announce(message)
    await until(lambda: second.received == ["all"])


async def test_a_listener_that_fails_is_called_again(server: TcpProxy, pair: tuple[Process, Process]) -> None:
    received: list[str] = []

    def fail(message: str) -> None:
        received.append(message)
        raise LookupError(message)

    third = announcer_at(address(server))
    ready = asyncio.Event()
    await third.start(fail, ready.set)
    await asyncio.wait_for(ready.wait(), 5)
    for message in ("config", "deployments"):
        pair[0].announcer.announce(message)
        await until(lambda message=message: received[-1:] == [message])  # type: ignore[misc]
    await third.stop()


async def test_a_connection_that_is_cut_comes_back_and_says_that_there_was_a_gap(
    server: TcpProxy, pair: tuple[Process, Process]
) -> None:
    first, second = pair
    server.cut()
    await second.listens(reconnects=2)
    await first.listens(reconnects=2)
    first.announcer.announce(KEY)
    await until(lambda: second.received == [KEY])


async def test_what_is_announced_during_an_outage_arrives_after_it(
    server: TcpProxy, pair: tuple[Process, Process]
) -> None:
    first, second = pair
    server.refuse()
    server.cut()
    await asyncio.sleep(0.2)
    first.announcer.announce(KEY)
    await asyncio.sleep(0.5)
    assert second.received == []
    server.accept()
    await until(lambda: KEY in second.received or second.reconnects >= 2, seconds=15)
    await first.listens(reconnects=2)


async def test_a_side_that_does_not_answer_is_found_out_within_seconds(
    server: TcpProxy, pair: tuple[Process, Process]
) -> None:
    first, second = pair
    server.pause()
    started = time.monotonic()
    await asyncio.sleep(5)
    server.resume()
    for process in (first, second):
        await process.listens(reconnects=2)
    assert time.monotonic() - started < 20
    first.announcer.announce(KEY)
    await until(lambda: KEY in second.received)


async def test_a_server_that_is_down_does_not_fail_the_start(server: TcpProxy) -> None:
    server.refuse()
    process = Process(announcer_at(address(server)))
    await process.start()
    process.announcer.announce(KEY)
    await asyncio.sleep(0.3)
    assert process.reconnects == 0
    server.accept()
    await process.listens()
    await process.announcer.stop()


async def test_a_process_that_stops_sends_its_last_messages_and_disconnects(
    server: TcpProxy, pair: tuple[Process, Process]
) -> None:
    first, second = pair
    before = {task for task in asyncio.all_tasks() if not task.done()}
    third = Process(announcer_at(address(server)))
    await third.start()
    await third.listens()
    third.announcer.announce(KEY)
    await third.announcer.stop()
    await until(lambda: first.received == [KEY] and second.received == [KEY])
    await until(lambda: not any(task.get_name() == "announcements" for task in asyncio.all_tasks() - before))
    first.announcer.announce("config")
    await until(lambda: "config" in second.received)
    assert third.received == []


async def test_a_stop_does_not_wait_for_a_server_that_is_away(server: TcpProxy, pair: tuple[Process, Process]) -> None:
    first, _ = pair
    server.pause()
    first.announcer.announce(KEY)
    started = time.monotonic()
    await first.announcer.stop()
    assert time.monotonic() - started < 3
    server.resume()


async def test_stopping_what_never_started_is_nothing() -> None:
    announcer = PostgresAnnouncer("postgres://127.0.0.1:1/none")
    announcer.announce(KEY)
    await announcer.stop()


# ---- PostgreSQL ------------------------------------------------------------------------------------------------------


async def test_a_backend_that_is_terminated_is_replaced(postgres_url: str) -> None:
    first, second = Process(PostgresAnnouncer(postgres_url)), Process(PostgresAnnouncer(postgres_url))
    for process in (first, second):
        await process.start()
        await process.listens()
    admin = await asyncpg.connect(postgres_url)
    await admin.execute(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
        "WHERE datname = current_database() AND pid <> pg_backend_pid()"
    )
    for process in (first, second):
        await process.listens(reconnects=2)
    second.announcer.announce(KEY)
    await until(lambda: first.received == [KEY])
    for process in (first, second):
        await process.announcer.stop()
    left = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
    async with asyncio.timeout(5):
        while await admin.fetchval(left):
            await asyncio.sleep(0.05)
    await admin.close()


async def test_two_spellings_of_one_database_are_one(postgres_url: str) -> None:
    first = Process(PostgresAnnouncer(postgres_url))
    second = Process(
        PostgresAnnouncer(postgres_url.replace("127.0.0.1", "localhost").replace("postgres:", "postgresql:"))
    )
    for process in (first, second):
        await process.start()
        await process.listens()
    first.announcer.announce(KEY)
    await until(lambda: second.received == [KEY])
    for process in (first, second):
        await process.announcer.stop()


# ---- which one -------------------------------------------------------------------------------------------------------


def opened(database_url: str, redis_url: str | None = None) -> Announcer:
    settings = Settings(master_key="sk-test-of-announcers", database_url=database_url, redis_url=redis_url)
    return open_announcer(settings, Database(settings))


def test_postgres_carries_its_own_changes_also_beside_redis() -> None:
    assert isinstance(opened("postgres://somewhere/db", "redis://127.0.0.1:1/0"), PostgresAnnouncer)


async def test_a_process_on_a_file_of_its_own_has_nobody_to_tell(tmp_path: Path) -> None:
    announcer = opened(f"sqlite:///{tmp_path}/a.db")
    assert isinstance(announcer, NullAnnouncer)
    process = Process(announcer)
    await process.start()
    announcer.announce(KEY)
    await announcer.stop()


async def test_processes_on_one_file_meet_in_redis_and_those_on_another_do_not(tmp_path: Path, redis_url: str) -> None:
    first, second, other = (Process(opened(f"sqlite:///{tmp_path}/{name}.db", redis_url)) for name in ("a", "a", "b"))
    for process in (first, second, other):
        await process.start()
        await process.listens()
    async with Redis.from_url(redis_url, decode_responses=True) as client:
        channels = [str(channel) for channel in await client.pubsub_channels("*")]
    assert len(channels) == 2
    assert all(channel.startswith("quarterdeck:changes:") for channel in channels)
    first.announcer.announce(KEY)
    await until(lambda: second.received == [KEY])
    assert other.received == []
    for process in (first, second, other):
        await process.announcer.stop()


def test_invalidation_without_redis_does_not_load_its_client() -> None:
    program = "import app.storage.announcements, sys; print([n for n in sys.modules if n.split('.')[0] == 'redis'])"
    answer = subprocess.run([sys.executable, "-c", program], cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True)
    assert answer.stdout.strip() == "[]"
