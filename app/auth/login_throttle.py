"""Slows down guessing of passwords, per source address and per source and user name (contract auth.md §2.5).

Counts are shared through Redis when there is one. When Redis is away each process counts for itself.
"""

from __future__ import annotations

import hashlib
import ipaddress
import math

from ..cache import Cache, CacheAway, MemoryCache
from ..errors import TooManyRequests
from ..settings import Settings


class LoginThrottle:
    def __init__(self, settings: Settings, cache: Cache) -> None:
        self._source_limit = settings.failed_login_limit
        self._pair_limit = max(settings.failed_login_limit // 2, 1)
        self._window = settings.failed_login_window
        self._block = settings.failed_login_block
        self._shared = cache
        self._local = MemoryCache()

    async def refuse_blocked(self, address: str | None, username: str) -> None:
        """Raise 429 with Retry-After while a block holds. Asked before any password is looked at."""
        for name in _names(address, username):
            seconds = await self._remaining(f"{name}:blocked")
            if seconds > 0:
                raise TooManyRequests(
                    "Too many failed sign-in attempts. Try again later.",
                    type="auth_error",
                    param="username",
                    headers={"Retry-After": str(math.ceil(seconds))},
                )

    async def count_failure(self, address: str | None, username: str) -> None:
        pair, source = _names(address, username)
        for name, limit in ((pair, self._pair_limit), (source, self._source_limit)):
            if await self._increment(name) > limit:
                await self._arm(f"{name}:blocked")

    async def forget(self, address: str | None, username: str) -> None:
        """A right password clears the pair, not the source."""
        pair, _ = _names(address, username)
        try:
            await self._shared.delete(pair)
        except CacheAway:
            await self._local.delete(pair)

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


def _names(address: str | None, username: str) -> tuple[str, str]:
    """Counter names of the pair and of the source. Names of people do not go into a shared store as they are."""
    source = _source(address)
    person = hashlib.sha256(username.casefold().encode()).hexdigest()[:32]
    return f"login_fail:{{{source}}}:{person}", f"login_fail:{{{source}}}"


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
