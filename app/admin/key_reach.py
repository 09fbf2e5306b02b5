"""What a caller may do to keys, by whose they are: their own, of teams that they administer or belong to."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from ..auth.principal import Principal
from ..errors import Forbidden, Unauthenticated
from ..models import Team, TeamMembership, VirtualKey
from ..models.virtual_key import SESSION_TEAM_ID

# Teams of one caller that a list takes into account.
_MOST_TEAMS = 1000


def refused(message: str, *, param: str | None = None) -> Forbidden:
    """403 in the words of the key routes."""
    return Forbidden(message, type="internal_server_error", param=param)


@dataclass(frozen=True, slots=True)
class Standing:
    """A caller in one team. `permissions` are the routes that the team gives its plain members."""

    is_admin: bool = False
    is_member: bool = False
    permissions: tuple[str, ...] = ()

    def allows(self, route: str) -> bool:
        """Whether a member may call a key route for keys of the team; `/key/{key}/regenerate` is `/key/regenerate`."""
        spellings = {route, route.replace("/key/", "/key/{key}/")}
        return self.is_admin or (self.is_member and not spellings.isdisjoint(self.permissions))


_NOBODY = Standing()


class Reach:
    """A caller's standing in teams, looked up once per team and request."""

    def __init__(self, principal: Principal) -> None:
        self.principal = principal
        self._known: dict[str, Standing] = {}

    async def in_team(self, team_id: str | None) -> Standing:
        """The caller's standing; admins of the team's organization administer the team."""
        user_id = self.principal.user_id
        if user_id is None or team_id is None or team_id == SESSION_TEAM_ID:
            return _NOBODY
        if team_id not in self._known:
            membership = await TeamMembership.get_or_none(team_id=team_id, user_id=user_id)
            team = await Team.get_or_none(team_id=team_id)
            is_of_organization = team is not None and team.organization_id in self.principal.organizations
            self._known[team_id] = Standing(
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
            standing = await self.in_team(key.team_id)
            if is_of_team and standing.is_member:
                check_permission(standing, route)
            elif is_of_team or not self.owns(key):
                raise refused(f"You are not authorized to {deed} this key")


def check_permission(standing: Standing, route: str) -> None:
    """Raises 401, as clients expect, when the team does not give its members this route."""
    if not standing.allows(route):
        raise Unauthenticated(
            f"Team member does not have permissions for endpoint: {route}. Ask an admin of the team.",
            type="team_member_permission_error",
            param=route,
        )


async def administered_teams(principal: Principal) -> list[str]:
    """The teams whose admin the caller is, by membership or by organization; at most 1000 of each kind."""
    if principal.user_id is None:
        return []
    rows = TeamMembership.filter(user_id=principal.user_id, role="admin").limit(_MOST_TEAMS)
    found = [membership.team_id async for membership in rows]
    if principal.organizations:
        teams = Team.filter(organization_id__in=principal.organizations).limit(_MOST_TEAMS).only("team_id")
        found += [team.team_id async for team in teams]
    return list(dict.fromkeys(found))


async def is_team_admin(principal: Principal, team_id: str | None) -> bool:
    """Whether the caller administers the team, by membership or by its organization."""
    return (await Reach(principal).in_team(team_id)).is_admin
