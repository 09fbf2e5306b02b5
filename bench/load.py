"""The client: a fixed count of requests over kept-alive connections, run to completion. Answers are checked.

One asyncio.Protocol a connection and no HTTP library, so that it costs less than what it measures. A stream's chunks
carry the moment at which the provider sent them (bench/upstream.c), in nanoseconds of the clock read here.
"""

from __future__ import annotations

import asyncio
import re
import socket
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

_SENT_AT = re.compile(rb'"content":\s?"(\d{9,})"')


class BrokenAnswer(Exception):
    """An answer that is not what was asked for; its beginning says what it is."""


@dataclass
class StreamTimes:
    """Of many streams: seconds to the first chunk, and the worst gap beyond the provider's own, of each."""

    first: list[float] = field(default_factory=list)
    gap: list[float] = field(default_factory=list)
    chunks: int = 0


class _Connection(asyncio.Protocol):
    def __init__(self) -> None:
        self._buffer = bytearray()
        self._done: asyncio.Future[None] | None = None
        self._head_size = 0
        self._length = -1
        self._started = 0.0
        self._seen = 0
        self._last: tuple[float, float] | None = None
        self.first: float | None = None
        self.worst_gap = 0.0
        self.chunks = 0
        self.is_stream = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        transport.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def ask(self, request: bytes) -> asyncio.Future[None]:
        """Send one request; done when its answer is whole."""
        self._buffer.clear()
        self._head_size, self._length, self._seen, self._last, self.first = 0, -1, 0, None, None
        self.worst_gap, self.chunks = 0.0, 0
        self._done = asyncio.get_running_loop().create_future()
        self._started = time.monotonic()
        self._transport.write(request)
        return self._done

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        if not self._head_size and not self._read_head():
            return
        if self.is_stream:
            self._note_chunks(time.monotonic())
            if self._buffer.endswith(b"0\r\n\r\n"):
                self._finish()
        elif self._length < 0:
            if self._buffer.endswith(b"\r\n0\r\n\r\n"):
                self._finish()
        elif len(self._buffer) >= self._head_size + self._length:
            self._finish()

    def _read_head(self) -> bool:
        end = self._buffer.find(b"\r\n\r\n")
        if end < 0:
            return False
        head = bytes(self._buffer[:end]).lower()
        self._head_size = self._seen = end + 4
        if b" 200" not in head[:13]:
            self._fail(BrokenAnswer(bytes(self._buffer[:400]).decode("latin-1")))
            return False
        self.is_stream = b"text/event-stream" in head
        length = re.search(rb"\r\ncontent-length: *(\d+)", head)
        self._length = int(length[1]) if length else -1
        return True

    def _note_chunks(self, now: float) -> None:
        for found in _SENT_AT.finditer(self._buffer, self._seen):
            sent = int(found[1]) / 1e9
            self._seen = found.end()
            self.chunks += 1
            if self.first is None:
                self.first = now - self._started
            if self._last is not None:
                self.worst_gap = max(self.worst_gap, (now - self._last[0]) - (sent - self._last[1]))
            self._last = (now, sent)

    def _finish(self) -> None:
        if self._done is not None and not self._done.done():
            self._done.set_result(None)

    def _fail(self, problem: Exception) -> None:
        if self._done is not None and not self._done.done():
            self._done.set_exception(problem)

    def connection_lost(self, exc: Exception | None) -> None:
        self._fail(BrokenAnswer(f"the connection ended before the answer did: {exc}"))

    def close(self) -> None:
        self._transport.close()


async def _connect(port: int) -> _Connection:
    _, connection = await asyncio.get_running_loop().create_connection(_Connection, "127.0.0.1", port)
    return connection


async def run(port: int, request: bytes, calls: int, at_once: int) -> float:
    """Make `calls` calls, `at_once` of them at any time. Answers the seconds that they took."""
    remaining = iter(range(calls))
    connections = [await _connect(port) for _ in range(at_once)]

    async def send_calls(connection: _Connection) -> None:
        for _ in remaining:
            await connection.ask(request)

    started = time.monotonic()
    await asyncio.gather(*(send_calls(connection) for connection in connections))
    seconds = time.monotonic() - started
    for connection in connections:
        connection.close()
    return seconds


async def run_streams(port: int, request: bytes, streams: int, *, spread: float, chunks: int) -> StreamTimes:
    """Open `streams` streams evenly over `spread` seconds, all open at once if they last; read each to its end."""
    times = StreamTimes()

    async def run_stream(number: int) -> None:
        connection = await _connect(port)
        await asyncio.sleep(spread * number / streams)
        await connection.ask(request)
        if connection.chunks != chunks or connection.first is None:
            raise BrokenAnswer(f"a stream of {connection.chunks} chunks instead of {chunks}")
        times.first.append(connection.first)
        times.gap.append(connection.worst_gap)
        times.chunks += connection.chunks
        connection.close()

    await asyncio.gather(*(run_stream(number) for number in range(streams)))
    return times


async def latencies(port: int, request: bytes, calls: int) -> list[float]:
    """Seconds of each of `calls` calls, one after the other on one connection."""
    connection = await _connect(port)
    seconds = []
    for _ in range(calls):
        started = time.perf_counter()
        await connection.ask(request)
        seconds.append(time.perf_counter() - started)
    connection.close()
    return seconds


def quantile(values: Sequence[float], share: float) -> float:
    """The value below which `share` of the values lie; 0 for none."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else 0.0
