"""A TCP proxy that a test can cut, pause and resume: faults below HTTP, for any protocol (HTTP, PostgreSQL, Redis).

async with TcpProxy("127.0.0.1", redis_port) as proxy:
    client = connect(proxy.port)
    proxy.pause()      # bytes stop in both directions, connections stay open
    proxy.resume()     # what was held back goes on
    proxy.cut()        # every open connection is reset; new ones are accepted
    proxy.refuse()     # new connections are reset at once, until accept()
    proxy.lose_reply_to(b"COMMIT;")  # the next such request arrives, and its connection is cut instead of the reply
    proxy.lose_request(b"COMMIT;")   # the next such request does not arrive, and its connection is cut
"""

from __future__ import annotations

import asyncio
import socket
import struct
from typing import Self

_READ_SIZE = 64 * 1024


class TcpProxy:
    """Forwards 127.0.0.1:`port` to `target_host`:`target_port`; `connections` counts what was accepted."""

    def __init__(self, target_host: str, target_port: int) -> None:
        self._target = (target_host, target_port)
        self._flowing = asyncio.Event()
        self._flowing.set()
        self._refusing = False
        self._writers: set[asyncio.StreamWriter] = set()
        self._unanswered = b""
        self._lost = b""
        self._deaf: set[asyncio.StreamWriter] = set()
        self.connections = 0
        self.port = 0

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        self.resume()
        self.cut()
        await self._server.wait_closed()

    def pause(self) -> None:
        self._flowing.clear()

    def resume(self) -> None:
        self._flowing.set()

    def refuse(self) -> None:
        self._refusing = True

    def accept(self) -> None:
        self._refusing = False

    def cut(self) -> None:
        for writer in list(self._writers):
            reset(writer)

    def lose_reply_to(self, request: bytes) -> None:
        self._unanswered = request

    def lose_request(self, request: bytes) -> None:
        self._lost = request

    @property
    def is_intact(self) -> bool:
        """Whether what was to be lost has been lost."""
        return not self._unanswered and not self._lost

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        if self._refusing:
            reset(writer)
            return
        try:
            upstream_reader, upstream_writer = await asyncio.open_connection(*self._target)
        except OSError:
            reset(writer)
            return
        pair = {writer, upstream_writer}
        self._writers |= pair
        try:
            await asyncio.gather(self._pump(reader, upstream_writer, writer), self._pump(upstream_reader, writer))
        finally:
            self._writers -= pair
            self._deaf.discard(writer)
            for open_writer in pair:
                open_writer.close()

    async def _pump(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        client: asyncio.StreamWriter | None = None,
    ) -> None:
        """Copies one direction until its end; a half-close is passed on, a reset ends both directions.

        `client`: who asks, in the direction of requests.
        """
        try:
            while data := await reader.read(_READ_SIZE):
                await self._flowing.wait()
                if writer in self._deaf or (client is not None and self._is_lost(data, client)):
                    reset(writer)
                    reset(client or writer)
                    return
                writer.write(data)
                await writer.drain()
            if writer.can_write_eof():
                writer.write_eof()
        except OSError:
            reset(writer)

    def _is_lost(self, request: bytes, client: asyncio.StreamWriter) -> bool:
        if self._unanswered and self._unanswered in request:
            self._unanswered = b""
            self._deaf.add(client)
        if self._lost and self._lost in request:
            self._lost = b""
            return True
        return False


def reset(writer: asyncio.StreamWriter) -> None:
    """Closes with RST instead of FIN: the peer sees `connection reset`, and unsent bytes are dropped."""
    connection = writer.get_extra_info("socket")
    if connection is not None and connection.fileno() != -1:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()
