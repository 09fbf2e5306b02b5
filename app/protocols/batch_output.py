"""Output files of batches: one answer a line (JSONL), of which only the model and the counts are read. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import msgspec

from .json_fields import BROKEN_JSON

# A line that is longer is not looked at: an answer to a thousand embeddings is shorter.
_MAX_LINE = 32 * 1024 * 1024


class _Body(msgspec.Struct):
    model: str | None = None
    usage: dict[str, Any] | None = None


class _Response(msgspec.Struct):
    body: _Body | str | None = None


class _Line(msgspec.Struct):
    response: _Response | None = None
    error: Any = None


_decode = msgspec.json.Decoder(_Line).decode


@dataclass(frozen=True, slots=True)
class Counted:
    """What one answer says of itself: the model that gave it, and its `usage` object in the provider's words."""

    model: str
    counts: dict[str, Any]


class BatchOutput:
    """Takes a file in pieces of any size. `failed`: lines of calls without usage; `unreadable`: lines that are none."""

    def __init__(self, longest_line: int = _MAX_LINE) -> None:
        self._longest = longest_line
        self._parts: list[bytes] = []
        self._held = 0
        self._is_too_long = False
        self.failed = 0
        self.unreadable = 0

    def feed(self, piece: bytes) -> Iterator[Counted]:
        """The answers that are complete with this piece. Use it up before the next one."""
        *ends, rest = piece.split(b"\n")
        for end in ends:
            self._hold(end)
            yield from self._ended()
        self._hold(rest)

    def finish(self) -> Iterator[Counted]:
        """The last line, which may have no end."""
        yield from self._ended()

    def _hold(self, part: bytes) -> None:
        self._held += len(part)
        if self._held > self._longest:
            self._is_too_long = True
            self._parts.clear()
        elif part:
            self._parts.append(part)

    def _ended(self) -> Iterator[Counted]:
        line, is_too_long = b"".join(self._parts), self._is_too_long
        self._parts.clear()
        self._held, self._is_too_long = 0, False
        if is_too_long:
            self.unreadable += 1
        elif line.strip():
            yield from self._read(line)

    def _read(self, line: bytes) -> Iterator[Counted]:
        try:
            line_value = _decode(line)
        except BROKEN_JSON:
            self.unreadable += 1
            return
        if line_value.response is None and line_value.error is None:
            self.unreadable += 1
            return
        body = line_value.response.body if line_value.response is not None else None
        if isinstance(body, _Body) and body.usage:
            yield Counted(body.model or "", body.usage)
        else:
            self.failed += 1
