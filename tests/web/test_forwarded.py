"""The address behind declared proxies, and nobody else's word for it."""

from __future__ import annotations

import ipaddress
from typing import Any

import pytest

from app.web.forwarded import Network, behind_proxies, client_of

PROXIES: tuple[Network, ...] = (ipaddress.ip_network("10.0.0.0/8"), ipaddress.ip_network("192.0.2.7/32"))


@pytest.mark.parametrize(
    ("peer", "forwarded", "client"),
    [
        ("10.1.2.3", ["203.0.113.9"], "203.0.113.9"),
        ("10.1.2.3", ["203.0.113.9", "192.0.2.7"], "203.0.113.9"),
        ("10.1.2.3", ["198.51.100.1", "203.0.113.9"], "203.0.113.9"),
        ("10.1.2.3", ["10.9.9.9"], "10.9.9.9"),
        ("10.1.2.3", ["nonsense"], "10.1.2.3"),
        ("10.1.2.3", [], "10.1.2.3"),
        ("203.0.113.5", ["198.51.100.1"], "203.0.113.5"),
        ("::ffff:10.1.2.3", ["2001:db8::1"], "2001:db8::1"),
    ],
)
def test_the_rightmost_address_that_is_no_proxy_is_the_client(peer: str, forwarded: list[str], client: str) -> None:
    assert client_of(peer, forwarded, PROXIES) == client


async def seen(peer: str, *headers: tuple[bytes, bytes]) -> dict[str, Any]:
    scopes: list[dict[str, Any]] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        scopes.append(scope)

    scope = {"type": "http", "scheme": "http", "client": (peer, 5000), "headers": list(headers)}
    await behind_proxies(app, PROXIES)(scope, None, None)
    return scopes[0]


async def test_the_app_sees_address_and_scheme_of_the_client() -> None:
    scope = await seen("10.0.0.1", (b"x-forwarded-for", b"203.0.113.9"), (b"x-forwarded-proto", b"https"))
    assert (scope["client"], scope["scheme"]) == (("203.0.113.9", 5000), "https")


async def test_a_stranger_is_not_believed() -> None:
    scope = await seen("203.0.113.5", (b"x-forwarded-for", b"127.0.0.1"), (b"x-forwarded-proto", b"https"))
    assert (scope["client"], scope["scheme"]) == (("203.0.113.5", 5000), "http")
