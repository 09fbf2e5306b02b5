"""A bounded queue that a background task delivers in batches; what a receiver does not take is dropped and counted."""

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
_LOG_INTERVAL_SECONDS = 60.0
_RETRY_DELAYS = (0.5, 2.0, 5.0)


class DeliveryFailed(Exception):
    """A receiver did not accept a batch. `is_permanent`: another attempt would fail as well."""

    def __init__(self, reason: str, *, is_permanent: bool = False) -> None:
        super().__init__(reason)
        self.is_permanent = is_permanent


class DeliveryQueue(Generic[Item]):
    """`deliver` gets up to `batch` items and raises DeliveryFailed. Seconds for times.

    `linger`: how long the first item of a batch waits for others. `retry_delays`: before each attempt after the first.
    """

    def __init__(
        self,
        name: str,
        deliver: Callable[[Sequence[Item]], Awaitable[None]],
        *,
        batch: int = 100,
        linger: float = 1.0,
        retry_delays: Sequence[float] = _RETRY_DELAYS,
        max_items: int = MAX_ITEMS,
        max_bytes: int = MAX_BYTES,
    ) -> None:
        self.name = name
        self.dropped = 0
        self.sent = 0
        self._deliver = deliver
        self._batch = batch
        self._linger = linger
        self._retry_delays = retry_delays
        self._max_items = max_items
        self._max_bytes = max_bytes
        self._items: deque[tuple[Item, int]] = deque()
        self._bytes = 0
        self._arrived = asyncio.Event()
        self._closing = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._logged_at = -_LOG_INTERVAL_SECONDS
        self._unlogged = 0

    def __len__(self) -> int:
        return len(self._items)

    def put(self, item: Item, size: int = 0) -> None:
        """Append, in about a microsecond. `size`: bytes that the item holds in memory. The oldest make room."""
        items = self._items
        items.append((item, size))
        self._bytes += size
        while len(items) > self._max_items or (self._bytes > self._max_bytes and len(items) > 1):
            self._bytes -= items.popleft()[1]
            self._drop(1, "queue full")
        if not self._arrived.is_set():
            self._arrived.set()

    def start(self) -> None:
        self._task = asyncio.create_task(self._run(), name=f"delivery queue of {self.name}")

    async def stop(self, seconds: float = 2.0) -> None:
        """Send what is queued within so many seconds; the remainder is dropped."""
        self._closing.set()
        self._arrived.set()
        if self._task is None:
            return
        await asyncio.wait({self._task}, timeout=seconds)
        await ended(self._task)
        if self._items:
            self._drop(len(self._items), "shutdown")
            self._items.clear()

    async def _run(self) -> None:
        while self._items or not self._closing.is_set():
            await self._arrived.wait()
            if len(self._items) < self._batch:
                await self._wait(self._linger)
            batch = self._next_batch()
            if batch:
                await self._send(batch)

    def _next_batch(self) -> list[Item]:
        batch: list[Item] = []
        room = _MAX_BATCH_BYTES
        while self._items and len(batch) < self._batch and (not batch or self._items[0][1] <= room):
            item, size = self._items.popleft()
            self._bytes -= size
            room -= size
            batch.append(item)
        if not self._items and not self._closing.is_set():
            self._arrived.clear()
        return batch

    async def _send(self, batch: list[Item]) -> None:
        """Deliver, with a retry after each delay; drop the batch after the last."""
        for delay in (*self._retry_delays, None):
            try:
                await self._deliver(batch)
                self.sent += len(batch)
                return
            except asyncio.CancelledError:
                self._drop(len(batch), "shutdown")
                raise
            except DeliveryFailed as problem:
                reason, is_permanent = str(problem), problem.is_permanent
            except Exception as problem:  # noqa: BLE001 - a bug of ours must not end the work in the background
                reason, is_permanent = type(problem).__name__, True
            if delay is None or is_permanent or self._closing.is_set():
                break
            await self._wait(delay)
        self._drop(len(batch), reason)

    async def _wait(self, seconds: float) -> None:
        """Wait, but no longer than until `stop`."""
        await asyncio.wait({stopping := asyncio.ensure_future(self._closing.wait())}, timeout=seconds)
        stopping.cancel()

    def _drop(self, count: int, reason: str) -> None:
        self.dropped += count
        self._unlogged += count
        now = time.monotonic()
        if now - self._logged_at >= _LOG_INTERVAL_SECONDS:
            self._logged_at = now
            log.warning("notifications dropped", receiver=self.name, count=self._unlogged, reason=reason)
            self._unlogged = 0
