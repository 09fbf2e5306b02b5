"""One child process of the demo: start, wait for health as long as it lives, notice its end, stop."""

from __future__ import annotations

import asyncio
import ctypes
import os
import signal
import sys
import time
from collections.abc import Callable, Coroutine, Iterator
from contextlib import suppress
from typing import Any, NoReturn, TypeVar

import httpx

from app.server.demo.instances import Instance
from app.server.demo.state import DemoError

SECONDS_TO_STOP = 5.0
SECONDS_BETWEEN_LOOKS = 0.1
SECONDS_TO_ANSWER = 30.0
SECONDS_OF_AN_OPEN_QUESTION = 1.0
SECONDS_TO_FIRST_REPORT = 5.0
SECONDS_BETWEEN_REPORTS = 60.0
LONGEST_LINE = 160
TAIL_LINES = 20
TAIL_BYTES = 16 * 1024

_PR_SET_PDEATHSIG = 1
_LIBC = ctypes.CDLL(None)

_Result = TypeVar("_Result")


class Child:
    """Runs one `Instance`. Its own session, so that Ctrl-C reaches the supervisor alone and stopping is orderly.

    `start_timeout`: seconds that it may take until it answers; None: as long as it lives. `say` is told of long waits.
    """

    def __init__(
        self, instance: Instance, *, start_timeout: float | None = None, say: Callable[[str], None] = print
    ) -> None:
        self.instance = instance
        self.seconds_to_stop = SECONDS_TO_STOP
        self.seconds_to_first_report = SECONDS_TO_FIRST_REPORT
        self._start_timeout = start_timeout
        self._say = say
        self._known, self._asked_at = "", 0.0
        self._log_begin = 0
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
        self._log_begin = os.fstat(log).st_size  # before it stands what an earlier start wrote
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
        """Returns once the process answers. Raises DemoError with the tail of its log, as `outlast` does."""
        await self.outlast(self._answering(), self._health)

    async def outlast(self, work: Coroutine[Any, Any, _Result], step: Callable[[], str]) -> _Result:
        """The result of `work`, for which it waits as long as the process lives; `step` says in words where it stands.

        Raises DemoError with the tail of the process's log if it ends before, or when its `start_timeout` is over.
        """
        began, limit, pauses = time.monotonic(), self._start_timeout, report_pauses(self.seconds_to_first_report)
        next_report, is_reported = next(pauses), False
        working, ending = asyncio.create_task(work), asyncio.create_task(self.must_live())
        try:
            while not working.done() and not ending.done():
                elapsed = time.monotonic() - began
                if limit is not None and elapsed >= limit:
                    raise self._failed(f"is not ready after {limit:g} s (--start-timeout): {step()}")
                if elapsed >= next_report:
                    self._say(f"Waiting for {self.name}, {elapsed:.0f} s so far: {step()}; {self._last_words()}")
                    next_report, is_reported = elapsed + next(pauses), True
                due = next_report if limit is None else min(next_report, limit)
                await asyncio.wait({working, ending}, timeout=due - elapsed, return_when=asyncio.FIRST_COMPLETED)
            if ending.done() and (not working.done() or working.exception() is not None):
                ending.result()
            if is_reported:
                self._say(f"No longer waiting for {self.name}: that took {time.monotonic() - began:.0f} s.")
            return working.result()
        finally:
            for task in (working, ending):
                task.cancel()
            await asyncio.gather(working, ending, return_exceptions=True)

    async def _answering(self) -> None:
        """Returns once the health path is answered with 200."""
        url = self.instance.url + self.instance.health_path
        async with httpx.AsyncClient(trust_env=False, timeout=SECONDS_TO_ANSWER) as client:
            while True:
                self._asked_at = time.monotonic()
                try:
                    status = (await client.get(url)).status_code
                except httpx.ConnectError:
                    self._known = f"nothing listens at {self.instance.url} yet"
                except httpx.TransportError as problem:
                    self._known = f"{url} does not answer ({type(problem).__name__})"
                else:
                    if status == httpx.codes.OK:
                        return
                    self._known = f"{url} answers {status}"
                await asyncio.sleep(SECONDS_BETWEEN_LOOKS)

    def _health(self) -> str:
        """Where `_answering` stands, in words."""
        asked = time.monotonic() - self._asked_at
        if self._known and asked < SECONDS_OF_AN_OPEN_QUESTION:
            return self._known
        return f"{self.instance.url}{self.instance.health_path} was asked {asked:.0f} s ago and has not answered"

    def _failed(self, how: str) -> DemoError:
        return DemoError(f"{self.name} {how}; the end of {self.instance.log}:\n{self.log_tail()}")

    def _last_words(self) -> str:
        """The last line of its log: the step that it takes, in its own words."""
        lines = [line for line in self._log_lines() if line.strip()]
        return f"its log ends: {lines[-1].strip()[:LONGEST_LINE]}" if lines else "it has logged nothing yet"

    async def must_live(self) -> NoReturn:
        """Raises DemoError with the tail of its log when the process ends, which it is not meant to."""
        code = await self.process.wait()
        raise self._failed(f"ended ({describe(code)})")

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
        lines = self._log_lines() or ["(it has logged nothing)"]
        return "\n".join(f"  {line}" for line in lines[-TAIL_LINES:])

    def _log_lines(self) -> list[str]:
        """The last lines that it logged since its start."""
        with self.instance.log.open("rb") as log:
            end = log.seek(0, os.SEEK_END)
            log.seek(max(self._log_begin, end - TAIL_BYTES))
            return log.read().decode("utf-8", "replace").splitlines()

    def _signal_group(self, number: signal.Signals) -> None:
        with suppress(ProcessLookupError, PermissionError):  # macOS says so of a group of zombies
            os.killpg(self.pid, number)


def report_pauses(first: float) -> Iterator[float]:
    """Seconds before each report of a wait, without end: twice as long each time, up to SECONDS_BETWEEN_REPORTS."""
    while True:
        yield first
        first = min(2 * first, SECONDS_BETWEEN_REPORTS)


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
