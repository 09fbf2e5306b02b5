"""A child process: waited for as long as it lives, healthy or a tail of its log, and nothing left behind."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import sys
from collections.abc import Callable
from itertools import islice
from pathlib import Path

import pytest

from app.server.demo.child import Child, describe, report_pauses
from app.server.demo.instances import Instance
from app.server.demo.state import DemoError
from tests.services.ports import free_port
from tests.services.waiting import HANGS_AFTER_SECONDS

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


# Takes its steps when the file that it is given appears, and says which it takes.
SLOW = """
import http.server, pathlib, sys, time
ready = pathlib.Path(sys.argv[2])
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200 if ready.exists() else 503); self.end_headers()
print("database migration started")
while not ready.with_name("migrated").exists():
    time.sleep(0.01)
print("database migrated")
http.server.HTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
"""
SILENT = """
import socket, sys, time
with socket.create_server(("127.0.0.1", int(sys.argv[1]))):
    time.sleep(600)
"""


def child_of(
    tmp_path: Path, program: str, start_timeout: float | None = None, say: Callable[[str], None] = print
) -> Child:
    port = free_port()
    command = (sys.executable, "-u", "-c", program, str(port), str(tmp_path / "ready"))
    instance = Instance("worker-a", port, command, dict(os.environ), tmp_path / "log", "/health")
    child = Child(instance, start_timeout=start_timeout, say=say)
    child.seconds_to_first_report = 0.1
    return child


async def heard(said: list[str], pattern: str) -> None:
    async with asyncio.timeout(HANGS_AFTER_SECONDS):
        while not any(re.fullmatch(pattern, line) for line in said):
            await asyncio.sleep(0.01)


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
    with pytest.raises(DemoError, match=r"worker-a ended \(exit code 3\)") as problem:
        await child.healthy()
    assert "line 99" in str(problem.value) and "line 79" not in str(problem.value)


async def test_a_slow_start_is_waited_for_and_its_steps_are_said(tmp_path: Path) -> None:
    said: list[str] = []
    child = child_of(tmp_path, SLOW, say=said.append)
    await child.start()
    health = asyncio.create_task(child.healthy())
    try:
        url = re.escape(child.instance.url)
        waiting = r"Waiting for worker-a, \d+ s so far: "
        await heard(said, f"{waiting}nothing listens at {url} yet; its log ends: database migration started")
        (tmp_path / "migrated").touch()
        await heard(said, f"{waiting}{url}/health answers 503; its log ends: .*")
        assert not health.done()
        (tmp_path / "ready").touch()
        async with asyncio.timeout(HANGS_AFTER_SECONDS):
            await health
        assert re.fullmatch(r"No longer waiting for worker-a: that took \d+ s\.", said[-1])
    finally:
        await child.stop()
        await asyncio.gather(health, return_exceptions=True)


def test_reports_become_rarer() -> None:
    assert list(islice(report_pauses(5.0), 6)) == [5, 10, 20, 40, 60, 60]


async def test_a_limit_that_was_set_ends_the_wait(tmp_path: Path) -> None:
    child = child_of(tmp_path, SILENT, start_timeout=0.5)
    (tmp_path / "log").write_text("of an earlier start\n")
    await child.start()
    with pytest.raises(DemoError, match=r"worker-a is not ready after 0\.5 s \(--start-timeout\): ") as problem:
        await child.healthy()
    assert str(problem.value).endswith("/log:\n  (it has logged nothing)")
    assert child.process.returncode is None  # ending it is the business of whoever gives it up
    await child.stop()


async def test_an_end_while_work_is_waited_for_is_reported_at_once(tmp_path: Path) -> None:
    """The work hangs, as a request does that nobody will answer; there is no limit."""
    child = child_of(tmp_path, SILENT)
    await child.start()
    said = asyncio.create_task(child.outlast(asyncio.Event().wait(), lambda: "it was asked for a key"))
    child.process.kill()
    async with asyncio.timeout(HANGS_AFTER_SECONDS):
        with pytest.raises(DemoError, match=r"worker-a ended \(killed by SIGKILL\)"):
            await said
    await child.stop()


async def test_kill_takes_grandchildren_along(tmp_path: Path) -> None:
    child = child_of(tmp_path, STUBBORN)
    child.seconds_to_stop = 0.3
    await child.start()
    async with asyncio.timeout(HANGS_AFTER_SECONDS):
        while not (text := (tmp_path / "log").read_text()).endswith("\n"):
            await asyncio.sleep(0.02)
    await child.stop()
    assert await child.ended() == "killed by SIGKILL"
    async with asyncio.timeout(HANGS_AFTER_SECONDS):
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
