"""The whole demo, as a newcomer and a script use it: real processes, real sockets, the command itself."""

from __future__ import annotations

import json
import os
import shlex
import signal
import socket
import stat
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from app.server.demo.instances import is_free
from tests.services.ports import free_port
from tests.services.waiting import HANGS_AFTER_SECONDS, wait_while_alive

PROJECT = Path(__file__).parents[3]


class RunningDemo:
    """`quarterdeck demo` in a directory of its own; `output` is what it printed so far."""

    def __init__(self, directory: Path, base_port: int, extra: Mapping[str, str], *options: str) -> None:
        self.state = directory / ".quarterdeck"
        self.output = ""
        environment = {**os.environ, "PYTHONPATH": str(PROJECT), **extra}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "app.cli", "demo", "--base-port", str(base_port), *options],
            cwd=directory,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.output += line

    def document(self) -> dict[str, Any]:
        document = json.loads((self.state / "demo.json").read_text())
        assert isinstance(document, dict)
        return document

    def wait_until_up(self) -> dict[str, Any]:
        self.wait_for(lambda: "demo.json" in self.output, "everything is up")
        return self.document()

    def wait_for(self, reached: Callable[[], bool], what: str) -> None:
        wait_while_alive(
            reached, is_alive=lambda: self.process.poll() is None, log=lambda: self.output, what=f"demo: {what}"
        )

    def wait_for_end(self) -> int:
        """Exit code of a demo that ends by itself."""
        code = self.process.wait(HANGS_AFTER_SECONDS)
        self._reader.join()
        return code

    def curl_commands(self) -> list[str]:
        return [line for line in self.output.splitlines() if line.startswith("curl ")]

    def end(self, number: signal.Signals = signal.SIGINT) -> int:
        if self.process.poll() is None:
            self.process.send_signal(number)
        code = self.process.wait(HANGS_AFTER_SECONDS)
        self._reader.join(5)
        return code


@contextmanager
def running_demo(directory: Path, base_port: int, **extra: str) -> Iterator[RunningDemo]:
    demo = RunningDemo(directory, base_port, extra)
    try:
        yield demo
    finally:
        demo.end()


@pytest.fixture
def base_port() -> int:
    return free_port(100)


def test_first_start_a_killed_worker_and_a_second_start(tmp_path: Path, base_port: int) -> None:
    foreign = {"LITELLM_MASTER_KEY": "sk-foreign", "DATABASE_URL": "postgres://nobody@127.0.0.1:1/none", "PORT": "1"}
    with running_demo(tmp_path, base_port, **foreign) as demo:
        first = demo.wait_until_up()
        check_document(demo, first, base_port)
        check_printed_commands(demo)
        check_refusal_of_a_second_demo(tmp_path, base_port)
        check_killed_worker(demo, first)
        assert demo.end(signal.SIGINT) == 0, demo.output
        assert not any(is_running(pid) for pid in pids_of(first))
        assert not (demo.state / "demo.json").exists()
    (tmp_path / ".quarterdeck" / "demo.json").write_text("{}")  # as a crash would leave it
    with running_demo(tmp_path, base_port) as demo:
        second = demo.wait_until_up()
        assert [without_pid(row) for row in accounts(second)] == [without_pid(row) for row in accounts(first)]
        worker = second["workers"][0]
        listed = httpx.get(f"{worker['url']}/key/list", headers=bearer(worker), trust_env=False).json()
        assert (
            listed["total_count"] == 2
        )  # the demo's own key and that of the first curl; no new one at the second start
        assert demo.end(signal.SIGTERM) == 0
        assert all(is_free(port) for port in (base_port, base_port + 1, base_port + 2))


def test_busy_port(tmp_path: Path, base_port: int) -> None:
    with socket.create_server(("127.0.0.1", base_port + 2)):
        demo = RunningDemo(tmp_path, base_port, {})
        assert demo.wait_for_end() == 1
    assert f"port {base_port + 2} is busy" in demo.output and "make demo ARGS=" in demo.output


def test_a_start_that_takes_longer_than_was_allowed_ends_the_demo(tmp_path: Path, base_port: int) -> None:
    """No Python imports a gateway in a hundredth of a second."""
    demo = RunningDemo(tmp_path, base_port, {}, "--start-timeout", "0.01")
    assert demo.wait_for_end() == 1
    assert "is not ready after 0.01 s (--start-timeout)" in demo.output and "; the end of " in demo.output
    assert not (demo.state / "demo.json").exists()
    assert all(is_free(port) for port in (base_port, base_port + 1, base_port + 2))


def test_a_child_that_dies_at_its_start_is_reported_though_others_are_still_starting(
    tmp_path: Path, base_port: int
) -> None:
    (tmp_path / ".quarterdeck" / "worker-b" / "quarterdeck.db").mkdir(parents=True)  # where a file should be
    demo = RunningDemo(tmp_path, base_port, {})
    assert demo.wait_for_end() == 1
    assert "worker-b ended (exit code 2); the end of " in demo.output
    assert "quarterdeck: database: " in demo.output


def check_document(demo: RunningDemo, document: dict[str, Any], base_port: int) -> None:
    assert stat.S_IMODE((demo.state / "demo.json").stat().st_mode) == 0o600
    assert list(document) == ["control_plane", "workers", "provider", "models"]
    assert set(document["control_plane"]) == {"url", "username", "password", "master_key", "pid"}
    assert document["control_plane"]["url"] == f"http://localhost:{base_port}"
    assert [(row["worker_id"], row["name"], row["url"]) for row in document["workers"]] == [
        ("worker-a", "Worker A", f"http://localhost:{base_port + 1}"),
        ("worker-b", "Worker B", f"http://localhost:{base_port + 2}"),
    ]
    assert set(document["provider"]) == {"url", "pid"}
    assert len({row["master_key"] for row in accounts(document)}) == 3
    for row in accounts(document):
        assert httpx.get(f"{row['url']}/health/readiness", trust_env=False).status_code == 200
        assert is_running(row["pid"])
    chat, embedding = document["models"]
    worker = document["workers"][0]
    answer = httpx.post(
        f"{worker['url']}/v1/embeddings",
        json={"model": embedding, "input": "hello"},
        headers=bearer(worker),
        trust_env=False,
    )
    assert answer.status_code == 200, answer.text
    names = httpx.get(f"{worker['url']}/v1/models", headers=bearer(worker), trust_env=False).json()["data"]
    assert {chat, embedding} <= {row["id"] for row in names}


def check_printed_commands(demo: RunningDemo) -> None:
    create_key, call = demo.curl_commands()
    key = json.loads(subprocess.check_output(create_key, shell=True, text=True))["key"]
    answer = json.loads(subprocess.check_output(call, shell=True, text=True))
    assert answer["choices"][0]["message"]["content"] and answer["usage"]["total_tokens"] > 0
    printed_key = next(word for word in shlex.split(call) if word.startswith("Authorization: Bearer "))
    assert printed_key.removeprefix("Authorization: Bearer ") != key
    answer = json.loads(subprocess.check_output(call.replace(printed_key, f"Authorization: Bearer {key}"), shell=True))
    assert answer["object"] == "chat.completion"


def check_refusal_of_a_second_demo(directory: Path, base_port: int) -> None:
    second = RunningDemo(directory, base_port + 10, {})
    assert second.wait_for_end() == 1
    assert "already runs" in second.output
    assert (directory / ".quarterdeck" / "demo.json").exists()


def check_killed_worker(demo: RunningDemo, document: dict[str, Any]) -> None:
    """Worker A goes, all others stay; the printed command brings it back, with a new pid in demo.json."""
    worker_a, worker_b = document["workers"]
    os.kill(worker_a["pid"], signal.SIGKILL)
    demo.wait_for(lambda: "worker-a is down: killed by SIGKILL" in demo.output, "the end is noticed")
    for row in (worker_b, document["control_plane"]):
        assert httpx.get(f"{row['url']}/health/readiness", trust_env=False).status_code == 200
    command = next(line for line in demo.output.splitlines() if "worker-a is down" in line).rpartition(": ")[2]
    subprocess.check_call(shlex.split(command))
    demo.wait_for(lambda: "worker-a is back" in demo.output, "worker-a is back")
    assert httpx.get(f"{worker_a['url']}/health/readiness", trust_env=False).status_code == 200
    again = demo.document()
    assert again["workers"][0]["pid"] != worker_a["pid"] and again["workers"][1] == worker_b


def accounts(document: dict[str, Any]) -> list[dict[str, Any]]:
    return [document["control_plane"], *document["workers"]]


def pids_of(document: dict[str, Any]) -> list[int]:
    return [row["pid"] for row in (*accounts(document), document["provider"])]


def without_pid(row: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in row.items() if name != "pid"}


def bearer(account: dict[str, Any]) -> dict[str, str]:
    return {"Authorization": f"Bearer {account['master_key']}"}


def is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True
