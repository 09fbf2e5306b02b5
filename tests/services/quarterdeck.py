"""Quarterdeck as its users run it: a separate process on a port of this machine."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from tests.services.command import REPOSITORY
from tests.services.ports import free_port
from tests.services.run_directory import RunDirectory
from tests.services.templates import copy_migrated_sqlite
from tests.services.waiting import answers, wait_while_alive

_STOP_SECONDS = 60.0
_ENDING = {signal.SIGTERM, signal.SIGINT, signal.SIGKILL}


class QuarterdeckProcess:
    """One instance: `python -m app.cli serve --config … --port …`, in a process group of its own.

    `restart` keeps port, configuration and environment, so the instance finds its data again and callers its URL.
    """

    def __init__(
        self,
        run: RunDirectory,
        directory: Path,
        config: Path,
        *,
        environment: Mapping[str, str],
        arguments: Sequence[str] = (),
        port: int | None = None,
    ) -> None:
        self.port = port or free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.master_key = environment.get("LITELLM_MASTER_KEY", "")
        self._run = run
        self._directory = directory
        self._command = [
            sys.executable,
            "-m",
            "app.cli",
            "serve",
            "--config",
            str(config),
            "--port",
            str(self.port),
            *arguments,
        ]
        self._environment = {**os.environ, "PYTHONPATH": str(REPOSITORY), **environment}
        self._log = directory / "quarterdeck.log"
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        if self._process is None:
            raise RuntimeError("the instance was not started")
        return self._process.pid

    @property
    def is_running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def start(self, *, wait: bool = True) -> None:
        """Start it and, unless `wait` is off, come back when it is alive. RuntimeError with its log when it is not."""
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                self._command,
                cwd=self._directory,
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self._run.note_process(self.pid)
        if wait:
            self.wait_until_alive()

    def kill(self, number: signal.Signals = signal.SIGKILL) -> None:
        """Send a signal to the instance and all its processes; when it is one that ends it, wait for the end."""
        os.killpg(self.pid, number)
        if number in _ENDING:
            self.wait()

    def wait(self, seconds: float = _STOP_SECONDS) -> int:
        """Wait for its end; answers the exit status, negative for a signal."""
        if self._process is None:
            raise RuntimeError("the instance was not started")
        status = self._process.wait(timeout=seconds)
        self._run.forget_process(self.pid)
        return status

    def restart(self, number: signal.Signals = signal.SIGTERM) -> None:
        if self.is_running:
            self.kill(number)
        self.start()

    def close(self) -> None:
        """End it whatever state it is in, stopped (SIGSTOP) included, and with it what it started and left behind."""
        if self._process is None:
            return
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        self.wait()

    def log_text(self) -> str:
        """All that it has printed, over all its starts."""
        return self._log.read_text(errors="replace") if self._log.exists() else ""

    def wait_until_alive(self) -> None:
        """Come back when it answers. RuntimeError with its log when it ended, as `wait_until`."""
        self.wait_until(lambda: answers(f"{self.url}/health/liveliness"), "Quarterdeck is alive")

    def wait_until(self, reached: Callable[[], bool], what: str) -> None:
        """Come back when that is so, as long as the instance lives. RuntimeError with its log when it ended."""
        wait_while_alive(reached, is_alive=lambda: self.is_running, log=self.log_text, what=what)


class QuarterdeckFactory:
    """Starts instances below `directory`, each in a directory of its own, and ends them all on `close`."""

    def __init__(self, run: RunDirectory, directory: Path, master_key: str) -> None:
        self._run = run
        self._directory = directory
        self._master_key = master_key
        self._started: list[QuarterdeckProcess] = []

    def __call__(
        self,
        config: Mapping[str, Any] | Path | None = None,
        *,
        database_url: str | None = None,
        env: Mapping[str, str] | None = None,
        arguments: Sequence[str] = (),
        port: int | None = None,
        wait: bool = True,
    ) -> QuarterdeckProcess:
        """Start an instance; it is alive when this comes back, unless `wait` is off.

        `config` is the configuration file as a mapping, or the path of one. Without `database_url` its database is a
        SQLite file of its own that has all tables, which to make would hold the start up for two seconds; a test of
        such a start gives a URL. `env` adds to the environment, `arguments` to the command line.
        """
        directory = self._directory / f"instance-{len(self._started)}"
        directory.mkdir()
        file = config if isinstance(config, Path) else directory / "config.yaml"
        if not isinstance(config, Path):
            file.write_text(yaml.safe_dump(dict(config or {})))
        if database_url is None:
            copy_migrated_sqlite(self._run, directory / "quarterdeck.db")
        environment = {
            "LITELLM_MASTER_KEY": self._master_key,
            "DATABASE_URL": database_url or f"sqlite:///{directory}/quarterdeck.db",
            "QUARTERDECK_STATE_DIR": str(directory / "state"),
            **(env or {}),
        }
        process = QuarterdeckProcess(
            self._run, directory, file, environment=environment, arguments=arguments, port=port
        )
        self._started.append(process)
        process.start(wait=wait)
        return process

    def close(self) -> None:
        for process in self._started:
            process.close()
