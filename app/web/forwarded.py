"""Who is at the other end, when a reverse proxy stands in between.

`X-Forwarded-For` is believed from declared proxies only: anyone can send the header. Read from its right end, the
first address that is not one of those proxies is the client.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Any

Network = ipaddress.IPv4Network | ipaddress.IPv6Network
ASGIApp = Callable[[Any, Any, Any], Awaitable[None]]


def behind_proxies(app: ASGIApp, ranges: Sequence[Network]) -> ASGIApp:
    """Wrap an ASGI app so that it sees the client's address and scheme instead of a declared proxy's."""

    async def seen_through(scope: Any, receive: Any, send: Any) -> None:
        peer = scope.get("client")
        if peer and _is_within(peer[0], ranges):
            headers = dict(scope["headers"])
            forwarded = headers.get(b"x-forwarded-for", b"").decode("latin-1")
            client = client_of(peer[0], [part.strip() for part in forwarded.split(",") if part.strip()], ranges)
            scope = {**scope, "client": (client, peer[1])}
            if headers.get(b"x-forwarded-proto") == b"https":
                scope["scheme"] = "https"
        await app(scope, receive, send)

    return seen_through


def client_of(peer: str, forwarded: Sequence[str], ranges: Iterable[Network]) -> str:
    """The rightmost address that is no declared proxy; the last believable one when all are."""
    client = peer
    for address in reversed(forwarded):
        if not _is_within(client, ranges) or not _is_address(address):
            break
        client = address
    return client


def _is_within(address: str, ranges: Iterable[Network]) -> bool:
    if not _is_address(address):
        return False
    parsed = ipaddress.ip_address(address)
    if isinstance(parsed, ipaddress.IPv6Address) and parsed.ipv4_mapped is not None:
        parsed = parsed.ipv4_mapped
    return any(parsed in network for network in ranges)


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True
