"""Rate limits: requests, tokens and parallel calls of the last sixty seconds, per key, team and user.

All limits of a call are checked before any of them counts it, so that a refused call uses nothing up. The window
slides. Counts are this process's own: an instance with several processes admits that many times more.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from ..auth.principal import RateLimit
from ..errors import TooManyRequests

WINDOW_SECONDS = 60.0
# Windows of callers that are gone are dropped when there are more than this.
_MAX_WINDOWS = 20_000


@dataclass(slots=True)
class _Entry:
    at: float
    tokens: int


@dataclass(slots=True)
class _Window:
    entries: deque[_Entry] = field(default_factory=deque)
    tokens: int = 0
    running: int = 0

    def slide(self, now: float) -> None:
        while self.entries and self.entries[0].at <= now - WINDOW_SECONDS:
            self.tokens -= self.entries.popleft().tokens

    @property
    def is_idle(self) -> bool:
        return not self.entries and not self.running


class Slot:
    """The place of one admitted call in its windows. `settle` it once, with the tokens that it really used."""

    __slots__ = ("_entries", "_is_open", "limits")

    def __init__(self, limits: Sequence[RateLimit], entries: list[tuple[_Window, _Entry]]) -> None:
        self.limits = limits
        self._entries = entries
        self._is_open = True

    def settle(self, tokens: int) -> None:
        if not self._is_open:
            return
        self._is_open = False
        for window, entry in self._entries:
            window.running -= 1
            # A call that outlived the window has left it already.
            if window.entries and window.entries[0].at <= entry.at:
                window.tokens += tokens - entry.tokens
                entry.tokens = tokens

    def headers(self) -> dict[str, str]:
        """What is left of each limit (contract llm.md §4.9)."""
        headers: dict[str, str] = {}
        for limit, (window, _) in zip(self.limits, self._entries, strict=True):
            prefix = f"x-ratelimit-{limit.descriptor}"
            if limit.rpm is not None:
                headers[f"{prefix}-limit-requests"] = str(limit.rpm)
                headers[f"{prefix}-remaining-requests"] = str(max(0, limit.rpm - len(window.entries)))
            if limit.tpm is not None:
                headers[f"{prefix}-limit-tokens"] = str(limit.tpm)
                headers[f"{prefix}-remaining-tokens"] = str(max(0, limit.tpm - window.tokens))
        return headers


class RateLimiter:
    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._windows: dict[tuple[str, str], _Window] = {}
        self._drops_again_at = 0.0

    def admit(self, limits: Sequence[RateLimit], estimated_tokens: int) -> Slot:
        """Count one call against every limit, or raise 429 for the first that is full."""
        if not limits:
            return Slot((), [])
        now = self._clock()
        if len(self._windows) >= _MAX_WINDOWS and now >= self._drops_again_at:
            self._drop_idle(now)
        windows = [self._windows.setdefault((limit.descriptor, limit.id), _Window()) for limit in limits]
        for limit, window in zip(limits, windows, strict=True):
            window.slide(now)
            self._refuse_full(limit, window, estimated_tokens, now)
        entries = []
        for window in windows:
            entry = _Entry(now, estimated_tokens)
            window.entries.append(entry)
            window.tokens += estimated_tokens
            window.running += 1
            entries.append((window, entry))
        return Slot(limits, entries)

    def _drop_idle(self, now: float) -> None:
        # Never between two windows of one call, and not on every call while all of them are busy.
        self._drops_again_at = now + 1.0
        for name, window in list(self._windows.items()):
            window.slide(now)
            if window.is_idle:
                del self._windows[name]

    def _refuse_full(self, limit: RateLimit, window: _Window, tokens: int, now: float) -> None:
        if limit.rpm is not None and len(window.entries) >= limit.rpm:
            self._refuse(limit, "requests", limit.rpm, window, now)
        if limit.tpm is not None and window.tokens + tokens > limit.tpm:
            self._refuse(limit, "tokens", limit.tpm, window, now, remaining=max(0, limit.tpm - window.tokens))
        if limit.parallel is not None and window.running >= limit.parallel:
            self._refuse(limit, "max_parallel_requests", limit.parallel, window, now)

    def _refuse(
        self, limit: RateLimit, unit: str, ceiling: int, window: _Window, now: float, *, remaining: int = 0
    ) -> None:
        oldest = window.entries[0].at if window.entries else now
        seconds = max(1, int(oldest + WINDOW_SECONDS - now + 0.999))
        resets_at = datetime.now(UTC) + timedelta(seconds=seconds)
        raise TooManyRequests(
            f"Rate limit exceeded for {limit.descriptor}: {limit.label}. Limit type: {unit}. "
            f"Current limit: {ceiling}, Remaining: {remaining}. "
            f"Limit resets at: {resets_at:%Y-%m-%d %H:%M:%S} UTC",
            headers={"retry-after": str(seconds), "rate_limit_type": unit},
        )
