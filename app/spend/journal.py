"""The spend journal: an append-only file per process that outlives the process.

One `write` per event reaches the operating system at once, so `kill -9` loses nothing. A segment is closed, written to
the database, and deleted after the commit. Each process holds a lock on its own segments: a segment that nobody holds
was left by a process that died, and another process of this database takes it over.
"""

from __future__ import annotations

import errno
import fcntl
import os
import uuid
from collections.abc import Iterator, Sequence
from pathlib import Path

# Larger ones add up more, smaller ones are added up while the database still works on the one before.
_MAX_EVENTS = 2500
_CHUNK_BYTES = 64 * 1024


class Segment:
    """One file of events, one JSON document a line, locked by the process that will write it to the database."""

    def __init__(self, path: Path, descriptor: int) -> None:
        self.path = path
        self.events = 0
        self._descriptor = descriptor

    def append(self, line: bytes) -> None:
        """Raises OSError, and leaves the file as it was, when the disk has no room for the whole line."""
        line += b"\n"
        written = os.write(self._descriptor, line)
        if written < len(line):
            # The next event would be appended to the torn one, and both could not be read any more.
            os.ftruncate(self._descriptor, os.fstat(self._descriptor).st_size - written)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        self.events += 1

    def lines(self) -> list[bytes]:
        return [line for line in self.path.read_bytes().split(b"\n") if line]

    def chunks(self) -> Iterator[list[bytes]]:
        """The lines, a few hundred at a time, so that calls can get their turn while a long segment is read."""
        with self.path.open("rb") as file:
            while lines := file.readlines(_CHUNK_BYTES):
                yield [line for line in lines if line != b"\n"]

    def discard(self) -> None:
        """The events are in the database: delete the file, then let go of it."""
        self.path.unlink(missing_ok=True)
        os.close(self._descriptor)

    def set_aside(self, lines: Sequence[bytes]) -> Path:
        """Replace the file by one that holds what the database refuses, for a person to look at."""
        target = self.path.with_suffix(".rejected")
        descriptor = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.writelines(line + b"\n" for line in lines)
        self.discard()
        return target

    def release(self) -> None:
        """Let go of the file and leave it for whoever starts next."""
        os.close(self._descriptor)


class Journal:
    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._open: Segment | None = None
        self._closed: list[Segment] = []

    @property
    def waiting(self) -> int:
        """Events that are not in the database yet."""
        return sum(segment.events for segment in self._closed) + (self._open.events if self._open else 0)

    def append(self, line: bytes) -> None:
        """Make one event durable. Never waits for the database."""
        if self._open is None:
            self._open = self._create()
        self._open.append(line)
        if self._open.events >= _MAX_EVENTS:
            self._close_open()

    def left_over(self) -> list[Segment]:
        """Segments that were closed before and still wait for the database, oldest first."""
        return list(self._closed)

    def closed(self) -> list[Segment]:
        """Close what is being written and return every segment that is ready for the database, oldest first."""
        self._close_open()
        return list(self._closed)

    def finished(self, segment: Segment) -> None:
        """Forget a segment that was discarded or set aside."""
        self._closed.remove(segment)

    def adopt_orphans(self) -> int:
        """Take over the segments of processes that are gone; returns how many events they hold."""
        self._directory.mkdir(parents=True, exist_ok=True)
        adopted = 0
        own = {segment.path for segment in self._closed}
        for path in sorted(self._directory.glob("*.jsonl"), key=lambda item: item.name):
            if path in own or (self._open is not None and path == self._open.path):
                continue
            segment = _locked(path, os.O_RDWR | os.O_APPEND)
            if segment is not None:
                segment.events = path.read_bytes().count(b"\n")
                adopted += segment.events
                self._closed.append(segment)
        return adopted

    def release(self) -> None:
        """Let go of all files; what they hold is replayed by another process."""
        self._close_open()
        for segment in self._closed:
            segment.release()
        self._closed.clear()

    def _create(self) -> Segment:
        self._directory.mkdir(parents=True, exist_ok=True)
        while True:
            # A random name: process ids return after a restart, in containers nearly always.
            path = self._directory / f"{uuid.uuid4().hex}.jsonl"
            segment = _locked(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_EXCL)
            if segment is not None:
                return segment
            # Another process that looks for orphans took it in the moment before the lock, empty: leave it that one.

    def _close_open(self) -> None:
        if self._open is not None:
            self._closed.append(self._open)
            self._open = None


def _locked(path: Path, flags: int) -> Segment | None:
    """Open and lock a segment, or None when another process holds it or has just finished it."""
    try:
        descriptor = os.open(path, flags, 0o600)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    if not path.exists():
        os.close(descriptor)
        return None
    return Segment(path, descriptor)
