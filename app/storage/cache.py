"""Small shared values with a TTL: in Redis when there is one, else in this process.

What a shared cache cannot answer has another way: login codes fall back to the database, sign-in throttling to this
process.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from typing import Protocol


class CacheAway(Exception):
    """The shared cache cannot be reached or is too slow. Callers have another way."""


class Cache(Protocol):
    is_shared: bool

    async def set(self, key: str, value: str, ttl_seconds: float) -> None: ...

    async def take(self, key: str) -> str | None:
        """Read and delete in one atomic step: of many callers exactly one gets the value."""

    async def increment(self, key: str, ttl_seconds: float) -> int:
        """Count one up; the TTL starts with the first count."""

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
