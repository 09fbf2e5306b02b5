"""The fast path of the hottest routes: an ASGI callable that answers them without the framework.

It does what the framework does for a POST to one of `FAST_ROUTES`, at a tenth of the cost: reads the body within its
limits, authenticates, calls the gateway, sends the reply, and stops everything when the client leaves. What is said and
decided is shared with the framework's routes (app/llm/routes/openai.py); tests/llm/test_fast_path.py holds both to the
same answers.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Mapping
from functools import lru_cache
from typing import Any

from quart import Quart
from werkzeug.exceptions import RequestEntityTooLarge, RequestTimeout

from ..auth.guard import authenticate
from ..auth.policy import CALLS
from ..errors import GatewayError
from ..protocols.dialect import Endpoint
from ..protocols.openai.request import CHAT, COMPLETIONS, EMBEDDINGS
from ..services import Services
from ..web.error_responses import SECURITY_HEADERS, error_body, to_gateway_error
from ..web.request_body import DRAIN_BYTES, DRAIN_SECONDS
from .call import EVENT_STREAM, Reply, add_call_headers, read_call

ASGIApp = Callable[[Any, Any, Any], Awaitable[None]]
Receive = Callable[[], Awaitable[Any]]
Send = Callable[[Any], Awaitable[None]]
RawHeaders = list[tuple[bytes, bytes]]

FAST_ROUTES: Mapping[str, Endpoint] = {
    f"{prefix}{endpoint.path}": endpoint for endpoint in (CHAT, COMPLETIONS, EMBEDDINGS) for prefix in ("/v1", "")
}

# An answer of this size fits into the buffers of a socket; nobody need watch over its sending.
_SMALL_ANSWER = 64 * 1024

# Most calls are over sooner; a task that waits for the client to leave costs more than a timer.
_GRACE_SECONDS = 0.05

_EVERY_ANSWER: RawHeaders = [(name.lower().encode(), value.encode()) for name, value in SECURITY_HEADERS.items()]
_JSON = "application/json"


class ClientDisconnected(Exception):
    """Nobody is there to answer."""


class FastPath:
    """Wraps a Quart app, whose limits it keeps; what is not for the fast path is the app's.

    `accesses`: the policy of each route. `shares_with_origins`: the app adds headers for other origins, so a request
    that names one is the app's too. Raises RuntimeError for a route that the policy does not open as it is opened here.
    """

    def __init__(
        self, app: Quart, services: Services, accesses: Mapping[tuple[str, str], object], *, shares_with_origins: bool
    ) -> None:
        _check_policy(accesses)
        self._app: ASGIApp = app.asgi_app
        self._services = services
        self._max_body_bytes: int = app.config["MAX_CONTENT_LENGTH"]
        # As long as the framework waits: for a body, and for a client that does not read a whole answer.
        self._body_seconds: float = app.config["BODY_TIMEOUT"]
        self._answer_seconds: float = app.config["RESPONSE_TIMEOUT"]
        self._shares_with_origins = shares_with_origins
        self._every_answer = _EVERY_ANSWER + ([(b"vary", b"Origin")] if shares_with_origins else [])

    async def __call__(self, scope: Any, receive: Receive, send: Send) -> None:
        endpoint = FAST_ROUTES.get(scope["path"]) if scope["type"] == "http" and scope["method"] == "POST" else None
        if endpoint is None or scope.get("root_path"):
            await self._app(scope, receive, send)
            return
        headers = _decoded(scope["headers"])
        if self._shares_with_origins and "origin" in headers:
            await self._app(scope, receive, send)
            return
        connection = ClientConnection(receive, self._body_seconds)
        try:
            await self._answer(scope, endpoint, headers, connection, send)
        except ClientDisconnected:
            return
        except asyncio.CancelledError:
            if not connection.was_ended_by_client():
                raise
        finally:
            connection.stop_watching()

    async def _answer(
        self, scope: Any, endpoint: Endpoint, headers: Mapping[str, str], connection: ClientConnection, send: Send
    ) -> None:
        try:
            reply = await self._reply(scope, endpoint, headers, connection)
        except ClientDisconnected:
            raise
        except Exception as problem:  # noqa: BLE001 - nobody else renders errors here
            connection.stop_watching()
            error = to_gateway_error(problem, scope["path"])
            await connection.wait_until_sent()
            await self._send_whole(send, error.status, error.headers, _rendered(error, scope["path"]), _JSON)
            return
        if reply.frames is None:
            connection.stop_watching()
            await self._send_whole(send, 200, reply.headers, reply.body, reply.content_type or _JSON)
        else:
            await self._send_stream(send, reply, connection)

    async def _reply(
        self, scope: Any, endpoint: Endpoint, headers: Mapping[str, str], connection: ClientConnection
    ) -> Reply:
        principal = await authenticate(headers, self._services)
        body = await connection.body(_length_of(headers), self._max_body_bytes)
        client = scope.get("client")
        call = read_call(
            headers,
            principal=principal,
            endpoint=endpoint,
            path=scope["path"],
            body=body,
            ip_address=client[0] if client else "<local>",
            user_header=self._services.settings.user_header_name,
        )
        connection.watch_disconnect()
        try:
            return await self._services.gateway.run(call)
        except GatewayError as error:
            add_call_headers(error, call)
            raise

    async def _send_whole(
        self, send: Send, status: int, headers: Mapping[str, str], body: bytes, content_type: str
    ) -> None:
        raw = _encoded(headers)
        raw.append((b"content-type", content_type.encode()))
        raw.append((b"content-length", b"%d" % len(body)))
        raw += self._every_answer
        await send({"type": "http.response.start", "status": status, "headers": raw})
        message = {"type": "http.response.body", "body": body, "more_body": False}
        if len(body) <= _SMALL_ANSWER:
            await send(message)
            return
        try:
            async with asyncio.timeout(self._answer_seconds):
                await send(message)
        except TimeoutError:
            return

    async def _send_stream(self, send: Send, reply: Reply, connection: ClientConnection) -> None:
        """Each batch of frames as it comes; the next one is asked for when the server has taken this one."""
        frames = reply.frames
        assert frames is not None
        try:
            raw = _encoded({**reply.headers, **EVENT_STREAM}) + self._every_answer
            await send({"type": "http.response.start", "status": 200, "headers": raw})
            async for frame in frames:
                await send({"type": "http.response.body", "body": frame, "more_body": True})
            connection.stop_watching()
            await send({"type": "http.response.body", "body": b"", "more_body": False})
        finally:
            await frames.aclose()


class ClientConnection:
    """The client's side of one request: its body, and whether it is still there.

    Between `watch` and `stop_watching` a client that leaves cancels the task that serves it, as a server would.
    """

    def __init__(self, receive: Receive, body_seconds: float) -> None:
        self._receive = receive
        self._body_seconds = body_seconds
        self._is_sent = False
        self._has_left = False
        self._grace_timer: asyncio.TimerHandle | None = None
        self._watcher: asyncio.Task[None] | None = None
        self._served: asyncio.Task[Any] | None = None

    async def body(self, length: int | None, most: int) -> bytes:
        """The whole body. Raises RequestEntityTooLarge, RequestTimeout, and ClientDisconnected before it was sent."""
        if length is not None and length > most:
            raise RequestEntityTooLarge
        pieces: list[bytes] = []
        size = 0
        try:
            async with asyncio.timeout(self._body_seconds):
                while not self._is_sent:
                    piece = await self._next_piece()
                    size += len(piece)
                    if size > most:
                        raise RequestEntityTooLarge
                    if piece:
                        pieces.append(piece)
        except TimeoutError:
            raise RequestTimeout from None
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    async def wait_until_sent(self) -> None:
        """Read what is left of a body that nobody wants, within bounds: a server closes on unread data."""
        dropped_bytes = 0
        try:
            async with asyncio.timeout(DRAIN_SECONDS):
                while not self._is_sent and dropped_bytes <= DRAIN_BYTES:
                    dropped_bytes += len(await self._next_piece())
        except TimeoutError:
            return

    async def _next_piece(self) -> bytes:
        message = await self._receive()
        if message["type"] == "http.disconnect":
            raise ClientDisconnected
        self._is_sent = not message.get("more_body", False)
        piece: bytes = message.get("body", b"")
        return piece

    def watch_disconnect(self) -> None:
        """From here on a client that leaves ends the call, if that takes longer than the grace time."""
        self._served = asyncio.current_task()
        self._grace_timer = asyncio.get_running_loop().call_later(_GRACE_SECONDS, self._start_watching)

    def _start_watching(self) -> None:
        self._watcher = asyncio.create_task(self._wait_for_disconnect())

    def stop_watching(self) -> None:
        """The answer is there: let it be sent, whoever reads it."""
        if self._grace_timer is not None:
            self._grace_timer.cancel()
            self._grace_timer = None
        if self._watcher is not None:
            self._watcher.cancel()
            self._watcher = None

    def was_ended_by_client(self) -> bool:
        """Whether a cancellation means no more than that the client left; it is over when this was asked."""
        return self._has_left and self._served is not None and self._served.uncancel() == 0

    async def _wait_for_disconnect(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            continue
        self._has_left = True
        if self._served is not None:
            self._served.cancel()


def _check_policy(accesses: Mapping[tuple[str, str], object]) -> None:
    """Here a known key is enough to be heard, and admission decides: no route may be opened otherwise by the policy."""
    for path in FAST_ROUTES:
        if accesses.get(("POST", path)) is not CALLS:
            raise RuntimeError(
                f"POST {path} is not for any key in app/auth/policy.py, as app/llm/fast_path.py serves it"
            )


def _decoded(raw: RawHeaders) -> dict[str, str]:
    """Headers by their lower-case names; the first of several counts."""
    headers: dict[str, str] = {}
    for name, value in raw:
        headers.setdefault(name.decode("latin-1").lower(), value.decode("latin-1"))
    return headers


def _encoded(headers: Mapping[str, str]) -> RawHeaders:
    return [(_raw_name(name), value.encode()) for name, value in headers.items()]


@lru_cache(maxsize=1024)
def _raw_name(name: str) -> bytes:
    """As a server wants it; the same few come with every answer."""
    return name.lower().encode()


def _length_of(headers: Mapping[str, str]) -> int | None:
    """The length that a request announces. What is sent in chunks has none, whatever it says."""
    given = headers.get("content-length", "")
    return int(given[:18]) if given.isdigit() and given.isascii() and "transfer-encoding" not in headers else None


def _rendered(error: GatewayError, path: str) -> bytes:
    return json.dumps(error_body(error, path), separators=(",", ":")).encode() + b"\n"
