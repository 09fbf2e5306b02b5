"""Announcements over Redis pub/sub. Loaded when it is needed only: see app/backends.py."""

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
from .announcements import Channel, ChannelAnnouncer

_ANSWER_SECONDS = 2.0
_AWAY = (RedisError, OSError)


class RedisChannel:
    """A client with two connections: one subscribes, the other publishes."""

    def __init__(
        self, redis: Redis, topic: str, on_payload: Callable[[str], None], on_close: Callable[[], None]
    ) -> None:
        self._redis = redis
        self._topic = topic
        self._received = on_payload
        self._closed = on_close
        self._subscription: PubSub = redis.pubsub()
        self._answered = asyncio.Event()
        self._reader: asyncio.Task[None] | None = None

    @classmethod
    async def connect(
        cls, url: str, topic: str, on_payload: Callable[[str], None], on_close: Callable[[], None]
    ) -> RedisChannel:
        redis = Redis.from_url(
            url,
            decode_responses=True,
            socket_timeout=_ANSWER_SECONDS,
            socket_connect_timeout=_ANSWER_SECONDS,
            # The client would reconnect in silence, and nobody would know that messages were missed.
            retry=Retry(NoBackoff(), 0),
        )
        channel = cls(redis, topic, on_payload, on_close)
        try:
            await channel._subscription.subscribe(topic)
            channel._reader = asyncio.create_task(channel._read_forever(), name="announcements of others")
            await channel._answer()
        except BaseException:  # whatever ended it, a cancellation too: no connection is left behind
            await channel.close()
            raise
        return channel

    async def send(self, payload: str) -> None:
        await self._redis.publish(self._topic, payload)

    async def check(self) -> None:
        self._answered.clear()
        await self._subscription.ping()
        await self._answer()

    async def close(self) -> None:
        if self._reader is not None:
            await ended(self._reader)
            if not self._reader.cancelled():
                self._reader.exception()  # reported by `on_close` already
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
                    self._received(message["data"])
        finally:
            # Whatever ended it. Nothing can be missed then: a channel that is closed is opened again.
            self._closed()


class RedisAnnouncer(ChannelAnnouncer):
    """Tells every process that subscribes to the same topic of this Redis."""

    def __init__(self, url: str, topic: str) -> None:
        async def connect(on_payload: Callable[[str], None], on_close: Callable[[], None]) -> Channel:
            return await RedisChannel.connect(url, topic, on_payload, on_close)

        super().__init__(connect, _AWAY)
