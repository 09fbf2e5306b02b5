"""The lanes: what is sent, how often, and what is measured of each server. docs/performance.md says what they mean."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from . import load
from .machine import cpu_seconds, rss_mb
from .targets import Target

Figures = dict[str, Any]

_AT_ONCE = 16
_STREAMS_AT_ONCE = 16
_CHUNKS = 50
_SLOW_PACE_MS, _SLOW_CHUNKS, _SLOW_STREAMS = 250, 40, 512
_SOAK_SAMPLES = 200


@dataclass(frozen=True)
class Size:
    """How many calls a lane makes: of a fast server and of a slow one, whose calls take ten times as long."""

    fast: int
    slow: int

    def of(self, target: Target) -> int:
        return self.slow if target.name == "litellm" else self.fast


SIZES = {
    "small": Size(6000, 400),
    "large": Size(1000, 100),
    "stream": Size(240, 48),
    "latency": Size(2000, 300),
    "slow streams": Size(_SLOW_STREAMS, _SLOW_STREAMS),
    "soak": Size(200_000, 0),
}
QUICK = {
    "small": Size(600, 60),
    "large": Size(100, 20),
    "stream": Size(32, 16),
    "latency": Size(300, 50),
    "slow streams": Size(64, 64),
    "soak": Size(5000, 0),
}

_SMALL: Figures = {"messages": [{"role": "user", "content": "x" * 900}]}
_LARGE: Figures = {"messages": [{"role": "user", "content": "lorem ipsum " * 25_000}]}


def _streamed(pace: int, chunks: int) -> Figures:
    return {"messages": [{"role": "user", "content": f"pace={pace} chunks={chunks} "}], "stream": True}


def _cpu_per_call(target: Target, body: Figures, calls: int) -> Figures:
    request = target.request(body)
    asyncio.run(load.run(target.port, request, max(20, calls // 20), _AT_ONCE))
    before = cpu_seconds(target.process.pid)
    seconds = asyncio.run(load.run(target.port, request, calls, _AT_ONCE))
    used = cpu_seconds(target.process.pid) - before
    return {"calls": calls, "cpu_us": used / calls * 1e6, "per_second": calls / seconds}


def small(target: Target, calls: int) -> Figures:
    """CPU microseconds per call with a prompt of 1 KB, 16 at a time."""
    return _cpu_per_call(target, _SMALL, calls)


def large(target: Target, calls: int) -> Figures:
    """The same with a prompt of 300 KB."""
    return _cpu_per_call(target, _LARGE, calls)


def stream(target: Target, streams: int) -> Figures:
    """CPU microseconds per chunk of streams with 50 chunks, 10 ms apart, 16 open at a time: never a busy core."""
    request = target.request(_streamed(10, _CHUNKS))
    _some_streams(target, request, _STREAMS_AT_ONCE)
    before = cpu_seconds(target.process.pid)
    for _ in range(max(1, streams // _STREAMS_AT_ONCE)):
        _some_streams(target, request, _STREAMS_AT_ONCE)
    used = cpu_seconds(target.process.pid) - before
    chunks = max(1, streams // _STREAMS_AT_ONCE) * _STREAMS_AT_ONCE * _CHUNKS
    return {"chunks": chunks, "cpu_us": used / chunks * 1e6}


def _some_streams(target: Target, request: bytes, streams: int) -> load.StreamTimes:
    return asyncio.run(load.run_streams(target.port, request, streams, spread=0.01, chunks=_CHUNKS))


def latency(target: Target, calls: int) -> Figures:
    """Milliseconds of a call with nobody else there, p50 and p99; `added` is counted from the provider's own."""
    request = target.request(_SMALL)
    asyncio.run(load.latencies(target.port, request, max(20, calls // 10)))
    latencies = asyncio.run(load.latencies(target.port, request, calls))
    return {
        "calls": calls,
        "p50_ms": load.quantile(latencies, 0.5) * 1e3,
        "p99_ms": load.quantile(latencies, 0.99) * 1e3,
    }


def slow_streams(target: Target, streams: int) -> Figures:
    """Streams of 40 chunks, 250 ms apart, opened over two seconds: first chunk, worst gap beyond the provider's."""
    request = target.request(_streamed(_SLOW_PACE_MS, _SLOW_CHUNKS))
    before = cpu_seconds(target.process.pid)
    times = asyncio.run(load.run_streams(target.port, request, streams, spread=2.0, chunks=_SLOW_CHUNKS))
    used = cpu_seconds(target.process.pid) - before
    return {
        "streams": streams,
        "first_p50_ms": load.quantile(times.first, 0.5) * 1e3,
        "first_p99_ms": load.quantile(times.first, 0.99) * 1e3,
        "worst_gap_ms": max(times.gap) * 1e3,
        "gap_p99_ms": load.quantile(times.gap, 0.99) * 1e3,
        "cpu_us": used / times.chunks * 1e6,
    }


def soak(target: Target, calls: int) -> Figures:
    """Resident memory over many small calls: kilobytes that 1,000 calls added in the second half, by least squares."""
    request = target.request(_SMALL)
    step = max(1, calls // _SOAK_SAMPLES)
    points: list[tuple[float, float]] = []
    started = time.monotonic()
    for done in range(0, calls, step):
        asyncio.run(load.run(target.port, request, step, _AT_ONCE))
        points.append((done + step, sum(rss_mb(target.process.pid)) * 1024))
    slope, error = _slope(points[len(points) // 2 :])
    return {
        "calls": len(points) * step,
        "seconds": time.monotonic() - started,
        "first_mb": points[0][1] / 1024,
        "half_mb": points[len(points) // 2][1] / 1024,
        "last_mb": points[-1][1] / 1024,
        "kb_per_1000": slope * 1000,
        "kb_per_1000_error": error * 1000,
    }


def _slope(points: list[tuple[float, float]]) -> tuple[float, float]:
    """The slope of a line through points, and its standard error."""
    count = len(points)
    if count < 3:
        return 0.0, 0.0
    mean_x = sum(x for x, _ in points) / count
    mean_y = sum(y for _, y in points) / count
    spread = sum((x - mean_x) ** 2 for x, _ in points)
    slope = sum((x - mean_x) * (y - mean_y) for x, y in points) / spread
    rest = sum((y - mean_y - slope * (x - mean_x)) ** 2 for x, y in points)
    return slope, (rest / (count - 2) / spread) ** 0.5


LANES: dict[str, Callable[[Target, int], Figures]] = {
    "small": small,
    "large": large,
    "stream": stream,
    "latency": latency,
    "slow streams": slow_streams,
    "soak": soak,
}
# Lanes that run once, and only on our own servers.
OURS_ONLY = {"soak"}
ONCE = {"soak", "slow streams"}


def run(lane: str, target: Target, *, is_quick: bool) -> Figures:
    """One window of a lane. `error` in place of figures for a server that cannot do it."""
    calls = (QUICK if is_quick else SIZES)[lane].of(target)
    try:
        return LANES[lane](target, calls)
    except (load.BrokenAnswer, OSError) as problem:
        return {"error": " ".join(str(problem).split())[:200]}
