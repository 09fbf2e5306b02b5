"""Files of this instance are for its own user: prompts, spend and hashes of keys are in them."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import structlog

log = structlog.get_logger(__name__)

_PRIVATE_FOLDER, _PRIVATE_FILE, _PRIVATE_UMASK = 0o700, 0o600, 0o077
# What an instance, or a demo, puts into its state directory.
_OWN_NAMES = ("journal", "metrics", "health-checks-*", "quarterdeck.db*")


def keep_state_private(state_dir: Path) -> None:
    """Make the state directory 0700, what is in it 0600, and so what this process and its children write from now on.

    A directory that also holds files of others stays as it is, with a warning: it may be one that they need.
    """
    os.umask(_PRIVATE_UMASK)
    state_dir.mkdir(parents=True, exist_ok=True)
    own = {path for name in _OWN_NAMES for path in state_dir.glob(name)}
    for path in own:
        make_private(path)
        for inner in _below(path):
            make_private(inner)
    if _is_default(state_dir) or set(state_dir.iterdir()) <= own:
        make_private(state_dir)
    if stat.S_IMODE(state_dir.stat().st_mode) & _PRIVATE_UMASK:
        log.warning("state directory open to other users", path=str(state_dir))


def make_private(path: Path) -> None:
    """Take the rights of everyone but the owner away, if the file is there and ours to change."""
    with suppress(FileNotFoundError, PermissionError):
        mode = path.stat(follow_symlinks=False).st_mode
        if not stat.S_ISLNK(mode) and stat.S_IMODE(mode) & _PRIVATE_UMASK:
            path.chmod(_PRIVATE_FOLDER if stat.S_ISDIR(mode) else _PRIVATE_FILE)


def create_private(path: Path) -> None:
    """An empty file for its owner only, in a folder that is private if it has to be made, too. Raises OSError.

    Does nothing to a folder of this name: whoever opens it as a file says what is wrong.
    """
    path.parent.mkdir(mode=_PRIVATE_FOLDER, parents=True, exist_ok=True)
    if path.is_dir():
        return
    os.close(os.open(path, os.O_RDWR | os.O_CREAT, _PRIVATE_FILE))
    make_private(path)


def _is_default(state_dir: Path) -> bool:
    return state_dir.name == ".quarterdeck"


def _below(path: Path) -> Iterator[Path]:
    if path.is_dir() and not path.is_symlink():
        yield from path.rglob("*")
