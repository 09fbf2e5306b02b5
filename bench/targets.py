"""What is measured: processes that answer chat completions, each on the server's core, and how they are called."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .machine import SERVER_CORE, pin, pinned

ROOT = Path(__file__).parent.parent
PEERS = Path(__file__).parent / ".peers"
UPSTREAM_PORT = 4790
_API_BASE = f"http://127.0.0.1:{UPSTREAM_PORT}/v1"
MASTER_KEY = "sk-bench-master-key-0123456789"
_REPORT_SECONDS = 30.0


@dataclass
class Target:
    """A running server. `headers` are sent with each call; `boot_seconds` until it said that it is alive."""

    name: str
    port: int
    process: subprocess.Popen[bytes]
    headers: dict[str, str] = field(default_factory=dict)
    version: str = ""
    boot_seconds: float = 0.0

    @property
    def is_ours(self) -> bool:
        return self.name.startswith("quarterdeck")

    def request(self, body: Mapping[str, Any]) -> bytes:
        """The bytes of one call."""
        data = json.dumps({"model": "bench", **body}, separators=(",", ":")).encode()
        head = ["POST /v1/chat/completions HTTP/1.1", "Host: bench", "Content-Type: application/json"]
        head += [f"{name}: {value}" for name, value in self.headers.items()]
        head += [f"Content-Length: {len(data)}", "", ""]
        return "\r\n".join(head).encode() + data

    def stop(self) -> None:
        """End it and what it started."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGTERM)
        try:
            self.process.wait(5)
        except subprocess.TimeoutExpired:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait(5)


class NotStarted(Exception):
    """A target that cannot be measured, and why."""


def start_quarterdeck(server: str, port: int, directory: Path, *, is_direct: bool = True) -> Target:
    """A worker with a key that has a budget and limits, two deployments, a spend log in SQLite, and metrics.

    `is_direct` off: calls go through the web framework.
    """
    name = f"quarterdeck {server}" + ("" if is_direct else ", framework")
    directory = directory / f"{server}-{port}"
    directory.mkdir()
    (directory / "config.yaml").write_text(_config(), encoding="utf-8")
    environment = {
        "PATH": os.environ.get("PATH", "/usr/bin:/bin"),
        "PYTHONPATH": str(ROOT),
        "LITELLM_MASTER_KEY": MASTER_KEY,
        "QUARTERDECK_STATE_DIR": str(directory / "state"),
        "QUARTERDECK_DIRECT_CALLS": str(is_direct),
    }
    command = [_own_python(), "-m", "app.cli", "serve", "--config", str(directory / "config.yaml")]
    command += ["--port", str(port), "--server", server]
    target = _start(name, command, port, "/health/liveliness", directory, environment)
    key = _post(
        f"http://127.0.0.1:{port}/key/generate",
        {"max_budget": 1_000_000, "rpm_limit": 100_000_000, "tpm_limit": 2_000_000_000},
    )["key"]
    target.headers = {"Authorization": f"Bearer {key}"}
    return target


def _config() -> str:
    rates = "input_cost_per_token: 0.000001, output_cost_per_token: 0.000002"
    deployments = "".join(
        f"  - model_name: bench\n    litellm_params: {{model: openai/m, api_base: '{_API_BASE}', "
        f"api_key: provider-{number}, {rates}}}\n    model_info: {{id: bench-{number}}}\n"
        for number in (1, 2)
    )
    return f"model_list:\n{deployments}litellm_settings:\n  callbacks: [prometheus]\n"


def boot_seconds(server: str, port: int, directory: Path, times: int = 3) -> list[float]:
    """Seconds from the command to the first answer of the liveness probe, of several starts on an existing database."""
    seconds = []
    folder = directory / f"boot-{server}"
    folder.mkdir()
    (folder / "config.yaml").write_text(_config(), encoding="utf-8")
    environment = {
        "PATH": os.environ.get("PATH", "/usr/bin:/bin"),
        "PYTHONPATH": str(ROOT),
        "LITELLM_MASTER_KEY": MASTER_KEY,
        "QUARTERDECK_STATE_DIR": str(folder / "state"),
    }
    command = [_own_python(), "-m", "app.cli", "serve", "--config", str(folder / "config.yaml")]
    command += ["--port", str(port), "--server", server]
    for _ in range(times + 1):
        target = _start(server, command, port, "/health/liveliness", folder, environment)
        seconds.append(target.boot_seconds)
        target.stop()
    return seconds[1:]  # the first one made the database


def start_floor(port: int, directory: Path) -> Target:
    """bench/floor.py under an interpreter that has uvloop and httptools. Raises NotStarted without one."""
    python = PEERS / "floor" / "bin" / "python"
    if not python.exists():
        raise NotStarted("no environment with uvloop and httptools: python -m bench --install")
    command = [str(python), str(ROOT / "bench" / "floor.py"), str(port), str(UPSTREAM_PORT)]
    target = _start("floor", command, port, None, directory, {"PATH": "/usr/bin:/bin"})
    target.headers = {"Authorization": "Bearer sk-bench"}
    target.version = _version_of(python, "uvloop")
    return target


def start_litellm(port: int, directory: Path) -> Target:
    """The widest used gateway, without a database, its key checked against the master key. Raises NotStarted."""
    python = PEERS / "litellm" / "bin" / "python"
    program = PEERS / "litellm" / "bin" / "litellm"
    if not program.exists():
        raise NotStarted("litellm is not installed: python -m bench --install")
    config = directory / "litellm.yaml"
    deployments = "".join(
        f"  - model_name: bench\n    litellm_params: {{model: openai/m, api_base: '{_API_BASE}', "
        f"api_key: provider-{number}}}\n"
        for number in (1, 2)
    )
    config.write_text(f"model_list:\n{deployments}general_settings:\n  master_key: {MASTER_KEY}\n", encoding="utf-8")
    environment = {
        "PATH": f"{program.parent}:/usr/bin:/bin",
        "HOME": str(directory),
        "LITELLM_LOCAL_MODEL_COST_MAP": "True",
        "LITELLM_LOG": "ERROR",
    }
    command = [str(python), str(program), "--config", str(config), "--host", "127.0.0.1", "--port", str(port)]
    target = _start("litellm", command, port, "/health/liveliness", directory, environment)
    target.headers = {"Authorization": f"Bearer {MASTER_KEY}"}
    target.version = _version_of(python, "litellm")
    return target


def start_portkey(port: int, directory: Path) -> Target:
    """The Node gateway, which has no keys of its own. Raises NotStarted."""
    package = PEERS / "portkey" / "node_modules" / "@portkey-ai" / "gateway"
    if not package.exists():
        raise NotStarted("@portkey-ai/gateway is not installed: python -m bench --install")
    environment = {"PATH": "/usr/local/bin:/usr/bin:/bin", "HOME": str(directory), "NODE_ENV": "production"}
    environment["TRUSTED_CUSTOM_HOSTS"] = "127.0.0.1,localhost"
    command = ["node", str(package / "build" / "start-server.js"), f"--port={port}", "--headless"]
    target = _start("portkey", command, port, "/", directory, environment)
    target.headers = {
        "Authorization": "Bearer provider-1",
        "x-portkey-provider": "openai",
        "x-portkey-custom-host": _API_BASE,
    }
    target.version = json.loads((package / "package.json").read_text(encoding="utf-8"))["version"]
    return target


def install_peers() -> None:
    """The peers, the floor's libraries and our own from their registries, each into an environment of its own.

    Ours is what an operator installs: what tests and linters need costs a server memory and time to start.
    """
    own = ["--requirement", str(ROOT / "requirements.lock")]
    environments = {
        "floor": [["uvloop", "httptools"]],
        "litellm": [["litellm[proxy]"]],
        "quarterdeck": [own, ["granian", "uvloop"]],
    }
    for name, installs in environments.items():
        if not (PEERS / name / "bin" / "python").exists():
            subprocess.run([sys.executable, "-m", "venv", str(PEERS / name)], check=True)
        pip = [str(PEERS / name / "bin" / "python"), "-m", "pip", "--disable-pip-version-check", "install", "--quiet"]
        for packages in installs:
            subprocess.run([*pip, *packages], check=False)
    (PEERS / "portkey").mkdir(exist_ok=True)
    npm = ["npm", "install", "--no-audit", "--no-fund", "--prefix", str(PEERS / "portkey"), "@portkey-ai/gateway"]
    subprocess.run(npm, check=False)


def _own_python() -> str:
    """Of the environment that has what running needs and no more; else of this one."""
    python = PEERS / "quarterdeck" / "bin" / "python"
    return str(python) if python.exists() else sys.executable


@contextlib.contextmanager
def provider(directory: Path) -> Iterator[subprocess.Popen[bytes]]:
    """bench/upstream.c, compiled, on the load's core by the caller's own affinity. Raises NotStarted without gcc."""
    program = directory / "upstream"
    source = ROOT / "bench" / "upstream.c"
    try:
        subprocess.run(["gcc", "-O2", "-o", str(program), str(source)], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError) as problem:
        raise NotStarted(f"the provider cannot be compiled: {problem}") from None
    process = subprocess.Popen([str(program), str(UPSTREAM_PORT)])
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def _start(
    name: str,
    command: list[str],
    port: int,
    health: str | None,
    directory: Path,
    environment: Mapping[str, str],
) -> Target:
    log = directory / f"{name.replace(' ', '-').replace(',', '')}.log"
    started = time.monotonic()
    with log.open("wb") as output:
        process = subprocess.Popen(
            [*pinned(SERVER_CORE), *command],
            env=dict(environment),
            stdout=output,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            start_new_session=True,
        )
    target = Target(name, port, process)
    try:
        _wait(target, health, started)
    except NotStarted as problem:
        target.stop()
        raise NotStarted(f"{problem}\n{log.read_text(errors='replace')[-2000:]}") from None
    pin(process.pid, SERVER_CORE)
    return target


def _wait(target: Target, health: str | None, started: float) -> None:
    """As long as the process lives, however slow the machine is; says now and then what is waited for."""
    next_report = started + _REPORT_SECONDS
    while True:
        if time.monotonic() > next_report:
            print(f"waiting for {target.name}, {time.monotonic() - started:.0f} s so far", file=sys.stderr, flush=True)
            next_report += _REPORT_SECONDS
        if target.process.poll() is not None:
            raise NotStarted(f"{target.name} ended with status {target.process.returncode}")
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{target.port}{health or '/'}", timeout=5):
                break
        except urllib.error.HTTPError:
            break
        except OSError:
            time.sleep(0.01)
        except Exception as problem:  # noqa: BLE001 - the floor speaks too little HTTP for a GET
            if health is None:
                break
            raise NotStarted(f"{target.name}: {problem!r}") from None
    target.boot_seconds = time.monotonic() - started


def _post(url: str, body: Mapping[str, Any]) -> Any:
    headers = {"Authorization": f"Bearer {MASTER_KEY}", "Content-Type": "application/json"}
    request = urllib.request.Request(url, json.dumps(body).encode(), headers)
    with urllib.request.urlopen(request, timeout=30) as answer:
        return json.load(answer)


def _version_of(python: Path, package: str) -> str:
    code = f"import importlib.metadata as m; print(m.version({package!r}))"
    return subprocess.run([str(python), "-c", code], capture_output=True, text=True, check=False).stdout.strip()
