"""Small shared values with a life time: in Redis when there is one, else in this process.

Redis is optional and never trusted to be fast: every command has 250 ms, and what cannot wait has another way
(login codes fall back to the database, sign-in throttling to this process).
"""

from __future__ import annotations

import time
from collections import OrderedDict
from typing import Protocol

from redis.asyncio import Redis
from redis.exceptions import RedisError

# What a command raises when Redis is away or slow.
CACHE_AWAY = (RedisError, OSError, TimeoutError)

_COMMAND_SECONDS = 0.25


class Cache(Protocol):
    is_shared: bool

    async def set(self, key: str, value: str, ttl_seconds: float) -> None: ...

    async def take(self, key: str) -> str | None:
        """Read and delete in one atomic step: of many callers exactly one gets the value."""

    async def increment(self, key: str, ttl_seconds: float) -> int:
        """Count one up; the life time starts with the first count."""

    async def remaining_seconds(self, key: str) -> float:
        """Seconds that a key still lives; 0 when it is not there."""

    async def delete(self, key: str) -> None: ...

    async def is_healthy(self) -> bool: ...

    async def close(self) -> None: ...


class MemoryCache:
    """One process's cache, bounded: the oldest entry goes first."""

    is_shared = False

    def __init__(self, max_entries: int = 20_000) -> None:
        self._entries: OrderedDict[str, tuple[str, float]] = OrderedDict()
        self._max_entries = max_entries

    def _live(self, key: str) -> tuple[str, float] | None:
        entry = self._entries.get(key)
        if entry is not None and entry[1] <= time.monotonic():
            del self._entries[key]
            return None
        return entry

    async def set(self, key: str, value: str, ttl_seconds: float) -> None:
        self._entries[key] = (value, time.monotonic() + ttl_seconds)
        self._entries.move_to_end(key)
        while len(self._entries) > self._max_entries:
            self._entries.popitem(last=False)

    async def take(self, key: str) -> str | None:
        entry = self._live(key)
        if entry is None:
            return None
        del self._entries[key]
        return entry[0]

    async def increment(self, key: str, ttl_seconds: float) -> int:
        entry = self._live(key)
        count = int(entry[0]) + 1 if entry else 1
        remaining = entry[1] - time.monotonic() if entry else ttl_seconds
        await self.set(key, str(count), remaining)
        return count

    async def remaining_seconds(self, key: str) -> float:
        entry = self._live(key)
        return entry[1] - time.monotonic() if entry else 0.0

    async def delete(self, key: str) -> None:
        self._entries.pop(key, None)

    async def is_healthy(self) -> bool:
        return True

    async def close(self) -> None:
        self._entries.clear()


class RedisCache:
    is_shared = True

    def __init__(self, url: str) -> None:
        self._redis: Redis = Redis.from_url(
            url,
            decode_responses=True,
            socket_timeout=_COMMAND_SECONDS,
            socket_connect_timeout=_COMMAND_SECONDS,
            max_connections=50,
        )

    async def set(self, key: str, value: str, ttl_seconds: float) -> None:
        await self._redis.set(_named(key), value, px=int(ttl_seconds * 1000))

    async def take(self, key: str) -> str | None:
        value: str | None = await self._redis.getdel(_named(key))
        return value

    async def increment(self, key: str, ttl_seconds: float) -> int:
        async with self._redis.pipeline(transaction=True) as pipe:
            pipe.set(_named(key), 0, px=int(ttl_seconds * 1000), nx=True)
            pipe.incr(_named(key))
            results = await pipe.execute()
        return int(results[1])

    async def remaining_seconds(self, key: str) -> float:
        milliseconds = await self._redis.pttl(_named(key))
        return max(0.0, float(milliseconds) / 1000)

    async def delete(self, key: str) -> None:
        await self._redis.delete(_named(key))

    async def is_healthy(self) -> bool:
        try:
            return bool(await self._redis.ping())
        except CACHE_AWAY:
            return False

    async def close(self) -> None:
        await self._redis.aclose()


def _named(key: str) -> str:
    return f"quarterdeck:{key}"


def open_cache(redis_url: str | None) -> Cache:
    return RedisCache(redis_url) if redis_url else MemoryCache()
