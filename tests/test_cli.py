"""The command line as people type it: separate processes, one line for every mistake."""

from __future__ import annotations

import os
import resource
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from app.version import VERSION
from tests.auth.instance import CONSOLE, bearer
from tests.conftest import MASTER_KEY
from tests.services.command import run_quarterdeck
from tests.services.quarterdeck import QuarterdeckFactory, QuarterdeckProcess
from tests.services.run_directory import RunDirectory, is_running
from tests.services.waiting import answers, wait_while_alive
from tests.source_files import ROOT

_MODELS = """
model_list:
  - model_name: greeter
    litellm_params: {model: openai/greeter, mock_response: Ahoy}
"""
_CP_CONFIG = """
worker_registry:
  - {worker_id: eu, name: Europe, url: "http://127.0.0.1:9"}
  - {worker_id: us, name: America, url: "http://127.0.0.1:10"}
"""
_MEMORY_LIMIT_MB = 120


def run(folder: Path, *arguments: str, **environment: str) -> tuple[int, str]:
    """Exit code and all output of a command that ends."""
    finished = run_quarterdeck(
        *arguments, environment={"LITELLM_MASTER_KEY": MASTER_KEY, **environment}, directory=folder
    )
    assert "Traceback" not in finished.stdout
    return finished.returncode, finished.stdout


@contextmanager
def typed(
    run_directory: RunDirectory, folder: Path, *arguments: str, environment: Mapping[str, str]
) -> Iterator[subprocess.Popen[str]]:
    """`quarterdeck …` exactly as typed, in `folder`; stopped at the end."""
    process = subprocess.Popen(
        [sys.executable, "-m", "app.cli", *arguments],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT), "LITELLM_MASTER_KEY": MASTER_KEY, **environment},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    run_directory.note_process(process.pid)
    try:
        yield process
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        run_directory.forget_process(process.pid)


def wait_for(url: str, process: subprocess.Popen[str]) -> None:
    wait_while_alive(
        lambda: answers(f"{url}/health/liveliness"),
        is_alive=lambda: process.poll() is None,
        log=lambda: process.stdout.read() if process.stdout is not None and process.poll() is not None else "(runs on)",
        what=f"{url} is alive",
    )


def chat(instance: QuarterdeckProcess) -> httpx.Response:
    body = {"model": "greeter", "messages": [{"role": "user", "content": "Hello"}]}
    return httpx.post(f"{instance.url}/v1/chat/completions", json=body, headers=bearer(MASTER_KEY))


# ---- what it says --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("option", ["--version", "-v"])
def test_it_says_its_version(tmp_path: Path, option: str) -> None:
    assert run(tmp_path, option) == (0, f"quarterdeck {VERSION}\n")


def test_help_lists_the_commands(tmp_path: Path) -> None:
    code, text = run(tmp_path, "--help")
    assert code == 0
    assert all(command in text for command in ("serve", "migrate", "demo", "--version"))


def test_it_starts_as_the_documentation_of_the_field_writes_it(
    run_directory: RunDirectory, tmp_path: Path, free_port: int
) -> None:
    """`quarterdeck --config cp_config.yaml --port 4000`, and the block that it prints."""
    (tmp_path / "cp_config.yaml").write_text(_CP_CONFIG)
    with typed(
        run_directory, tmp_path, "--config", "cp_config.yaml", "--port", str(free_port), environment={}
    ) as process:
        wait_for(f"http://127.0.0.1:{free_port}", process)
        process.send_signal(signal.SIGTERM)
        output, _ = process.communicate(timeout=10)
    assert process.returncode == 0
    block = output[output.index("Quarterdeck") :].splitlines()
    assert block[0] == f"Quarterdeck {VERSION}"
    rows = dict(line.split(maxsplit=1) for line in block[1:7])
    assert rows == {
        "role": "control plane of 2 workers",
        "config": "cp_config.yaml",
        "database": "SQLite .quarterdeck/quarterdeck.db",
        "cache": "in memory",
        "routes": "health, metrics, deployments, discovery, login, models, admin, console",
        "url": f"http://localhost:{free_port}/ui/",
    }
    assert (tmp_path / ".quarterdeck/quarterdeck.db").is_file()
    assert "Traceback" not in output


def test_a_worker_on_postgresql_and_redis_says_so_without_their_passwords(
    quarterdeck_process: QuarterdeckFactory, migrated_postgres_url: str, redis_url: str
) -> None:
    instance = quarterdeck_process(
        {"general_settings": {"control_plane_url": CONSOLE}},
        database_url=migrated_postgres_url.replace("postgres@", "postgres:hidden-word@"),
        env={"REDIS_URL": redis_url, "DISABLE_ADMIN_UI": "true", "PROXY_BASE_URL": "https://gw.example.com"},
    )
    text = instance.log_text()
    for row in ("role      worker", "database  PostgreSQL", "cache     Redis", "url       https://gw.example.com\n"):
        assert row in text
    assert "routes    health, metrics, deployments, discovery, login, models, llm, admin\n" in text
    assert "hidden-word" not in text


def test_warnings_of_the_configuration_are_printed_once_each(quarterdeck_process: QuarterdeckFactory) -> None:
    config = {"general_settings": {"master_key": "sk-1234", "enforce_rbac": True}, "guardrails": [{"a": 1}]}
    text = quarterdeck_process(config, env={"SAML_IDP_METADATA_URL": "https://idp.example.com"}).log_text()
    warnings = [line for line in text.splitlines() if line.startswith("WARNING  ")]
    assert len(warnings) == 3
    assert "PUBLICLY KNOWN" in warnings[0]
    assert "guardrails, general_settings.enforce_rbac" in warnings[1]
    assert "SAML_IDP_METADATA_URL" in warnings[2]


# ---- what it refuses -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("config", "environment", "line"),
    [
        ("worker_registry: yes", {}, "quarterdeck: config.yaml: worker_registry: is not a list"),
        ("a: [", {}, "quarterdeck: config.yaml: line 1 is not valid YAML"),
        ("", {"LITELLM_MASTER_KEY": ""}, "quarterdeck: config.yaml: general_settings.master_key is missing"),
        ("", {"DATABASE_URL": "mysql://x"}, "quarterdeck: environment: DATABASE_URL: the value is not a database"),
        ("", {"DATABASE_URL": "sqlite:////proc/no/where.db"}, "quarterdeck: database: "),
        ("", {"DATABASE_URL": "sqlite:////tmp"}, "quarterdeck: database: /tmp: unable to open database file"),
        (
            "model_list: [{model_name: a, litellm_params: {model: openai/a, api_base: nowhere}}]",
            {"QUARTERDECK_STRICT": "true"},
            "quarterdeck: config.yaml: model_list[0] (a): litellm_params.api_base 'nowhere' is not an address",
        ),
    ],
)
@pytest.mark.parametrize("how", [[], ["--workers", "2"], ["--server", "granian"]])
def test_a_wrong_configuration_is_one_line_and_status_2(
    tmp_path: Path, free_port: int, config: str, environment: dict[str, str], line: str, how: list[str]
) -> None:
    (tmp_path / "config.yaml").write_text(config)
    code, text = run(tmp_path, "--port", str(free_port), *how, **environment)
    assert code == 2
    (last,) = text.splitlines()
    assert last.startswith(line)


def test_a_file_that_is_not_there_is_one_line(tmp_path: Path) -> None:
    code, text = run(tmp_path, "--config", "absent.yaml")
    assert (code, text.count("\n")) == (2, 1)
    assert text.startswith("quarterdeck: absent.yaml: cannot be read")


@pytest.mark.parametrize("how", [[], ["--workers", "2"], ["--server", "granian"]])
def test_a_busy_port_is_one_line(tmp_path: Path, free_port: int, how: list[str]) -> None:
    with socket.create_server(("0.0.0.0", free_port)):
        code, text = run(tmp_path, "--port", str(free_port), *how)
    assert (code, text.count("\n")) == (2, 1)
    assert text.startswith(f"quarterdeck: --port {free_port}: cannot listen on 0.0.0.0 (Address already in use)")


@pytest.mark.parametrize(
    "arguments", [["--port", "99999"], ["--port", "0"], ["--port", "-1"], ["--host", "no.invalid"]]
)
def test_a_wrong_address_to_listen_on_is_one_line(tmp_path: Path, arguments: list[str]) -> None:
    code, text = run(tmp_path, *arguments)
    assert (code, text.count("\n")) == (2, 1)
    assert text.startswith("quarterdeck: --port")


@pytest.mark.parametrize(
    "arguments",
    [
        ["--workers", "0"],
        ["--workers", "-2"],
        ["--server", "nothing"],
        ["fly"],
        *(["demo", "--start-timeout", text] for text in ("0", "-1", "nan", "inf", "soon")),
    ],
)
def test_a_wrong_option_ends_with_status_2(tmp_path: Path, arguments: list[str]) -> None:
    code, text = run(tmp_path, *arguments)
    assert code == 2
    assert "error: " in text.splitlines()[-1]


def test_migrate_says_when_the_database_cannot_be_reached(tmp_path: Path, free_port: int) -> None:
    code, text = run(tmp_path, "migrate", DATABASE_URL=f"postgres://u:hidden-word@127.0.0.1:{free_port}/deck")
    assert (code, text.count("\n")) == (2, 1)
    assert text.startswith("quarterdeck: database: cannot be reached (ConnectionRefusedError); check DATABASE_URL")


def test_a_database_that_refuses_the_user_is_one_line(tmp_path: Path, free_port: int, postgres_url: str) -> None:
    url = postgres_url.replace("postgres://postgres@", "postgres://nobody-of-this-name:hidden-word@")
    for command in (["migrate"], ["--port", str(free_port)]):
        code, text = run(tmp_path, *command, DATABASE_URL=url)
        assert (code, text.count("\n")) == (2, 1)
        assert "check DATABASE_URL" in text
        assert "hidden-word" not in text


# ---- how it serves -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("arguments", [[], ["--workers", "2"], ["--server", "granian"]])
def test_every_way_to_serve_answers_and_stops_when_asked(
    quarterdeck_process: QuarterdeckFactory, migrated_postgres_url: str, tmp_path: Path, arguments: list[str]
) -> None:
    (tmp_path / "models.yaml").write_text(_MODELS)
    instance = quarterdeck_process(tmp_path / "models.yaml", database_url=migrated_postgres_url, arguments=arguments)
    assert chat(instance).json()["choices"][0]["message"]["content"] == "Ahoy"
    assert httpx.get(f"{instance.url}/health/readiness").json()["db"] == "connected"
    children = processes_of(instance)
    if "--workers" in arguments:
        assert len([pid for pid in children if "spawn_main" in command_line(pid)]) == 2
    os.kill(instance.pid, signal.SIGTERM)  # to the first process only, as a service manager does
    instance.wait(10)
    deadline = time.monotonic() + 5
    while any(map(is_running, children)) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not [command_line(pid) for pid in children if is_running(pid)]
    assert "Traceback" not in instance.log_text()


def processes_of(instance: QuarterdeckProcess) -> list[int]:
    """Every process of the instance's group."""
    found = []
    for entry in Path("/proc").iterdir():
        try:
            if entry.name.isdigit() and os.getpgid(int(entry.name)) == instance.pid:
                found.append(int(entry.name))
        except ProcessLookupError:
            continue
    return found


def command_line(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " ")
    except OSError:
        return ""


def test_two_processes_share_what_people_create(
    quarterdeck_process: QuarterdeckFactory, migrated_postgres_url: str
) -> None:
    instance = quarterdeck_process(database_url=migrated_postgres_url, arguments=["--workers", "2"])
    made = httpx.post(f"{instance.url}/key/generate", json={}, headers=bearer(MASTER_KEY)).json()["key"]
    for _ in range(10):  # a new connection each time, so that both processes answer
        assert httpx.get(f"{instance.url}/v1/models", headers=bearer(made)).status_code == 200


def test_two_instances_that_start_at_once_fill_one_empty_database(
    quarterdeck_process: QuarterdeckFactory, postgres_url: str
) -> None:
    for instance in [quarterdeck_process(database_url=postgres_url, wait=False) for _ in range(2)]:
        instance.wait_until_alive()


def test_host_and_port_of_the_environment_are_used(run_directory: RunDirectory, tmp_path: Path, free_port: int) -> None:
    with typed(run_directory, tmp_path, environment={"PORT": str(free_port), "HOST": "127.0.0.1"}) as process:
        wait_for(f"http://127.0.0.1:{free_port}", process)


def test_an_idle_instance_is_small(quarterdeck_process: QuarterdeckFactory, migrated_sqlite_url: str) -> None:
    """On a database that has its tables: making them takes 40 MB once."""
    started = time.monotonic()
    instance = quarterdeck_process(database_url=migrated_sqlite_url)
    boot_seconds = time.monotonic() - started
    resident_mb = int(Path(f"/proc/{instance.pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20
    print(f"boot {boot_seconds:.2f} s, idle {resident_mb:.0f} MB")
    assert resident_mb < _MEMORY_LIMIT_MB


def test_the_usual_limit_of_open_files_does_not_end_streams_at_five_hundred(
    quarterdeck_process: QuarterdeckFactory,
) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (1024, hard))
    try:
        instance = quarterdeck_process()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    (line,) = [
        line for line in Path(f"/proc/{instance.pid}/limits").read_text().splitlines() if line.startswith("Max open f")
    ]
    assert int(line.split()[3]) == min(hard, 65_536)
