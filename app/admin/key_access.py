"""Who may see and change which key, beyond the roles that a route demands."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from tortoise.expressions import Q

from ..auth.principal import Principal
from ..auth.roles import READERS, Role
from ..errors import Forbidden, GatewayError, Unauthenticated
from ..models import Team, TeamMembership, User, VirtualKey
from .body import bad_request
from .key_fields import KEY_TYPES

# What only an admin may set on a key.
_ADMIN_FIELDS = ("permissions", "spend", "blocked", "organization_id", "throttle_on_budget_exceeded")
_CALLS_ONLY = ("llm_api_routes", "openai_routes")


def refused(message: str, **fields: Any) -> Forbidden:
    """403 in the words of the key routes."""
    return Forbidden(message, type="internal_server_error", **fields)


async def administered_teams(principal: Principal) -> list[str]:
    """The teams whose admin the caller is."""
    if principal.user_id is None:
        return []
    rows = TeamMembership.filter(user_id=principal.user_id, role="admin")
    return [membership.team_id async for membership in rows]


async def is_team_admin(principal: Principal, team_id: str | None) -> bool:
    return team_id is not None and team_id in await administered_teams(principal)


async def check_may_read(principal: Principal, key: VirtualKey) -> None:
    """Raises 403 unless the key is the caller's own, of a team that the caller administers, or the caller sees all."""
    if principal.can_read_all or principal.key_hash == key.token or _owns(principal, key):
        return
    if not await is_team_admin(principal, key.team_id):
        raise refused(f"You are not allowed to access this key's info. Your role={principal.role.value}")


async def check_may_change(principal: Principal, keys: Iterable[VirtualKey], *, deed: str) -> None:
    """Raises 403 unless the caller is an admin, owns each key or administers its team."""
    if principal.is_admin:
        return
    for key in keys:
        if not _owns(principal, key) and not await is_team_admin(principal, key.team_id):
            raise refused(f"You are not authorized to {deed} this key")


def _owns(principal: Principal, key: VirtualKey) -> bool:
    return principal.user_id is not None and key.user_id == principal.user_id


async def check_may_set(principal: Principal, sent: Mapping[str, Any], key: VirtualKey | None = None) -> None:
    """Raises 400, 401 or 403 for fields that the caller may not give a new (None) or an existing key this way."""
    team_id = sent.get("team_id")
    if team_id is not None and not await Team.exists(team_id=team_id):
        raise bad_request(f"Team not found, passed team_id={team_id}", "team_id")
    if principal.is_admin:
        return
    for name in _ADMIN_FIELDS:
        if sent.get(name) not in (None, {}, False) or (key is not None and name in sent):
            raise refused(f"Only a proxy admin may set '{name}' on a key", param=name)
    is_owner = sent.get("user_id") == principal.user_id if "user_id" in sent else True
    if not is_owner and not await _administers_both(principal, sent, key):
        raise refused("You are not authorized to give this key to another user", param="user_id")
    if team_id is not None and (key is None or key.team_id != team_id):
        await _check_team(principal, team_id)


async def _administers_both(principal: Principal, sent: Mapping[str, Any], key: VirtualKey | None) -> bool:
    """A team admin may give a key of the team to a member of the team, and to nobody else."""
    team_id = sent.get("team_id") or (key.team_id if key is not None else None)
    if not await is_team_admin(principal, team_id):
        return False
    user_id = sent.get("user_id")
    if user_id is None:
        return True
    if not await TeamMembership.exists(team_id=team_id, user_id=user_id):
        raise bad_request(f"User={user_id} not assigned to team={team_id}", "user_id")
    return not await User.exists(user_id=user_id, user_role__in=[role.value for role in READERS])


def limited_to_calls(principal: Principal, sent: dict[str, Any], key: VirtualKey | None = None) -> dict[str, Any]:
    """What to write when a team admin makes a key of a member: it may call models and do nothing else.

    Who makes a key knows its secret, and would otherwise manage the member's own keys as the member. Raises 403.
    """
    owner = sent.get("user_id", key.user_id if key is not None else None)
    if principal.is_admin or owner in (None, principal.user_id):
        return sent
    names_routes = "allowed_routes" in sent or "key_type" in sent
    if key is not None and key.user_id == owner and not names_routes:
        return sent
    routes = sent.get("allowed_routes") or KEY_TYPES.get(sent.get("key_type") or "", [])
    if key is not None and not names_routes:
        routes = key.allowed_routes
    if set(routes) - set(_CALLS_ONLY):
        raise refused("A key of another user may call models only: llm_api_routes", param="allowed_routes")
    return {**sent, "allowed_routes": list(routes) or ["llm_api_routes"]}


async def _check_team(principal: Principal, team_id: str) -> None:
    membership = await TeamMembership.get_or_none(team_id=team_id, user_id=principal.user_id or "")
    if membership is not None and membership.is_admin:
        return
    team = await Team.get(team_id=team_id)
    if membership is None:
        raise bad_request(f"User={principal.user_id} not assigned to team={team_id}", "team_id")
    if "/key/generate" not in team.team_member_permissions:
        raise Unauthenticated(
            "Team member does not have permissions for endpoint: /key/generate. Ask an admin of the team.",
            type="team_member_permission_error",
            param="/key/generate",
        )


async def visible_keys(
    principal: Principal,
    *,
    user_id: str | None,
    team_id: str | None,
    with_team_keys: bool,
    with_created_keys: bool,
) -> Q:
    """The condition of the keys that a list may show. Raises 403 for somebody else's."""
    if principal.can_read_all:
        return Q()
    if principal.user_id is None or principal.role is Role.KEY_ONLY:
        raise GatewayError(
            "This key belongs to no user, so it has no keys to list.",
            status=403,
            type="bad_request_error",
            param="user_id",
        )
    teams = await administered_teams(principal)
    if team_id is not None and team_id in teams:
        return Q(team_id=team_id)
    if user_id is not None and user_id != principal.user_id:
        raise refused("You are not authorized to check another user's keys")
    if team_id is not None and not await TeamMembership.exists(team_id=team_id, user_id=principal.user_id):
        raise refused("You are not authorized to check this team's keys")
    condition = Q(user_id=principal.user_id)
    if with_team_keys and teams:
        condition |= Q(team_id__in=teams)
    return condition | Q(created_by=principal.user_id) if with_created_keys else condition
