"""Request bodies that know whether the client has sent all of them.

Who is refused while still sending gets a reset connection instead of the refusal, since a server closes on unread data.
"""

from __future__ import annotations

import asyncio
from typing import Any

from quart import Request
from quart.wrappers.request import Body

# A client that takes longer to send what nobody reads is cut off.
DRAIN_SECONDS = 3.0


class DrainingBody(Body):
    """Once a body is too large its rest is thrown away as it comes; `is_sent` tells when that, too, is over."""

    def __init__(self, *limits: Any) -> None:
        super().__init__(*limits)
        self.is_sent = asyncio.Event()
        self._is_appending = False

    def append(self, data: bytes) -> None:
        self._is_appending = True
        super().append(data)
        self._is_appending = False

    def set_complete(self) -> None:
        super().set_complete()
        if not self._is_appending:  # else it is complete in so far as it is too large
            self.is_sent.set()


class DrainingRequest(Request):
    body_class: type[Body] = DrainingBody


async def wait_until_sent(request: Request) -> None:
    """Let the client finish, within bounds."""
    if not isinstance(request.body, DrainingBody) or request.body.is_sent.is_set():
        return
    try:
        async with asyncio.timeout(DRAIN_SECONDS):
            await request.body.is_sent.wait()
    except TimeoutError:
        return
