"""Where cached answers are kept: in this process, or in Redis (redis_answers.py).

A store never raises and never makes a call wait: what it cannot find in time is not there.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Protocol

from ...settings.response_cache import CacheParams


class AnswerStore(Protocol):
    kind: str

    async def get_many(self, keys: Sequence[str]) -> Sequence[bytes | None]:
        """What is kept under each key, None for what is not, or not in time."""

    def put(self, key: str, value: bytes, seconds: float) -> None:
        """Keep a value for so long, soon. Never waits."""

    async def delete(self, keys: Sequence[str]) -> int:
        """Drop these; answers how many there were. Raises CacheAway when that cannot be told."""

    async def flush(self) -> int:
        """Drop all cached answers and nothing else; the same."""

    async def ping(self) -> None:
        """Raises CacheAway while the store cannot be reached."""

    async def close(self) -> None: ...


OpenAnswerStore = Callable[[CacheParams], AnswerStore]


class MemoryAnswers:
    """Of one process, bounded in entries and in bytes: what was not asked for the longest goes first."""

    kind = "local"

    def __init__(self, max_entries: int, max_bytes: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._max_entries = max_entries
        self._max_bytes = max_bytes
        self._clock = clock
        self._entries: OrderedDict[str, tuple[bytes, float]] = OrderedDict()
        self.bytes = 0

    def __len__(self) -> int:
        return len(self._entries)

    async def get_many(self, keys: Sequence[str]) -> Sequence[bytes | None]:
        return [self._get(key) for key in keys]

    def _get(self, key: str) -> bytes | None:
        entry = self._entries.get(key)
        if entry is None:
            return None
        value, ends_at = entry
        if ends_at <= self._clock():
            self.forget(key)
            return None
        self._entries.move_to_end(key)
        return value

    def put(self, key: str, value: bytes, seconds: float) -> None:
        self.forget(key)
        size = len(value) + len(key)
        if size > self._max_bytes:
            return
        self._entries[key] = (value, self._clock() + seconds)
        self.bytes += size
        while self.bytes > self._max_bytes or len(self._entries) > self._max_entries:
            self.forget(next(iter(self._entries)))

    def forget(self, key: str) -> bool:
        """Drop one; whether it was there."""
        entry = self._entries.pop(key, None)
        if entry is None:
            return False
        self.bytes -= len(entry[0]) + len(key)
        return True

    async def delete(self, keys: Sequence[str]) -> int:
        return sum(self.forget(key) for key in keys)

    async def flush(self) -> int:
        count = len(self._entries)
        self.clear()
        return count

    def clear(self) -> None:
        """The same at once."""
        self._entries.clear()
        self.bytes = 0

    async def ping(self) -> None:
        """Memory is always there."""

    async def close(self) -> None:
        self.clear()
