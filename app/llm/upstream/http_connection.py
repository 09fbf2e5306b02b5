"""One connection to a provider: sends a request, parses what comes back, and says whether it may serve another one."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import cast

import httptools

from .http_response import BadAnswer, HttpResponse

_MAX_HEADER_BYTES = 64 * 1024
_MAX_HEADERS = 256
# A small body leaves in one packet with its head; a large one is not copied for that.
_SMALL_BODY = 64 * 1024
_NO_BODY = frozenset((204, 304))


class HttpConnection(asyncio.Protocol):
    """Belongs to one answer at a time. `rested` is called when it is free for the next, `lost` when it is gone."""

    def __init__(self, rested: Callable[[HttpConnection], None], lost: Callable[[HttpConnection], None]) -> None:
        self._rested = rested
        self._lost = lost
        self._loop = asyncio.get_running_loop()
        self._parser = httptools.HttpResponseParser(self)
        self._answer: HttpResponse | None = None
        self._headers: list[tuple[bytes, bytes]] = []
        self._header_bytes = 0
        self._is_head = False
        # The body has no length: it lasts until the provider closes.
        self._ends_by_closing = False
        self._is_spoiled = False
        self._is_held = False
        self.idle_since = 0.0

    # ---- the client's side -----------------------------------------------------------------------------------------

    def ask(self, head: bytes, body: bytes, *, is_head: bool) -> HttpResponse:
        """Send a request; its answer is filled as it comes."""
        answer = self._answer = HttpResponse(self._loop, stop=self.cut, fill=self._fill)
        self._is_head = is_head
        self._ends_by_closing = False
        self._headers, self._header_bytes = [], 0
        if len(body) <= _SMALL_BODY:
            self._transport.write(head + body)
        else:
            self._transport.write(head)
            self._transport.write(body)
        return answer

    @property
    def is_usable(self) -> bool:
        """Whether a next request may be sent."""
        return not self._is_spoiled and not self._transport.is_closing()

    def cut(self) -> None:
        """End it at once, whatever is on its way."""
        answer, self._answer = self._answer, None
        self._is_spoiled = True
        self._transport.abort()
        if answer is not None:
            answer.fail(ConnectionAbortedError("the connection was cut"))

    # ---- the network's side ----------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # that of uvloop is one in deed, not in name

    def data_received(self, data: bytes) -> None:
        if self._is_spoiled:
            return
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError as problem:
            reason = problem.__context__
            self._break(reason if isinstance(reason, BadAnswer) else BadAnswer("the answer is not HTTP"))
        except httptools.HttpParserUpgrade:
            self._break(BadAnswer("the provider wants to speak another protocol"))

    def connection_lost(self, exc: Exception | None) -> None:
        answer, self._answer = self._answer, None
        self._is_spoiled = True
        self._lost(self)
        if answer is None:
            return
        if exc is None and answer.status and self._ends_by_closing:
            answer.end()
        else:
            answer.fail(exc if isinstance(exc, OSError) else ConnectionResetError("the provider closed the connection"))

    def _break(self, problem: Exception) -> None:
        if self._answer is not None:
            self._answer.fail(problem)  # which cuts
        else:
            self.cut()

    def _fill(self, is_wanted: bool) -> None:
        if is_wanted == self._is_held and not self._is_spoiled:
            self._is_held = not is_wanted
            if is_wanted:
                self._transport.resume_reading()
            else:
                self._transport.pause_reading()

    # ---- the parser's side -----------------------------------------------------------------------------------------

    def on_message_begin(self) -> None:
        if self._answer is None:
            raise BadAnswer("an answer that nobody asked for")

    def on_header(self, name: bytes, value: bytes) -> None:
        answer = self._answer
        if answer is None or answer.status:
            return  # a trailer
        self._header_bytes += len(name) + len(value)
        if self._header_bytes > _MAX_HEADER_BYTES or len(self._headers) >= _MAX_HEADERS:
            raise BadAnswer("the headers of the answer are too large")
        self._headers.append((name, value))

    def on_headers_complete(self) -> None:
        answer, status = self._answer, self._parser.get_status_code()
        if answer is None:
            return
        if status < 200:
            self._headers = []  # an interim answer: the final one follows
            return
        names = {name.lower() for name, _ in self._headers}
        self._ends_by_closing = (
            b"content-length" not in names and b"transfer-encoding" not in names and status not in _NO_BODY
        )
        answer.begin(status, self._headers)
        if self._is_head:
            # The parser would wait for the body that the headers speak of.
            self._answer = None
            answer.end()
            self.cut()

    def on_body(self, data: bytes) -> None:
        if self._answer is not None:
            self._answer.add(data)

    def on_message_complete(self) -> None:
        answer = self._answer
        if answer is None or not answer.status:
            return
        self._answer = None
        answer.end()
        self._fill(True)
        # An answer that came before the request was sent whole leaves a connection that cannot be used again.
        if self._parser.should_keep_alive() and not self._transport.get_write_buffer_size():
            self.idle_since = self._loop.time()
            self._rested(self)
        else:
            self.cut()
