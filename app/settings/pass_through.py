"""Settings of pass-through: addresses of this instance that relay to an address somewhere else.

Pure: the reader of one entry of `general_settings.pass_through_endpoints`, and the part of `Settings` that holds them.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from decimal import Decimal
from types import MappingProxyType
from typing import Any, TypeVar
from urllib.parse import urlsplit

from .config_file import http_address, money
from .declaration import boolean, positive, setting
from .header_rules import check_written

_Read = TypeVar("_Read")

METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE")

_REFERENCE = re.compile(r"os\.environ/([A-Za-z_][A-Za-z0-9_]*)")


@dataclass(frozen=True, slots=True, kw_only=True)
class PassThroughEndpoint:
    """One configured address. `query` goes along unless the caller says otherwise, `cost_per_request` is USD.

    `is_public`: anyone may call it. `timeout`: seconds of silence. `methods` None: all of METHODS.
    """

    path: str
    target: str = field(repr=False)
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    query: Mapping[str, str] = field(default_factory=dict, repr=False)
    is_public: bool = False
    has_subpaths: bool = False
    forwards_headers: bool = False
    merges_query: bool = False
    cost_per_request: Decimal = Decimal(0)
    timeout: float | None = None
    methods: frozenset[str] | None = None

    def __str__(self) -> str:
        """Where it leads, without its credentials."""
        return f"{self.path} -> {urlsplit(self.target).hostname}"

    def resolved(self, environment: Mapping[str, str]) -> PassThroughEndpoint:
        """The same with each `os.environ/NAME` inside a header replaced; a header whose variable is missing is dropped.

        For entries of the file only: who stores one over the API must not read the environment by it.
        """
        headers = {name: _filled(value, environment) for name, value in self.headers.items()}
        return replace(self, headers={name: value for name, value in headers.items() if value is not None})


def _filled(value: str, environment: Mapping[str, str]) -> str | None:
    names = _REFERENCE.findall(value)
    if any(not environment.get(name) for name in names):
        return None
    return _REFERENCE.sub(lambda match: environment[match[1]].strip(), value)


def read_endpoint(row: Any) -> PassThroughEndpoint:
    """One entry as it was written. Raises ValueError that says what is wrong, never with a value of a header."""
    if not isinstance(row, Mapping):
        raise ValueError("has an entry that is no mapping; it needs path and target")
    path = _path(row.get("path"))
    try:
        return PassThroughEndpoint(
            path=path,
            target=_named("target", _target, row.get("target")),
            headers=_headers(row.get("headers")),
            query=_texts("default_query_params", row.get("default_query_params")),
            is_public=not _flag(row, "auth", default=True),
            has_subpaths=_flag(row, "include_subpath"),
            forwards_headers=_flag(row, "forward_headers"),
            merges_query=_flag(row, "merge_query_params"),
            cost_per_request=_cost(row.get("cost_per_request")),
            timeout=None if row.get("timeout") is None else _named("timeout", positive, row["timeout"]),
            methods=_methods(row.get("methods")),
        )
    except ValueError as problem:
        raise ValueError(f"has an entry for {path} that cannot be used: {problem}") from None


def _named(name: str, read: Callable[[Any], _Read], value: Any) -> _Read:
    """What a reader makes of one field. Raises ValueError that names the field and does not repeat its value."""
    try:
        return read(value)
    except ValueError as problem:
        raise ValueError(f"{name} {problem}") from None


def _path(value: Any) -> str:
    """The path without the slash at its end; one without a slash in front gets it."""
    path = value.strip().rstrip("/") if isinstance(value, str) else ""
    path = f"/{path}" if path and not path.startswith("/") else path
    if not path.startswith("/") or "//" in path or not path.isascii() or not path.isprintable():
        raise ValueError("has an entry without a path; write `path: /v1/rerank`")
    if any(character in path for character in "?#\\%<>{} ") or {".", ".."} & set(path.split("/")):
        raise ValueError("has a path that is no plain path; write `path: /v1/rerank`")
    return path


def _target(value: Any) -> str:
    target = http_address(value)
    parts = urlsplit(target)
    if parts.username or parts.password or parts.fragment:
        raise ValueError("holds more than an address; put a credential into headers")
    return target


def _headers(value: Any) -> Mapping[str, str]:
    headers = _texts("headers", value)
    try:
        check_written(headers)
    except ValueError as problem:
        raise ValueError(f"headers {problem}") from None
    return headers


def _texts(name: str, value: Any) -> Mapping[str, str]:
    if value is None:
        return MappingProxyType({})
    if not isinstance(value, Mapping) or not all(isinstance(key, str) for key in value):
        raise ValueError(f"{name} is not a mapping")
    if any(isinstance(item, Mapping | list) for item in value.values()):
        raise ValueError(f"{name} holds more than texts")
    return MappingProxyType({key: str(item).strip() for key, item in value.items() if item is not None})


def _flag(row: Mapping[str, Any], name: str, *, default: bool = False) -> bool:
    value = row.get(name)
    return default if value is None else _named(name, boolean, value)


def _cost(value: Any) -> Decimal:
    amount = Decimal(0) if value is None else _named("cost_per_request", money, value)
    if amount > 1_000_000:
        raise ValueError("cost_per_request is more than 1000000 USD")
    return amount


def _methods(value: Any) -> frozenset[str] | None:
    if value is None:
        return None
    methods = frozenset(str(method).upper() for method in value) if isinstance(value, list | tuple) else frozenset()
    if not methods or not methods <= set(METHODS):
        raise ValueError(f"methods is not a list of {', '.join(METHODS)}")
    return methods


def endpoints(value: Any) -> tuple[PassThroughEndpoint, ...]:
    """All entries. Raises ValueError also for a path that two of them have."""
    if not isinstance(value, list | tuple):
        raise ValueError("is not a list; write one `- path: …` entry per endpoint")
    entries = tuple(read_endpoint(row) for row in value)
    paths = [entry.path for entry in entries]
    for path in paths:
        if paths.count(path) > 1:
            raise ValueError(f"has two entries for {path}")
    return entries


@dataclass(frozen=True, kw_only=True)
class PassThroughSettings:
    """What is relayed to where, and the timeout of the other side."""

    pass_through_endpoints: tuple[PassThroughEndpoint, ...] = setting(
        "Addresses of this instance that relay to another one, as `[{path: /v1/rerank, target: https://…}]`.",
        endpoints,
        (),
        yaml="general_settings.pass_through_endpoints",
        runtime=True,
    )
    pass_through_timeout: float = setting(
        "Seconds of silence after which a pass-through call counts as dead.",
        positive,
        600.0,
        yaml="general_settings.pass_through_request_timeout",
        runtime=True,
    )
