"""Changes that are pushed to all processes of an instance, so that a blocked key is refused everywhere within a second.

After its commit, whoever changes something announces it in a short message; every other process drops what it cached:

    key:<hash>  user:<id>  team:<id>  organization:<id>     drop the cached keys that this is about
    deployments  config                                     read them again
    all                                                     drop everything and read everything again

PostgreSQL carries the messages itself (LISTEN and NOTIFY), with or without Redis: it is where changes are committed, so
a process that can read a change can be notified of it, a restart of Redis loses no message, and no second service has
to be up for a blocked key to be refused. Redis does it for processes that share a SQLite file. Without either a process
is alone with its changes, and the short TTL of its cached keys is the net, as it is whenever a message is lost.

`announce` never waits: a background task sends. While the connection is down messages are queued, few as they are; when
it is back `on_reconnect` says that some of those of others may have been missed.
"""

from __future__ import annotations

import asyncio
import random
import uuid
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any, Protocol

import asyncpg
import structlog

from ..tasks import ended
from .database import DATABASE_AWAY, DATABASE_REFUSED
from .postgres_url import parse_postgres_url

log = structlog.get_logger(__name__)

EVERYTHING = "all"

_MAX_WAITING = 1000
_MAX_MESSAGE_LENGTH = 500
# NOTIFY takes payloads below 8000 bytes; a character of a message takes up to four.
_MAX_PAYLOAD_BYTES = 7500
_CHECK_SECONDS = 2.0
_ANSWER_SECONDS = 2.0
_MIN_DELAY_SECONDS, _MAX_DELAY_SECONDS = 0.05, 5.0
_FLUSH_SECONDS = 1.0

# NOTIFY reaches one database only, however its address is spelled.
_POSTGRES_CHANNEL = "quarterdeck_changes"


class Announcer(Protocol):
    def announce(self, message: str) -> None:
        """Tell all other processes, soon. Call it after the commit, in the event loop; it neither waits nor fails."""

    async def start(self, on_message: Callable[[str], None], on_reconnect: Callable[[], None]) -> None:
        """Listen from now on. Returns at once, also when nothing can be reached.

        `on_message` gets each message of another process; `on_reconnect` is called whenever the channel is there
        (again) and messages may have been missed. Both run in the event loop and must be quick.
        """

    async def stop(self) -> None:
        """Send what is waiting, if that is possible within a second, and disconnect."""


class NullAnnouncer:
    """For a process that has no others to tell."""

    def announce(self, message: str) -> None: ...

    async def start(self, on_message: Callable[[str], None], on_reconnect: Callable[[], None]) -> None: ...

    async def stop(self) -> None: ...


class Channel(Protocol):
    """One open connection that carries payloads both ways. Its methods raise when it is dead."""

    async def send(self, payload: str) -> None: ...

    async def check(self) -> None:
        """Make sure that the other side answers."""

    async def close(self) -> None:
        """Disconnect, without waiting for a side that does not answer. Never raises what `away` names."""


# Opens a channel, given what to call for each payload that comes in, and once it is dead.
Connect = Callable[[Callable[[str], None], Callable[[], None]], Awaitable[Channel]]


class ChannelAnnouncer:
    """An announcer over a channel that is opened again for ever. `away`: what an unreachable other side raises."""

    def __init__(self, connect: Connect, away: tuple[type[Exception], ...]) -> None:
        self._connect = connect
        self._away = away
        self._own_id = uuid.uuid4().hex[:16]
        self._waiting: dict[str, None] = {}  # a set that keeps the order
        self._wake = asyncio.Event()
        self._is_dead = False
        self._channel: Channel | None = None
        self._task: asyncio.Task[None] | None = None
        self._on_message: Callable[[str], None] = _ignore
        self._on_reconnect: Callable[[], None] = _ignore

    # ---- for the owner ---------------------------------------------------------------------------------------------

    def announce(self, message: str) -> None:
        if len(message) > _MAX_MESSAGE_LENGTH or not message.isprintable():
            # An odd id: PostgreSQL takes no NUL, and a line break ends a message.
            message = EVERYTHING
        if message == EVERYTHING or len(self._waiting) >= _MAX_WAITING:
            self._waiting.clear()
            message = EVERYTHING
        if EVERYTHING not in self._waiting:
            self._waiting[message] = None
        self._wake.set()

    async def start(self, on_message: Callable[[str], None], on_reconnect: Callable[[], None]) -> None:
        self._on_message, self._on_reconnect = on_message, on_reconnect
        self._task = asyncio.create_task(self._run(), name="announcements")

    async def stop(self) -> None:
        if self._task is None:
            return
        channel = self._channel
        await ended(self._task)
        if channel is not None:
            with suppress(TimeoutError, *self._away):
                async with asyncio.timeout(_FLUSH_SECONDS):
                    await self._send_waiting(channel)
            await channel.close()
        self._channel = self._task = None

    # ---- the background task ---------------------------------------------------------------------------------------

    async def _run(self) -> None:
        loop, delay = asyncio.get_running_loop(), _MIN_DELAY_SECONDS
        while True:
            connected_at = loop.time()
            try:
                self._is_dead = False
                self._channel = await self._connect(self._received, self._closed)
                log.info("announcement channel connected")
                self._call(self._on_reconnect)
                await self._send_until_dead(self._channel)
            except self._away as problem:
                if self._channel is not None or delay == _MIN_DELAY_SECONDS:  # once per outage
                    log.warning("announcement channel disconnected", reason=type(problem).__name__)
            except Exception as problem:  # noqa: BLE001 - a bug of ours must not end the announcements for good
                log.error("announcement channel failed", reason=type(problem).__name__)
            if self._channel is not None:
                channel, self._channel = self._channel, None
                await channel.close()
                if loop.time() - connected_at > _CHECK_SECONDS:
                    delay = _MIN_DELAY_SECONDS
            await asyncio.sleep(delay * random.uniform(0.5, 1.0))  # noqa: S311 (spreads processes, keeps no secret)
            delay = min(delay * 2, _MAX_DELAY_SECONDS)

    async def _send_until_dead(self, channel: Channel) -> None:
        """Send what is waiting as it comes, and make sure of the other side while nothing does."""
        loop = asyncio.get_running_loop()
        check_at = loop.time() + _CHECK_SECONDS
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout_at(check_at):
                    await self._wake.wait()
            self._wake.clear()
            if self._is_dead:
                raise ConnectionResetError
            await self._send_waiting(channel)
            if loop.time() >= check_at:
                await channel.check()
                check_at = loop.time() + _CHECK_SECONDS

    async def _send_waiting(self, channel: Channel) -> None:
        """What could not be sent, or might not have been, waits on: receiving a message twice does no harm."""
        while self._waiting:
            messages = self._next_messages()
            try:
                await channel.send("\n".join((self._own_id, *messages)))
            except BaseException:  # whatever ended it, a cancellation too: nothing is lost
                for message in messages:
                    self.announce(message)
                raise

    def _next_messages(self) -> list[str]:
        """Take what fits into one payload. A message that is announced again from here on is a new one: it may be
        about a change that those who receive this one do not see yet."""
        messages: list[str] = []
        size = len(self._own_id)
        for message in self._waiting:
            size += len(message.encode()) + 1
            if size > _MAX_PAYLOAD_BYTES:
                break
            messages.append(message)
        for message in messages:
            del self._waiting[message]
        return messages

    def _received(self, payload: str) -> None:
        sender, *messages = payload.split("\n")
        if sender == self._own_id:
            return
        for message in messages:
            self._call(self._on_message, message)

    def _closed(self) -> None:
        self._is_dead = True
        self._wake.set()

    def _call(self, listener: Callable[..., None], *args: str) -> None:
        try:
            listener(*args)
        except Exception as problem:  # noqa: BLE001 - a listener that fails must not cut the channel for the others
            log.error("announcement handler failed", reason=type(problem).__name__)


def _ignore(*_: str) -> None:
    """What is called before the start."""


# ---- PostgreSQL ----------------------------------------------------------------------------------------------------


class PostgresChannel:
    """A connection of its own that listens, and sends as well. A pooler in transaction mode drops notifications."""

    def __init__(
        self, connection: asyncpg.Connection, on_payload: Callable[[str], None], on_close: Callable[[], None]
    ) -> None:
        self._connection = connection
        self._received = on_payload
        self._greeting = f"hello {uuid.uuid4().hex}"
        self._greeted = asyncio.Event()
        connection.add_termination_listener(lambda _: on_close())

    @classmethod
    async def connect(
        cls, url: str, on_payload: Callable[[str], None], on_close: Callable[[], None]
    ) -> PostgresChannel:
        channel = cls(await asyncpg.connect(**parse_postgres_url(url).credentials), on_payload, on_close)
        try:
            await channel._listen()
        except BaseException:  # whatever ended it, a cancellation too: no connection is left behind
            await channel.close()
            raise
        return channel

    async def _listen(self) -> None:
        await self._with_timeout(self._connection.add_listener(_POSTGRES_CHANNEL, self._notified))
        await self.send(self._greeting)
        try:
            async with asyncio.timeout(_ANSWER_SECONDS):
                await self._greeted.wait()
        except TimeoutError:
            log.warning(
                "announcements not received",
                reason="PostgreSQL sends no notifications on this connection; a pooler in transaction mode drops them",
            )

    def _notified(self, connection: Any, sender_pid: int, channel: str, payload: str) -> None:
        if payload == self._greeting:
            self._greeted.set()
        elif not payload.startswith("hello "):
            self._received(payload)

    async def send(self, payload: str) -> None:
        await self._with_timeout(self._connection.execute("SELECT pg_notify($1, $2)", _POSTGRES_CHANNEL, payload))

    async def check(self) -> None:
        await self._with_timeout(self._connection.execute("SELECT 1"))

    async def close(self) -> None:
        self._connection.terminate()

    async def _with_timeout(self, operation: Awaitable[Any]) -> None:
        """Raises TimeoutError for a side that does not answer: its driver would wait for it even to give up."""
        task = asyncio.ensure_future(operation)
        task.add_done_callback(lambda done: done.cancelled() or done.exception())
        try:
            done, _ = await asyncio.wait({task}, timeout=_ANSWER_SECONDS)
        except asyncio.CancelledError:
            task.cancel()
            raise
        if not done:
            self._connection.terminate()
            task.cancel()
            raise TimeoutError
        task.result()


class PostgresAnnouncer(ChannelAnnouncer):
    """Tells every process that uses the same database, on this machine or another."""

    def __init__(self, url: str) -> None:
        async def connect(on_payload: Callable[[str], None], on_close: Callable[[], None]) -> Channel:
            return await PostgresChannel.connect(url, on_payload, on_close)

        super().__init__(connect, (*DATABASE_AWAY, *DATABASE_REFUSED))
