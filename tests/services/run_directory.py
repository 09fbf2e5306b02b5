"""The directory of one test run: what its processes share, and the list of what must be stopped at its end.

The process that the developer started (pytest, or the controller of pytest-xdist) makes the directory, and a reaper
beside itself; its workers get the path. Whoever starts a server notes its process id there. The reaper waits on a pipe
that only the first process holds: when that ends in whatever way, `kill -9` included, the pipe closes, and the reaper
stops all that is noted and removes the directory.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_STOP_SECONDS = 5.0


class RunDirectory:
    """What the processes of one run share. `path` is readable by other system users: PostgreSQL may run as one."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._processes = path / "processes"

    @contextmanager
    def locked(self, name: str) -> Iterator[None]:
        """Only one process of the run is inside at a time, for this name."""
        with (self.path / f"{name}.lock").open("w") as handle:
            fcntl.flock(handle, fcntl.LOCK_EX)
            yield

    def note_process(self, pid: int) -> None:
        """Have process `pid`, the leader of its own group, stopped at the end of the run."""
        (self._processes / str(pid)).touch()

    def forget_process(self, pid: int) -> None:
        (self._processes / str(pid)).unlink(missing_ok=True)

    def stop_all(self) -> None:
        pids = [int(note.name) for note in self._processes.iterdir()]
        for pid in pids:
            _signal_group(pid, signal.SIGINT)  # to PostgreSQL: roll back and stop now
        deadline = time.monotonic() + _STOP_SECONDS
        while any(map(is_running, pids)) and time.monotonic() < deadline:
            time.sleep(0.02)
        for pid in pids:
            _signal_group(pid, signal.SIGKILL)


class Reaper:
    """The owner of a run directory; `close` ends the run, and so does the end of this process."""

    def __init__(self) -> None:
        path = Path(tempfile.mkdtemp(prefix="quarterdeck-tests-"))
        path.chmod(0o711)
        (path / "processes").mkdir()
        self.directory = RunDirectory(path)
        self._process = subprocess.Popen(
            [sys.executable, __file__, str(path)], stdin=subprocess.PIPE, start_new_session=True
        )

    def close(self) -> None:
        self._process.communicate()


def is_running(pid: int) -> bool:
    """Whether the process is there and not just waiting for its parent to notice its end."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:  # it ended just now, or this system has no /proc
        return not Path("/proc/self").exists()
    return state != "Z"


def _signal_group(pid: int, number: signal.Signals) -> None:
    try:
        os.killpg(pid, number)
    except ProcessLookupError:
        return


def _wait_and_reap(path: Path) -> None:
    sys.stdin.buffer.read()
    RunDirectory(path).stop_all()
    shutil.rmtree(path, ignore_errors=True)


if __name__ == "__main__":
    _wait_and_reap(Path(sys.argv[1]))
