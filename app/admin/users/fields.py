"""The fields of a user: what may be sent, and which columns it becomes."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from ...auth.roles import Role
from ...web.fields import Field, Table, WrongValue, email, flag, identifier, money, one_of, read_fields, text, text_list
from ..changes import VERSION
from ..keys.fields import KEY, LIMITS, reset_of

ROLES = {
    Role.PROXY_ADMIN: ("everything on this instance", "Admin (All Permissions)"),
    Role.PROXY_ADMIN_VIEWER: ("sees everything, changes nothing", "Admin (View Only)"),
    Role.INTERNAL_USER: ("own keys and own spend", "Internal User (Create/Delete/View)"),
    Role.INTERNAL_USER_VIEWER: ("own keys and own spend, read only", "Internal User (View Only)"),
}

USER: Table = {
    **LIMITS,
    "user_alias": identifier(),
    "user_email": email(),
    "user_role": one_of(*ROLES),
    "sso_user_id": identifier(),
    "organization_id": identifier(),
}

# What /user/new hands on to the key that it creates; the budget and the limits are the user's.
OF_KEY = (
    "key_alias duration aliases config permissions team_id allowed_routes key_type router_settings blocked "
    "allowed_cache_controls budget_fallbacks budget_limits"
).split()

_IN_TEAM: Table = {
    "team_id": identifier().required,
    "user_role": one_of("admin", "user"),
    "max_budget_in_team": money(),
}


def _no_password(value: Any) -> Any:
    raise WrongValue("A password is set by /user/update", "extra_forbidden")


def teams_field() -> Field:
    """Teams to join: ids, or objects with a `team_id` and what holds in the team. Each team once."""

    def read(value: Any) -> list[dict[str, Any]]:
        items = value if isinstance(value, list) else [value]
        found: dict[str, dict[str, Any]] = {}
        for item in items:
            one = {"team_id": item} if isinstance(item, str) else item
            if not isinstance(one, dict) or not one.get("team_id"):
                raise WrongValue("This must be a list of team ids", "list_type")
            joined = read_fields(one, _IN_TEAM)
            found[joined["team_id"]] = joined
        return list(found.values())

    schema = {"type": "array", "items": {"type": "string", "maxLength": 255}}
    return Field(read, empty=list, schema=schema)


NEW_USER: Table = {
    **USER,
    **{name: KEY[name] for name in OF_KEY},
    "user_id": identifier(),
    "teams": teams_field(),
    "organizations": text_list(),
    "auto_create_key": flag(),
    "password": Field(_no_password, schema={"type": "null"}),
}
CHANGED_USER: Table = {**USER, **VERSION, "user_id": identifier(), "password": text(1024)}

# What /get/internal_user_settings and the configuration may say about every new user.
USER_DEFAULTS: Table = {**USER, "teams": teams_field()}


def user_columns(sent: Mapping[str, Any]) -> dict[str, Any]:
    """The columns that a request sets, and only those."""
    columns = {name: sent[name] for name in USER if name in sent}
    if "budget_duration" in sent:
        columns["budget_reset_at"] = reset_of(sent["budget_duration"], datetime.now(UTC))
    return columns
