"""The fields of a virtual key: what may be sent, and which columns it becomes.

Users and teams share the fields of their limits. Some fields have no column: they live in `metadata`, as the contract
has it, and are therefore replaced and kept with it.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from ...durations import life_ends_at, next_reset
from ...errors import ValidationFailed
from ...services import services
from ...web.fields import (
    Field,
    Table,
    bad_request,
    duration,
    flag,
    identifier,
    json_object,
    moment,
    money,
    one_of,
    records,
    text,
    text_list,
    whole,
)
from ..changes import VERSION
from ..settings.callback_fields import with_encrypted_callbacks

_SMALL = whole(highest=2**31 - 1)
_THROUGHPUT = one_of("guaranteed_throughput", "best_effort_throughput", "dynamic")

LIMITS: Table = {
    "models": text_list(),
    "max_budget": money(),
    "soft_budget": money(),
    "budget_duration": duration(),
    "model_max_budget": json_object(),
    "tpm_limit": whole(),
    "rpm_limit": whole(),
    "max_parallel_requests": _SMALL,
    "metadata": json_object(),
}

BUDGET_WINDOWS = records({"budget_duration": duration().required, "max_budget": money().required, "reset_at": moment()})

# Fields of a key that are kept inside its metadata.
IN_METADATA: Table = {
    "model_rpm_limit": json_object(),
    "model_tpm_limit": json_object(),
    "mcp_rpm_limit": json_object(),
    "tag_rpm_limit": json_object(),
    "rpm_limit_type": _THROUGHPUT,
    "tpm_limit_type": _THROUGHPUT,
    "tags": text_list(),
    "guardrails": text_list(),
    "prompts": text_list(),
    "enforced_params": text_list(),
    "allowed_passthrough_routes": text_list(),
    "denied_passthrough_routes": text_list(),
    "throttle_on_budget_exceeded": flag(),
    "disable_global_guardrails": flag(),
    "end_user_budget_id": identifier(),
    "temp_budget_increase": money(),
    "temp_budget_expiry": moment(),
}

KEY_TYPES = {
    "default": [],
    "llm_api": ["llm_api_routes"],
    "management": ["management_routes"],
    "read_only": ["info_routes"],
}

_LIFE = Field(text(64).read)

KEY: Table = {
    **LIMITS,
    **IN_METADATA,
    "key_alias": identifier(),
    "duration": _LIFE,
    "aliases": json_object(),
    "config": json_object(),
    "router_settings": json_object(),
    "permissions": json_object(),
    "spend": money(),
    "budget_limits": BUDGET_WINDOWS,
    "budget_id": identifier(),
    "budget_fallbacks": json_object(),
    "user_id": identifier(),
    "team_id": identifier(),
    "organization_id": identifier(),
    "project_id": identifier(),
    "agent_id": identifier(),
    "tpd_limit": whole(),
    "allowed_cache_controls": text_list(),
    "allowed_routes": text_list(),
    "key_type": one_of(*KEY_TYPES),
    "policies": text_list(),
    "access_group_ids": text_list(),
    "blocked": flag(),
    "auto_rotate": flag(),
    "rotation_interval": duration(),
}

NEW_KEY: Table = {**KEY, "key": text()}
CHANGED_KEY: Table = {**KEY, **VERSION, "key": text()}

# Once set, a service account's id stays with its key, whatever happens to the metadata.
_KEPT_IN_METADATA = ("service_account_id",)


def key_columns(sent: Mapping[str, Any], metadata: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """The columns that a request sets, and only those. `metadata` is what a changed key has so far.

    Raises 400 for a life or period that is no duration, 422 for a temporary increase without its end.
    """
    now = datetime.now(UTC)
    columns = {name: sent[name] for name in sent if name in KEY and name not in IN_METADATA and name != "duration"}
    if "duration" in sent:
        columns["expires"] = _expiry(sent["duration"], now)
    if "budget_duration" in sent:
        columns["budget_reset_at"] = reset_of(sent["budget_duration"], now)
    if sent.get("budget_limits"):
        columns["budget_limits"] = [_window(window, now) for window in sent["budget_limits"]]
    if sent.get("key_type"):
        columns["allowed_routes"] = sent.get("allowed_routes") or KEY_TYPES[sent["key_type"]]
    if "rotation_interval" in sent:
        columns["key_rotation_at"] = _expiry(sent["rotation_interval"], now)
    if "spend" in sent and sent["spend"] is None:
        del columns["spend"]
    merged = _metadata(sent, metadata or {})
    if merged is not None:
        columns["metadata"] = merged
    return columns


def reset_of(period: str | None, now: datetime) -> datetime | None:
    """When a budget of this period starts anew on the calendar of this instance; None without one. Raises 400."""
    if period is None:
        return None
    try:
        return next_reset(period, now, services().settings.budget_calendar)
    except ValueError as problem:
        raise bad_request(f"Invalid budget_duration: {problem}", "budget_duration") from None


def _expiry(life: str | None, now: datetime) -> datetime | None:
    """Null, "" and "-1" mean never."""
    if life is None or life.strip() in ("", "-1"):
        return None
    try:
        return life_ends_at(life, now)
    except ValueError as problem:
        raise bad_request(f"Invalid duration: {problem}", "duration") from None


def _window(window: Mapping[str, Any], now: datetime) -> dict[str, Any]:
    reset_at = window.get("reset_at") or reset_of(window["budget_duration"], now)
    return {
        "budget_duration": window["budget_duration"],
        "max_budget": None if window["max_budget"] is None else float(window["max_budget"]),
        "reset_at": reset_at.isoformat() if reset_at else None,
    }


def _metadata(sent: Mapping[str, Any], stored: Mapping[str, Any]) -> dict[str, Any] | None:
    """The metadata after a request; None when it does not touch them."""
    moved = {name: _as_json(sent[name]) for name in IN_METADATA if name in sent}
    if ("temp_budget_increase" in moved) != ("temp_budget_expiry" in moved):
        raise ValidationFailed([("temp_budget_expiry", "Send temp_budget_increase and temp_budget_expiry together")])
    if "metadata" not in sent and not moved:
        return None
    base = with_encrypted_callbacks(sent["metadata"] or {}, stored) if "metadata" in sent else dict(stored)
    base.update({name: stored[name] for name in _KEPT_IN_METADATA if name in stored})
    base.update(moved)
    return {name: value for name, value in base.items() if name not in moved or value is not None}


def _as_json(value: Any) -> Any:
    if isinstance(value, datetime):
        return value.isoformat()
    return value if value is None or isinstance(value, str | bool | int | list | dict) else float(value)
