"""When a call began, how long its attempts took, when its first chunk came. Seconds, by a clock that never steps."""

from __future__ import annotations

import time
from datetime import UTC, datetime


class CallTiming:
    """`started_at` is UTC. `upstream_seconds`: what providers took, failed attempts included."""

    __slots__ = ("_attempt_clock", "_clock", "attempt_first_chunk", "first_chunk_at", "started_at", "upstream_seconds")

    def __init__(self) -> None:
        self.started_at = datetime.now(UTC)
        self._clock = self._attempt_clock = time.perf_counter()
        self.upstream_seconds = 0.0
        self.first_chunk_at: datetime | None = None
        # From the start of the attempt.
        self.attempt_first_chunk: float | None = None

    def start_attempt(self) -> None:
        self._attempt_clock = time.perf_counter()

    def end_attempt(self) -> float:
        """The seconds that the attempt took, which count as the provider's."""
        seconds = self.attempt_seconds
        self.upstream_seconds += seconds
        return seconds

    def first_chunk(self) -> None:
        """A stream begins; what follows is its client's pace as much as its provider's, and counts as nobody's."""
        self.first_chunk_at = datetime.now(UTC)
        self.attempt_first_chunk = self.end_attempt()

    @property
    def attempt_seconds(self) -> float:
        """Since the last attempt began."""
        return time.perf_counter() - self._attempt_clock

    @property
    def attempt_offset(self) -> float:
        """When the last attempt began, from the start of the call."""
        return self._attempt_clock - self._clock

    @property
    def total_seconds(self) -> float:
        """Since the call began."""
        return time.perf_counter() - self._clock

    @property
    def first_chunk_seconds(self) -> float | None:
        """From the start of the call to the first chunk, None for what is no stream."""
        return (self.first_chunk_at - self.started_at).total_seconds() if self.first_chunk_at else None
