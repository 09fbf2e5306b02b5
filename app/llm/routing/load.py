"""What this process knows of each deployment's traffic: calls that run, this minute's numbers, how fast it answers."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

_MINUTE = 60.0
_MAX_LATENCIES = 10
# After so long a measurement says nothing any more: a deployment that was slow once must get another chance.
_LATENCY_MINUTES = 60
# What a call that ran into its time limit counts as, in seconds.
_TIMEOUT_LATENCY = 1000.0
_MAX_DEPLOYMENTS = 20_000


@dataclass(slots=True)
class LoadFigures:
    """Numbers of one deployment. `requests`, `failures` and `tokens` are those of the current minute."""

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
        """Count anew, and forget what was measured too long ago."""
        self.minute, self.requests, self.failures, self.tokens = minute, 0, 0, 0
        if minute - self.measured_minute >= _LATENCY_MINUTES:
            self.latencies.clear()
            self.first_chunks.clear()

    def latency(self, *, is_stream: bool) -> float | None:
        """The mean of the last answers, None before the first."""
        known = self.first_chunks if is_stream and self.first_chunks else self.latencies or self.first_chunks
        return sum(known) / len(known) if known else None


class DeploymentLoad:
    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._loads: dict[str, LoadFigures] = {}

    def of(self, id: str) -> LoadFigures:
        """A deployment's numbers, those of the minute started anew when it is over."""
        load = self._loads.get(id)
        if load is None:
            if len(self._loads) >= _MAX_DEPLOYMENTS:
                self._forget_idle()
            load = self._loads[id] = LoadFigures()
        minute = int(self._clock() // _MINUTE)
        if load.minute != minute:
            load.start_minute(minute)
        return load

    @property
    def running(self) -> int:
        """Calls that providers are working on now."""
        return sum(load.running for load in self._loads.values())

    def _forget_idle(self) -> None:
        self._loads = {id: load for id, load in self._loads.items() if load.running}

    def begin(self, id: str) -> None:
        """A call goes out."""
        load = self.of(id)
        load.running += 1
        load.requests += 1

    def end(self, id: str) -> None:
        """It is over, well or badly. Once for each `begin`."""
        load = self.of(id)
        load.running = max(0, load.running - 1)

    def failed(self, id: str, *, is_timeout: bool) -> None:
        load = self.of(id)
        load.failures += 1
        if is_timeout:
            load.measured_minute = load.minute
            load.latencies.append(_TIMEOUT_LATENCY)
            load.first_chunks.append(_TIMEOUT_LATENCY)

    def answered(
        self, id: str, *, tokens: int, completion_tokens: int, seconds: float, first_chunk: float | None
    ) -> None:
        """A good answer: what it used and how long it took, to its first chunk if it is a stream."""
        load = self.of(id)
        load.tokens += tokens
        load.measured_minute = load.minute
        load.latencies.append(seconds / max(1, completion_tokens))
        if first_chunk is not None:
            load.first_chunks.append(first_chunk)
