"""The floor: the least that a gateway on CPython can cost. Run by an interpreter that has uvloop and httptools.

    python bench/floor.py PORT PROVIDER_PORT

An asyncio.Protocol parses the request, looks for the key, swaps the model's name, sends the body on over a kept-alive
connection and passes the answer back as it comes. No framework, no limits, no log, no care for what goes wrong.
"""

from __future__ import annotations

import asyncio
import socket
import sys
from typing import Any

import httptools
import uvloop

_KEYS = {b"Bearer sk-bench": "bench"}


class Client(asyncio.Protocol):
    """One connection of a client; `provider` serves its requests one after the other."""

    def __init__(self, idle: list[Provider], provider_port: int) -> None:
        self._idle = idle
        self._provider_port = provider_port

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        transport.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._parser = httptools.HttpRequestParser(self)

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def on_message_begin(self) -> None:
        self._headers: dict[bytes, bytes] = {}
        self._body: list[bytes] = []

    def on_header(self, name: bytes, value: bytes) -> None:
        self._headers[name.lower()] = value

    def on_body(self, body: bytes) -> None:
        self._body.append(body)

    def on_message_complete(self) -> None:
        if self._headers.get(b"authorization") not in _KEYS:
            self.transport.write(b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n")
            return
        body = b"".join(self._body).replace(b'"model":"bench"', b'"model":"m"', 1)
        request = (
            b"POST /v1/chat/completions HTTP/1.1\r\nHost: provider\r\nAuthorization: Bearer p\r\n"
            b"Content-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(body)
        ) + body
        if self._idle:
            self._idle.pop().ask(self, request)
        else:
            asyncio.get_running_loop().create_task(self._connect(request))

    async def _connect(self, request: bytes) -> None:
        loop = asyncio.get_running_loop()
        _, provider = await loop.create_connection(lambda: Provider(self._idle), "127.0.0.1", self._provider_port)
        provider.ask(self, request)


class Provider(asyncio.Protocol):
    """One connection to the provider, in `idle` between two calls."""

    def __init__(self, idle: list[Provider]) -> None:
        self._idle = idle

    def connection_made(self, transport: Any) -> None:
        self._transport = transport
        transport.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def ask(self, client: Client, request: bytes) -> None:
        self._client = client
        self._parser = httptools.HttpResponseParser(self)
        self._headers: list[bytes] = []
        self._out: list[bytes] = []
        self._is_chunked = False
        self._transport.write(request)

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)
        if self._out:
            self._client.transport.write(b"".join(self._out))
            self._out.clear()

    def on_header(self, name: bytes, value: bytes) -> None:
        self._is_chunked = self._is_chunked or name.lower() == b"transfer-encoding"
        self._headers.append(name + b": " + value + b"\r\n")

    def on_headers_complete(self) -> None:
        self._out.append(b"HTTP/1.1 200 OK\r\n" + b"".join(self._headers) + b"\r\n")

    def on_body(self, body: bytes) -> None:
        self._out.append(b"%x\r\n%b\r\n" % (len(body), body) if self._is_chunked else body)

    def on_message_complete(self) -> None:
        if self._is_chunked:
            self._out.append(b"0\r\n\r\n")
        self._idle.append(self)
        if self._out:
            self._client.transport.write(b"".join(self._out))
            self._out.clear()


async def main(port: int, provider_port: int) -> None:
    idle: list[Provider] = []
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Client(idle, provider_port), "127.0.0.1", port, backlog=1024)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(main(int(sys.argv[1]), int(sys.argv[2])))
