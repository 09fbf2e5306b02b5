"""Totals of the processes of one instance, shared by files: whichever is scraped shows the sum of all.

Each process writes its totals to a file of its own once a second and holds a lock beside it. A lock that nobody holds
belongs to a process that died: another one takes its counts over, so that no counter ever falls.
"""

from __future__ import annotations

import fcntl
import os
import uuid
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path

import msgspec
import structlog

from ...settings import Settings
from .counts import Totals

log = structlog.get_logger(__name__)

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Totals).decode


class TotalsFiles:
    """The files of one instance: of all processes that serve one database on one port from one state directory."""

    def __init__(self, settings: Settings) -> None:
        name = sha256(f"{settings.database_url} {settings.host} {settings.port}".encode()).hexdigest()[:16]
        self._directory = settings.state_dir / "metrics" / name
        self._id = uuid.uuid4().hex
        self._descriptor: int | None = None

    def clear(self) -> None:
        """Forget what processes of an earlier run counted: counters begin anew with an instance."""
        for path, descriptor in self._dead():
            _remove(path, descriptor)

    def open(self) -> None:
        """Begin to share, unless that was done. Raises OSError when the state directory cannot be written."""
        if self._descriptor is not None:
            return
        self._directory.mkdir(parents=True, exist_ok=True)
        # Locked before anybody can find it under its name, and so never taken for a dead one's.
        hidden = self._directory / f".{self._id}"
        descriptor = os.open(hidden, os.O_RDWR | os.O_CREAT, 0o600)
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        hidden.rename(self._directory / f"{self._id}.lock")
        self._descriptor = descriptor

    def publish(self, totals: Totals) -> None:
        """Let the other processes see these totals. Raises OSError."""
        hidden = self._directory / f".{self._id}.new"
        hidden.write_bytes(_encode(totals))
        hidden.rename(self._data(self._id))

    def adopt(self, totals: Totals) -> None:
        """Take over what dead processes counted, and publish it at once. Raises OSError."""
        for path, descriptor in self._dead():
            found = self._read(path.stem)
            _remove(path, descriptor)
            if found is not None:
                totals.add(found.without_state())
                self.publish(totals)

    def others(self) -> Iterator[Totals]:
        """What the other processes published last."""
        for path in self._directory.glob("*.totals"):
            found = self._read(path.stem) if path.stem != self._id else None
            if found is not None:
                yield found

    def close(self, totals: Totals) -> None:
        """Leave the totals to the processes that go on."""
        if self._descriptor is not None:
            self.publish(totals.without_state())
            os.close(self._descriptor)
            self._descriptor = None

    def _data(self, id: str) -> Path:
        return self._directory / f"{id}.totals"

    def _read(self, id: str) -> Totals | None:
        try:
            return _decode(self._data(id).read_bytes())
        except FileNotFoundError:
            return None
        except (OSError, msgspec.MsgspecError) as problem:
            # A process of another version, while an instance is being replaced.
            log.warning("totals of another process cannot be read", reason=type(problem).__name__)
            return None

    def _dead(self) -> Iterator[tuple[Path, int]]:
        """Lock files of processes that are gone, each locked by us now: the descriptor is the receiver's to close."""
        for path in self._directory.glob("*.lock"):
            if path.stem == self._id:
                continue
            try:
                descriptor = os.open(path, os.O_RDWR)
            except FileNotFoundError:
                continue
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                os.close(descriptor)
                continue
            yield path, descriptor


def _remove(path: Path, descriptor: int) -> None:
    path.with_suffix(".totals").unlink(missing_ok=True)
    path.unlink(missing_ok=True)
    os.close(descriptor)
