"""Server-sent events: bytes in whatever pieces the network brings, data payloads out."""

from __future__ import annotations

# One event larger than this is not a token stream any more; holding it would let an upstream fill our memory.
_MAX_EVENT_BYTES = 16 * 1024 * 1024


class EventTooLarge(Exception):
    """An upstream sent one event of more than 16 MiB."""


class SSEDecoder:
    """Feed it chunks; it returns the `data` of every event that is complete. Comments and other fields are skipped."""

    __slots__ = ("_buffer", "_ended_in_return")

    def __init__(self) -> None:
        self._buffer = b""
        self._ended_in_return = False

    def feed(self, chunk: bytes) -> list[bytes]:
        if self._ended_in_return and chunk:
            # The line end was counted at its carriage return, so that no event waits for the other half.
            chunk = chunk.removeprefix(b"\n")
            self._ended_in_return = False
        if b"\r" in chunk:
            self._ended_in_return = chunk.endswith(b"\r")
            chunk = chunk.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        buffer = self._buffer + chunk if self._buffer else chunk
        *events, rest = buffer.split(b"\n\n")
        if len(rest) > _MAX_EVENT_BYTES:
            raise EventTooLarge
        self._buffer = rest
        return [data for event in events if (data := _data_of(event)) is not None]

    @property
    def has_partial_event(self) -> bool:
        """Whether the bytes end in the middle of an event."""
        return bool(self._buffer.strip())


def _data_of(event: bytes) -> bytes | None:
    if event.startswith(b"data: ") and b"\n" not in event:
        return event[6:]
    lines = [line[5:].removeprefix(b" ") for line in event.split(b"\n") if line.startswith(b"data:")]
    return b"\n".join(lines) if lines else None
