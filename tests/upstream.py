"""A scripted OpenAI-compatible provider on a real socket, for every fault that a real one can show.

    async with ScriptedUpstream() as upstream:
        upstream.plan(Fault.status(429, retry_after=2), Reply("fine"), Stream(("a", "b"), cut="reset"))
        upstream.on_model("slow", Stream(interval=0.2))
        ... call upstream.url + "/chat/completions" ...
        assert upstream.requests[0].json["model"] == "gpt-4o-mini"

Which step answers a request: the step of `on_path`, else the next one of `plan` (first in, first out), else the step of
the first `on_prompt` text found in the raw body, else the step of `on_model`, else `Answer()`: JSON, or a stream if the
body asks for one.
Each step answers one request; `Fault` names the faults. Every step can be used any number of times.
"""

from __future__ import annotations

import asyncio
import json
import socket
import struct
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Self

from tests.upstream_steps import Answer, Channel, Fault, Pieces, Reply, Step, Stream, Usage

__all__ = ["Answer", "Fault", "Pieces", "RecordedRequest", "Reply", "ScriptedUpstream", "Step", "Stream", "Usage"]


@dataclass(frozen=True)
class RecordedRequest:
    """What arrived: header names in lower case, `body` as sent, `json` parsed or None, `connection` counted from 1."""

    method: str
    path: str
    query: str
    headers: dict[str, str]
    body: bytes
    json: Any
    connection: int

    @property
    def model(self) -> str:
        return str(self.json.get("model", "")) if isinstance(self.json, dict) else ""


@dataclass
class ScriptedUpstream:
    """`url` ends in /v1; `origin` does not. `disconnects` counts clients that left before the end."""

    requests: list[RecordedRequest] = field(default_factory=list)
    connections: int = 0
    disconnects: int = 0
    port: int = 0
    _plan: deque[Step] = field(default_factory=deque)
    _by_path: dict[str, Step] = field(default_factory=dict)
    _by_model: dict[str, Step] = field(default_factory=dict)
    _by_prompt: list[tuple[bytes, Step]] = field(default_factory=list)
    _open: set[_Connection] = field(default_factory=set)
    _changed: asyncio.Condition = field(default_factory=asyncio.Condition)
    _server: asyncio.Server | None = None
    _unused: socket.socket | None = None

    async def __aenter__(self) -> Self:
        await self.up()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.down()
        if self._unused is not None:
            self._unused.close()

    @property
    def origin(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def url(self) -> str:
        return f"{self.origin}/v1"

    @property
    def refused_url(self) -> str:
        """An address that refuses connections while this upstream lives: bound but not listening."""
        if self._unused is None:
            self._unused = socket.socket()
            self._unused.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{self._unused.getsockname()[1]}/v1"

    @property
    def open_connections(self) -> int:
        return len(self._open)

    @property
    def unused_steps(self) -> int:
        return len(self._plan)

    def plan(self, *steps: Step) -> None:
        """The next requests get these steps, one each."""
        self._plan.extend(steps)

    def on_model(self, model: str, step: Step) -> None:
        self._by_model[model] = step

    def on_path(self, path: str, step: Step) -> None:
        """What is planned stays for others: for requests that nobody can say the moment of."""
        self._by_path[path] = step

    def on_prompt(self, text: str, step: Step) -> None:
        self._by_prompt.append((text.encode(), step))

    async def up(self) -> None:
        """Listens, after `down` on the same port again."""
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(lambda: _Connection(self), "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def down(self) -> None:
        """Refuses new connections and resets the open ones: an outage."""
        if self._server is None:
            return
        self._server.close()
        for connection in list(self._open):
            connection.end(reset=True)
        await self._server.wait_closed()
        self._server = None

    async def wait_for_requests(self, count: int, seconds: float = 5) -> None:
        await self._wait(lambda: len(self.requests) >= count, seconds)

    async def wait_for_disconnects(self, count: int, seconds: float = 5) -> None:
        await self._wait(lambda: self.disconnects >= count, seconds)

    async def _wait(self, reached: Callable[[], bool], seconds: float) -> None:
        async with asyncio.timeout(seconds), self._changed:
            await self._changed.wait_for(reached)

    async def _notify(self) -> None:
        async with self._changed:
            self._changed.notify_all()

    def _step_for(self, request: RecordedRequest) -> Step:
        if request.path in self._by_path:
            return self._by_path[request.path]
        if self._plan:
            return self._plan.popleft()
        for text, step in self._by_prompt:
            if text in request.body:
                return step
        return self._by_model.get(request.model, Answer())


class _Connection(asyncio.Protocol, Channel):
    """One client connection: reads requests, performs a step for each, notices the client leaving at any moment."""

    def __init__(self, upstream: ScriptedUpstream) -> None:
        self._upstream = upstream
        self._buffer = bytearray()
        self._arrived = asyncio.Event()
        self._writable = asyncio.Event()
        self._writable.set()
        self._gone = False
        self._answering = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        connection = transport.get_extra_info("socket")
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._upstream.connections += 1
        self._number = self._upstream.connections
        self._upstream._open.add(self)
        self._task = asyncio.create_task(self._serve())

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        self._arrived.set()

    def eof_received(self) -> bool:
        return False  # the client has left: no half-open connections

    def connection_lost(self, exc: Exception | None) -> None:
        self._upstream._open.discard(self)
        if self._answering and not self._gone:
            self._upstream.disconnects += 1
        self._gone = True
        self._task.cancel()
        self._notification = asyncio.create_task(self._upstream._notify())

    def pause_writing(self) -> None:
        self._writable.clear()

    def resume_writing(self) -> None:
        self._writable.set()

    async def write(self, data: bytes) -> None:
        self._transport.write(data)
        await self._writable.wait()

    def end(self, *, reset: bool = False) -> None:
        self._gone = True  # our doing, not the client's: not counted as a disconnect
        if reset:
            linger = struct.pack("ii", 1, 0)
            self._transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            self._transport.abort()
        else:
            self._transport.close()

    async def _serve(self) -> None:
        while not self._gone:
            request = await self._read_request()
            self._answering = True
            self._upstream.requests.append(request)
            await self._upstream._notify()
            step = self._upstream._step_for(request)
            await step.perform(self, request.path, request.json)
            self._answering = False
            if request.headers.get("connection", "").lower() == "close" and not self._gone:
                self.end()

    async def _read_request(self) -> RecordedRequest:
        head = (await self._read_until(b"\r\n\r\n")).decode("latin-1")
        first, *lines = head.rstrip("\r\n").split("\r\n")
        method, target, _ = first.split(" ", 2)
        headers = {name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        if headers.get("expect", "").lower() == "100-continue":
            await self.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        if headers.get("transfer-encoding", "").lower() == "chunked":
            body = await self._read_chunks()
        else:
            body = await self._read(int(headers.get("content-length", "0")))
        path, _, query = target.partition("?")
        return RecordedRequest(method, path, query, headers, body, _parsed(body), self._number)

    async def _read_chunks(self) -> bytes:
        body = b""
        while size := int((await self._read_until(b"\r\n")).split(b";")[0], 16):
            body += await self._read(size)
            await self._read_until(b"\r\n")
        await self._read_until(b"\r\n")
        return body

    async def _read_until(self, mark: bytes) -> bytes:
        while (position := self._buffer.find(mark)) < 0:
            await self._more()
        return self._take(position + len(mark))

    async def _read(self, size: int) -> bytes:
        while len(self._buffer) < size:
            await self._more()
        return self._take(size)

    async def _more(self) -> None:
        self._arrived.clear()
        await self._arrived.wait()

    def _take(self, size: int) -> bytes:
        taken = bytes(self._buffer[:size])
        del self._buffer[:size]
        return taken


def _parsed(body: bytes) -> Any:
    try:
        return json.loads(body)
    except ValueError:
        return None
