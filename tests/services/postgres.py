"""A private PostgreSQL of one test run: no durability, trusts everyone on this machine, gone afterwards."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.services.ports import free_port
from tests.services.run_directory import RunDirectory, is_running
from tests.services.waiting import wait_while_alive

_SETTINGS = {
    "fsync": "off",
    "synchronous_commit": "off",
    "full_page_writes": "off",
    "max_connections": "200",
    "shared_buffers": "64MB",
    "listen_addresses": "127.0.0.1",
    "log_min_messages": "warning",
}


def program(name: str) -> str:
    """Path of a PostgreSQL program, also where Debian keeps it: outside PATH, the newest version last."""
    versions = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"), key=lambda path: int(path.parts[-3]))
    found = str(versions[-1]) if versions else shutil.which(name)
    if found is None:
        raise RuntimeError(f"PostgreSQL's {name} is not on this machine; tests/services/install installs it")
    return found


class PostgresServer:
    """A running server. `url` of a database: postgres://postgres@127.0.0.1:<port>/<database>."""

    def __init__(self, port: int) -> None:
        self.port = port

    def url(self, database: str) -> str:
        return f"postgres://postgres@127.0.0.1:{self.port}/{database}"

    def execute(self, *statements: str, database: str = "postgres") -> str:
        """Run statements outside a transaction; answers unaligned rows. A refusal raises CalledProcessError."""
        command = [program("psql"), "-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1"]
        command += [part for statement in statements for part in ("-c", statement)]
        return subprocess.run([*command, self.url(database)], check=True, stdout=subprocess.PIPE, text=True).stdout

    def create_database(self, *, template: str = "template0") -> str:
        """Name of a new database."""
        name = f"t_{uuid.uuid4().hex[:16]}"
        self.execute(f"CREATE DATABASE {name} TEMPLATE {template}")
        return name

    def drop_database(self, name: str) -> None:
        """Also when someone is still connected."""
        self.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")

    @contextmanager
    def new_database(self) -> Iterator[str]:
        """URL of an empty database of our own, dropped afterwards."""
        name = self.create_database()
        try:
            yield self.url(name)
        finally:
            self.drop_database(name)


def postgres_of(run: RunDirectory) -> PostgresServer:
    """The run's one server, shared by all its processes; the first that asks starts it."""
    port_file = run.path / "postgres.port"
    with run.locked("postgres"):
        if not port_file.exists():
            port_file.write_text(str(_start(run).port))
    return PostgresServer(int(port_file.read_text()))


def _start(run: RunDirectory) -> PostgresServer:
    home = run.path / "postgres"
    home.mkdir()
    user = None
    if os.geteuid() == 0:  # PostgreSQL refuses to run as root
        user = "postgres"
        account = pwd.getpwnam(user)
        os.chown(home, account.pw_uid, account.pw_gid)
    data = home / "data"
    subprocess.run(
        [program("initdb"), "-D", data, "-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync"],
        user=user,
        cwd=home,
        check=True,
        stdout=subprocess.DEVNULL,
    )
    port = free_port()
    settings = [part for name, value in _SETTINGS.items() for part in ("-c", f"{name}={value}")]
    with (home / "log").open("w") as log:
        process = subprocess.Popen(
            [program("postgres"), "-D", data, "-p", str(port), "-k", home, *settings],
            user=user,
            cwd=home,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    run.note_process(process.pid)
    _wait_until_ready(process.pid, port, home / "log")
    return PostgresServer(port)


def _wait_until_ready(pid: int, port: int, log: Path) -> None:
    command = [program("pg_isready"), "-q", "-h", "127.0.0.1", "-p", str(port)]
    wait_while_alive(
        lambda: subprocess.run(command, check=False).returncode == 0,
        is_alive=lambda: is_running(pid),
        log=log.read_text,
        what="PostgreSQL is ready",
    )
