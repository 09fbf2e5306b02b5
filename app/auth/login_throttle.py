"""Slows down guessing of passwords.

Source and user name count together. The source counts by itself as well where its address is a person's: a public one,
or any once `trusted_proxy_ranges` is declared. Another may be a proxy's, behind which everyone would be shut out.

Two ways in, two throttles: the limits of the console are one lower than those of the API, so that one stranger at a
console is stopped before a worker shuts out that name for everyone behind it.
Counts are shared through Redis when there is one. When Redis is away each process counts for itself.
"""

from __future__ import annotations

import asyncio
import hashlib
import ipaddress
import math
from contextlib import AbstractContextManager
from weakref import WeakValueDictionary

from ..errors import TooManyRequests
from ..settings import Settings
from ..storage.cache import Cache, CacheAway, MemoryCache
from .sign_in_queue import SignInQueue

# Where proxies, container networks and other instances are; the internet sends nothing from there.
_INTERNAL = tuple(
    ipaddress.ip_network(text)
    for text in (
        "10.0.0.0/8",
        "172.16.0.0/12",
        "192.168.0.0/16",
        "100.64.0.0/10",
        "169.254.0.0/16",
        "fc00::/7",
        "fe80::/10",
    )
)
# Sign-ins at once of a person's address, and of one that many people may share.
_PLACES_OF_PERSON, _PLACES_OF_SHARED = 4, 16


class LoginThrottle:
    def __init__(self, settings: Settings, cache: Cache, *, is_console: bool = False) -> None:
        headroom = 1 if is_console else 0
        self._prefix = "console_login_fail" if is_console else "login_fail"
        self._knows_proxies = settings.trusted_proxy_ranges is not None
        self._headroom = headroom
        self._queue = SignInQueue()
        self._source_limit = max(settings.failed_login_limit - headroom, 1)
        self._pair_limit = max(settings.failed_login_limit // 2 - headroom, 1)
        self._window = settings.failed_login_window
        self._block = settings.failed_login_block
        self._shared = cache
        self._local = MemoryCache()
        # Only as long as somebody holds or waits for it.
        self._turns: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    def place(self, address: str | None) -> AbstractContextManager[None]:
        """Hold it for a whole sign-in. Raises 429 when too many are looked at."""
        places = _PLACES_OF_PERSON if self._is_person(address) else _PLACES_OF_SHARED
        return self._queue.place(_source(address), places - self._headroom)

    def turn(self, address: str | None, username: str) -> asyncio.Lock:
        """Hold it from `refuse_blocked` to `count_failure`: guesses that come all at once would all be looked at."""
        pair, _ = self._pair(address, username)
        return self._turns.setdefault(pair, asyncio.Lock())

    async def refuse_blocked(self, address: str | None, username: str, *, via_console: bool = False) -> None:
        """Raise 429 with Retry-After while a block holds. Asked before any password is looked at.

        `via_console`: the address is that of a console, behind which many people sign in.
        """
        for name, _ in self._counters(address, username, via_console):
            seconds = await self._remaining(f"{name}:blocked")
            if seconds > 0:
                raise TooManyRequests(
                    "Too many failed sign-in attempts. Try again later.",
                    type="auth_error",
                    param="username",
                    headers={"Retry-After": str(math.ceil(seconds))},
                )

    async def count_failure(self, address: str | None, username: str, *, via_console: bool = False) -> None:
        for name, limit in self._counters(address, username, via_console):
            if await self._increment(name) > limit:
                await self._arm(f"{name}:blocked")

    async def forget(self, address: str | None, username: str) -> None:
        """A right password clears the pair, not the source."""
        pair, _ = self._pair(address, username)
        try:
            await self._shared.delete(pair)
        except CacheAway:
            await self._local.delete(pair)

    def _counters(self, address: str | None, username: str, via_console: bool) -> list[tuple[str, int]]:
        """Name and limit of each counter."""
        counters = [self._pair(address, username)]
        if self._is_person(address) and (self._knows_proxies or not via_console):
            counters.append((self._name(address), self._source_limit))
        return counters

    def _pair(self, address: str | None, username: str) -> tuple[str, int]:
        """Name and limit of the counter of source and user. A shared store is told no names of people."""
        person = hashlib.sha256(username.casefold().encode()).hexdigest()[:32]
        return f"{self._name(address)}:{person}", self._pair_limit

    def _name(self, address: str | None) -> str:
        return f"{self._prefix}:{{{_source(address)}}}"

    def _is_person(self, address: str | None) -> bool:
        """Whether one person, or one household, has this address. This instance's own console calls from loopback."""
        parsed = _parsed(address)
        if parsed is None or parsed.is_loopback:
            return False
        return self._knows_proxies or not any(parsed in network for network in _INTERNAL)

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


def _parsed(address: str | None) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        parsed = ipaddress.ip_address(address or "")
    except ValueError:
        return None
    mapped = parsed.ipv4_mapped if isinstance(parsed, ipaddress.IPv6Address) else None
    return mapped or parsed


def _source(address: str | None) -> str:
    """IPv4 as it is, IPv6 by its /64, since one household owns that many addresses."""
    parsed = _parsed(address)
    if isinstance(parsed, ipaddress.IPv6Address):
        return str(ipaddress.ip_network((parsed, 64), strict=False))
    return "unknown" if parsed is None else str(parsed)
