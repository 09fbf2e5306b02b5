"""One connection to a provider: sends a request, parses its response, and says whether it can be reused."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import cast

import httptools

from .http_response import HttpResponse, InvalidResponse

_MAX_HEADER_BYTES = 64 * 1024
_MAX_HEADERS = 256
# A small body leaves in one packet with its head; a large one is not copied for that.
_SMALL_BODY = 64 * 1024
_TAIL = len(b"\r\n\r\n\r\n")
_STATUSES_WITHOUT_BODY = frozenset((204, 304))


class HttpConnection(asyncio.Protocol):
    """Serves one response at a time. Calls `on_idle` when free for another request, `on_lost` when closed."""

    def __init__(self, on_idle: Callable[[HttpConnection], None], on_lost: Callable[[HttpConnection], None]) -> None:
        self._on_idle = on_idle
        self._on_lost = on_lost
        self._loop = asyncio.get_running_loop()
        self._parser = httptools.HttpResponseParser(self)
        self._answer: HttpResponse | None = None
        self._headers: list[tuple[bytes, bytes]] = []
        self._header_bytes = 0
        self._is_head = False
        # The body has no length: it ends when the provider closes the connection.
        self._is_close_delimited = False
        # What the answer announced for its body, in bytes; 0 where it is chunked, or ends with the connection.
        self._length = 0
        self._last_piece = b""
        # A body was announced with a status that has none: it may be on its way.
        self._is_body_ignored = False
        # The last bytes that were received: enough to see an empty line after an empty line.
        self._tail = b""
        self._has_completed = False
        self._is_reusable = False
        self._is_unusable = False
        self._is_paused = False
        self.idle_since = 0.0

    # ---- called by the client --------------------------------------------------------------------------------------

    def send(self, head: bytes, body: bytes, *, is_head: bool) -> HttpResponse:
        """Send a request; its response is filled as it arrives."""
        answer = self._answer = HttpResponse(self._loop, abort=self.abort, set_reading=self._set_reading)
        self._is_head = is_head
        self._is_close_delimited = False
        self._length, self._last_piece, self._has_completed = 0, b"", False
        self._headers, self._header_bytes = [], 0
        if not self.is_usable:
            answer.fail(ConnectionResetError("the provider closed the connection"))
            return answer
        if len(body) <= _SMALL_BODY:
            self._transport.write(head + body)
        else:
            self._transport.write(head)
            self._transport.write(body)
        return answer

    @property
    def is_usable(self) -> bool:
        """Whether another request may be sent."""
        return not self._is_unusable and not self._transport.is_closing()

    def abort(self) -> None:
        """Close it at once, whatever is in flight."""
        answer, self._answer = self._answer, None
        self._is_unusable = True
        self._transport.abort()
        if answer is not None:
            answer.fail(ConnectionAbortedError("the connection was aborted"))

    # ---- called by the event loop ----------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's has the methods and not the base class

    def data_received(self, data: bytes) -> None:
        if self._is_unusable:
            return
        if self._answer is None:
            self.abort()  # bytes that belong to no exchange, be they one line break
            return
        self._tail = data[-_TAIL:] if len(data) >= _TAIL else (self._tail + data)[-_TAIL:]
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError as problem:
            reason = problem.__context__
            self._fail(reason if isinstance(reason, InvalidResponse) else InvalidResponse("the answer is not HTTP"))
        except httptools.HttpParserUpgrade:
            self._fail(InvalidResponse("the provider wants to speak another protocol"))
        else:
            if self._has_completed and not self._is_unusable:
                self._end_exchange(data)

    def connection_lost(self, exc: Exception | None) -> None:
        answer, self._answer = self._answer, None
        self._is_unusable = True
        self._on_lost(self)
        if answer is None:
            return
        if exc is None and answer.status and self._is_close_delimited:
            answer.end()
        else:
            answer.fail(exc if isinstance(exc, OSError) else ConnectionResetError("the provider closed the connection"))

    def _fail(self, problem: Exception) -> None:
        if self._answer is not None:
            self._answer.fail(problem)  # which aborts
        else:
            self.abort()

    def _end_exchange(self, data: bytes) -> None:
        """The answer is complete, and `data` was received last. Free the connection, or close it."""
        self._has_completed = False
        # An answer that came before the request was sent whole leaves a connection that cannot be used again.
        is_sent = not self._transport.get_write_buffer_size()
        if is_sent and self._is_reusable and self._has_ended_exactly(data):
            self.idle_since = self._loop.time()
            self._on_idle(self)
        else:
            self.abort()

    def _has_ended_exactly(self, data: bytes) -> bool:
        """Whether the last byte was the last one of the answer. The parser is silent about line breaks after it."""
        if self._is_body_ignored:
            return False
        if self._length:
            # Bytes after the body show, unless the body is of line breaks as well.
            return data.endswith(self._last_piece) and bool(self._last_piece.strip(b"\r\n"))
        return self._tail.endswith(b"\r\n\r\n") and not self._tail.endswith(b"\r\n\r\n\r\n")

    def _set_reading(self, is_reading: bool) -> None:
        if is_reading == self._is_paused and not self._is_unusable:
            self._is_paused = not is_reading
            if is_reading:
                self._transport.resume_reading()
            else:
                self._transport.pause_reading()

    # ---- called by the parser --------------------------------------------------------------------------------------

    def on_message_begin(self) -> None:
        if self._answer is None:
            raise InvalidResponse("an answer that nobody asked for")

    def on_header(self, name: bytes, value: bytes) -> None:
        answer = self._answer
        if answer is None or answer.status:
            return  # a trailer
        self._header_bytes += len(name) + len(value)
        if self._header_bytes > _MAX_HEADER_BYTES or len(self._headers) >= _MAX_HEADERS:
            raise InvalidResponse("the headers of the answer are too large")
        self._headers.append((name, value))

    def on_headers_complete(self) -> None:
        answer, status = self._answer, self._parser.get_status_code()
        if answer is None:
            return
        if status < 200:
            self._headers = []  # an interim answer: the final one follows
            return
        names = {name.lower() for name, _ in self._headers}
        self._is_close_delimited = (
            b"content-length" not in names
            and b"transfer-encoding" not in names
            and status not in _STATUSES_WITHOUT_BODY
        )
        self._length = next((int(value[:18]) for name, value in self._headers if name.lower() == b"content-length"), 0)
        self._is_body_ignored = status in _STATUSES_WITHOUT_BODY and bool(self._length or b"transfer-encoding" in names)
        answer.start(status, self._headers)
        if self._is_head:
            # The parser would wait for the body that the headers speak of.
            self._answer = None
            answer.end()
            self.abort()

    def on_body(self, data: bytes) -> None:
        self._last_piece = data
        if self._answer is not None:
            self._answer.add(data)

    def on_message_complete(self) -> None:
        answer = self._answer
        if answer is None or not answer.status:
            return
        self._answer = None
        answer.end()
        self._set_reading(True)
        # Asked now: the parser forgets it with the next byte.
        self._is_reusable = self._parser.should_keep_alive()
        self._has_completed = True
