"""Decompression of a provider's body in bounded steps: the limit comes before the memory.

Compression is not asked for, but some providers send it. A kilobyte of it may stand for a megabyte, so nothing is
decompressed before somebody reads, no step makes more than `STEP_BYTES`, and a body that grows as no text does is
refused while it is still small.
"""

from __future__ import annotations

import zlib
from collections import deque

STEP_BYTES = 64 * 1024
# Text and JSON shrink to a tenth or so; one byte repeated, to a thousandth.
MAX_RATIO = 50
# Below this the ratio does not matter.
FREE_BYTES = 1024 * 1024
# 32: zlib detects gzip or zlib by the header.
_WINDOW_BITS = zlib.MAX_WBITS | 32
CODINGS = frozenset(("gzip", "x-gzip", "deflate"))


class InvalidCompression(ValueError):
    """The body is not compressed in the way that its header says, or it is a bomb."""


class Inflater:
    """Takes compressed bytes, gives what they stand for in steps."""

    def __init__(self) -> None:
        self._zlib = zlib.decompressobj(_WINDOW_BITS)
        self._waiting: deque[bytes] = deque()
        self._taken_bytes = 0
        self._made_bytes = 0
        # The last step was cut at its limit: zlib may hold more, without any more input.
        self._is_cut = False

    def add(self, data: bytes) -> None:
        self._waiting.append(data)

    @property
    def has_more(self) -> bool:
        """Whether a step may make something of what was added."""
        return bool(self._waiting) or self._is_cut

    def step(self) -> bytes:
        """At most STEP_BYTES, b"" where the input was not enough for any. Raises InvalidCompression."""
        data = self._waiting.popleft() if self._waiting else b""
        if data and self._zlib.eof:
            raise InvalidCompression("the body goes on after its end")
        try:
            made = self._zlib.decompress(data, STEP_BYTES)
        except zlib.error:
            raise InvalidCompression("the body is not compressed in the way that its header says") from None
        rest = self._zlib.unconsumed_tail or self._zlib.unused_data
        if rest:
            self._waiting.appendleft(rest)
        self._is_cut = len(made) == STEP_BYTES and not self._zlib.eof
        self._taken_bytes += len(data) - len(rest)
        self._made_bytes += len(made)
        if self._made_bytes > FREE_BYTES and self._made_bytes > MAX_RATIO * self._taken_bytes:
            raise InvalidCompression("the body grows beyond any text when it is decompressed")
        return made
