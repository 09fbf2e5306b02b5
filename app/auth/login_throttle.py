"""Slows down guessing of passwords (contract auth.md §2.5).

Source and user name count together. The source counts by itself as well once `trusted_proxy_ranges` says that it is a
person's address and not a proxy's, behind which everyone would be shut out.

Two ways in, two throttles: the limits of the console are one lower than those of the API, so that one stranger at a
console is stopped before a worker shuts out that name for everyone behind it.
Counts are shared through Redis when there is one. When Redis is away each process counts for itself.
"""

from __future__ import annotations

import asyncio
import hashlib
import ipaddress
import math
from weakref import WeakValueDictionary

from ..errors import TooManyRequests
from ..settings import Settings
from ..storage.cache import Cache, CacheAway, MemoryCache


class LoginThrottle:
    def __init__(self, settings: Settings, cache: Cache, *, is_console: bool = False) -> None:
        headroom = 1 if is_console else 0
        self._prefix = "console_login_fail" if is_console else "login_fail"
        self._counts_source = settings.trusted_proxy_ranges is not None
        self._source_limit = max(settings.failed_login_limit - headroom, 1)
        self._pair_limit = max(settings.failed_login_limit // 2 - headroom, 1)
        self._window = settings.failed_login_window
        self._block = settings.failed_login_block
        self._shared = cache
        self._local = MemoryCache()
        # Only as long as somebody holds or waits for it.
        self._turns: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    def turn(self, address: str | None, username: str) -> asyncio.Lock:
        """Hold it from `refuse_blocked` to `count_failure`: guesses that come all at once would all be looked at."""
        (pair, _), *_ = self._counters(address, username)
        return self._turns.setdefault(pair, asyncio.Lock())

    async def refuse_blocked(self, address: str | None, username: str) -> None:
        """Raise 429 with Retry-After while a block holds. Asked before any password is looked at."""
        for name, _ in self._counters(address, username):
            seconds = await self._remaining(f"{name}:blocked")
            if seconds > 0:
                raise TooManyRequests(
                    "Too many failed sign-in attempts. Try again later.",
                    type="auth_error",
                    param="username",
                    headers={"Retry-After": str(math.ceil(seconds))},
                )

    async def count_failure(self, address: str | None, username: str) -> None:
        for name, limit in self._counters(address, username):
            if await self._increment(name) > limit:
                await self._arm(f"{name}:blocked")

    async def forget(self, address: str | None, username: str) -> None:
        """A right password clears the pair, not the source."""
        (pair, _), *_ = self._counters(address, username)
        try:
            await self._shared.delete(pair)
        except CacheAway:
            await self._local.delete(pair)

    def _counters(self, address: str | None, username: str) -> list[tuple[str, int]]:
        """Name and limit of each counter, the pair's first. A shared store is told no names of people."""
        person = hashlib.sha256(username.casefold().encode()).hexdigest()[:32]
        source = f"{self._prefix}:{{{_source(address)}}}"
        pair = (f"{source}:{person}", self._pair_limit)
        return [pair, (source, self._source_limit)] if self._counts_source else [pair]

    async def _remaining(self, name: str) -> float:
        try:
            return await self._shared.remaining_seconds(name)
        except CacheAway:
            return await self._local.remaining_seconds(name)

    async def _increment(self, name: str) -> int:
        try:
            return await self._shared.increment(name, self._window)
        except CacheAway:
            return await self._local.increment(name, self._window)

    async def _arm(self, name: str) -> None:
        try:
            await self._shared.set(name, "1", self._block)
        except CacheAway:
            await self._local.set(name, "1", self._block)


def _source(address: str | None) -> str:
    """IPv4 as it is, IPv6 by its /64, since one household owns that many addresses."""
    try:
        parsed = ipaddress.ip_address(address or "")
    except ValueError:
        return "unknown"
    if isinstance(parsed, ipaddress.IPv6Address):
        if parsed.ipv4_mapped is not None:
            return str(parsed.ipv4_mapped)
        return str(ipaddress.ip_network((parsed, 64), strict=False))
    return str(parsed)
