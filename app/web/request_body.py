"""Request bodies that stay with their sender until somebody may send them, and that know when all of them was sent.

The framework would take in a whole body before it is known who sends it. Here nothing is read before `admit_body`; the
sender waits until then, as flow control makes it.
Who is refused while still sending gets a reset connection instead of the refusal, since a server closes on unread data.
So the rest of a refused body is thrown away as it comes, within bounds.
"""

from __future__ import annotations

import asyncio
from typing import Any

from quart import Request
from quart.asgi import ASGIHTTPConnection
from quart.wrappers.request import Body
from werkzeug.exceptions import RequestEntityTooLarge

# Routes that anyone may call without a key: a name and a password fit, with every character escaped.
PUBLIC_BODY_BYTES = 16 * 1024
# Forms of the console, whose callers are known by a cookie that is looked at later.
CONSOLE_BODY_BYTES = 256 * 1024

# A client that takes longer, or sends more, of what nobody reads is cut off.
DRAIN_SECONDS = 3.0
DRAIN_BYTES = 96 * 1024 * 1024


class DrainingBody(Body):
    """Once a body is too large its rest is thrown away as it comes; `is_sent` tells when that, too, is over."""

    def __init__(self, announced_bytes: int | None, max_bytes: int | None) -> None:
        super().__init__(announced_bytes, max_bytes)
        self.is_wanted = asyncio.Event()
        self.is_sent = asyncio.Event()
        self._announced_bytes = announced_bytes
        self._received_bytes = 0

    def admit(self, max_bytes: int | None = None) -> None:
        """Let the body come. `max_bytes` is for less than what the instance accepts from callers with a key."""
        if max_bytes is not None:
            self._max_content_length = min(max_bytes, self._max_content_length or max_bytes)
            if (self._announced_bytes or 0) > self._max_content_length:
                self._must_raise = RequestEntityTooLarge()
        self.is_wanted.set()

    def refuse(self) -> None:
        """Nobody will read this body."""
        if not self.is_sent.is_set():
            self._throw_away()
        self.is_wanted.set()

    @property
    def is_arriving(self) -> bool:
        """Whether the rest of a small body, which nobody may have asked for, is on its way."""
        is_small = 0 < (self._announced_bytes or 0) <= PUBLIC_BODY_BYTES
        return is_small and self.is_wanted.is_set() and not self.is_sent.is_set()

    @property
    def is_refused(self) -> bool:
        return self._must_raise is not None

    def append(self, data: bytes) -> None:
        self._received_bytes += len(data)
        # The framework compares what waits to be read, which for a body that is read in pieces is never much.
        if self._max_content_length is not None and self._received_bytes > self._max_content_length:
            self._throw_away()
        if self._must_raise is None:
            super().append(data)
        elif self._received_bytes > DRAIN_BYTES:
            self.is_sent.set()

    def set_complete(self) -> None:
        super().set_complete()
        self.is_sent.set()

    def _throw_away(self) -> None:
        self._must_raise = self._must_raise or RequestEntityTooLarge()
        self._data.clear()
        super().set_complete()  # in so far as nothing more will come to who waits for it

    async def __anext__(self) -> bytes:
        try:
            return await super().__anext__()
        except StopAsyncIteration:
            if self._must_raise is not None:
                raise self._must_raise from None
            raise


class DrainingRequest(Request):
    body_class: type[Body] = DrainingBody


class AdmittedHTTPConnection(ASGIHTTPConnection):
    """Asks the server for the body of a request, and for whether its client leaves, once somebody wants to know."""

    async def handle_messages(self, request: Request, receive: Any) -> None:
        if isinstance(request.body, DrainingBody):
            await request.body.is_wanted.wait()
        await super().handle_messages(request, receive)


def admit_body(request: Request, max_bytes: int | None = None) -> None:
    """The caller may send a body, of `max_bytes` or of what the instance accepts."""
    if isinstance(request.body, DrainingBody):
        request.body.admit(max_bytes)


def refuse_body(request: Request) -> None:
    """Nobody will read what the client still sends."""
    if isinstance(request.body, DrainingBody):
        request.body.refuse()


async def wait_until_sent(request: Request) -> None:
    """Let a client finish whose body was refused, or is small and not read by a view, within bounds.

    A server closes the connection of a request that was answered before it was whole, and says so too late for a client
    that sends its next one there.
    """
    if not isinstance(request.body, DrainingBody) or not (request.body.is_refused or request.body.is_arriving):
        return
    try:
        async with asyncio.timeout(DRAIN_SECONDS):
            await request.body.is_sent.wait()
    except TimeoutError:
        return
