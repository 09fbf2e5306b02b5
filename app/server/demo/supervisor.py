"""Starts the processes of the demo, waits until all answer, says where they are, and stops them at the end.

A process is waited for as long as it lives, since nobody knows how slow a machine is; what is waited for is said.
A process that dies is reported and the others go on. It is not started again by itself, since watching the console cope
with a dead worker is a part of the demo; `kill -USR1` with the supervisor's pid starts whatever is down.
"""

from __future__ import annotations

import asyncio
import json
import os
import secrets
import signal
import sys
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx

from app.server.demo.announcement import announcement, demo_document
from app.server.demo.child import Child
from app.server.demo.instances import WORKERS, Instance, plan_instances
from app.server.demo.state import CredentialStore, DemoError, only_demo_in, write_private

STATE_DIRECTORY = Path(".quarterdeck")


def run_demo(
    base_port: int,
    environ: Mapping[str, str],
    directory: Path = STATE_DIRECTORY,
    *,
    start_timeout: float | None = None,
) -> int:
    """Runs until SIGINT, SIGTERM or SIGHUP; the exit code is 0 then, and 1 if the demo could not start.

    `environ` is the process environment; the children get a copy without settings meant for another instance.
    `start_timeout`: seconds that each may take until it answers; None: as long as it lives.
    """
    try:
        with only_demo_in(directory):
            (directory / "demo.json").unlink(missing_ok=True)
            instances, store = plan_instances(base_port, directory, environ)
            asyncio.run(Demo(instances, store, directory, start_timeout).run())
    except DemoError as problem:
        print(f"quarterdeck demo: {problem}", file=sys.stderr, flush=True)
        return 1
    return 0


class Demo:
    """The running demo: its children, in the order in which they were started."""

    def __init__(
        self, instances: list[Instance], store: CredentialStore, directory: Path, start_timeout: float | None = None
    ) -> None:
        self._children = [Child(instance, start_timeout=start_timeout, say=say) for instance in instances]
        self._store = store
        self._directory = directory
        self._stop = asyncio.Event()
        self._revive = asyncio.Event()

    async def run(self) -> None:
        """Raises DemoError if the start fails; all children have ended when it returns, either way."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN:  # nohup means what it says
                loop.add_signal_handler(number, self._stop.set)
        loop.add_signal_handler(signal.SIGUSR1, self._wake_watchers)
        life = asyncio.create_task(self._live())
        interrupted = asyncio.create_task(self._stop.wait())
        try:
            await asyncio.wait({life, interrupted}, return_when=asyncio.FIRST_COMPLETED)
            if life.done():
                life.result()  # it ends by itself only with an error
        finally:
            for task in (life, interrupted):
                task.cancel()
            await asyncio.gather(life, interrupted, return_exceptions=True)
            (self._directory / "demo.json").unlink(missing_ok=True)
            await asyncio.gather(*(child.stop() for child in self._children))
        say("Demo stopped.")

    async def _live(self) -> None:
        say("Starting the demo ...")
        for child in self._children:
            await child.start()
        await self._all_healthy()
        worker = next(child for child in self._children if child.name == WORKERS[0].worker_id)
        try:
            virtual_key = await worker.outlast(self._virtual_key(worker.instance), lambda: "it was asked for a key")
        except httpx.HTTPError as problem:
            raise DemoError(f"{worker.name} did not answer when asked for a key: {problem!r}") from problem
        document = self._write_document()
        say(announcement(document, virtual_key, str(self._directory)))
        await asyncio.gather(*(self._watch(child) for child in self._children))

    async def _all_healthy(self) -> None:
        """Raises DemoError for the first that fails or ends; the others are not waited for any more."""
        waits = {asyncio.create_task(child.healthy()) for child in self._children}
        ends = {asyncio.create_task(child.must_live()) for child in self._children}
        tasks = waits | ends
        try:
            while waits:
                done, _ = await asyncio.wait(waits | ends, return_when=asyncio.FIRST_COMPLETED)
                for task in done:
                    task.result()
                waits -= done
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    def _write_document(self) -> dict[str, Any]:
        """`demo.json` with the present pids."""
        instances = {child.name: child.instance for child in self._children}
        document = demo_document(instances, {child.name: child.pid for child in self._children})
        write_private(self._directory / "demo.json", json.dumps(document, indent=2) + "\n")
        return document

    async def _watch(self, child: Child) -> None:
        """Reports each end of the child, and starts it again when asked to."""
        while True:
            how = await child.ended()
            say(f"{child.name} is down: {how}. The others go on. Start it again: kill -USR1 {os.getpid()}")
            await self._revive.wait()
            await child.start()
            try:
                await child.healthy()
            except DemoError as problem:
                say(str(problem))
                await child.stop()
                continue
            self._write_document()
            say(f"{child.name} is back at {child.instance.url}, pid {child.pid}.")

    def _wake_watchers(self) -> None:
        self._revive.set()
        self._revive.clear()

    async def _virtual_key(self, worker: Instance) -> str:
        """The key of the printed call, on this worker: an earlier one if it still works, else a new one."""
        credentials = self._store[worker.name]
        # Whoever waits for this looks after the process.
        async with httpx.AsyncClient(trust_env=False, timeout=None, base_url=worker.url) as client:  # noqa: S113
            if credentials.virtual_key is not None:
                answer = await client.get("/v1/models", headers=bearer(credentials.virtual_key))
                if answer.status_code == 200:
                    return credentials.virtual_key
            wish = {"key_alias": f"demo-{secrets.token_hex(3)}"}
            answer = await client.post("/key/generate", json=wish, headers=bearer(credentials.master_key))
        if answer.status_code != 200:
            raise DemoError(f"{worker.name} could not create a key: {answer.status_code} {answer.text}")
        virtual_key = str(answer.json()["key"])
        self._store.remember_virtual_key(worker.name, virtual_key)
        return virtual_key


def bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


def say(text: str) -> None:
    with suppress(BrokenPipeError):  # nobody reads on: no reason for the workers to end
        print(text, flush=True)
