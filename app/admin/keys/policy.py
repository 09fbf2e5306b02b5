"""What an instance's configuration says about new keys: defaults, ceilings, who may make which, custom secrets.

Pure rules first (each reader of `litellm_settings` raises ValueError that ends "<value> …"), then what they say of one
request.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from decimal import Decimal, InvalidOperation
from typing import Any

from ...auth.principal import Principal
from ...durations import parse_duration
from ...errors import GatewayError
from ...models import TeamMembership
from ...services import services
from ...web.fields import bad_request, read_fields
from .access import refused
from .fields import KEY


def key_rules() -> KeyRules:
    """What `litellm_settings` says about keys. Raises 500 that names the wrong setting."""
    settings = services().settings
    generation = _read("key_generation_settings", key_generation, settings.key_generation_settings)
    return KeyRules(
        defaults=_read("default_key_generate_params", key_defaults, settings.default_key_generate_params),
        ceilings=_read("upperbound_key_generate_params", key_ceilings, settings.upperbound_key_generate_params),
        of_teams=generation.get("team_key_generation", Generation()),
        of_persons=generation.get("personal_key_generation", Generation()),
        refuses_custom_secrets=settings.disable_custom_api_keys,
    )


def _read(name: str, read: Callable[[Any], dict[str, Any]], value: Mapping[str, Any] | None) -> dict[str, Any]:
    try:
        return read(value or {})
    except ValueError as problem:
        raise GatewayError(f"The configuration is wrong: litellm_settings.{name} {problem}") from None


async def ruled_new_key(principal: Principal, sent: Mapping[str, Any]) -> dict[str, Any]:
    """A new key's fields with the defaults filled in and within the ceilings.

    Raises 400 for what lies above them or a field that is demanded, 403 for a custom secret or a role that may not.
    """
    rules = key_rules()
    left_out = {name: value for name, value in rules.defaults.items() if name not in sent}
    filled = {**read_fields(left_out, KEY), **sent}
    refuse_custom_secret(filled.get("key"))
    await _check_generation(principal, filled, rules)
    return within_ceilings(filled, is_new=True)


def within_ceilings(sent: Mapping[str, Any], *, is_new: bool = False) -> dict[str, Any]:
    """The same fields, "unlimited" lowered to the ceiling. Raises 400 for what lies above one."""
    try:
        return with_ceilings(sent, key_rules().ceilings, is_new=is_new)
    except ValueError as problem:
        name, message = problem.args
        raise bad_request(message, name) from None


def refuse_custom_secret(secret: str | None) -> None:
    """Raises 403 where `disable_custom_api_keys` is set."""
    if secret and key_rules().refuses_custom_secrets:
        raise refused("Custom keys are disabled on this instance. Leave the key out and one is made.", param="key")


async def _check_generation(principal: Principal, sent: Mapping[str, Any], rules: KeyRules) -> None:
    """Admins of the instance are bound by the demanded fields only."""
    team_id = sent.get("team_id")
    rule, kind = (rules.of_teams, "Team") if team_id else (rules.of_persons, "Personal")
    roles = [principal.role.value]
    if team_id:
        member = await TeamMembership.get_or_none(team_id=team_id, user_id=principal.user_id or "")
        roles = [member.role] if member is not None else ["admin"] if principal.organizations else []
    if not principal.is_admin and not admits(rule, roles):
        raise bad_request(
            f"{kind} key creation is restricted on this instance. Allowed roles={list(rule.roles or ())}. "
            f"Your role={', '.join(roles) or 'none'}"
        )
    missing = missing_field(rule, sent)
    if missing is not None:
        raise bad_request(f"{kind} keys of this instance need '{missing}'", missing)


# Fields with a ceiling: numbers, and lengths of time.
_NUMBERS = ("max_budget", "soft_budget", "tpm_limit", "rpm_limit", "tpd_limit", "max_parallel_requests")
_PERIODS = ("duration", "budget_duration")
_MAX_MONTH = timedelta(days=31)


@dataclass(frozen=True, slots=True)
class Generation:
    """Who may make one kind of key, and what they must say. None: every role."""

    roles: tuple[str, ...] | None = None
    required: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class KeyRules:
    """The rules of one instance. `defaults` fill what a request leaves out, `ceilings` bound what it says."""

    defaults: Mapping[str, Any] = field(default_factory=dict)
    ceilings: Mapping[str, Any] = field(default_factory=dict)
    of_teams: Generation = Generation()
    of_persons: Generation = Generation()
    refuses_custom_secrets: bool = False


# ---- reading the configuration -------------------------------------------------------------------------------------


def key_defaults(value: Any) -> dict[str, Any]:
    """`default_key_generate_params`: fields of /key/generate. Raises ValueError."""
    fields = _mapping(value)
    for name in ("key", "key_alias", "user_id", "blocked", "spend"):
        if name in fields:
            raise ValueError(f"must not set '{name}' for every key")
    for name in _PERIODS:
        if fields.get(name) is not None:
            parse_duration(str(fields[name]))
    return fields


def key_ceilings(value: Any) -> dict[str, Any]:
    """`upperbound_key_generate_params`: the most that a key may be given. Raises ValueError."""
    fields = _mapping(value)
    ceilings: dict[str, Any] = {}
    for name, most in fields.items():
        if name in _NUMBERS:
            ceilings[name] = None if most is None else _number(name, most)
        elif name in _PERIODS:
            ceilings[name] = None if most is None else str(most)
            if most is not None:
                parse_duration(str(most))
        else:
            raise ValueError(f"knows no '{name}'; use {', '.join((*_NUMBERS, *_PERIODS))}")
    return {name: most for name, most in ceilings.items() if most is not None}


def key_generation(value: Any) -> dict[str, Generation]:
    """`key_generation_settings`: its parts `team_key_generation` and `personal_key_generation`. Raises ValueError."""
    parts = {"team_key_generation": "allowed_team_member_roles", "personal_key_generation": "allowed_user_roles"}
    found = {}
    for name, part in _mapping(value).items():
        if name not in parts:
            raise ValueError(f"knows no '{name}'; use {' and '.join(parts)}")
        rules = _mapping(part)
        roles = rules.get(parts[name])
        found[name] = Generation(
            roles=None if roles is None else _texts(parts[name], roles),
            required=_texts("required_params", rules.get("required_params") or []),
        )
    return found


def _mapping(value: Any) -> dict[str, Any]:
    if not isinstance(value, Mapping) or not all(isinstance(name, str) for name in value):
        raise ValueError("must be a mapping of fields")
    return dict(value)


def _texts(name: str, value: Any) -> tuple[str, ...]:
    if not isinstance(value, list | tuple) or not all(isinstance(item, str) for item in value):
        raise ValueError(f"needs a list of names as '{name}'")
    return tuple(value)


def _number(name: str, value: Any) -> Decimal:
    try:
        number = Decimal(str(value))
    except InvalidOperation:
        number = Decimal(-1)
    if isinstance(value, bool) or not number.is_finite() or number < 0:
        raise ValueError(f"needs a number of zero or more as '{name}'")
    return number


# ---- applying the rules --------------------------------------------------------------------------------------------


def with_ceilings(sent: Mapping[str, Any], ceilings: Mapping[str, Any], *, is_new: bool) -> dict[str, Any]:
    """What was sent, where "unlimited" becomes the ceiling: for a new key also what was left out.

    Raises ValueError, whose first argument is the field and the second the message, for what lies above a ceiling.
    """
    bounded = dict(sent)
    for name, most in ceilings.items():
        if name not in sent and not is_new:
            continue
        asked = sent.get(name)
        if asked is None or (name == "duration" and str(asked).strip() in ("", "-1")):
            bounded[name] = most if name in ("max_budget", "soft_budget") or name in _PERIODS else int(most)
        elif exceeds(name, asked, most):
            raise ValueError(name, f"{name} is over the limit of this instance. Asked for {asked}, the most is {most}")
    return bounded


def exceeds(name: str, asked: Any, most: Any) -> bool:
    """Whether a number or a length of time is above a ceiling; a text that is no duration is not (it is wrong)."""
    if name not in _PERIODS:
        return bool(Decimal(str(asked)) > most)
    try:
        return _length(str(asked)) > _length(str(most))
    except ValueError:
        return False


def _length(text: str) -> timedelta:
    """A month counts as its longest, so that `1mo` is over a ceiling of 30 days."""
    duration = parse_duration(text)
    try:
        if duration.seconds is None:
            return _MAX_MONTH * duration.count
        return timedelta(seconds=duration.seconds)
    except OverflowError:
        return timedelta.max


def missing_field(rule: Generation, sent: Mapping[str, Any]) -> str | None:
    """The first field that the rule demands and the request does not have."""
    return next((name for name in rule.required if sent.get(name) in (None, [], {}, "")), None)


def admits(rule: Generation, roles: Collection[str]) -> bool:
    """Whether one of the caller's roles may make this kind of key."""
    return rule.roles is None or any(role in rule.roles for role in roles)
