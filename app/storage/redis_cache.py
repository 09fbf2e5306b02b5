"""The cache over Redis. Optional and never trusted to be fast: a command that takes longer has failed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from redis.asyncio import BlockingConnectionPool, Redis
from redis.exceptions import RedisError

from .cache import CacheAway

_COMMAND_SECONDS = 0.25
_POOL_SECONDS = 1.0


@contextmanager
def _raising_cache_away() -> Iterator[None]:
    try:
        yield
    except (RedisError, OSError, TimeoutError) as problem:
        raise CacheAway(type(problem).__name__) from problem


class RedisCache:
    is_shared = True

    def __init__(self, url: str) -> None:
        # Small, and it waits: fifty connections that open at once time out on a busy machine, and with a pool that
        # does not wait the eleventh command would take Redis for unreachable.
        pool = BlockingConnectionPool.from_url(
            url,
            decode_responses=True,
            socket_timeout=_COMMAND_SECONDS,
            socket_connect_timeout=_COMMAND_SECONDS,
            max_connections=10,
            timeout=_POOL_SECONDS,
        )
        self._redis: Redis = Redis.from_pool(pool)

    @property
    def client(self) -> Redis:
        """The connections, for what needs more of Redis than a cache."""
        return self._redis

    async def set(self, key: str, value: str, ttl_seconds: float) -> None:
        with _raising_cache_away():
            await self._redis.set(_namespaced(key), value, px=int(ttl_seconds * 1000))

    async def take(self, key: str) -> str | None:
        with _raising_cache_away():
            value = await self._redis.getdel(_namespaced(key))
        return None if value is None else str(value)

    async def increment(self, key: str, ttl_seconds: float) -> int:
        with _raising_cache_away():
            async with self._redis.pipeline(transaction=True) as pipe:
                pipe.set(_namespaced(key), 0, px=int(ttl_seconds * 1000), nx=True)
                pipe.incr(_namespaced(key))
                results = await pipe.execute()
        return int(results[1])

    async def remaining_seconds(self, key: str) -> float:
        with _raising_cache_away():
            milliseconds = await self._redis.pttl(_namespaced(key))
        return max(0.0, float(milliseconds) / 1000)

    async def delete(self, key: str) -> None:
        with _raising_cache_away():
            await self._redis.delete(_namespaced(key))

    async def is_healthy(self) -> bool:
        try:
            with _raising_cache_away():
                return bool(await self._redis.ping())
        except CacheAway:
            return False

    async def close(self) -> None:
        await self._redis.aclose()


def _namespaced(key: str) -> str:
    return f"quarterdeck:{key}"
