"""The client: finds or opens a connection, sends a request, hands out its answer.

Written for the hot path, where a general client costs as much as everything else of a call. It follows no redirects,
keeps no cookies (they would cross tenants), knows no proxies and asks for no compression, so that bytes can be passed
on as they come. The parser is httptools, the race between addresses aiohappyeyeballs, TLS the standard library's.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from urllib.parse import quote, urlsplit

from aiohappyeyeballs import start_connection

from .http_connection import HttpConnection
from .http_response import HttpResponse, Timeouts

_PORTS = {"http": 80, "https": 443}
_WITH_BODY = frozenset(("POST", "PUT", "PATCH"))
_NEXT_ADDRESS_SECONDS = 0.25
# What stays as it is in a path and a query; `%` because both come encoded, or as encoded as they will be.
_PLAIN = "/?%:@!$&'()*+,;=~-._[]"
_ALWAYS = {"accept": "*/*", "accept-encoding": "identity", "user-agent": "quarterdeck"}


@dataclass(frozen=True, slots=True)
class Place:
    """Where a URL leads: the server, and what to ask it for."""

    host: str
    port: int
    is_tls: bool
    authority: str
    target: str

    @property
    def server(self) -> tuple[str, int, bool]:
        return self.host, self.port, self.is_tls


@lru_cache(maxsize=1024)
def place_of(url: str) -> Place:
    """Raises ValueError for what is no address of a server."""
    parts = urlsplit(url)
    if parts.scheme not in _PORTS or not parts.hostname:
        raise ValueError("not an address of a server; it starts with http:// or https://")
    host = parts.hostname if parts.hostname.isascii() else parts.hostname.encode("idna").decode()
    port = parts.port or _PORTS[parts.scheme]
    named = f"[{host}]" if ":" in host else host
    target = quote(parts.path or "/", safe=_PLAIN) + (f"?{quote(parts.query, safe=_PLAIN)}" if parts.query else "")
    return Place(
        host=host,
        port=port,
        is_tls=parts.scheme == "https",
        authority=named if port == _PORTS[parts.scheme] else f"{named}:{port}",
        target=target,
    )


class HttpClient:
    """Connections to all providers, each kept for `idle_seconds` after its last answer."""

    def __init__(self, idle_seconds: float, tls: ssl.SSLContext | None = None) -> None:
        self._idle_seconds = idle_seconds
        self._tls = tls
        self._idle: dict[tuple[str, int, bool], list[HttpConnection]] = {}
        self._servers: dict[HttpConnection, tuple[str, int, bool]] = {}
        self._sweeping: asyncio.TimerHandle | None = None

    async def request(
        self, method: str, url: str, headers: Mapping[str, str], body: bytes | None, timeouts: Timeouts
    ) -> HttpResponse:
        """Send a request and wait for status and headers.

        Raises OSError when there is no connection or it breaks, TimeoutError, and ValueError for a URL or a header
        that cannot be sent. A caller that is cancelled cuts the connection.
        """
        loop = asyncio.get_running_loop()
        until = None if timeouts.total is None else loop.time() + timeouts.total
        place = place_of(url)
        head = _head(method, place, headers, body)
        connection = self._rested_one(place) or await self._open(place, timeouts.connect)
        answer = connection.ask(head, body or b"", is_head=method == "HEAD")
        answer.wait_at_most(until, timeouts.silence)
        try:
            await answer.begun()
        except BaseException:  # whoever waits is cancelled: the provider must be told to stop
            answer.close()
            raise
        return answer

    def close(self) -> None:
        """Cut every connection."""
        for connection in list(self._servers):
            connection.cut()
        self._idle.clear()
        if self._sweeping is not None:
            self._sweeping.cancel()

    # ---- the pool --------------------------------------------------------------------------------------------------

    def _rested_one(self, place: Place) -> HttpConnection | None:
        """The one that served last: the others may grow old and go."""
        idle = self._idle.get(place.server)
        while idle:
            connection = idle.pop()
            if connection.is_usable and asyncio.get_running_loop().time() - connection.idle_since < self._idle_seconds:
                return connection
            connection.cut()
        return None

    def _rest(self, connection: HttpConnection) -> None:
        self._idle.setdefault(self._servers[connection], []).append(connection)
        if self._sweeping is None:
            self._sweeping = asyncio.get_running_loop().call_later(self._idle_seconds, self._sweep)

    def _forget(self, connection: HttpConnection) -> None:
        server = self._servers.pop(connection, None)
        idle = self._idle.get(server) if server is not None else None
        if idle and connection in idle:
            idle.remove(connection)

    def _sweep(self) -> None:
        """Close what nobody needed for a while, before the provider does so in the middle of a request."""
        loop = asyncio.get_running_loop()
        self._sweeping = None
        for server, idle in list(self._idle.items()):
            for connection in [one for one in idle if loop.time() - one.idle_since >= self._idle_seconds]:
                idle.remove(connection)
                connection.cut()
            if not idle:
                del self._idle[server]
        if self._idle:
            self._sweeping = loop.call_later(self._idle_seconds, self._sweep)

    async def _open(self, place: Place, seconds: float) -> HttpConnection:
        loop = asyncio.get_running_loop()
        tls = await self._trusted() if place.is_tls else None
        async with asyncio.timeout(seconds):
            addresses = await loop.getaddrinfo(place.host, place.port, type=socket.SOCK_STREAM)
            connected = await start_connection(addresses, happy_eyeballs_delay=_NEXT_ADDRESS_SECONDS, interleave=1)
            try:
                # A model may think for longer than a firewall remembers a connection on which nothing moves.
                connected.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
                _, connection = await loop.create_connection(
                    lambda: HttpConnection(self._rest, self._forget),
                    sock=connected,
                    ssl=tls,
                    server_hostname=place.host if tls is not None else None,
                )
            except BaseException:  # whoever waits is cancelled: nobody else closes it
                connected.close()
                raise
        self._servers[connection] = place.server
        return connection

    async def _trusted(self) -> ssl.SSLContext:
        """The machine's certificate authorities; reading them takes a while."""
        if self._tls is None:
            self._tls = await asyncio.to_thread(ssl.create_default_context)
        return self._tls


def _head(method: str, place: Place, headers: Mapping[str, str], body: bytes | None) -> bytes:
    """The request's head. Raises ValueError for a header that would be more than one line, or is no text of HTTP."""
    given = {name.lower() for name in headers}
    lines = [f"{method} {place.target} HTTP/1.1", f"Host: {place.authority}"]
    lines += [f"{name}: {value}" for name, value in _ALWAYS.items() if name not in given]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    if body or method in _WITH_BODY:
        lines.append(f"Content-Length: {len(body or b'')}")
    text = "\r\n".join(lines) + "\r\n\r\n"
    if text.count("\n") != len(lines) + 1 or text.count("\r") != len(lines) + 1 or "\0" in text:
        raise ValueError("a header of the request is more than one line")
    return text.encode("latin-1")
