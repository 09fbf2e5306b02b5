"""One answer on its way: filled by its connection, read by one reader, given up when the reader's time is over."""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import Callable
from dataclasses import dataclass

# A reader that is slower than the provider holds it up from here on.
_MAX_UNREAD = 256 * 1024
# What is said in this form was not asked for, but some providers do not listen. zlib's word for "gzip or zlib".
_INFLATED = {"gzip": zlib.MAX_WBITS | 32, "x-gzip": zlib.MAX_WBITS | 32, "deflate": zlib.MAX_WBITS | 32}


class BadAnswer(ConnectionError):
    """What came is not HTTP, or not the HTTP that was asked for."""


@dataclass(frozen=True, slots=True)
class Timeouts:
    """Seconds: until a connection stands, until the whole answer is there, and between two pieces of it."""

    connect: float
    total: float | None = None
    silence: float | None = None


class HttpResponse:
    """`status` is 0 until the answer has begun. Close it unless it was read to its end."""

    __slots__ = (
        "_deadline",
        "_fill",
        "_inflater",
        "_loop",
        "_pieces",
        "_problem",
        "_quiet",
        "_silence",
        "_silent_since",
        "_spoke_at",
        "_stop",
        "_unread",
        "_waiter",
        "has_arrived",
        "raw_headers",
        "status",
    )

    def __init__(
        self, loop: asyncio.AbstractEventLoop, *, stop: Callable[[], None], fill: Callable[[bool], None]
    ) -> None:
        """`stop` cuts the connection; `fill` lets it read from the network, or not for the moment."""
        self._loop = loop
        self._stop = stop
        self._fill = fill
        self.status = 0
        self.raw_headers: list[tuple[bytes, bytes]] = []
        self.has_arrived = False
        self._pieces: list[bytes] = []
        self._unread = 0
        self._problem: Exception | None = None
        self._waiter: asyncio.Future[None] | None = None
        self._inflater: zlib._Decompress | None = None
        self._deadline: asyncio.TimerHandle | None = None
        self._quiet: asyncio.TimerHandle | None = None
        self._silence = 0.0
        # Since when the reader waits, None while it does not; and since when it had waited for what it read last.
        self._silent_since: float | None = None
        self._spoke_at: float | None = None

    # ---- the reader's side -----------------------------------------------------------------------------------------

    def wait_at_most(self, until: float | None, silence: float | None) -> None:
        """From now on it is given up at a moment of the loop's clock, or after so many seconds without a byte."""
        if until is not None:
            self._deadline = self._loop.call_at(until, self.fail, TimeoutError("the answer took too long"))
        if silence is not None:
            self._silence = silence
            self._quiet = self._loop.call_later(silence, self._look_for_silence)

    async def begun(self) -> None:
        """Returns when status and headers are there. Raises OSError for a connection that fails, TimeoutError."""
        while not self.status:
            if self._problem is not None:
                raise self._problem
            await self._wait()
        self._silent_since = None

    async def read(self) -> bytes:
        """What has come since the last call, as soon as there is something; b"" at the end.

        Raises OSError for a connection that breaks and TimeoutError, after everything that came before.
        """
        while not self._pieces:
            if self._problem is not None:
                raise self._problem
            if self.has_arrived:
                return b""
            await self._wait()
        self._spoke_at, self._silent_since = self._silent_since, None
        pieces, self._pieces = self._pieces, []
        if self._unread > _MAX_UNREAD and not self.has_arrived and self._problem is None:
            self._fill(True)
        self._unread = 0
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def overhear(self) -> None:
        """What was read last said nothing: the provider counts as silent since before it."""
        self._silent_since = self._spoke_at

    @property
    def has_ended(self) -> bool:
        """Whether everything was read."""
        return self.has_arrived and not self._pieces

    def close(self) -> None:
        """Cut the connection unless the whole answer has arrived: what nobody reads must stop costing."""
        if not self.has_arrived and self._problem is None:
            self.fail(ConnectionAbortedError("the answer was closed"))

    def header(self, name: str) -> str | None:
        """One header by its name in lower case; the first of several."""
        wanted = name.encode()
        for key, value in self.raw_headers:
            if key.lower() == wanted:
                return value.decode("latin-1")
        return None

    @property
    def headers(self) -> list[tuple[str, str]]:
        """Every header as it was spelled, the repeated ones too."""
        return [(name.decode("latin-1"), value.decode("latin-1")) for name, value in self.raw_headers]

    async def _wait(self) -> None:
        if self._silent_since is None:
            self._silent_since = self._loop.time()
        self._waiter = self._loop.create_future()
        try:
            await self._waiter
        finally:
            self._waiter = None

    # ---- the connection's side -------------------------------------------------------------------------------------

    def begin(self, status: int, headers: list[tuple[bytes, bytes]]) -> None:
        """Status and headers are there. Raises BadAnswer for a body in a form that nobody here can read."""
        self.raw_headers = headers
        coding = (self.header("content-encoding") or "identity").strip().lower()
        if coding not in ("identity", ""):
            if coding not in _INFLATED:
                raise BadAnswer("the body is compressed in a way that was not asked for")
            self._inflater = zlib.decompressobj(_INFLATED[coding])
        self.status = status
        self._wake()

    def add(self, data: bytes) -> None:
        """A piece of the body. Raises BadAnswer when it cannot be inflated."""
        if self._inflater is not None:
            data = self._inflated(data)
        if not data:
            return
        self._pieces.append(data)
        self._unread += len(data)
        if self._unread > _MAX_UNREAD:
            self._fill(False)
        self._wake()

    def end(self) -> None:
        """The body is whole."""
        self.has_arrived = True
        self._stop_waiting()

    def fail(self, problem: Exception) -> None:
        """Nothing more will come, and why."""
        if self.has_arrived or self._problem is not None:
            return
        self._problem = problem
        self._stop_waiting()
        self._stop()

    def _inflated(self, data: bytes) -> bytes:
        assert self._inflater is not None
        try:
            return self._inflater.decompress(data)
        except zlib.error:
            raise BadAnswer("the body is not compressed in the way that its header says") from None

    def _stop_waiting(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
        if self._quiet is not None:
            self._quiet.cancel()
        self._wake()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def _look_for_silence(self) -> None:
        """Seconds in which nobody waited are not the provider's silence."""
        now = self._loop.time()
        since = self._silent_since if self._waiter is not None and self._silent_since is not None else now
        if now - since >= self._silence:
            self.fail(TimeoutError("the provider fell silent"))
        else:
            self._quiet = self._loop.call_at(since + self._silence, self._look_for_silence)
