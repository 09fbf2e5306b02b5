"""One response in flight: filled by its connection, read by one reader, aborted when a timeout expires."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

from .inflater import CODINGS, Inflater, InvalidCompression

# Reading from the network pauses while a slow reader has more than this before it.
_MAX_UNREAD_BYTES = 256 * 1024


class InvalidResponse(ConnectionError):
    """The response is not HTTP, or not the HTTP that was asked for."""


@dataclass(frozen=True, slots=True)
class Timeouts:
    """Seconds: to connect, for the whole response, and between two chunks of it (`silence`)."""

    connect: float
    total: float | None = None
    silence: float | None = None


class HttpResponse:
    """`status` is 0 until the headers have arrived. Close it unless it was read to its end."""

    __slots__ = (
        "_abort",
        "_chunks",
        "_deadline",
        "_inflater",
        "_loop",
        "_previous_waiting_since",
        "_problem",
        "_set_reading",
        "_silence",
        "_silence_timer",
        "_unread_bytes",
        "_waiter",
        "_waiting_since",
        "is_complete",
        "raw_headers",
        "status",
    )

    def __init__(
        self, loop: asyncio.AbstractEventLoop, *, abort: Callable[[], None], set_reading: Callable[[bool], None]
    ) -> None:
        """`abort` closes the connection; `set_reading` resumes or pauses reading from the network."""
        self._loop = loop
        self._abort = abort
        self._set_reading = set_reading
        self.status = 0
        self.raw_headers: list[tuple[bytes, bytes]] = []
        self.is_complete = False
        self._chunks: list[bytes] = []
        self._unread_bytes = 0
        self._problem: Exception | None = None
        self._waiter: asyncio.Future[None] | None = None
        self._inflater: Inflater | None = None
        self._deadline: asyncio.TimerHandle | None = None
        self._silence_timer: asyncio.TimerHandle | None = None
        self._silence = 0.0
        # When the reader began to wait, None while it does not; and when it began to wait for what it read last.
        self._waiting_since: float | None = None
        self._previous_waiting_since: float | None = None

    # ---- called by the reader --------------------------------------------------------------------------------------

    def set_timeouts(self, deadline: float | None, silence: float | None) -> None:
        """Fail with TimeoutError at a time of the loop's clock, or after so many seconds without a byte."""
        if deadline is not None:
            self._deadline = self._loop.call_at(deadline, self.fail, TimeoutError("the answer took too long"))
        if silence is not None:
            self._silence = silence
            self._silence_timer = self._loop.call_later(silence, self._check_silence)

    async def wait_for_headers(self) -> None:
        """Returns when status and headers have arrived. Raises OSError for a connection that fails, TimeoutError."""
        while not self.status:
            if self._problem is not None:
                raise self._problem
            await self._wait()
        self._waiting_since = None

    async def read(self) -> bytes:
        """What has arrived since the last call, as soon as there is something; b"" at the end.

        Raises OSError for a connection that breaks and TimeoutError, after everything that arrived before.
        """
        if self._inflater is not None:
            return await self._read_inflated(self._inflater)
        return await self._read_chunks()

    async def _read_chunks(self) -> bytes:
        while not self._chunks:
            if self._problem is not None:
                raise self._problem
            if self.is_complete:
                return b""
            await self._wait()
        self._previous_waiting_since, self._waiting_since = self._waiting_since, None
        chunks, self._chunks = self._chunks, []
        if self._unread_bytes > _MAX_UNREAD_BYTES and not self.is_complete and self._problem is None:
            self._set_reading(True)
        self._unread_bytes = 0
        return chunks[0] if len(chunks) == 1 else b"".join(chunks)

    async def _read_inflated(self, inflater: Inflater) -> bytes:
        """One step of what the body stands for. Others get a turn before each: thousands may follow one another."""
        while True:
            if not inflater.has_more:
                data = await self._read_chunks()
                if not data:
                    return b""
                inflater.add(data)
            await asyncio.sleep(0)
            try:
                made = inflater.step()
            except InvalidCompression as refusal:
                problem = InvalidResponse(str(refusal))
                self.fail(problem)
                raise problem from None
            if made:
                return made

    def ignore_last_chunk(self) -> None:
        """What was read last is no content: the provider counts as silent since before it."""
        self._waiting_since = self._previous_waiting_since

    @property
    def has_ended(self) -> bool:
        """Whether everything was read."""
        return self.is_complete and not self._chunks and not (self._inflater is not None and self._inflater.has_more)

    def close(self) -> None:
        """Abort the connection unless the whole response has arrived: an unread one must stop costing."""
        if not self.is_complete and self._problem is None:
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
        """Every header as it was sent, repeated ones included."""
        return [(name.decode("latin-1"), value.decode("latin-1")) for name, value in self.raw_headers]

    async def _wait(self) -> None:
        if self._waiting_since is None:
            self._waiting_since = self._loop.time()
        self._waiter = self._loop.create_future()
        try:
            await self._waiter
        finally:
            self._waiter = None

    # ---- called by the connection ----------------------------------------------------------------------------------

    def start(self, status: int, headers: list[tuple[bytes, bytes]]) -> None:
        """Status and headers have arrived. Raises InvalidResponse for a body that is compressed in an unknown way."""
        self.raw_headers = headers
        coding = (self.header("content-encoding") or "identity").strip().lower()
        if coding not in ("identity", ""):
            if coding not in CODINGS:
                raise InvalidResponse("the body is compressed in a way that was not asked for")
            self._inflater = Inflater()
        self.status = status
        self._wake()

    def add(self, data: bytes) -> None:
        """A chunk of the body, compressed as it may be."""
        self._chunks.append(data)
        self._unread_bytes += len(data)
        if self._unread_bytes > _MAX_UNREAD_BYTES:
            self._set_reading(False)
        self._wake()

    def end(self) -> None:
        """The body is complete."""
        self.is_complete = True
        self._finish()

    def fail(self, problem: Exception) -> None:
        """Nothing more will arrive, and why."""
        if self.is_complete or self._problem is not None:
            return
        self._problem = problem
        self._finish()
        self._abort()

    def _finish(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
        if self._silence_timer is not None:
            self._silence_timer.cancel()
        self._wake()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def _check_silence(self) -> None:
        """Seconds in which no reader waited are not the provider's silence."""
        now = self._loop.time()
        since = self._waiting_since if self._waiter is not None and self._waiting_since is not None else now
        if now - since >= self._silence:
            self.fail(TimeoutError("the provider fell silent"))
        else:
            self._silence_timer = self._loop.call_at(since + self._silence, self._check_silence)
