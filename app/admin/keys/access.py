"""What a caller may write into a key, which keys a list may show them, and what they may do to whose keys."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from tortoise.expressions import Q

from ...auth.principal import Principal
from ...auth.roles import READERS, Role
from ...errors import Forbidden, GatewayError, Unauthenticated
from ...models import Team, TeamMembership, User, VirtualKey
from ...models.virtual_key import SESSION_TEAM_ID
from ...web.fields import bad_request
from .fields import KEY_TYPES

__all__ = ["check_may_set", "is_team_admin", "limited_to_calls", "refused", "visible_keys"]

# What only an admin may set on a key.
_ADMIN_FIELDS = (
    "permissions",
    "spend",
    "blocked",
    "organization_id",
    "throttle_on_budget_exceeded",
    "temp_budget_increase",
    "temp_budget_expiry",
)
_CALLS_ONLY = ("llm_api_routes", "openai_routes")
_OWN_LIMITS = ("max_budget", "tpm_limit", "rpm_limit", "max_parallel_requests")


async def check_may_set(
    principal: Principal, sent: Mapping[str, Any], key: VirtualKey | None = None, *, route: str = "/key/generate"
) -> None:
    """Raises 400, 401 or 403 for fields that the caller may not give a new (None) or an existing key this way.

    `route` is the permission that a plain member needs to bring a key into a team.
    """
    team_id = sent.get("team_id")
    team = await Team.get_or_none(team_id=team_id) if team_id is not None else None
    if team_id is not None and team is None:
        raise bad_request(f"Team not found, passed team_id={team_id}", "team_id")
    if key is not None and key.token == principal.key_hash and principal.allowed_routes:
        for name in ("allowed_routes", "key_type"):
            if name in sent:
                raise refused("A key that is limited to routes cannot change its own limit", param=name)
    if principal.is_admin:
        return
    access = KeyAccess(principal)
    _check_admin_fields(principal, sent, key)
    await _check_owner(access, sent, key)
    if team_id is not None and (key is None or key.team_id != team_id):
        await _check_team(access, team_id, route)
    await _check_limits(sent, key, principal)


def _check_admin_fields(principal: Principal, sent: Mapping[str, Any], key: VirtualKey | None) -> None:
    for name in _ADMIN_FIELDS:
        if name == "organization_id" and sent.get(name) in principal.organizations and _is_free(principal, key):
            continue
        if sent.get(name) not in (None, {}, False) or (key is not None and name in sent):
            raise refused(f"Only a proxy admin may set '{name}' on a key", param=name)
        hidden = (sent.get("metadata") or {}).get(name)
        if hidden and hidden != (key.metadata.get(name) if key is not None else None):
            raise refused(f"Only a proxy admin may set '{name}' on a key", param="metadata")


def _is_free(principal: Principal, key: VirtualKey | None) -> bool:
    """Whether a key is in no organization but the caller's: its budget bounds the key, whoever owns it."""
    return key is None or key.organization_id in (None, *principal.organizations)


async def _check_owner(access: KeyAccess, sent: Mapping[str, Any], key: VirtualKey | None) -> None:
    """Who gives a key away administers its team; a key that leaves its team becomes the caller's own or nobody's."""
    own = access.principal.user_id
    before = key.user_id if key is not None else own
    owner = sent.get("user_id", before)
    team_id = sent.get("team_id", key.team_id if key is not None else None)
    if owner != before and not (key is not None and owner == own and await access.administers(key)):
        if owner is None and key is not None and not (await access.in_team(team_id)).is_admin:
            raise refused("Non-admin users cannot remove the user_id from a key.", param="user_id")
        if not await _may_give(access, owner, team_id):
            raise refused("You are not authorized to give this key to another user", param="user_id")
    if key is not None and key.team_id is not None and team_id is None and owner != own:
        raise refused("Only a proxy admin may take the key of somebody else out of its team", param="team_id")


async def _may_give(access: KeyAccess, user_id: str | None, team_id: str | None) -> bool:
    """An admin of a team may give a key of the team to a member of the team, and to nobody else. Raises 400."""
    if not (await access.in_team(team_id)).is_admin:
        return False
    if user_id is None:
        return True
    if not await TeamMembership.exists(team_id=team_id, user_id=user_id):
        raise bad_request(f"User={user_id} not assigned to team={team_id}", "user_id")
    return not await User.exists(user_id=user_id, user_role__in=[role.value for role in READERS])


async def _check_team(access: KeyAccess, team_id: str, route: str) -> None:
    role = await access.in_team(team_id)
    if not role.is_admin and not role.is_member:
        if route != "/key/generate":
            raise refused(f"You are not authorized to make keys of team={team_id}", param="team_id")
        raise bad_request(f"User={access.principal.user_id} not assigned to team={team_id}", "team_id")
    check_permission(role, route)


async def _check_limits(sent: Mapping[str, Any], key: VirtualKey | None, principal: Principal) -> None:
    """Nobody but an admin gives a key more than its team has, or its owner when it has no team. Raises 400."""
    team_id = sent.get("team_id", key.team_id if key is not None else None)
    user_id = sent.get("user_id", key.user_id if key is not None else principal.user_id)
    row: Team | User | None
    if team_id is not None:
        row, whose = await Team.get_or_none(team_id=team_id), f"team={team_id}"
    else:
        row, whose = await User.get_or_none(user_id=user_id or ""), f"user={user_id}"
    for name in _OWN_LIMITS:
        most, asked = getattr(row, name, None), sent.get(name)
        if most is not None and asked is not None and asked > most:
            raise bad_request(f"{name} of a key cannot exceed that of its {whose}: {asked} is more than {most}", name)


def limited_to_calls(
    principal: Principal, sent: dict[str, Any], key: VirtualKey | None = None, *, shows_secret: bool = False
) -> dict[str, Any]:
    """What to write when a team admin makes a key of a member: it may call models and do nothing else.

    Who makes a key, or gives it a new secret (`shows_secret`), knows that secret, and would otherwise manage the
    member's own keys as the member; or, with a key that is limited to some routes, get rid of that limit. Raises 403.
    """
    sent = _within_own_routes(principal, sent, key, shows_secret=shows_secret)
    owner = sent.get("user_id", key.user_id if key is not None else None)
    if principal.is_admin or owner in (None, principal.user_id):
        return sent
    names_routes = "allowed_routes" in sent or "key_type" in sent
    if key is not None and key.user_id == owner and not names_routes and not shows_secret:
        return sent
    routes = sent.get("allowed_routes") or KEY_TYPES.get(sent.get("key_type") or "", [])
    if key is not None and not names_routes:
        routes = key.allowed_routes
    if set(routes) - set(_CALLS_ONLY):
        raise refused("A key of another user may call models only: llm_api_routes", param="allowed_routes")
    return {**sent, "allowed_routes": list(routes) or ["llm_api_routes"]}


def _within_own_routes(
    principal: Principal, sent: dict[str, Any], key: VirtualKey | None, *, shows_secret: bool
) -> dict[str, Any]:
    """A key that is limited to some routes makes keys that are limited to the same ones, or to fewer."""
    names_routes = "allowed_routes" in sent or "key_type" in sent
    if not principal.allowed_routes or (key is not None and not names_routes and not shows_secret):
        return sent
    routes = sent.get("allowed_routes") or KEY_TYPES.get(sent.get("key_type") or "", [])
    if not names_routes:
        routes = list(key.allowed_routes if key is not None else principal.allowed_routes)
    if not routes or set(routes) - set(principal.allowed_routes):
        allowed = ", ".join(principal.allowed_routes)
        raise refused(
            f"The key of this request may give no more routes than its own: {allowed}", param="allowed_routes"
        )
    return {**sent, "allowed_routes": list(routes)}


async def visible_keys(
    principal: Principal,
    *,
    user_id: str | None,
    team_id: str | None,
    organization_id: str | None = None,
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
    if organization_id is not None and organization_id in principal.organizations:
        return Q(organization_id=organization_id)
    role = await KeyAccess(principal).in_team(team_id)
    if team_id is not None and role.allows("/key/list"):
        return Q(team_id=team_id)
    if user_id is not None and user_id != principal.user_id:
        raise refused("You are not authorized to check another user's keys")
    if team_id is not None and not role.is_member:
        raise refused("You are not authorized to check this team's keys")
    condition = Q(user_id=principal.user_id)
    if with_team_keys:
        condition |= Q(team_id__in=await administered_teams(principal))
    return condition | Q(created_by=principal.user_id) if with_created_keys else condition


# Teams of one caller that a list takes into account.
_MAX_TEAMS = 1000


def refused(message: str, *, param: str | None = None) -> Forbidden:
    """403 in the words of the key routes."""
    return Forbidden(message, type="internal_server_error", param=param)


@dataclass(frozen=True, slots=True)
class TeamRole:
    """A caller in one team. `permissions` are the routes that the team gives its plain members."""

    is_admin: bool = False
    is_member: bool = False
    permissions: tuple[str, ...] = ()

    def allows(self, route: str) -> bool:
        """Whether a member may call a key route for keys of the team; `/key/{key}/regenerate` is `/key/regenerate`."""
        spellings = {route, route.replace("/key/", "/key/{key}/")}
        return self.is_admin or (self.is_member and not spellings.isdisjoint(self.permissions))


_NOBODY = TeamRole()


class KeyAccess:
    """A caller's role in teams, looked up once per team and request."""

    def __init__(self, principal: Principal) -> None:
        self.principal = principal
        self._known: dict[str, TeamRole] = {}

    async def in_team(self, team_id: str | None) -> TeamRole:
        """The caller's role; admins of the team's organization administer the team."""
        user_id = self.principal.user_id
        if user_id is None or team_id is None or team_id == SESSION_TEAM_ID:
            return _NOBODY
        if team_id not in self._known:
            membership = await TeamMembership.get_or_none(team_id=team_id, user_id=user_id)
            team = await Team.get_or_none(team_id=team_id)
            is_of_organization = team is not None and team.organization_id in self.principal.organizations
            self._known[team_id] = TeamRole(
                is_admin=is_of_organization or (membership is not None and membership.is_admin),
                is_member=membership is not None,
                permissions=tuple(team.team_member_permissions) if team is not None else (),
            )
        return self._known[team_id]

    def owns(self, key: VirtualKey) -> bool:
        return self.principal.user_id is not None and key.user_id == self.principal.user_id

    async def administers(self, key: VirtualKey) -> bool:
        """Whether the caller is an admin of the instance, of the key's team, or of its organization."""
        if self.principal.is_admin or (await self.in_team(key.team_id)).is_admin:
            return True
        return key.organization_id is not None and key.organization_id in self.principal.organizations

    async def may_read(self, key: VirtualKey) -> bool:
        """Own keys, those of the caller's teams (the contract's baseline for members), and all for who reads all."""
        if self.principal.can_read_all or self.principal.key_hash == key.token or self.owns(key):
            return True
        return await self.administers(key) or (await self.in_team(key.team_id)).is_member

    async def check_may_change(self, keys: Iterable[VirtualKey], *, deed: str, route: str) -> None:
        """Raises 403 for somebody else's key, 401 for a key of a team that does not let its members do this."""
        for key in keys:
            if await self.administers(key):
                continue
            is_of_team = key.team_id is not None and key.team_id != SESSION_TEAM_ID
            role = await self.in_team(key.team_id)
            if is_of_team and role.is_member:
                check_permission(role, route)
            elif is_of_team or not self.owns(key):
                raise refused(f"You are not authorized to {deed} this key")


def check_permission(role: TeamRole, route: str) -> None:
    """Raises 401, as clients expect, when the team does not give its members this route."""
    if not role.allows(route):
        raise Unauthenticated(
            f"Team member does not have permissions for endpoint: {route}. Ask an admin of the team.",
            type="team_member_permission_error",
            param=route,
        )


async def administered_teams(principal: Principal) -> list[str]:
    """The teams whose admin the caller is, by membership or by organization; at most 1000 of each kind."""
    if principal.user_id is None:
        return []
    rows = TeamMembership.filter(user_id=principal.user_id, role="admin").limit(_MAX_TEAMS)
    found = [membership.team_id async for membership in rows]
    if principal.organizations:
        teams = Team.filter(organization_id__in=principal.organizations).limit(_MAX_TEAMS).only("team_id")
        found += [team.team_id async for team in teams]
    return list(dict.fromkeys(found))


async def is_team_admin(principal: Principal, team_id: str | None) -> bool:
    """Whether the caller administers the team, by membership or by its organization."""
    return (await KeyAccess(principal).in_team(team_id)).is_admin
