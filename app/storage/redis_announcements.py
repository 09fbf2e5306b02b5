"""Announcements over Redis pub/sub. Loaded when it is needed only: see app/storage/cache.py."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from redis.asyncio import Redis
from redis.asyncio.client import PubSub
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from ..tasks import ended
from .announcements import Line, LineAnnouncer

_ANSWER_SECONDS = 2.0
_AWAY = (RedisError, OSError)


class RedisLine:
    """A client with two connections: one subscribes, the other publishes."""

    def __init__(self, redis: Redis, channel: str, heard: Callable[[str], None], died: Callable[[], None]) -> None:
        self._redis = redis
        self._channel = channel
        self._heard = heard
        self._died = died
        self._subscription: PubSub = redis.pubsub()
        self._answered = asyncio.Event()
        self._reader: asyncio.Task[None] | None = None

    @classmethod
    async def dial(cls, url: str, channel: str, heard: Callable[[str], None], died: Callable[[], None]) -> RedisLine:
        redis = Redis.from_url(
            url,
            decode_responses=True,
            socket_timeout=_ANSWER_SECONDS,
            socket_connect_timeout=_ANSWER_SECONDS,
            # The client would reconnect in silence, and nobody would know that words were missed.
            retry=Retry(NoBackoff(), 0),
        )
        line = cls(redis, channel, heard, died)
        try:
            await line._subscription.subscribe(channel)
            line._reader = asyncio.create_task(line._read_forever(), name="announcements of others")
            await line._answer()
        except BaseException:  # whatever ended it, a cancellation too: no connection is left behind
            await line.close()
            raise
        return line

    async def send(self, payload: str) -> None:
        await self._redis.publish(self._channel, payload)

    async def check(self) -> None:
        self._answered.clear()
        await self._subscription.ping()
        await self._answer()

    async def close(self) -> None:
        if self._reader is not None:
            await ended(self._reader)
            if not self._reader.cancelled():
                self._reader.exception()  # said by `died` already
        with suppress(*_AWAY):
            await self._subscription.aclose()  # type: ignore[no-untyped-call]
        with suppress(*_AWAY):
            await self._redis.aclose()

    async def _answer(self) -> None:
        """Wait for a sign of life on the connection that subscribes. Raises TimeoutError."""
        async with asyncio.timeout(_ANSWER_SECONDS):
            await self._answered.wait()

    async def _read_forever(self) -> None:
        try:
            while True:
                message: dict[str, Any] | None = await self._subscription.get_message(timeout=None)
                if message is None:
                    continue
                self._answered.set()
                if message["type"] == "message":
                    self._heard(message["data"])
        finally:
            # Whatever ended it. Nothing can be missed then: a line that died is dialled again.
            self._died()


class RedisAnnouncer(LineAnnouncer):
    """Tells every process that subscribes to the same channel of this Redis."""

    def __init__(self, url: str, channel: str) -> None:
        async def dial(heard: Callable[[str], None], died: Callable[[], None]) -> Line:
            return await RedisLine.dial(url, channel, heard, died)

        super().__init__(dial, _AWAY)
