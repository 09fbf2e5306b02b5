"""The fields of a team: what may be sent, and which columns it becomes.

Some fields have no column: they live in `metadata`, as with keys. The defaults for members are a budget row of their
own, which the metadata name. What the API keeps in the metadata for itself no request can replace.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from ...models import Team
from ...security.callback_credentials import CALLBACKS, OLD_CALLBACKS
from ...web.fields import (
    Table,
    bad_request,
    duration,
    email,
    flag,
    identifier,
    json_object,
    money,
    one_of,
    text_list,
    whole,
)
from ..keys.fields import BUDGET_WINDOWS, IN_METADATA, LIMITS, key_columns, reset_of
from ..settings.callback_fields import with_encrypted_callbacks
from .rows import DEFAULT_BUDGET

MEMBER: Table = {"role": one_of("admin", "user"), "user_id": identifier(), "user_email": email()}

# Fields of a team that are kept inside its metadata.
IN_TEAM_METADATA: Table = {
    **{
        name: IN_METADATA[name]
        for name in (
            "model_rpm_limit",
            "model_tpm_limit",
            "rpm_limit_type",
            "tpm_limit_type",
            "tags",
            "guardrails",
            "prompts",
            "allowed_passthrough_routes",
            "disable_global_guardrails",
        )
    },
    "team_member_key_duration": duration(),
}

# Field of a team -> column of the budget that holds for members without one of their own.
OF_MEMBER_BUDGET = {
    "team_member_budget": "max_budget",
    "team_member_budget_duration": "budget_duration",
    "team_member_rpm_limit": "rpm_limit",
    "team_member_tpm_limit": "tpm_limit",
}

# Fields of a team that are columns of its row.
COLUMNS: Table = {
    **LIMITS,
    "team_alias": identifier(),
    "organization_id": identifier(),
    "model_aliases": json_object(),
    "default_team_member_models": text_list(),
    "team_member_permissions": text_list(),
    "access_group_ids": text_list(),
    "router_settings": json_object(),
    "budget_limits": BUDGET_WINDOWS,
    "tpd_limit": whole(),
    "blocked": flag(),
}

TEAM: Table = {
    **COLUMNS,
    **IN_TEAM_METADATA,
    "team_member_budget": money(),
    "team_member_budget_duration": duration(),
    "team_member_rpm_limit": whole(),
    "team_member_tpm_limit": whole(),
}

# What an admin of a team may change: nothing that raises its ceilings. A lower max_budget is allowed besides.
EDITABLE_BY_TEAM_ADMINS = ("team_alias", "metadata", "team_member_permissions", "default_team_member_models")

# Metadata that only the API writes.
_RESERVED = (DEFAULT_BUDGET,)

# What a team may permit its members; the first two they may always.
ALWAYS_PERMITTED = ("/key/info", "/key/health")
MEMBER_PERMISSIONS = (
    *ALWAYS_PERMITTED,
    "/key/list",
    "/key/aliases",
    "/v2/key/info",
    "/key/generate",
    "/key/service-account/generate",
    "/key/update",
    "/key/bulk_update",
    "/key/delete",
    "/key/block",
    "/key/unblock",
    "/key/regenerate",
    "/key/{key_id}/regenerate",
    "/key/{key_id}/reset_spend",
    "/team/daily/activity",
    "/team/daily/activity/aggregated",
    "/spend/logs",
)


def team_columns(
    sent: Mapping[str, Any], team: Team | None = None, *, is_merge: bool = False, is_restricted: bool = False
) -> dict[str, Any]:
    """The columns that a request sets, and only those. `team` is None for a new one. Raises 400.

    `is_merge`: metadata are merged (RFC 7396) instead of replaced. `is_restricted`: limits inside the metadata stay.
    """
    columns = {name: sent[name] for name in COLUMNS if name in sent and name != "metadata"}
    if "budget_duration" in sent:
        columns["budget_reset_at"] = reset_of(sent["budget_duration"], datetime.now(UTC))
    if sent.get("budget_limits"):
        columns["budget_limits"] = key_columns({"budget_limits": sent["budget_limits"]})["budget_limits"]
    ceiling = columns.get("max_budget", team.max_budget if team else None)
    soft = columns.get("soft_budget", team.soft_budget if team else None)
    if ceiling is not None and soft is not None and soft >= ceiling:
        raise bad_request(
            f"soft_budget ({plain(soft)}) must be lower than max_budget ({plain(ceiling)})", "soft_budget"
        )
    check_permissions(columns.get("team_member_permissions") or ())
    stored = team.metadata if team is not None else {}
    metadata = _metadata(sent, stored, is_merge=is_merge, kept=tuple(IN_TEAM_METADATA) if is_restricted else ())
    if metadata is not None:
        columns["metadata"] = metadata
    return columns


def check_permissions(permissions: Iterable[str]) -> None:
    """Raises 400 for a text that is no permission: it would make nothing possible, and look as if it did."""
    for permission in permissions:
        if permission not in MEMBER_PERMISSIONS:
            known = ", ".join(MEMBER_PERMISSIONS)
            raise bad_request(f"'{permission[:80]}' is no permission; use {known}", "team_member_permissions")


def _metadata(
    sent: Mapping[str, Any], stored: Mapping[str, Any], *, is_merge: bool, kept: tuple[str, ...]
) -> dict[str, Any] | None:
    """The metadata after a request; None when it does not touch them."""
    moved = {name: json_value(sent[name]) for name in IN_TEAM_METADATA if name in sent}
    if "metadata" not in sent and not moved:
        return None
    given = sent.get("metadata") or {}
    base = dict(stored) if "metadata" not in sent else dict(given)
    if is_merge and sent.get("metadata") is not None:
        base = merge_patch(stored, given)
    has_callbacks = not {CALLBACKS, OLD_CALLBACKS}.isdisjoint(given)
    reserved = (*_RESERVED, *kept) if has_callbacks else (*_RESERVED, *kept, CALLBACKS, OLD_CALLBACKS)
    for name in reserved:
        base.pop(name, None)
        if name in stored:
            base[name] = stored[name]
    if has_callbacks:
        callbacks = {CALLBACKS: given.get(CALLBACKS) or [], OLD_CALLBACKS: given.get(OLD_CALLBACKS)}
        base.pop(OLD_CALLBACKS, None)
        base.update(with_encrypted_callbacks(callbacks, stored))
    base.update(moved)
    return {name: value for name, value in base.items() if name not in moved or value is not None}


def merge_patch(stored: Any, patch: Any) -> Any:
    """RFC 7396: objects are merged, null removes, anything else replaces."""
    if not isinstance(patch, Mapping):
        return patch
    merged = dict(stored) if isinstance(stored, Mapping) else {}
    for name, value in patch.items():
        if value is None:
            merged.pop(name, None)
        else:
            merged[name] = merge_patch(merged.get(name), value)
    return merged


def json_value(value: Any) -> Any:
    """A checked value as metadata keep it: times as ISO 8601, money as a number."""
    if isinstance(value, datetime):
        return value.isoformat()
    return float(value) if isinstance(value, Decimal) else value


def plain(amount: Any) -> str:
    """A number in a message."""
    return f"{Decimal(amount).normalize():f}"
