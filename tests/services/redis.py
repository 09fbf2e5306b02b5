"""A private Redis of one test process: it has no neighbours, so tests may flush it and listen on any channel."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

from redis import Redis
from redis.exceptions import ConnectionError as RedisConnectionError

from tests.services.ports import free_port
from tests.services.run_directory import RunDirectory, is_running
from tests.services.waiting import wait_while_alive


def start_redis(run: RunDirectory, port: int | None = None) -> str:
    """Start a server that keeps nothing on disk, and answer its URL. `port`: of one that was killed before."""
    found = shutil.which("redis-server") or shutil.which("valkey-server")
    if found is None:
        raise RuntimeError("redis-server is not on this machine; tests/services/install installs it")
    port = port or free_port()
    log = run.path / f"redis-{port}.log"
    with log.open("w") as output:
        process = subprocess.Popen(
            [found, "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--dir", run.path],
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    run.note_process(process.pid)
    url = f"redis://127.0.0.1:{port}/0"
    _wait_until_ready(process.pid, url, log)
    return url


def _wait_until_ready(pid: int, url: str, log: Path) -> None:
    with Redis.from_url(url) as client:
        wait_while_alive(
            lambda: _answers(client), is_alive=lambda: is_running(pid), log=log.read_text, what="Redis is ready"
        )


def _answers(client: Redis) -> bool:
    try:
        return bool(client.ping())
    except RedisConnectionError:
        return False
