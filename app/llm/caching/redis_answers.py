"""Cached answers in Redis, which is never trusted: a read of more than 50 ms is a miss, and after five failures
in a row nobody asks for a minute. Loaded when it is needed only: see answer_store.py.

Writes wait in a bounded queue of this process and go out together. Each key holds plain JSON and its end.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import cast

import structlog
from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from ...storage.cache import CacheAway
from ...tasks import ended

log = structlog.get_logger(__name__)

PREFIX = "quarterdeck:response:"

_READ_SECONDS = 0.05
# Nobody waits for a write or for an admin's command.
_TIMEOUT_SECONDS = 1.0
_MAX_FAILURES = 5
_REST_SECONDS = 60.0
_MAX_WAITING = 2000
_MAX_WAITING_BYTES = 32 * 1024 * 1024
_BATCH = 100
_AWAY = (RedisError, OSError, TimeoutError)


class Breaker:
    """Open after five failures in a row, for a minute; then one probe decides. Says so once each time."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._failures = 0
        self._opened_at: float | None = None

    @property
    def is_open(self) -> bool:
        return self._opened_at is not None

    @property
    def wants_probe(self) -> bool:
        """Whether the rest is over."""
        return self._opened_at is not None and self._clock() - self._opened_at >= _REST_SECONDS

    def answered(self) -> None:
        self._failures = 0
        if self._opened_at is not None:
            self._opened_at = None
            log.info("the cache of answers is back")

    def failed(self, problem: BaseException) -> None:
        self._failures += 1
        if self._opened_at is not None:
            self._opened_at = self._clock()
        elif self._failures >= _MAX_FAILURES:
            self._opened_at = self._clock()
            log.warning("the cache of answers is away; calls go on without it", reason=type(problem).__name__)


class RedisAnswers:
    kind = "redis"

    def __init__(self, url: str, max_connections: int = 16, clock: Callable[[], float] = time.monotonic) -> None:
        # No second try and no wait of its own: how long anything may take is decided here.
        pool = BlockingConnectionPool.from_url(
            url, max_connections=max_connections, timeout=_TIMEOUT_SECONDS, retry=Retry(NoBackoff(), 0)
        )
        self._redis: Redis = Redis.from_pool(pool)
        self.breaker = Breaker(clock)
        self._waiting: deque[tuple[str, bytes, int]] = deque()
        self._waiting_bytes = 0
        self._work: asyncio.Task[None] | None = None
        self._probe: asyncio.Task[None] | None = None
        self._is_closed = False

    # ---- reading ---------------------------------------------------------------------------------------------------

    async def get_many(self, keys: Sequence[str]) -> Sequence[bytes | None]:
        if self._is_closed:
            return [None] * len(keys)
        if self.breaker.is_open:
            self._probe_soon()
            return [None] * len(keys)
        try:
            async with asyncio.timeout(_READ_SECONDS):
                found = await self._redis.mget([PREFIX + key for key in keys])
        except _AWAY as problem:
            self.breaker.failed(problem)
            return [None] * len(keys)
        self.breaker.answered()
        return cast(Sequence[bytes | None], found)

    def _probe_soon(self) -> None:
        """Ask whether Redis is back, beside the calls."""
        if self.breaker.wants_probe and (self._probe is None or self._probe.done()):
            self._probe = asyncio.create_task(self._ask(), name="probe of the cache of answers")

    async def _ask(self) -> None:
        try:
            await self.ping()
        except CacheAway as problem:
            self.breaker.failed(problem)
        else:
            self.breaker.answered()

    # ---- writing ---------------------------------------------------------------------------------------------------

    def put(self, key: str, value: bytes, seconds: float) -> None:
        full = len(self._waiting) >= _MAX_WAITING or self._waiting_bytes + len(value) > _MAX_WAITING_BYTES
        milliseconds = int(seconds * 1000)
        if self._is_closed or self.breaker.is_open or full or milliseconds <= 0:
            return
        self._waiting.append((key, value, milliseconds))
        self._waiting_bytes += len(value)
        if self._work is None or self._work.done():
            self._work = asyncio.create_task(self._write(), name="writes of the cache of answers")

    async def _write(self) -> None:
        while self._waiting:
            batch = [self._waiting.popleft() for _ in range(min(_BATCH, len(self._waiting)))]
            self._waiting_bytes -= sum(len(value) for _, value, _ in batch)
            try:
                async with asyncio.timeout(_TIMEOUT_SECONDS), self._redis.pipeline(transaction=False) as pipe:
                    for key, value, milliseconds in batch:
                        pipe.set(PREFIX + key, value, px=milliseconds)
                    await pipe.execute()
            except _AWAY as problem:
                self.breaker.failed(problem)

    # ---- operation -------------------------------------------------------------------------------------------------

    async def delete(self, keys: Sequence[str]) -> int:
        try:
            async with asyncio.timeout(_TIMEOUT_SECONDS):
                return int(await self._redis.unlink(*[PREFIX + key for key in keys])) if keys else 0
        except _AWAY as problem:
            raise CacheAway(type(problem).__name__) from problem

    async def flush(self) -> int:
        """Looks through all names of this Redis, in steps: what else lives there stays."""
        count, cursor = 0, 0
        try:
            while True:
                async with asyncio.timeout(_TIMEOUT_SECONDS):
                    cursor, names = await self._redis.scan(cursor, match=f"{PREFIX}*", count=1000)
                    count += int(await self._redis.unlink(*names)) if names else 0
                if not cursor:
                    return count
        except _AWAY as problem:
            raise CacheAway(type(problem).__name__) from problem

    async def ping(self) -> None:
        try:
            async with asyncio.timeout(_TIMEOUT_SECONDS):
                await self._redis.set(f"{PREFIX}ping", b"1", px=1000)
        except _AWAY as problem:
            raise CacheAway(type(problem).__name__) from problem

    async def close(self) -> None:
        """Writes that wait go out if that is quick. Calls that still hold it find nothing and keep nothing."""
        self._is_closed = True
        if self._work is not None:
            await asyncio.wait({self._work}, timeout=_TIMEOUT_SECONDS)
        for task in (self._work, self._probe):
            if task is not None:
                await ended(task)
        await self._redis.aclose()
