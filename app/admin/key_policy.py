"""The instance's own rules for keys (app/key_rules.py), applied to one request."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from ..auth.principal import Principal
from ..errors import GatewayError
from ..key_rules import (
    Generation,
    KeyRules,
    admits,
    key_ceilings,
    key_defaults,
    key_generation,
    missing_field,
    with_ceilings,
)
from ..models import TeamMembership
from ..services import services
from ..web.fields import bad_request, read_fields
from .key_fields import KEY
from .key_reach import refused


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
