"""Cached answers in Redis. A read of more than 50 ms is a miss; a circuit breaker opens after five failures in a row.

Imported by app/backends.py when Redis is configured.
Writes are queued in this process, up to a bound, and sent in batches. Each value is plain JSON with a time to live.
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
# For writes, which no call waits for, and for commands of an admin.
_TIMEOUT_SECONDS = 1.0
_MAX_FAILURES = 5
_OPEN_SECONDS = 60.0
_MAX_PENDING = 2000
_MAX_PENDING_BYTES = 32 * 1024 * 1024
_BATCH = 100
_REDIS_PROBLEMS = (RedisError, OSError, TimeoutError)


class CircuitBreaker:
    """Open after five failures in a row, for a minute; then one probe decides. Logs each change once."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._failures = 0
        self._opened_at: float | None = None

    @property
    def is_open(self) -> bool:
        return self._opened_at is not None

    @property
    def wants_probe(self) -> bool:
        """Whether it has been open for long enough."""
        return self._opened_at is not None and self._clock() - self._opened_at >= _OPEN_SECONDS

    def answered(self) -> None:
        self._failures = 0
        if self._opened_at is not None:
            self._opened_at = None
            log.info("response cache available again")

    def failed(self, problem: BaseException) -> None:
        self._failures += 1
        if self._opened_at is not None:
            self._opened_at = self._clock()
        elif self._failures >= _MAX_FAILURES:
            self._opened_at = self._clock()
            log.warning("response cache unavailable", reason=type(problem).__name__)


class RedisAnswers:
    kind = "redis"

    def __init__(self, url: str, max_connections: int = 16, clock: Callable[[], float] = time.monotonic) -> None:
        # No retries of the client's own: timeouts and the breaker decide here.
        pool = BlockingConnectionPool.from_url(
            url, max_connections=max_connections, timeout=_TIMEOUT_SECONDS, retry=Retry(NoBackoff(), 0)
        )
        self._redis: Redis = Redis.from_pool(pool)
        self.breaker = CircuitBreaker(clock)
        self._pending: deque[tuple[str, bytes, int]] = deque()
        self._pending_bytes = 0
        self._writer: asyncio.Task[None] | None = None
        self._probe: asyncio.Task[None] | None = None
        self._is_closed = False

    # ---- reading ---------------------------------------------------------------------------------------------------

    async def get_many(self, keys: Sequence[str]) -> Sequence[bytes | None]:
        if self._is_closed:
            return [None] * len(keys)
        if self.breaker.is_open:
            self._start_probe()
            return [None] * len(keys)
        try:
            async with asyncio.timeout(_READ_SECONDS):
                values = await self._redis.mget([PREFIX + key for key in keys])
        except _REDIS_PROBLEMS as problem:
            self.breaker.failed(problem)
            return [None] * len(keys)
        self.breaker.answered()
        return cast(Sequence[bytes | None], values)

    def _start_probe(self) -> None:
        """Probe Redis in the background."""
        if self.breaker.wants_probe and (self._probe is None or self._probe.done()):
            self._probe = asyncio.create_task(self._run_probe(), name="probe of the response cache")

    async def _run_probe(self) -> None:
        try:
            await self.ping()
        except CacheAway as problem:
            self.breaker.failed(problem)
        else:
            self.breaker.answered()

    # ---- writing ---------------------------------------------------------------------------------------------------

    def put(self, key: str, value: bytes, seconds: float) -> None:
        is_full = len(self._pending) >= _MAX_PENDING or self._pending_bytes + len(value) > _MAX_PENDING_BYTES
        milliseconds = int(seconds * 1000)
        if self._is_closed or self.breaker.is_open or is_full or milliseconds <= 0:
            return
        self._pending.append((key, value, milliseconds))
        self._pending_bytes += len(value)
        if self._writer is None or self._writer.done():
            self._writer = asyncio.create_task(self._write(), name="writes of the response cache")

    async def _write(self) -> None:
        while self._pending:
            batch = [self._pending.popleft() for _ in range(min(_BATCH, len(self._pending)))]
            self._pending_bytes -= sum(len(value) for _, value, _ in batch)
            try:
                async with asyncio.timeout(_TIMEOUT_SECONDS), self._redis.pipeline(transaction=False) as pipe:
                    for key, value, milliseconds in batch:
                        pipe.set(PREFIX + key, value, px=milliseconds)
                    await pipe.execute()
            except _REDIS_PROBLEMS as problem:
                self.breaker.failed(problem)

    # ---- operation -------------------------------------------------------------------------------------------------

    async def delete(self, keys: Sequence[str]) -> int:
        try:
            async with asyncio.timeout(_TIMEOUT_SECONDS):
                return int(await self._redis.unlink(*[PREFIX + key for key in keys])) if keys else 0
        except _REDIS_PROBLEMS as problem:
            raise CacheAway(type(problem).__name__) from problem

    async def flush(self) -> int:
        """Scans all keys of this Redis, in steps: others' keys stay."""
        count, cursor = 0, 0
        try:
            while True:
                async with asyncio.timeout(_TIMEOUT_SECONDS):
                    cursor, names = await self._redis.scan(cursor, match=f"{PREFIX}*", count=1000)
                    count += int(await self._redis.unlink(*names)) if names else 0
                if not cursor:
                    return count
        except _REDIS_PROBLEMS as problem:
            raise CacheAway(type(problem).__name__) from problem

    async def ping(self) -> None:
        try:
            async with asyncio.timeout(_TIMEOUT_SECONDS):
                await self._redis.set(f"{PREFIX}ping", b"1", px=1000)
        except _REDIS_PROBLEMS as problem:
            raise CacheAway(type(problem).__name__) from problem

    async def close(self) -> None:
        """Send pending writes, within a timeout. Calls that still hold the store find nothing and store nothing."""
        self._is_closed = True
        if self._writer is not None:
            await asyncio.wait({self._writer}, timeout=_TIMEOUT_SECONDS)
        for task in (self._writer, self._probe):
            if task is not None:
                await ended(task)
        await self._redis.aclose()
