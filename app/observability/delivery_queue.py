"""A bounded queue that a background task empties in batches: what a receiver cannot take is dropped and counted."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar

import structlog

from ..tasks import ended

log = structlog.get_logger(__name__)

Item = TypeVar("Item")

MAX_ITEMS = 10_000
MAX_BYTES = 32 * 1024 * 1024
_MAX_BATCH_BYTES = 4 * 1024 * 1024
_LOGS_AGAIN_SECONDS = 60.0
_PAUSES = (0.5, 2.0, 5.0)


class Undelivered(Exception):
    """A receiver did not take a batch. `is_final`: it never will, so another try is pointless."""

    def __init__(self, reason: str, *, is_final: bool = False) -> None:
        super().__init__(reason)
        self.is_final = is_final


class DeliveryQueue(Generic[Item]):
    """`deliver` gets up to `batch` items and raises Undelivered. Seconds for times.

    `linger`: how long the first item of a batch waits for others. `pauses` before the tries after the first.
    """

    def __init__(
        self,
        name: str,
        deliver: Callable[[Sequence[Item]], Awaitable[None]],
        *,
        batch: int = 100,
        linger: float = 1.0,
        pauses: Sequence[float] = _PAUSES,
        most_items: int = MAX_ITEMS,
        most_bytes: int = MAX_BYTES,
    ) -> None:
        self.name = name
        self.dropped = 0
        self.sent = 0
        self._deliver = deliver
        self._batch = batch
        self._linger = linger
        self._pauses = pauses
        self._most_items = most_items
        self._most_bytes = most_bytes
        self._items: deque[tuple[Item, int]] = deque()
        self._bytes = 0
        self._arrived = asyncio.Event()
        self._closing = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._logged_at = -_LOGS_AGAIN_SECONDS
        self._unlogged = 0

    def __len__(self) -> int:
        return len(self._items)

    def put(self, item: Item, size: int = 0) -> None:
        """Put aside, in about a microsecond. `size`: bytes that the item keeps alive. The oldest make room."""
        items = self._items
        items.append((item, size))
        self._bytes += size
        while len(items) > self._most_items or (self._bytes > self._most_bytes and len(items) > 1):
            self._bytes -= items.popleft()[1]
            self._lose(1, "too many were waiting")
        if not self._arrived.is_set():
            self._arrived.set()

    def start(self) -> None:
        self._task = asyncio.create_task(self._run(), name=f"outbox of {self.name}")

    async def stop(self, seconds: float = 2.0) -> None:
        """Send what waits, within so many seconds; the rest is dropped."""
        self._closing.set()
        self._arrived.set()
        if self._task is None:
            return
        await asyncio.wait({self._task}, timeout=seconds)
        await ended(self._task)
        if self._items:
            self._lose(len(self._items), "the instance stops")
            self._items.clear()

    async def _run(self) -> None:
        while self._items or not self._closing.is_set():
            await self._arrived.wait()
            if len(self._items) < self._batch:
                await self._pause(self._linger)
            batch = self._take()
            if batch:
                await self._send(batch)

    def _take(self) -> list[Item]:
        taken: list[Item] = []
        room = _MAX_BATCH_BYTES
        while self._items and len(taken) < self._batch and (not taken or self._items[0][1] <= room):
            item, size = self._items.popleft()
            self._bytes -= size
            room -= size
            taken.append(item)
        if not self._items and not self._closing.is_set():
            self._arrived.clear()
        return taken

    async def _send(self, batch: list[Item]) -> None:
        """Try, and try again after each pause; give up for good after the last."""
        for pause in (*self._pauses, None):
            try:
                await self._deliver(batch)
                self.sent += len(batch)
                return
            except asyncio.CancelledError:
                self._lose(len(batch), "the instance stops")
                raise
            except Undelivered as problem:
                reason, is_final = str(problem), problem.is_final
            except Exception as problem:  # noqa: BLE001 - a bug of ours must not end the work in the background
                reason, is_final = type(problem).__name__, True
            if pause is None or is_final or self._closing.is_set():
                break
            await self._pause(pause)
        self._lose(len(batch), reason)

    async def _pause(self, seconds: float) -> None:
        """Wait, but not beyond the order to stop."""
        await asyncio.wait({stopping := asyncio.ensure_future(self._closing.wait())}, timeout=seconds)
        stopping.cancel()

    def _lose(self, count: int, reason: str) -> None:
        self.dropped += count
        self._unlogged += count
        now = time.monotonic()
        if now - self._logged_at >= _LOGS_AGAIN_SECONDS:
            self._logged_at = now
            log.warning("messages were dropped", receiver=self.name, count=self._unlogged, reason=reason)
            self._unlogged = 0
