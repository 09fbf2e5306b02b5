"""What who is not an admin may make of a key's limits: they tighten them, and share them with the keys made with it.

One table says for every field of a key when a value is within another one, and what a key that has it does to the keys
made with it. A field that the table does not name is changed by admins of the instance only.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from enum import Enum
from typing import Any

from ...auth.principal import Principal
from ...auth.roles import Role
from ...errors import Forbidden
from ...models import Budget, User, VirtualKey
from ...services import services
from ...web.fields import bad_request
from ..audit.trail import KEYS
from ..changes import change_row, expected_version, transaction
from .access import KeyAccess, limited_to_calls, refused
from .changes import issue_key
from .comparisons import (
    Grant,
    allows_no_more,
    anything,
    demands_no_less,
    expires_no_later,
    has_each_budget,
    has_each_number,
    has_each_window,
    is_at_most,
    is_same,
    is_set_once,
    is_unset_or_same,
    models_no_more,
    resets_no_sooner,
    rotates_no_later,
    routes_no_more,
    stays_on,
)
from .fields import IN_METADATA, KEY, key_columns
from .policy import key_rules

# What a key takes from the budget that it was given, where it says nothing itself.
_OF_BUDGET = (
    *("max_budget", "soft_budget", "budget_duration", "model_max_budget"),
    *("tpm_limit", "rpm_limit", "tpd_limit", "max_parallel_requests"),
)
_COLUMNS_BESIDE = ("budget_reset_at", "key_rotation_at")
# Sent again unchanged, these would count from now.
_COUNTED_FROM_NOW = ("budget_duration", "rotation_interval")


class OfNewKeys(Enum):
    """What a limit of a key means to the keys that are made with it."""

    NOTHING = "it does not bound them"
    COPIED = "they have it too, unless they say a tighter one"
    DIVIDED = "they say how much of it they take, and the key has so much less"
    REFUSED = "it cannot be divided, so there are none"


@dataclass(frozen=True, slots=True)
class Rule:
    """`is_within(old, new, name)`: whether a changed key is within what it was."""

    is_within: Callable[[Grant, Grant, str], bool]
    of_new_keys: OfNewKeys = OfNewKeys.COPIED


_ADMINS_ONLY = Rule(is_same, OfNewKeys.NOTHING)
_PREFERENCE = Rule(anything, OfNewKeys.NOTHING)
# `check_may_set` decides who may write these.
_DECIDED_BY_ACCESS = Rule(anything, OfNewKeys.NOTHING)

RULES: Mapping[str, Rule] = {
    **dict.fromkeys(("key_alias", "metadata", "aliases", "config", "router_settings", "budget_fallbacks"), _PREFERENCE),
    **dict.fromkeys(("user_id", "team_id", "organization_id"), _DECIDED_BY_ACCESS),
    **dict.fromkeys(("spend", "blocked"), _ADMINS_ONLY),
    **dict.fromkeys(
        ("max_budget", "tpm_limit", "rpm_limit", "tpd_limit", "max_parallel_requests"),
        Rule(is_at_most, OfNewKeys.DIVIDED),
    ),
    **dict.fromkeys(
        ("model_rpm_limit", "model_tpm_limit", "mcp_rpm_limit", "tag_rpm_limit"),
        Rule(has_each_number, OfNewKeys.REFUSED),
    ),
    "model_max_budget": Rule(has_each_budget, OfNewKeys.REFUSED),
    "budget_limits": Rule(has_each_window, OfNewKeys.REFUSED),
    "budget_id": Rule(is_same, OfNewKeys.REFUSED),
    "soft_budget": Rule(is_at_most),
    "budget_duration": Rule(resets_no_sooner),
    "duration": Rule(expires_no_later),
    **dict.fromkeys(("models", "access_group_ids"), Rule(models_no_more)),
    **dict.fromkeys(("allowed_routes", "allowed_passthrough_routes"), Rule(routes_no_more)),
    "key_type": Rule(routes_no_more, OfNewKeys.NOTHING),
    **dict.fromkeys(("allowed_cache_controls", "prompts"), Rule(allows_no_more)),
    **dict.fromkeys(
        ("denied_passthrough_routes", "tags", "guardrails", "policies", "enforced_params"), Rule(demands_no_less)
    ),
    **dict.fromkeys(("rpm_limit_type", "tpm_limit_type", "end_user_budget_id"), Rule(is_same)),
    **dict.fromkeys(("project_id", "agent_id"), Rule(is_set_once)),
    "auto_rotate": Rule(stays_on),
    "rotation_interval": Rule(rotates_no_later),
    **dict.fromkeys(
        (
            *("permissions", "disable_global_guardrails", "throttle_on_budget_exceeded"),
            *("temp_budget_increase", "temp_budget_expiry"),
        ),
        Rule(is_unset_or_same, OfNewKeys.NOTHING),
    ),
}


def rule_of(name: str) -> Rule:
    return RULES.get(name, _ADMINS_ONLY)


def grant_of(key: VirtualKey, columns: Mapping[str, Any], budget: Budget | None = None) -> Grant:
    """What a key would say with these columns written, by the names of fields; `duration` is when it ends."""
    row = {name: getattr(key, name) for name in key._meta.fields_map} | dict(columns)
    metadata = row["metadata"]
    grant = {name: metadata.get(name) if name in IN_METADATA else row.get(name) for name in (*KEY, *_COLUMNS_BESIDE)}
    grant["duration"] = row["expires"]
    if budget is not None:
        grant.update({name: getattr(budget, name) for name in _OF_BUDGET if grant[name] in (None, {})})
    return grant


# ---- changing a key --------------------------------------------------------------------------------------------------


async def tightened(principal: Principal, sent: Mapping[str, Any], key: VirtualKey) -> dict[str, Any]:
    """What to write of a change. Raises 403, with the field as `param`, for a limit that it would lift."""
    access = KeyAccess(principal)
    if principal.is_admin or await _may_loosen(access, key):
        return dict(sent)
    fields = {name: sent[name] for name in sent if name not in _COUNTED_FROM_NOW or sent[name] != getattr(key, name)}
    columns = key_columns(fields, key.metadata)
    before = grant_of(key, {}, await _budget(key.budget_id))
    after = grant_of(key, columns, await _budget(columns.get("budget_id", key.budget_id)))
    for name in KEY:
        if not _is_within(before, after, name):
            raise refused(f"Only a proxy admin may set '{name}' of this key to more than it is now", param=name)
    return fields


def guarded_version(principal: Principal, sent: Mapping[str, Any], key: VirtualKey) -> int | None:
    """The version that a write must find: what was compared with is what the change is written over."""
    version = expected_version(sent)
    return key.version if version is None and not principal.is_admin else version


def _is_within(before: Grant, after: Grant, name: str) -> bool:
    return is_same(before, after, name) or rule_of(name).is_within(before, after, name)


async def _may_loosen(access: KeyAccess, key: VirtualKey) -> bool:
    """An admin of the key's team or organization, for a key that was made there and is not their own.

    What an admin of the instance made keeps the limits that they gave it, and a limited key lifts no limits.
    """
    if access.owns(key) or not await access.administers(key) or key.created_by is None:
        return False
    maker = await User.get_or_none(user_id=key.created_by)
    if maker is None or maker.user_role == Role.PROXY_ADMIN.value:
        return False
    own = await _own_key(access.principal)
    return own is None or not _limits(grant_of(own, {}))


async def _budget(budget_id: str | None) -> Budget | None:
    return await Budget.get_or_none(budget_id=budget_id) if budget_id is not None else None


# ---- with a key that is limited itself -------------------------------------------------------------------------------


async def _own_key(principal: Principal) -> VirtualKey | None:
    """The key of this request, where its limits bound what is done with it: not for admins, nor in a session."""
    if principal.is_admin or principal.is_session:
        return None
    return await VirtualKey.get_or_none(token=principal.key_hash)


def _limits(own: Grant) -> list[str]:
    """The fields by which a key bounds the keys that are made with it.

    A number that is the ceiling of all keys of the instance is no limit of one of them.
    """
    ceilings = key_rules().ceilings
    return [
        name
        for name in KEY
        if rule_of(name).of_new_keys is not OfNewKeys.NOTHING
        and _says_something(own, name)
        and not (rule_of(name).of_new_keys is OfNewKeys.DIVIDED and name in ceilings and own[name] >= ceilings[name])
    ]


def _says_something(own: Grant, name: str) -> bool:
    if name == "budget_duration":
        return own["max_budget"] is not None
    value = own[name]
    # Zero says a lot.
    return value is not None and value is not False and value not in ([], {}, "")


async def check_may_learn_secret(principal: Principal, key: VirtualKey) -> None:
    """Raises 403 when a limited key would give a new secret to a key that may do more, or has a budget beside it."""
    own = await _own_key(principal)
    if own is None or own.token == key.token:
        return
    limits, other = grant_of(own, {}), grant_of(key, {}, await _budget(key.budget_id))
    for name in _limits(limits):
        if rule_of(name).of_new_keys is not OfNewKeys.COPIED or not _is_within(limits, other, name):
            raise refused(f"The key of this request is limited by its '{name}'; this one is not within it", param=name)


async def write_own_spend(principal: Principal) -> None:
    """Bring what was spent with the key of this request to its row: that cannot be given away. Not in a transaction."""
    if principal.max_budget is not None and not principal.is_admin:
        await services().ledger.flush()


async def issue_within(
    principal: Principal, sent: Mapping[str, Any], *, named: Mapping[str, Any]
) -> tuple[VirtualKey, str]:
    """`issue_key`, within the limits of the key of this request: what is divided is taken from it.

    `named`: what the caller wrote; defaults of the instance say nothing about how much to take. Raises 400 and 403.
    """
    fields = limited_to_calls(principal, dict(sent))
    if not principal.is_admin:
        _check_bare(fields)
    own = await _own_key(principal)
    if own is None:
        return await issue_key(fields, principal)
    limits = grant_of(own, {})
    fields = _with_copies(own, limits, named, fields)
    await _check_within(limits, fields)
    taken = _taken(own, limits, named, fields)
    async with transaction():
        if taken:
            await change_row(own, taken, table=KEYS, object_id=own.token, version=own.version)
        return await issue_key(fields, principal)


def _check_bare(fields: Mapping[str, Any]) -> None:
    """Raises 403 for what would lift a limit of the instance itself."""
    new, bare = grant_of(VirtualKey(), key_columns(fields)), grant_of(VirtualKey(), {})
    names = ["disable_global_guardrails"]
    settings = services().settings
    if settings.max_end_user_budget_id is not None or settings.max_end_user_budget is not None:
        names.append("end_user_budget_id")
    for name in names:
        if new[name] and not _is_within(bare, new, name):
            raise refused(f"Only a proxy admin may set '{name}' on a key", param=name)


def _with_copies(own: VirtualKey, limits: Grant, named: Mapping[str, Any], fields: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of a new key; of what the caller did not name, nothing is beyond the key of this request."""
    copied = {name: limits[name] for name in _limits(limits) if rule_of(name).of_new_keys is OfNewKeys.COPIED}
    if own.expires is not None:
        copied["duration"] = f"{max(1, int((own.expires - datetime.now(UTC)).total_seconds()))}s"
    new = grant_of(VirtualKey(), key_columns(fields))
    hidden = set(fields.get("metadata") or {}) & set(IN_METADATA)
    missing = {
        name: value
        for name, value in copied.items()
        if name not in named and name not in hidden and (name not in fields or not _is_within(limits, new, name))
    }
    if own.organization_id is not None and not fields.get("team_id") and not fields.get("organization_id"):
        missing["organization_id"] = own.organization_id
    return {**fields, **missing}


async def _check_within(limits: Grant, fields: Mapping[str, Any]) -> None:
    """Raises 403 for a limit that cannot be divided, and for a new key that is not within the others."""
    new = grant_of(VirtualKey(), key_columns(fields), await _budget(fields.get("budget_id")))
    for name in _limits(limits):
        kind = rule_of(name).of_new_keys
        if kind is OfNewKeys.REFUSED:
            raise refused(f"A key that is limited by '{name}' makes no keys", param=name)
        if kind is OfNewKeys.COPIED and not _is_within(limits, new, name):
            raise _beyond(name)


def _beyond(name: str) -> Forbidden:
    return refused(f"A key made with a limited key stays within it: '{name}' is more than that of yours", param=name)


def _taken(own: VirtualKey, limits: Grant, named: Mapping[str, Any], fields: Mapping[str, Any]) -> dict[str, Any]:
    """The columns of the key of this request once the new key has its part. Raises 400 and 403."""
    left: dict[str, Any] = {}
    for name in _limits(limits):
        if rule_of(name).of_new_keys is not OfNewKeys.DIVIDED:
            continue
        ceiling, part = limits[name], fields.get(name)
        if named.get(name) is None or part is None:
            raise bad_request(f"The key of this request has a '{name}' of {ceiling}: say how much of it to take", name)
        room = ceiling - own.spend if name == "max_budget" else ceiling
        if Decimal(part) > room:
            raise _beyond(name)
        left[name] = ceiling - part
    return left
