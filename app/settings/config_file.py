"""The YAML file of the contract: `include`, `environment_variables`, `os.environ/NAME`, and its checked lists.

Every refusal is a `SettingsError` of one line: file, key, what is wrong, what to write instead. Values that file
and environment may both hold, as addresses, are checked here too.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from decimal import Decimal, InvalidOperation
from pathlib import Path
from types import MappingProxyType
from typing import Any
from urllib.parse import SplitResult, parse_qsl, urlsplit

import yaml

from ..security.masking import masked_text, without_values
from .file_warnings import SECTIONS, drop_unknown_kinds, entry_problem, warn_of_keys, warn_of_unset, warn_of_variables
from .references import decides_target, resolve, secret_values_of

Network = ipaddress.IPv4Network | ipaddress.IPv6Network

_DURATION = re.compile(r"^\s*(\d+)\s*(s|m|h|d|w)\s*$")
_UNIT_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}
_SSL_MODES = ("disable", "allow", "prefer", "require", "verify-ca", "verify-full")


class SettingsError(Exception):
    """The configuration cannot be used. The message is one line for the person who starts the instance.

    It ends in logs of platforms that many can read, so what looks like a secret in it is masked; what is known to
    be one, the reader of the file takes out (`secret_values`).
    """

    def __init__(self, message: str) -> None:
        super().__init__(masked_text(message))


@dataclass(frozen=True)
class WorkerEntry:
    """One row of `worker_registry`. `labels` and `environment` are ours; the contract has the first three."""

    worker_id: str
    name: str
    url: str
    labels: Mapping[str, str] = field(default_factory=dict)
    environment: str | None = None


@dataclass
class ConfigFile:
    """A file after includes and variables: plain sections plus the lists that have a shape of their own."""

    name: str
    environment: dict[str, str]
    sections: dict[str, Any]
    workers: tuple[WorkerEntry, ...] = ()
    model_list: tuple[Mapping[str, Any], ...] = ()
    credential_list: tuple[Mapping[str, Any], ...] = field(default=(), repr=False)
    warnings: list[str] = field(default_factory=list)
    secret_values: frozenset[str] = field(default=frozenset(), repr=False)

    @classmethod
    def empty(cls, environment: dict[str, str]) -> ConfigFile:
        return cls("environment", environment, sections={}, warnings=warn_of_variables(environment))

    def get(self, dotted: str) -> Any:
        """The value under `section.key`, or None."""
        section, _, key = dotted.partition(".")
        mapping = self.sections.get(section)
        return mapping.get(key) if isinstance(mapping, dict) else None


def read_config_file(path: Path, environ: Mapping[str, str]) -> ConfigFile:
    """Read, include, resolve and check one file. `environ` is the process environment."""
    document = _read_mapping(path, path.parent, seen=())
    environment = dict(environ)
    environment.update(_environment_variables(path.name, document, environment))
    secret_values = frozenset(secret_values_of(document, environment, SECTIONS))
    try:
        return _checked_file(path, document, environment, secret_values)
    except SettingsError as problem:
        raise SettingsError(without_values(str(problem), secret_values)) from None


def _checked_file(
    path: Path, document: dict[str, Any], environment: dict[str, str], secret_values: frozenset[str]
) -> ConfigFile:
    unset: dict[str, str] = {}
    resolved = resolve(document, environment, unset)
    _move_callback_settings(resolved)
    for section in SECTIONS:
        if not isinstance(resolved.get(section) or {}, dict):
            raise SettingsError(f"{path.name}: {section}: is not a mapping; write `key: value` lines below it")
    file = ConfigFile(
        name=path.name,
        environment=environment,
        sections={},
        workers=_workers(path.name, resolved.get("worker_registry")),
        model_list=_model_list(path.name, resolved.get("model_list"), unset),
        credential_list=_credential_list(path.name, resolved.get("credential_list"), unset),
        secret_values=secret_values,
    )
    # After the lists were checked: these walk through their entries.
    file.warnings.extend([*warn_of_keys(path.name, resolved), *warn_of_unset(path.name, unset)])
    file.warnings.extend([*drop_unknown_kinds(path.name, resolved), *warn_of_variables(environment)])
    file.sections = {section: resolved.get(section) or {} for section in SECTIONS}
    return file


def _read_mapping(path: Path, root: Path, seen: tuple[Path, ...]) -> dict[str, Any]:
    if path.resolve() in seen:
        raise SettingsError(f"{path.name}: include: includes itself by way of {seen[-1].name}; remove one of the two")
    try:
        document = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as problem:
        raise SettingsError(f"{path}: cannot be read ({problem.strerror}); check --config or include") from None
    except (yaml.YAMLError, UnicodeDecodeError) as problem:
        where = getattr(problem, "problem_mark", None)
        line = f" line {where.line + 1}" if where else ""
        raise SettingsError(f"{path.name}:{line} is not valid YAML; check indentation and quotes") from None
    if document is None:
        return {}
    if not isinstance(document, dict):
        raise SettingsError(f"{path.name}: the file is not a mapping; start it with keys such as model_list:")
    return _with_includes(document, path, root, (*seen, path.resolve()))


def _with_includes(document: dict[str, Any], path: Path, root: Path, seen: tuple[Path, ...]) -> dict[str, Any]:
    """Merge the named files below this one: lists are appended, mappings merged, and for a scalar this file wins."""
    names = document.pop("include", None) or []
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise SettingsError(f"{path.name}: include: is not a list of file names; write `include: [models.yaml]`")
    for name in names:
        candidate = path.parent / name
        if not candidate.is_file():
            candidate = root / name
        document = _merge(document, _read_mapping(candidate, root, seen))
    return document


def _merge(over: dict[str, Any], under: dict[str, Any]) -> dict[str, Any]:
    merged = dict(under)
    for key, value in over.items():
        beneath = merged.get(key)
        if isinstance(value, dict) and isinstance(beneath, dict):
            merged[key] = _merge(value, beneath)
        elif isinstance(value, list) and isinstance(beneath, list):
            merged[key] = [*value, *beneath]
        else:
            merged[key] = value
    return merged


def _environment_variables(name: str, document: dict[str, Any], environ: Mapping[str, str]) -> dict[str, str]:
    """`environment_variables:` joins the environment before anything else is resolved."""
    variables = document.get("environment_variables") or {}
    if not isinstance(variables, dict):
        raise SettingsError(f"{name}: environment_variables: is not a mapping; write `NAME: value` lines below it")
    resolved = resolve(variables, environ, {})
    return {str(key): str(value) for key, value in resolved.items() if value is not None}


def _workers(name: str, rows: Any) -> tuple[WorkerEntry, ...]:
    if rows is None:
        return ()
    if not isinstance(rows, list):
        raise SettingsError(f"{name}: worker_registry: is not a list; write one `- worker_id: …` entry per worker")
    workers: list[WorkerEntry] = []
    for index, row in enumerate(rows):
        where = f"{name}: worker_registry[{index}]"
        if not isinstance(row, dict):
            raise SettingsError(f"{where}: is not a mapping; it needs worker_id, name and url")
        for key in ("worker_id", "name", "url"):
            if not isinstance(row.get(key), str) or not row[key].strip():
                raise SettingsError(f"{where}.{key}: is missing; every worker needs worker_id, name and url")
        if any(row["worker_id"] == worker.worker_id for worker in workers):
            raise SettingsError(f"{where}.worker_id: {row['worker_id']!r} is used twice; give each worker its own")
        if "/" in row["worker_id"]:
            raise SettingsError(f"{where}.worker_id: {row['worker_id']!r} has a slash; it becomes part of an address")
        workers.append(_worker(where, row))
    return tuple(workers)


def _worker(where: str, row: dict[str, Any]) -> WorkerEntry:
    if "@" in row["url"].partition("://")[2].partition("/")[0]:
        raise SettingsError(f"{where}.url: holds a user name or password; people sign in to a worker in the console")
    try:
        url = http_address(row["url"])
    except ValueError as problem:
        raise SettingsError(f"{where}.url: {row['url']!r} {problem}") from None
    labels = row.get("labels") or {}
    if not isinstance(labels, dict):
        raise SettingsError(f"{where}.labels: is not a mapping; write `region: eu-west-1` lines below it")
    environment = row.get("environment")
    return WorkerEntry(
        worker_id=row["worker_id"],
        name=row["name"],
        url=url,
        labels=MappingProxyType({str(key): str(value) for key, value in labels.items()}),
        environment=str(environment) if environment else None,
    )


def _model_list(name: str, rows: Any, unset: Mapping[str, str]) -> tuple[Mapping[str, Any], ...]:
    """Shape only; what a provider needs is checked where deployments are built.

    An entry that cannot be read has a `problem`, and so has one whose target or credential no variable gave: it is
    for the catalog to leave that one out, and to serve the others.
    """
    if rows is None:
        return ()
    if not isinstance(rows, list):
        raise SettingsError(f"{name}: model_list: is not a list; write one `- model_name: …` entry per deployment")
    entries: list[Mapping[str, Any]] = []
    for index, row in enumerate(rows):
        problem = _unset_target(f"model_list[{index}].", unset) or entry_problem(row)
        entries.append(row if problem is None else {**_readable(row), "problem": problem})
    return tuple(entries)


def _readable(row: Any) -> dict[str, Any]:
    """As much of an entry as can be shown: a name, parameters and facts."""
    given = row if isinstance(row, dict) else {}
    sections = {key: given[key] if isinstance(given.get(key), dict) else {} for key in ("litellm_params", "model_info")}
    return {"model_name": str(given.get("model_name") or ""), **sections}


def _unset_target(place: str, unset: Mapping[str, str]) -> str | None:
    """The variable that an entry needs and that is not set: it would leave open where calls go, or as whom."""
    for path, variable in unset.items():
        key = path.removeprefix(place)
        if key != path and decides_target(key):
            return f"{key}: the variable {variable} is not set; set it, or take the line out"
    return None


def _credential_list(name: str, rows: Any, unset: Mapping[str, str]) -> tuple[Mapping[str, Any], ...]:
    """Credentials that deployments name by `litellm_credential_name`.

    Values that no variable gave are left out; where calls go or as whom is then a `problem` of whoever names it.
    """
    if rows is None:
        return ()
    if not isinstance(rows, list):
        raise SettingsError(f"{name}: credential_list: is not a list; write one `- credential_name: …` entry each")
    credentials: dict[str, dict[str, Any]] = {}
    for index, row in enumerate(rows):
        where = f"{name}: credential_list[{index}]"
        if not isinstance(row, dict) or not isinstance(row.get("credential_name"), str) or not row["credential_name"]:
            raise SettingsError(f"{where}.credential_name: is missing; deployments refer to it")
        if row["credential_name"] in credentials:
            raise SettingsError(f"{where}.credential_name: {row['credential_name']!r} is used twice")
        values, info = row.get("credential_values"), row.get("credential_info") or {}
        if not isinstance(values, dict) or not isinstance(info, dict):
            raise SettingsError(f"{where}.credential_values: is not a mapping; write `api_key: …` lines below it")
        present = {key: value for key, value in values.items() if value is not None}
        credentials[row["credential_name"]] = {**row, "credential_values": present, "credential_info": info}
        problem = _unset_target(f"credential_list[{index}].", unset)
        if problem is not None:
            credentials[row["credential_name"]]["problem"] = problem
    return tuple(credentials.values())


# ---- values that file and environment may both hold ----------------------------------------------------------------


def money(value: Any) -> Decimal:
    try:
        amount = Decimal(str(value))
    except InvalidOperation:
        raise ValueError("is not an amount in USD, as 1.50") from None
    if not amount.is_finite() or amount < 0:
        raise ValueError("must be zero or more USD")
    return amount


def duration(value: Any) -> timedelta:
    match = _DURATION.match(str(value))
    if match is None:
        raise ValueError("is not a duration; write a number and a unit, as 30s, 10m, 24h or 7d")
    seconds = int(match[1]) * _UNIT_SECONDS[match[2]]
    if not 0 < seconds <= 3650 * 86400:
        raise ValueError("must be more than zero and at most 3650d")
    return timedelta(seconds=seconds)


def http_address(value: Any) -> str:
    """An http or https address without the slash at its end. Raises ValueError that says what is wrong."""
    parts = _split(value)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError("is not an address; it starts with http:// or https://")
    return str(value).strip().rstrip("/")


def database_address(value: Any) -> str:
    """A URL of PostgreSQL or of a SQLite file. Raises ValueError that says what is wrong."""
    value = str(value).strip()
    scheme, _, rest = str(value).partition("://")
    if scheme not in ("postgres", "postgresql", "sqlite"):
        raise ValueError("is not a database we speak; use postgres://user:password@host/name or sqlite:///path/file.db")
    if scheme == "sqlite":
        if rest.strip("/") in ("", ":memory:"):
            raise ValueError("names no file; write sqlite:///path/file.db")
        return str(value)
    mode = dict(parse_qsl(_split(value).query)).get("sslmode")
    if mode is not None and mode not in _SSL_MODES:
        raise ValueError(f"has an unknown sslmode; use one of {', '.join(_SSL_MODES)}")
    return str(value)


def network_ranges(value: Any) -> tuple[Network, ...]:
    """Networks or single addresses, as a list or with commas. Raises ValueError that names the first wrong one."""
    items = value if isinstance(value, list) else [item for item in str(value).split(",") if item.strip()]
    try:
        return tuple(ipaddress.ip_network(str(item).strip(), strict=False) for item in items)
    except ValueError:
        raise ValueError("is not a list of networks; write [10.0.0.0/8, 192.0.2.7]") from None


def redis_address(value: Any) -> str:
    value = str(value).strip()
    if not str(value).startswith(("redis://", "rediss://", "unix://")):
        raise ValueError("is not a Redis address; use redis://host:6379/0")
    _split(value)
    return str(value)


def _split(value: Any) -> SplitResult:
    try:
        parts = urlsplit(str(value).strip())
        _ = parts.port  # parsed on access only
    except ValueError:
        raise ValueError("cannot be read; check the port, and write special characters as %XX") from None
    return parts


def _move_callback_settings(document: dict[str, Any]) -> None:
    """The field knows `callback_settings` at the top of the file as well."""
    own = document.get("callback_settings")
    section = document.get("litellm_settings") or {}
    if own and isinstance(section, dict) and "callback_settings" not in section:
        document["litellm_settings"] = {**section, "callback_settings": own}
