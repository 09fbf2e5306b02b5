"""The processes of the demo: which there are, on which port, with which configuration and environment."""

from __future__ import annotations

import socket
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from app.server.demo.state import USERNAME, Credentials, CredentialStore, DemoError, write_private

HOST = "localhost"
LISTEN_ADDRESS = "127.0.0.1"
PROVIDER_OFFSET = 99
LARGEST_BASE_PORT = 65535 - PROVIDER_OFFSET

CHAT_MODEL = "sample-chat"
EMBEDDING_MODEL = "sample-embedding"

# Model, mode, USD per input token, USD per output token: high enough that the spend of a few calls can be seen.
SAMPLE_MODELS = (
    (CHAT_MODEL, "chat", 0.0000025, 0.00001),
    ("sample-chat-mini", "chat", 0.00000015, 0.0000006),
    (EMBEDDING_MODEL, "embedding", 0.00000013, 0.0),
)
OPENAI_MODELS = (("gpt-4o-mini", "chat"), ("text-embedding-3-small", "embedding"))

# What a shell may hold for another instance; the children get their own values or none.
_FOREIGN_PREFIXES = ("LITELLM_", "QUARTERDECK_", "DATABASE_", "REDIS_", "UI_", "PROXY_", "DISABLE_")
_FOREIGN_NAMES = {
    "HOST",
    "PORT",
    "DIRECT_URL",
    "CONFIG_FILE_PATH",
    "SERVER_ROOT_PATH",
    "NUM_WORKERS",
    "WEB_CONCURRENCY",
}

_HEADER = "# Written by `quarterdeck demo` at every start: changes here are lost. Secrets are in the environment.\n"


@dataclass(frozen=True)
class WorkerRow:
    """One worker of the demo, as the registry of the control plane lists it."""

    worker_id: str
    name: str
    offset: int
    environment: str
    region: str


# Two environments, so that the console can show what it does for production; the first steps happen outside of it.
WORKERS = (
    WorkerRow("worker-a", "Worker A", 1, "staging", "eu-west-1"),
    WorkerRow("worker-b", "Worker B", 2, "production", "us-east-1"),
)
CONTROL_PLANE = "control-plane"
PROVIDER = "sample-provider"


@dataclass(frozen=True)
class Instance:
    """One process: how to start it, and `health_path`, which answers 200 once it is ready."""

    name: str
    port: int
    command: tuple[str, ...]
    environment: Mapping[str, str]
    log: Path
    health_path: str
    credentials: Credentials | None = None

    @property
    def url(self) -> str:
        return f"http://{HOST}:{self.port}"


def plan_instances(
    base_port: int, directory: Path, environ: Mapping[str, str]
) -> tuple[list[Instance], CredentialStore]:
    """The four processes, provider first; writes their configuration files into `directory`.

    Raises DemoError for a port that is taken or cannot be.
    """
    provider_port = _checked_ports(base_port)
    directory = directory.resolve()
    (directory / "logs").mkdir(mode=0o700, exist_ok=True)
    names = [CONTROL_PLANE, *(row.worker_id for row in WORKERS)]
    store = CredentialStore(directory / "credentials.json", names)
    shared = child_environment(environ)
    provider = Instance(
        name=PROVIDER,
        port=provider_port,
        command=(sys.executable, "-m", "app.server.demo.sample_provider", "--port", str(provider_port)),
        environment=shared,
        log=directory / "logs" / f"{PROVIDER}.log",
        health_path="/v1/models",
    )
    registry = [_registry_row(row, base_port) for row in WORKERS]
    instances = [provider, _gateway(CONTROL_PLANE, base_port, {"worker_registry": registry}, directory, shared, store)]
    worker_config = {
        "general_settings": {"control_plane_url": f"http://{HOST}:{base_port}"},
        "model_list": model_list(provider.url, with_openai=bool(environ.get("OPENAI_API_KEY"))),
    }
    instances += [
        _gateway(row.worker_id, base_port + row.offset, worker_config, directory, shared, store) for row in WORKERS
    ]
    return instances, store


def _gateway(
    name: str, port: int, config: dict[str, Any], directory: Path, shared: Mapping[str, str], store: CredentialStore
) -> Instance:
    credentials = store[name]
    state_dir = directory / name
    state_dir.mkdir(mode=0o700, exist_ok=True)
    config_path = directory / f"{name}.yaml"
    write_private(config_path, _HEADER + yaml.safe_dump(config, sort_keys=False))
    options = ("--config", str(config_path), "--port", str(port), "--host", LISTEN_ADDRESS)
    return Instance(
        name=name,
        port=port,
        command=(sys.executable, "-m", "app.cli", "serve", *options),
        environment={
            **shared,
            "LITELLM_MASTER_KEY": credentials.master_key,
            "UI_USERNAME": USERNAME,
            "UI_PASSWORD": credentials.password,
            "DATABASE_URL": f"sqlite:///{state_dir / 'quarterdeck.db'}",
            "PROXY_BASE_URL": f"http://{HOST}:{port}",
            "QUARTERDECK_STATE_DIR": str(state_dir),
        },
        log=directory / "logs" / f"{name}.log",
        health_path="/health/readiness",
        credentials=credentials,
    )


def _registry_row(row: WorkerRow, base_port: int) -> dict[str, Any]:
    return {
        "worker_id": row.worker_id,
        "name": row.name,
        "url": f"http://{HOST}:{base_port + row.offset}",
        "environment": row.environment,
        "labels": {"region": row.region},
    }


def model_list(provider_url: str, *, with_openai: bool) -> list[dict[str, Any]]:
    """The workers' `model_list`: the sample models with prices and, for those who have an account, real ones."""
    rows: list[dict[str, Any]] = [
        {
            "model_name": name,
            "litellm_params": {
                "model": f"openai/{name}",
                "api_base": f"{provider_url}/v1",
                "api_key": "sk-sample-provider",
                "input_cost_per_token": input_cost,
                "output_cost_per_token": output_cost,
            },
            "model_info": {"mode": mode},
        }
        for name, mode, input_cost, output_cost in SAMPLE_MODELS
    ]
    if with_openai:
        rows += [
            {
                "model_name": name,
                "litellm_params": {"model": f"openai/{name}", "api_key": "os.environ/OPENAI_API_KEY"},
                "model_info": {"mode": mode},
            }
            for name, mode in OPENAI_MODELS
        ]
    return rows


def child_environment(environ: Mapping[str, str]) -> dict[str, str]:
    """The caller's environment without settings meant for another instance, and with no proxy in front of localhost."""
    kept = {
        name: value
        for name, value in environ.items()
        if not name.startswith(_FOREIGN_PREFIXES) and name not in _FOREIGN_NAMES
    }
    for name in ("NO_PROXY", "no_proxy"):
        kept[name] = ",".join(filter(None, (kept.get(name), HOST, LISTEN_ADDRESS)))
    return kept


def _checked_ports(base_port: int) -> int:
    """The provider's port: its usual one, or any if that is taken. Raises DemoError if one of the others is."""
    if not 1 <= base_port <= LARGEST_BASE_PORT:
        raise DemoError(f"--base-port {base_port} is out of range; choose one from 1 to {LARGEST_BASE_PORT}")
    for port in (base_port, *(base_port + row.offset for row in WORKERS)):
        if not is_free(port):
            other = base_port + 300 if base_port + 300 <= LARGEST_BASE_PORT else 4300
            raise DemoError(f'port {port} is busy; choose others: make demo ARGS="--base-port {other}"')
    usual = base_port + PROVIDER_OFFSET
    return usual if is_free(usual) else any_free_port()


def is_free(port: int) -> bool:
    """Whether we could listen here; also false if someone listens on ::1, where `localhost` may lead first."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LISTEN_ADDRESS, port))
        except OSError:
            return False
    if not socket.has_ipv6:
        return True
    try:
        with socket.create_connection(("::1", port), timeout=0.5):
            return False
    except OSError:
        return True


def any_free_port() -> int:
    with socket.socket() as probe:
        probe.bind((LISTEN_ADDRESS, 0))
        return int(probe.getsockname()[1])
