"""Where events of calls go: the callbacks of the settings, and those that a key or a team brings along."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from ..security.callback_credentials import decrypted_variables
from ..settings import Settings
from ..settings.callbacks import header_lines, is_allowed
from ..settings.config_file import http_address

Kind = Literal["langfuse", "events"]

LANGFUSE = ("langfuse", "langfuse_otel")
EVENTS = ("generic_api", "webhook")
# Names that another part of the product implements.
ELSEWHERE = frozenset({"prometheus", "otel", "opentelemetry"})
_LANGFUSE_CLOUD = "https://cloud.langfuse.com"
_TRACES = "/api/public/otel/v1/traces"


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """One receiver of events. `is_redacted`: it gets neither prompts nor answers. `is_of_caller`: a tenant's own."""

    name: str
    kind: Kind
    url: str = field(repr=False)
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    on_success: bool = True
    on_failure: bool = True
    is_redacted: bool = False
    is_of_caller: bool = False

    def receives(self, is_success: bool) -> bool:
        return self.on_success if is_success else self.on_failure


@dataclass(frozen=True, slots=True)
class Plan:
    """The receivers of the settings, the names that are unknown, and those that lack an address or a key."""

    targets: tuple[Target, ...]
    unknown: tuple[str, ...]
    incomplete: tuple[str, ...]


def configured_targets(settings: Settings) -> Plan:
    """What `callbacks`, `success_callback` and `failure_callback` name."""
    always, success, failure = settings.callbacks, settings.success_callback, settings.failure_callback
    targets: list[Target] = []
    unknown: list[str] = []
    incomplete: list[str] = []
    for name in dict.fromkeys((*always, *success, *failure)):
        if name in ELSEWHERE:
            continue
        occasions = {"on_success": name in always or name in success, "on_failure": name in always or name in failure}
        try:
            target = _configured(name, settings, occasions)
        except ValueError:
            target = None
            incomplete.append(name)
        else:
            unknown.extend(() if target else (name,))
        targets.extend((target,) if target else ())
    return Plan(tuple(targets), tuple(unknown), tuple(incomplete))


def _configured(name: str, settings: Settings, occasions: Mapping[str, bool]) -> Target | None:
    """None for a name that means nothing here. Raises ValueError for one that lacks something."""
    redacted = settings.turn_off_message_logging
    own = (settings.callback_settings or {}).get(name)
    if isinstance(own, Mapping) and own.get("callback_type", "generic_api") in EVENTS and own.get("endpoint"):
        headers = dict(header_lines(own.get("headers") or {}))
        redacted = redacted or own.get("turn_off_message_logging") is True
        return _events(name, str(own["endpoint"]), headers, occasions, redacted)
    if name in LANGFUSE:
        host = settings.langfuse_host or _LANGFUSE_CLOUD
        return _langfuse(name, host, settings.langfuse_public_key, settings.langfuse_secret_key, occasions, redacted)
    if name in EVENTS:
        own_endpoint = settings.generic_logger_endpoint if name == "generic_api" else None
        headers = dict(settings.generic_logger_headers) if own_endpoint else {}
        return _events(name, own_endpoint or settings.webhook_url, headers, occasions, redacted)
    return None


def _events(
    name: str, url: str | None, headers: Mapping[str, str], occasions: Mapping[str, bool], is_redacted: bool
) -> Target:
    if not url:
        raise ValueError("has no address")
    return Target(
        name=name, kind="events", url=http_address(url), headers=headers, is_redacted=is_redacted, **occasions
    )


def _langfuse(
    name: str,
    host: str,
    public_key: str | None,
    secret_key: str | None,
    occasions: Mapping[str, bool],
    is_redacted: bool,
) -> Target:
    if not public_key or not secret_key:
        raise ValueError("has no keys")
    credential = base64.b64encode(f"{public_key}:{secret_key}".encode()).decode()
    return Target(
        name=name,
        kind="langfuse",
        url=http_address(host if "://" in host else f"https://{host}") + _TRACES,
        headers={"Authorization": f"Basic {credential}"},
        is_redacted=is_redacted,
        **occasions,
    )


def caller_target(entry: Mapping[str, Any], settings: Settings) -> Target | None:
    """The receiver that a key or a team named; None for one that cannot be served.

    Its host must be one that the operator named: rows may be older than that rule.
    """
    name, kind = str(entry.get("callback_name")), entry.get("callback_type")
    variables = decrypted_variables(entry, settings.salt_key)
    occasions = {"on_success": kind != "failure", "on_failure": kind != "success"}
    redacted = settings.turn_off_message_logging or _is_true(variables.get("turn_off_message_logging"))
    try:
        if name in LANGFUSE:
            host = _first(variables, "langfuse_host") or settings.langfuse_host
            secret = _first(variables, "langfuse_secret_key", "langfuse_secret")
            public = _first(variables, "langfuse_public_key")
            target = _langfuse(name, host or _LANGFUSE_CLOUD, public, secret, occasions, redacted)
        elif name in EVENTS:
            headers = dict(header_lines(variables.get("headers") or {}))
            url = _first(variables, "endpoint", "webhook_url", "generic_api_endpoint")
            target = _events(name, url, headers, occasions, redacted)
        else:
            return None
    except ValueError:
        return None
    return replace(target, is_of_caller=True) if is_allowed(target.url, settings.callback_origins) else None


def _first(variables: Mapping[str, str], *names: str) -> str | None:
    return next((variables[name] for name in names if variables.get(name)), None)


def _is_true(value: str | None) -> bool:
    return value is not None and value.strip().lower() in ("true", "1", "yes")


def named(targets: Iterable[Target]) -> dict[str, list[str]]:
    """`success`, `failure` or `success_and_failure` -> names, as dashboards ask."""
    listed: dict[str, list[str]] = {"success": [], "failure": [], "success_and_failure": []}
    for target in targets:
        both = target.on_success and target.on_failure
        listed["success_and_failure" if both else "success" if target.on_success else "failure"].append(target.name)
    return listed
