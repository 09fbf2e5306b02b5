"""What the demo keeps under `.quarterdeck/` between two starts: secrets made once, and one lock against a second demo.

Files with secrets are written with mode 600 and appear whole or not at all.
"""

from __future__ import annotations

import fcntl
import json
import os
import secrets
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path

USERNAME = "admin"


class DemoError(Exception):
    """The demo cannot start or go on; the message says what to do about it."""


@dataclass(frozen=True)
class Credentials:
    """Secrets of one instance; `virtual_key` is the one that the printed call uses, made at the first start."""

    master_key: str
    password: str
    virtual_key: str | None = None


class CredentialStore:
    """`credentials.json`: the secrets of every instance by its name. Raises DemoError for a file that is not ours."""

    def __init__(self, path: Path, names: Iterable[str]) -> None:
        """Reads the file, makes what is missing, and writes it again only if something was."""
        self._path = path
        self._known = self._read()
        missing = [name for name in names if name not in self._known]
        for name in missing:
            self._known[name] = Credentials(f"sk-{secrets.token_hex(24)}", secrets.token_hex(10))
        if missing:
            self._write()

    def __getitem__(self, name: str) -> Credentials:
        return self._known[name]

    def remember_virtual_key(self, name: str, virtual_key: str) -> None:
        self._known[name] = replace(self._known[name], virtual_key=virtual_key)
        self._write()

    def _read(self) -> dict[str, Credentials]:
        try:
            rows = json.loads(self._path.read_text())
            return {name: Credentials(**row) for name, row in rows.items()}
        except FileNotFoundError:
            return {}
        except (ValueError, TypeError, AttributeError):
            raise DemoError(f"{self._path} is damaged; remove {self._path.parent} to start from nothing") from None

    def _write(self) -> None:
        rows = {name: asdict(credentials) for name, credentials in self._known.items()}
        write_private(self._path, json.dumps(rows, indent=2) + "\n")


def write_private(path: Path, text: str) -> None:
    """Replaces the file in one step; nobody but the owner can read it, at any moment."""
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    draft.unlink(missing_ok=True)
    with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)


@contextmanager
def only_demo_in(directory: Path) -> Iterator[None]:
    """Holds the directory for this process; the kernel lets go of it however the process ends."""
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    with (directory / "demo.lock").open("a+", encoding="utf-8") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            lock.seek(0)
            pid = lock.read().strip()
            raise DemoError(f"a demo already runs in {directory}; stop it first: kill {pid}") from None
        lock.truncate(0)
        lock.write(str(os.getpid()))
        lock.flush()
        yield
