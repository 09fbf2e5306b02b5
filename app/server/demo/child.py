"""One child process of the demo: start, wait for health, notice its end, stop."""

from __future__ import annotations

import asyncio
import ctypes
import os
import signal
import sys
import time
from contextlib import suppress

import httpx

from app.server.demo.instances import Instance
from app.server.demo.state import DemoError

SECONDS_TO_START = 60.0
SECONDS_TO_STOP = 5.0
SECONDS_BETWEEN_LOOKS = 0.1
TAIL_LINES = 20
TAIL_BYTES = 16 * 1024

_PR_SET_PDEATHSIG = 1
_LIBC = ctypes.CDLL(None)


class Child:
    """Runs one `Instance`. Its own session, so that Ctrl-C reaches the supervisor alone and stopping is orderly."""

    def __init__(self, instance: Instance) -> None:
        self.instance = instance
        self.seconds_to_stop = SECONDS_TO_STOP
        self._process: asyncio.subprocess.Process | None = None

    @property
    def name(self) -> str:
        return self.instance.name

    @property
    def process(self) -> asyncio.subprocess.Process:
        if self._process is None:
            raise RuntimeError(f"{self.name} was not started")
        return self._process

    @property
    def pid(self) -> int:
        return self.process.pid

    async def start(self) -> None:
        log = os.open(self.instance.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        try:
            self._process = await asyncio.create_subprocess_exec(
                *self.instance.command,
                env=dict(self.instance.environment),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                preexec_fn=end_with_parent,
            )
        finally:
            os.close(log)

    async def healthy(self) -> None:
        """Returns once the process answers. Raises DemoError with the tail of its log if it ends or takes too long."""
        deadline = time.monotonic() + SECONDS_TO_START
        async with httpx.AsyncClient(trust_env=False, timeout=2) as client:
            while self.process.returncode is None and time.monotonic() < deadline:
                with suppress(httpx.TransportError):
                    answer = await client.get(self.instance.url + self.instance.health_path)
                    if answer.status_code == 200:
                        return
                await asyncio.sleep(SECONDS_BETWEEN_LOOKS)
        code = self.process.returncode
        what = f"is not ready after {SECONDS_TO_START:.0f} s" if code is None else f"ended at once ({describe(code)})"
        raise DemoError(f"{self.name} {what}; the end of {self.instance.log}:\n{self.log_tail()}")

    async def ended(self) -> str:
        """Waits for the end and says how it came; takes whatever the process left behind with it."""
        code = await self.process.wait()
        self._signal_group(signal.SIGKILL)
        return describe(code)

    async def stop(self) -> None:
        """TERM, a few seconds, then KILL."""
        if self._process is None:
            return
        if self._process.returncode is None:
            with suppress(ProcessLookupError):
                self._process.terminate()
            with suppress(TimeoutError):
                await asyncio.wait_for(self._process.wait(), self.seconds_to_stop)
        self._signal_group(signal.SIGKILL)
        await self._process.wait()

    def log_tail(self) -> str:
        with self.instance.log.open("rb") as log:
            log.seek(0, os.SEEK_END)
            log.seek(max(0, log.tell() - TAIL_BYTES))
            lines = log.read().decode("utf-8", "replace").splitlines()
        return "\n".join(f"  {line}" for line in lines[-TAIL_LINES:])

    def _signal_group(self, number: signal.Signals) -> None:
        with suppress(ProcessLookupError, PermissionError):  # macOS says so of a group of zombies
            os.killpg(self.pid, number)


def end_with_parent() -> None:
    """Runs in the new process: Linux sends it TERM when the supervisor dies, even by KILL, so no port stays taken."""
    if sys.platform == "linux":
        _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)


def describe(code: int) -> str:
    """A return code in words: `exit code 1`, `killed by SIGKILL`."""
    if code >= 0:
        return f"exit code {code}"
    try:
        return f"killed by {signal.Signals(-code).name}"
    except ValueError:
        return f"killed by signal {-code}"
