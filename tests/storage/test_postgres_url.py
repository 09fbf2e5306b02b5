"""Parameters of DATABASE_URL: honoured against a real server, with TLS of its own, or named in a warning."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from app.server.serve import _migrate
from app.settings import Settings
from app.settings.config_file import SettingsError
from app.storage.database import Database
from app.storage.postgres_url import parse_postgres_url, unused_parameters
from tests.services.ports import free_port
from tests.services.postgres import PostgresServer, program
from tests.services.run_directory import RunDirectory


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("postgres://u:p%40ss@db.example:6432/deck", ("db.example", 6432, "u", "p@ss", "deck", None)),
        ("postgresql://u@db/deck?sslmode=require", ("db", 5432, "u", None, "deck", "require")),
        ("postgres://u@db/deck?sslmode=no-verify", ("db", 5432, "u", None, "deck", "require")),
        ("postgres://u@db/deck?sslmode=verify-full&connect_timeout=3", ("db", 5432, "u", None, "deck", "verify-full")),
        ("postgres:///deck?host=/var/run/postgresql", ("/var/run/postgresql", 5432, "postgres", None, "deck", None)),
        ("postgres://db?user=u&password=p&dbname=deck&port=1", ("db", 1, "u", "p", "deck", None)),
    ],
)
def test_every_part_of_an_address_is_used(url: str, expected: tuple[Any, ...]) -> None:
    credentials = parse_postgres_url(url).credentials
    assert tuple(credentials.get(name) for name in ("host", "port", "user", "password", "database", "ssl")) == expected


def test_limits_of_the_pool_and_times() -> None:
    address = parse_postgres_url("postgres://db/x?connection_limit=7&pool_timeout=3&connect_timeout=11")
    assert (address.pool_size, address.pool_seconds, address.credentials["timeout"]) == (7, 3, 11)
    unlimited = parse_postgres_url("postgres://db/x?pool_timeout=0&connect_timeout=0")
    assert (unlimited.pool_seconds, unlimited.credentials["timeout"]) == (86_400, 86_400)


def test_a_pooler_gets_no_statements_and_no_parameters_at_the_start() -> None:
    credentials = parse_postgres_url("postgres://db/x?pgbouncer=true").credentials
    assert credentials["statement_cache_size"] == 0
    assert "server_settings" not in credentials
    assert "server_settings" not in parse_postgres_url("postgres://db/x?pooler=true").credentials


def test_what_is_not_used_is_named_without_the_address() -> None:
    url = "postgres://u:geheim@db/x?channel_binding=require&socket_timeout=3&keepalives=1&sslmode=prefer"
    warnings = unused_parameters(url)
    assert [line.split("'")[1] for line in warnings] == ["channel_binding", "keepalives", "socket_timeout"]
    assert "geheim" not in str(warnings)
    assert unused_parameters("postgres://db/x?channel_binding=prefer&pgbouncer=false&schema=s") == []
    assert unused_parameters("sqlite:///x.db?cache=shared") == []


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ("connection_limit=many", "connection_limit must be a whole number"),
        ("sslrootcert=/nowhere/ca.pem", "sslrootcert: there is no file /nowhere/ca.pem"),
    ],
)
def test_a_wrong_value_is_named(query: str, words: str) -> None:
    with pytest.raises(SettingsError, match=words):
        parse_postgres_url(f"postgres://u:geheim@db/x?{query}")


async def test_a_mode_that_is_none_is_named(postgres_url: str) -> None:
    with pytest.raises(SettingsError, match="sslmode"):
        await _migrate(Settings(database_url=f"{postgres_url}?sslmode=sometimes"))


async def test_a_schema_holds_the_tables(postgres_url: str) -> None:
    url = f"{postgres_url}?schema=Gateway&application_name=deck&options=-c%20statement_timeout%3D7s"
    database = Database(Settings(database_url=url))
    await database.open()
    try:
        assert await database.migrate()
        assert await database.prepare() == []
        (row,) = await database.fetch(
            "SELECT schemaname, current_setting('application_name') AS name, current_setting('statement_timeout') AS t "
            "FROM pg_tables WHERE tablename = 'virtual_key'"
        )
        assert row == {"schemaname": "Gateway", "name": "deck", "t": "7s"}
    finally:
        await database.close()


# ---- TLS -----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def tls_server(run_directory: RunDirectory) -> Iterator[tuple[str, Path]]:
    """A server with a certificate of its own authority: an address, and the authority's certificate."""
    folder = Path(tempfile.mkdtemp(dir=run_directory.path))
    authority, owner = _certificates(folder), None
    if os.geteuid() == 0:  # PostgreSQL refuses to run as root
        owner = "postgres"
        account = pwd.getpwnam(owner)
        for path in (folder, *folder.iterdir()):
            os.chown(path, account.pw_uid, account.pw_gid)
    port, data = free_port(), folder / "data"
    initdb = [program("initdb"), "-A", "trust", "-U", "postgres", "-N", "-D", str(data)]
    subprocess.run(initdb, check=True, user=owner, cwd=folder, stdout=subprocess.DEVNULL)
    settings = {"port": port, "listen_addresses": "127.0.0.1", "unix_socket_directories": folder, "ssl": "on"}
    settings |= {"ssl_cert_file": folder / "server.crt", "ssl_key_file": folder / "server.key", "fsync": "off"}
    options = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
    server = subprocess.Popen(
        [program("postgres"), "-D", str(data), *options], user=owner, cwd=folder, stderr=subprocess.DEVNULL
    )
    try:
        _wait_for(PostgresServer(port))
        yield f"postgres://postgres@127.0.0.1:{port}/postgres", authority
    finally:
        server.terminate()
        server.wait(20)
        shutil.rmtree(folder, ignore_errors=True)


def _certificates(folder: Path) -> Path:
    """An authority, and a certificate for another name than the address that is connected to."""
    ca, new = folder / "ca.crt", ["openssl", "req", "-nodes", "-newkey", "rsa:2048"]
    run = {"check": True, "stderr": subprocess.DEVNULL, "cwd": folder}
    subprocess.run([*new, "-x509", "-days", "2", "-subj", "/CN=ca", "-keyout", "ca.key", "-out", ca], **run)  # type: ignore[call-overload]
    subprocess.run([*new, "-subj", "/CN=elsewhere.example", "-keyout", "server.key", "-out", "server.csr"], **run)  # type: ignore[call-overload]
    sign = ["openssl", "x509", "-req", "-days", "2", "-in", "server.csr", "-CA", ca, "-CAkey", "ca.key"]
    subprocess.run([*sign, "-CAcreateserial", "-out", "server.crt"], stdout=subprocess.DEVNULL, **run)  # type: ignore[call-overload]
    (folder / "server.key").chmod(0o600)
    return ca


def _wait_for(server: PostgresServer) -> None:
    ready = [program("pg_isready"), "-q", "-h", "127.0.0.1", "-p", str(server.port), "-t", "1"]
    for _ in range(60):
        if subprocess.run(ready, check=False).returncode == 0:
            return
        subprocess.run(["sleep", "0.5"], check=True)
    raise AssertionError("the server with TLS did not start")


async def _is_encrypted(url: str) -> bool:
    database = Database(Settings(database_url=url))
    await database.open()
    try:
        (row,) = await database.fetch("SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()")
        return bool(row["ssl"])
    finally:
        await database.close()


async def test_a_root_certificate_is_used_as_psql_does(tls_server: tuple[str, Path]) -> None:
    url, authority = tls_server
    assert await _is_encrypted(f"{url}?sslmode=verify-ca&sslrootcert={authority}")
    assert await _is_encrypted(f"{url}?sslmode=verify-ca&sslcert={authority}")  # as Prisma has it
    assert await _is_encrypted(f"{url}?sslmode=require")
    assert not await _is_encrypted(f"{url}?sslmode=disable")
    with pytest.raises((OSError, asyncpg.InterfaceError)):
        await _is_encrypted(f"{url}?sslmode=verify-full&sslrootcert={authority}")


async def test_the_channel_of_messages_connects_alike(tls_server: tuple[str, Path]) -> None:
    url, authority = tls_server
    credentials = parse_postgres_url(f"{url}?sslmode=verify-ca&sslrootcert={authority}").credentials
    connection = await asyncpg.connect(**credentials)
    try:
        assert await connection.fetchval("SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()") is True
    finally:
        await connection.close()
