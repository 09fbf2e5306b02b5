"""A child process: healthy or a tail of its log, its end in words, and nothing left behind."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from pathlib import Path

import pytest

from app.server.demo.child import Child, describe
from app.server.demo.instances import Instance
from app.server.demo.state import DemoError
from tests.services.ports import free_port

SERVE = """
import http.server, sys
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200); self.end_headers()
http.server.HTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
"""
STUBBORN = """
import signal, subprocess, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
grandchild = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
print(grandchild.pid, flush=True)
time.sleep(60)
"""


def child_of(tmp_path: Path, program: str) -> Child:
    port = free_port()
    command = (sys.executable, "-u", "-c", program, str(port))
    return Child(Instance("worker-a", port, command, dict(os.environ), tmp_path / "log", "/"))


async def test_starts_and_stops(tmp_path: Path) -> None:
    child = child_of(tmp_path, SERVE)
    await child.start()
    await child.healthy()
    assert os.getsid(child.pid) == child.pid  # Ctrl-C in the terminal does not reach it
    await child.stop()
    assert await child.ended() == "killed by SIGTERM"
    assert (tmp_path / "log").stat().st_mode & 0o777 == 0o600


async def test_end_at_the_start_shows_the_tail_of_the_log(tmp_path: Path) -> None:
    child = child_of(tmp_path, "print('\\n'.join(f'line {n}' for n in range(100))); raise SystemExit(3)")
    await child.start()
    with pytest.raises(DemoError, match=r"worker-a ended at once \(exit code 3\)") as problem:
        await child.healthy()
    assert "line 99" in str(problem.value) and "line 79" not in str(problem.value)


async def test_kill_takes_grandchildren_along(tmp_path: Path) -> None:
    child = child_of(tmp_path, STUBBORN)
    child.seconds_to_stop = 0.3
    await child.start()
    async with asyncio.timeout(10):
        while not (text := (tmp_path / "log").read_text()).endswith("\n"):
            await asyncio.sleep(0.02)
    await child.stop()
    assert await child.ended() == "killed by SIGKILL"
    async with asyncio.timeout(5):
        while is_running(int(text)):
            await asyncio.sleep(0.02)


async def test_stopping_what_never_started(tmp_path: Path) -> None:
    await child_of(tmp_path, SERVE).stop()


def test_ends_in_words() -> None:
    assert describe(0) == "exit code 0"
    assert describe(-signal.SIGKILL) == "killed by SIGKILL"
    assert describe(-63) == "killed by signal 63"


def is_running(pid: int) -> bool:
    """False also for a zombie that its new parent has not collected yet."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False
