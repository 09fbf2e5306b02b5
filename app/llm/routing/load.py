"""This process's load per deployment: calls in flight, totals of the current minute, latencies."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

_MINUTE = 60.0
_MAX_LATENCIES = 10
# Older measurements are dropped: a deployment that was slow once must get another chance.
_MAX_LATENCY_AGE_MINUTES = 60
# The latency of a call that timed out, in seconds.
_TIMEOUT_LATENCY = 1000.0
_MAX_DEPLOYMENTS = 20_000


@dataclass(slots=True)
class LoadStats:
    """Load of one deployment: calls in flight (`running`), totals of the current minute, and latencies."""

    running: int = 0
    minute: int = 0
    requests: int = 0
    failures: int = 0
    tokens: int = 0
    measured_minute: int = 0
    # Seconds per completion token of whole answers; seconds to the first chunk of streams.
    latencies: deque[float] = field(default_factory=lambda: deque(maxlen=_MAX_LATENCIES))
    first_chunks: deque[float] = field(default_factory=lambda: deque(maxlen=_MAX_LATENCIES))

    def start_minute(self, minute: int) -> None:
        """Reset the totals of the minute, and drop latencies that are too old."""
        self.minute, self.requests, self.failures, self.tokens = minute, 0, 0, 0
        if minute - self.measured_minute >= _MAX_LATENCY_AGE_MINUTES:
            self.latencies.clear()
            self.first_chunks.clear()

    def latency(self, *, is_stream: bool) -> float | None:
        """The mean of the last measurements, None without any."""
        measured = self.first_chunks if is_stream and self.first_chunks else self.latencies or self.first_chunks
        return sum(measured) / len(measured) if measured else None


class DeploymentLoad:
    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._loads: dict[str, LoadStats] = {}

    def of(self, id: str) -> LoadStats:
        """A deployment's load; its totals are reset when a new minute has begun."""
        load = self._loads.get(id)
        if load is None:
            if len(self._loads) >= _MAX_DEPLOYMENTS:
                self._drop_idle()
            load = self._loads[id] = LoadStats()
        minute = int(self._clock() // _MINUTE)
        if load.minute != minute:
            load.start_minute(minute)
        return load

    @property
    def running(self) -> int:
        """Calls in flight to all deployments."""
        return sum(load.running for load in self._loads.values())

    def _drop_idle(self) -> None:
        self._loads = {id: load for id, load in self._loads.items() if load.running}

    def begin(self, id: str) -> None:
        """Record that a call was sent."""
        load = self.of(id)
        load.running += 1
        load.requests += 1

    def end(self, id: str) -> None:
        """Record that it has ended, well or badly. Once for each `begin`."""
        load = self.of(id)
        load.running = max(0, load.running - 1)

    def record_failure(self, id: str, *, is_timeout: bool) -> None:
        load = self.of(id)
        load.failures += 1
        if is_timeout:
            load.measured_minute = load.minute
            load.latencies.append(_TIMEOUT_LATENCY)
            load.first_chunks.append(_TIMEOUT_LATENCY)

    def record_success(
        self, id: str, *, tokens: int, completion_tokens: int, seconds: float, first_chunk: float | None
    ) -> None:
        """Record a success: tokens, and seconds in all and to the first chunk of a stream."""
        load = self.of(id)
        load.tokens += tokens
        load.measured_minute = load.minute
        load.latencies.append(seconds / max(1, completion_tokens))
        if first_chunk is not None:
            load.first_chunks.append(first_chunk)
