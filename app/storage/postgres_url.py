"""What an address of PostgreSQL says: those of libpq (`psql`), and of Prisma, from which much of the field comes.

Each parameter is honoured, or named by `unused_parameters`: one that is dropped in silence is a connection without the
checks, the schema or the limits that its owner believes in.
"""

from __future__ import annotations

import ssl
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, unquote, urlencode, urlsplit

from ..settings.config_file import SettingsError

_CONNECT_SECONDS = 5.0
# A statement that is run for the sixth time would get a plan for any parameters, for lists with filters often a ten
# times slower one.
_SERVER_SETTINGS = {"plan_cache_mode": "force_custom_plan", "jit": "off"}
# asyncpg reads these as libpq does, files below ~/.postgresql included.
_TLS = ("sslrootcert", "sslcert", "sslkey", "sslcrl", "sslpassword", "ssl_min_protocol_version", "sslnegotiation")
_TLS_FILES = ("sslrootcert", "sslcert", "sslkey", "sslcrl")
# Values that ask for nothing which is not so anyway.
_HARMLESS = {("channel_binding", "prefer"), ("channel_binding", "disable"), ("gssencmode", "disable")}
_HARMLESS |= {("gssencmode", "prefer"), ("pooler", "false"), ("pgbouncer", "false")}


@dataclass(frozen=True, slots=True)
class PostgresAddress:
    """`credentials`: arguments of `asyncpg.connect`. `pool_size` and `pool_seconds`: None where nothing is said."""

    credentials: dict[str, Any]
    schema: str | None = None
    pool_size: int | None = None
    pool_seconds: float | None = None
    unused: list[str] = field(default_factory=list)


def parse_postgres_url(url: str) -> PostgresAddress:
    """Raises SettingsError that names the parameter, and never shows the address."""
    parts = urlsplit(url)
    query = {name: value for name, value in parse_qsl(parts.query) if (name, value) not in _HARMLESS}
    database = query.pop("dbname", None) or unquote(parts.path.lstrip("/"))
    schema = query.pop("schema", None)
    credentials: dict[str, Any] = {
        "host": query.pop("host", None) or parts.hostname or "localhost",
        "port": _whole(query, "port") or parts.port or 5432,
        "user": query.pop("user", None) or (unquote(parts.username) if parts.username else "postgres"),
        "password": query.pop("password", None) or (unquote(parts.password) if parts.password else None),
        "database": database or "postgres",
        "timeout": _seconds(query, "connect_timeout", _CONNECT_SECONDS),
        "command_timeout": 30,
        **_tls(query),
    }
    server_settings = {} if _is_pooled(query, credentials) else dict(_SERVER_SETTINGS)
    for name in ("application_name", "options"):
        if name in query:
            server_settings[name] = query.pop(name)
    if schema:
        server_settings["search_path"] = _quoted(schema)
    if server_settings:
        credentials["server_settings"] = server_settings
    if "target_session_attrs" in query:
        credentials["target_session_attrs"] = query.pop("target_session_attrs")
    if "statement_cache_size" in query:
        credentials["statement_cache_size"] = _whole(query, "statement_cache_size")
    size = _whole(query, "connection_limit")
    seconds = _seconds(query, "pool_timeout", None) if "pool_timeout" in query else None
    return PostgresAddress(credentials, schema, size, seconds, sorted(query))


def _is_pooled(query: dict[str, str], credentials: dict[str, Any]) -> bool:
    """Whether a pooler stands between. It refuses parameters at the start; PgBouncer moves statements, too."""
    is_pooled = query.pop("pooler", "") == "true"
    if query.pop("pgbouncer", "") == "true":
        credentials["statement_cache_size"] = 0
        return True
    return is_pooled


def unused_parameters(url: str) -> list[str]:
    """One line of warning for each parameter of a PostgreSQL address that changes nothing here."""
    if url.startswith("sqlite://"):
        return []
    return [f"DATABASE_URL: '{name}' {_reason(name)}" for name in parse_postgres_url(url).unused]


def _reason(name: str) -> str:
    if name == "channel_binding":
        return "cannot be required, the connection is made without; use sslmode=verify-full to know the server"
    return "is not known and has no effect"


def create_schema(schema: str) -> str:
    """The statement that makes a schema."""
    return f"CREATE SCHEMA IF NOT EXISTS {_quoted(schema)}"


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _tls(query: dict[str, str]) -> dict[str, Any]:
    mode = query.pop("sslmode", None)
    found = {name: query.pop(name) for name in _TLS if name in query}
    if "sslcert" in found and not {"sslkey", "sslrootcert"} & found.keys():
        found["sslrootcert"] = found.pop("sslcert")  # Prisma's name for the certificate of the server's authority
    if found.get("sslrootcert") == "system":
        found["sslrootcert"] = ssl.get_default_verify_paths().cafile or ""
    for name in _TLS_FILES:
        if name in found and not Path(found[name]).is_file():
            raise SettingsError(f"DATABASE_URL: {name}: there is no file {found[name]}")
    arguments: dict[str, Any] = {"ssl": "require" if mode == "no-verify" else mode} if mode else {}
    if found:
        arguments["dsn"] = f"postgresql://?{urlencode(found)}"
    return arguments


def _whole(query: dict[str, str], name: str) -> int | None:
    if name not in query:
        return None
    value = query.pop(name)
    if not (value.isascii() and value.isdigit() and len(value) < 10):
        raise SettingsError(f"DATABASE_URL: {name} must be a whole number")
    return int(value)


def _seconds(query: dict[str, str], name: str, default: float | None) -> float | None:
    """0 is no limit, for libpq and Prisma alike."""
    if name not in query:
        return default
    return float(_whole(query, name) or 0) or 86_400.0
