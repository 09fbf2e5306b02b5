"""The client: takes an idle connection or opens one, sends a request, returns its response.

Written for the hot path, where a general client costs as much as everything else of a call. It follows no redirects,
keeps no cookies (they would cross tenants), knows no proxies and asks for no compression, so that bytes can be passed
on as they come. The parser is httptools, the race between addresses aiohappyeyeballs, TLS the standard library's.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Hashable, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from urllib.parse import quote, urlsplit

from aiohappyeyeballs import start_connection

from ...security.public_address import is_public_ip
from ...settings.header_rules import check_sent
from .http_connection import HttpConnection
from .http_response import HttpResponse, Timeouts

_PORTS = {"http": 80, "https": 443}
_METHODS_WITH_BODY = frozenset(("POST", "PUT", "PATCH"))
_HAPPY_EYEBALLS_SECONDS = 0.25
# Not quoted in a path and a query; `%` because both come encoded, or as encoded as they will be.
_UNQUOTED = "/?%:@!$&'()*+,;=~-._[]"
# Where a connection leads (host, port, TLS, public addresses only), and whose requests it serves.
_Pool = tuple[tuple[str, int, bool, bool], Hashable]
_DEFAULT_HEADERS = {"accept": "*/*", "accept-encoding": "identity", "user-agent": "quarterdeck"}


class PrivateAddress(OSError):
    """The address of a team leads into a private network, to this machine or to a cloud's metadata."""


@dataclass(frozen=True, slots=True)
class RequestTarget:
    """A URL as a request needs it: the server, its `Host` header, and the request target (path and query)."""

    host: str
    port: int
    is_tls: bool
    authority: str
    path_and_query: str
    # Whoever chose the address may reach the public Internet only.
    is_public_only: bool = False

    @property
    def server(self) -> tuple[str, int, bool, bool]:
        """What connections are shared by: one to a private address serves nobody who may not open it."""
        return self.host, self.port, self.is_tls, self.is_public_only


@lru_cache(maxsize=1024)
def parse_url(url: str) -> RequestTarget:
    """Raises ValueError for what is no address of a server."""
    parts = urlsplit(url)
    if parts.scheme not in _PORTS or not parts.hostname:
        raise ValueError("not an address of a server; it starts with http:// or https://")
    host = parts.hostname if parts.hostname.isascii() else parts.hostname.encode("idna").decode()
    port = parts.port or _PORTS[parts.scheme]
    bracketed = f"[{host}]" if ":" in host else host
    path_and_query = quote(parts.path or "/", safe=_UNQUOTED) + (
        f"?{quote(parts.query, safe=_UNQUOTED)}" if parts.query else ""
    )
    return RequestTarget(
        host=host,
        port=port,
        is_tls=parts.scheme == "https",
        authority=bracketed if port == _PORTS[parts.scheme] else f"{bracketed}:{port}",
        path_and_query=path_and_query,
    )


class HttpClient:
    """Connections to all providers, each kept open for `idle_seconds` after its last response.

    A connection serves the requests of one owner: what one tenant makes of it cannot reach the requests of another.
    """

    def __init__(self, idle_seconds: float, tls: ssl.SSLContext | None = None) -> None:
        self._idle_seconds = idle_seconds
        self._tls = tls
        self._idle: dict[_Pool, list[HttpConnection]] = {}
        self._pools: dict[HttpConnection, _Pool] = {}
        self._sweep_timer: asyncio.TimerHandle | None = None

    async def request(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str],
        body: bytes | None,
        timeouts: Timeouts,
        *,
        owner: Hashable,
        is_public_only: bool = False,
    ) -> HttpResponse:
        """Send a request and wait for status and headers. `is_public_only`: refuse to connect to a private address.

        `owner`: whose credential the request carries; only requests of an equal owner share a connection.
        Raises OSError when there is no connection or it breaks, TimeoutError, and ValueError for a URL or a header
        that cannot be sent. A caller that is cancelled cuts the connection.
        """
        loop = asyncio.get_running_loop()
        deadline = None if timeouts.total is None else loop.time() + timeouts.total
        target = replace(parse_url(url), is_public_only=True) if is_public_only else parse_url(url)
        head = _head(method, target, headers, body)
        pool = (target.server, owner)
        connection = self._take_idle(pool) or await self._open(pool, target, timeouts.connect)
        answer = connection.send(head, body or b"", is_head=method == "HEAD")
        answer.set_timeouts(deadline, timeouts.silence)
        try:
            await answer.wait_for_headers()
        except BaseException:  # a caller that is cancelled too: the provider must be told to stop
            answer.close()
            raise
        return answer

    def close(self) -> None:
        """Abort every connection."""
        for connection in list(self._pools):
            connection.abort()
        self._idle.clear()
        if self._sweep_timer is not None:
            self._sweep_timer.cancel()

    # ---- the pool --------------------------------------------------------------------------------------------------

    def _take_idle(self, pool: _Pool) -> HttpConnection | None:
        """The one that was used last: the others may time out."""
        idle = self._idle.get(pool)
        while idle:
            connection = idle.pop()
            if connection.is_usable and asyncio.get_running_loop().time() - connection.idle_since < self._idle_seconds:
                return connection
            connection.abort()
        return None

    def _release(self, connection: HttpConnection) -> None:
        self._idle.setdefault(self._pools[connection], []).append(connection)
        if self._sweep_timer is None:
            self._sweep_timer = asyncio.get_running_loop().call_later(self._idle_seconds, self._sweep)

    def _remove(self, connection: HttpConnection) -> None:
        pool = self._pools.pop(connection, None)
        idle = self._idle.get(pool) if pool is not None else None
        if idle and connection in idle:
            idle.remove(connection)

    def _sweep(self) -> None:
        """Close connections that were idle for too long, before the provider does so in the middle of a request."""
        loop = asyncio.get_running_loop()
        self._sweep_timer = None
        for pool, idle in list(self._idle.items()):
            for connection in [idler for idler in idle if loop.time() - idler.idle_since >= self._idle_seconds]:
                idle.remove(connection)
                connection.abort()
            if not idle:
                del self._idle[pool]
        if self._idle:
            self._sweep_timer = loop.call_later(self._idle_seconds, self._sweep)

    async def _open(self, pool: _Pool, target: RequestTarget, seconds: float) -> HttpConnection:
        loop = asyncio.get_running_loop()
        tls = await self._tls_context() if target.is_tls else None
        async with asyncio.timeout(seconds):
            addresses = await loop.getaddrinfo(target.host, target.port, type=socket.SOCK_STREAM)
            # The connection is made to these very addresses: the name is not asked again.
            if target.is_public_only and not all(is_public_ip(str(address[4][0])) for address in addresses):
                raise PrivateAddress("the name resolves to an address that is not public")
            sock = await start_connection(addresses, happy_eyeballs_delay=_HAPPY_EYEBALLS_SECONDS, interleave=1)
            try:
                # A model may think for longer than a firewall remembers an idle connection.
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
                _, connection = await loop.create_connection(
                    lambda: HttpConnection(self._release, self._remove),
                    sock=sock,
                    ssl=tls,
                    server_hostname=target.host if tls is not None else None,
                )
            except BaseException:  # a caller that is cancelled too: nobody else closes it
                sock.close()
                raise
        self._pools[connection] = pool
        return connection

    async def _tls_context(self) -> ssl.SSLContext:
        """A context that trusts the certificate authorities of the system; reading them takes a while."""
        if self._tls is None:
            self._tls = await asyncio.to_thread(ssl.create_default_context)
        return self._tls


def _head(method: str, target: RequestTarget, headers: Mapping[str, str], body: bytes | None) -> bytes:
    """The request's head. Raises ValueError for a header that must not be sent, or cannot be encoded."""
    check_sent(headers)
    given = {name.lower() for name in headers}
    lines = [f"{method} {target.path_and_query} HTTP/1.1", f"Host: {target.authority}"]
    lines += [f"{name}: {value}" for name, value in _DEFAULT_HEADERS.items() if name not in given]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    if body or method in _METHODS_WITH_BODY:
        lines.append(f"Content-Length: {len(body or b'')}")
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")
