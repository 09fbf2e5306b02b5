"""The YAML file of the contract: `include`, `environment_variables`, `os.environ/NAME`, and its checked lists.

Every refusal is a `SettingsError` of one line: file, key, what is wrong, what to write instead. Values that file
and environment may both hold, as addresses, are checked here too.
"""

from __future__ import annotations

import difflib
import ipaddress
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from decimal import Decimal, InvalidOperation
from pathlib import Path
from types import MappingProxyType
from typing import Any
from urllib.parse import SplitResult, parse_qsl, urlsplit

import yaml

from ..security.masking import is_provider_secret, is_secret, masked_text, secret_texts, texts_in, without_values
from .config_keys import CONTRACT_KEYS, CONTRACT_VARIABLES, SUPPORTED_KEYS

Network = ipaddress.IPv4Network | ipaddress.IPv6Network

_REFERENCE = "os.environ/"
_REFERENCE_IN_TEXT = re.compile(r"os\.environ/([A-Za-z_][A-Za-z0-9_]*)")
_SECTIONS = ("general_settings", "litellm_settings", "router_settings")
_DURATION = re.compile(r"^\s*(\d+)\s*(s|m|h|d|w)\s*$")
_UNIT_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}
_SSL_MODES = ("disable", "allow", "prefer", "require", "verify-ca", "verify-full")
_DEPLOYMENT_KEYS = {"model_name", "litellm_params", "model_info", "rpm", "tpm", "weight"}
_WORKER_KEYS = {"worker_id", "name", "url", "labels", "environment"}


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
        return cls("environment", environment, sections={}, warnings=_warn_of_variables(environment))

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
    secret_values = frozenset(_secret_values(document, environment))
    try:
        return _checked_file(path, _resolve(document, environment), environment, secret_values)
    except SettingsError as problem:
        raise SettingsError(without_values(str(problem), secret_values)) from None


def _checked_file(
    path: Path, resolved: dict[str, Any], environment: dict[str, str], secret_values: frozenset[str]
) -> ConfigFile:
    _move_callback_settings(resolved)
    for section in _SECTIONS:
        if not isinstance(resolved.get(section) or {}, dict):
            raise SettingsError(f"{path.name}: {section}: is not a mapping; write `key: value` lines below it")
    file = ConfigFile(
        name=path.name,
        environment=environment,
        sections={section: resolved.get(section) or {} for section in _SECTIONS},
        workers=_workers(path.name, resolved.get("worker_registry")),
        model_list=_model_list(path.name, resolved.get("model_list")),
        credential_list=_credential_list(path.name, resolved.get("credential_list")),
        secret_values=secret_values,
    )
    file.warnings.extend([*_warn_of_keys(path.name, resolved), *_warn_of_variables(environment)])
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
    resolved = _resolve(variables, environ)
    return {str(key): str(value) for key, value in resolved.items() if value is not None}


def _resolve(value: Any, environ: Mapping[str, str]) -> Any:
    """Replace every `os.environ/NAME`, at any depth, by the variable or by None."""
    if isinstance(value, str):
        return environ.get(value.removeprefix(_REFERENCE)) if value.startswith(_REFERENCE) else value
    if isinstance(value, dict):
        return {key: _resolve(item, environ) for key, item in value.items()}
    if isinstance(value, list):
        return [_resolve(item, environ) for item in value]
    return value


def _secret_values(document: dict[str, Any], environment: Mapping[str, str]) -> Iterator[str]:
    """What no message may repeat: values of variables that the file names, and those under the names of secrets."""
    resolved = _resolve(document, environment)
    yield from _referenced(document, environment)
    yield from texts_in(resolved.get("environment_variables"))
    yield from secret_texts({section: resolved.get(section) for section in _SECTIONS})
    for list_name, key in (("model_list", "litellm_params"), ("credential_list", "credential_values")):
        rows = resolved.get(list_name)
        for row in rows if isinstance(rows, list) else ():
            params = row.get(key) if isinstance(row, dict) else None
            yield from secret_texts(params, lambda name, value: is_provider_secret(name) or is_secret("", value))


def _referenced(value: Any, environment: Mapping[str, str]) -> Iterator[str]:
    """The values of all `os.environ/NAME` in a file, inside longer texts too."""
    for text in texts_in(value):
        for name in _REFERENCE_IN_TEXT.findall(text) if _REFERENCE in text else ():
            yield environment.get(name) or ""


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


def _model_list(name: str, rows: Any) -> tuple[Mapping[str, Any], ...]:
    """Shape only; what a provider needs is checked where deployments are built."""
    if rows is None:
        return ()
    if not isinstance(rows, list):
        raise SettingsError(f"{name}: model_list: is not a list; write one `- model_name: …` entry per deployment")
    for index, row in enumerate(rows):
        where = f"{name}: model_list[{index}]"
        if not isinstance(row, dict) or not isinstance(row.get("model_name"), str):
            raise SettingsError(f"{where}.model_name: is missing; it is the name that clients ask for")
        params = row.get("litellm_params")
        if not isinstance(params, dict) or not isinstance(params.get("model"), str):
            raise SettingsError(f"{where}.litellm_params.model: is missing; write provider/model, as openai/gpt-4o")
        if not isinstance(row.get("model_info") or {}, dict):
            raise SettingsError(f"{where}.model_info: is not a mapping; write `mode: chat` lines below it")
    return tuple(rows)


def _credential_list(name: str, rows: Any) -> tuple[Mapping[str, Any], ...]:
    """Credentials that deployments name by `litellm_credential_name`; values that no variable gave are left out."""
    if rows is None:
        return ()
    if not isinstance(rows, list):
        raise SettingsError(f"{name}: credential_list: is not a list; write one `- credential_name: …` entry each")
    credentials: dict[str, Mapping[str, Any]] = {}
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
    return str(value).rstrip("/")


def database_address(value: Any) -> str:
    """A URL of PostgreSQL or of a SQLite file. Raises ValueError that says what is wrong."""
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
    if not str(value).startswith(("redis://", "rediss://", "unix://")):
        raise ValueError("is not a Redis address; use redis://host:6379/0")
    _split(value)
    return str(value)


def _split(value: Any) -> SplitResult:
    try:
        parts = urlsplit(str(value))
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


# ---- keys without effect -------------------------------------------------------------------------------------------


def _warn_of_keys(name: str, document: dict[str, Any]) -> list[str]:
    """One warning for keys of the contract that do nothing here yet, one for keys that nobody knows."""
    present = [str(key) for key, value in document.items() if key not in _SECTIONS and value not in (None, [], {})]
    for section in _SECTIONS:
        present.extend(f"{section}.{key}" for key in (document.get(section) or {}))
    for row in document.get("worker_registry") or []:
        present.extend(f"worker_registry.{key}" for key in row if key not in _WORKER_KEYS)
    for row in document.get("model_list") or []:
        present.extend(f"model_list.{key}" for key in row if key not in _DEPLOYMENT_KEYS)
        present.extend(f"litellm_params.{key}" for key in row["litellm_params"])
        present.extend(f"model_info.{key}" for key in row.get("model_info") or {})
    present = list(dict.fromkeys(present))
    waiting = [key for key in present if key in CONTRACT_KEYS and key not in SUPPORTED_KEYS]
    unknown = [
        key
        for key in present
        # A deployment may carry any parameter of the provider's own, and any fact about the model.
        if key not in CONTRACT_KEYS
        and key not in SUPPORTED_KEYS
        and not key.startswith(("litellm_params.", "model_info."))
    ]
    warnings = []
    if waiting:
        warnings.append(f"{name}: not supported yet and without effect: {', '.join(waiting)}")
    if unknown:
        warnings.append(f"{name}: unknown and without effect: {', '.join(_suggest(key) for key in unknown)}")
    return warnings


def _suggest(key: str) -> str:
    near = difflib.get_close_matches(key, SUPPORTED_KEYS, n=1, cutoff=0.8)
    return f"{key} (did you mean {near[0]}?)" if near else key


def _warn_of_variables(environment: Mapping[str, str]) -> list[str]:
    """One warning for the contract's variables that are set and do nothing here yet."""
    waiting = [name for name in CONTRACT_VARIABLES if environment.get(name)]
    return [f"environment: not supported yet and without effect: {', '.join(waiting)}"] if waiting else []
