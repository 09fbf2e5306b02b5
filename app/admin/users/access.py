"""What an admin of an organization may do to users: only to its own, and nothing that reaches beyond it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from tortoise.expressions import Q

from ...auth.principal import Principal
from ...auth.roles import Role
from ...models import OrganizationMembership, Team, User
from ...models.user import ADMIN_USER_ID
from ..keys.access import refused

_LOW_ROLES = (None, Role.INTERNAL_USER.value, Role.INTERNAL_USER_VIEWER.value)
# With one of these somebody could sign in as the user, and be them in other places too.
_IDENTITY = ("password", "user_email", "sso_user_id")
_WRITES_FOR_ALL = ("permissions", "blocked")
# What admins of an organization see of a member who was not made for it.
_PUBLIC = ("user_id", "user_email", "user_alias", "user_role", "version")


async def organizations_of(user_ids: Iterable[str]) -> dict[str, list[dict[str, Any]]]:
    """`organization_memberships` per user, as the user routes answer them."""
    memberships: dict[str, list[dict[str, Any]]] = {user_id: [] for user_id in user_ids}
    for row in await OrganizationMembership.filter(user_id__in=list(memberships)).order_by("organization_id"):
        memberships[row.user_id].append(row.to_json())
    return memberships


async def check_may_create_user(principal: Principal, sent: Mapping[str, Any], organizations: list[str]) -> None:
    """Raises 403 unless the caller is an admin, or the new user stays within organizations of the caller."""
    if principal.is_admin:
        return
    refuse_reserved_id(principal, sent.get("user_id"))
    _check_role(sent)
    if not organizations or not set(organizations) <= set(principal.organizations):
        raise refused("Name an organization that you administer, and no other", param="organizations")
    if any(sent.get(name) for name in _WRITES_FOR_ALL):
        raise refused("Only a proxy admin may set permissions or a block", param="permissions")
    team_ids = {team["team_id"] for team in sent.get("teams", [])} | {sent.get("team_id")}
    team_ids.discard(None)
    own = await Team.filter(team_id__in=list(team_ids), organization_id__in=principal.organizations).count()
    if own != len(team_ids):
        raise refused("Only teams of an organization that you administer can be joined this way", param="teams")


async def check_may_change_users(principal: Principal, users: Iterable[User], sent: Mapping[str, Any]) -> None:
    """Raises 403 unless the caller is an admin, or each user is of an organization of the caller and in no other."""
    if principal.is_admin:
        return
    _check_role(sent)
    for name in _IDENTITY:
        if name in sent:
            raise refused(f"Only a proxy admin may change '{name}' of a user", param=name)
    if sent.get("organization_id") not in (None, *principal.organizations):
        raise refused("You do not administer this organization", param="organization_id")
    users = list(users)
    memberships = await organizations_of(user.user_id for user in users)
    for user in users:
        if user.user_id == principal.user_id:
            raise refused("Nobody but a proxy admin changes their own limits", param="user_id")
        homes = {row["organization_id"] for row in memberships[user.user_id]}
        # An organization may take in anybody, which must not make them its admins' to change or delete.
        if (
            not is_home(principal, user)
            or not homes <= set(principal.organizations)
            or user.user_role not in _LOW_ROLES
        ):
            raise refused("Only users of an organization that you administer can be changed or deleted")


def refuse_reserved_id(principal: Principal, user_id: str | None) -> None:
    """Raises 403 for the id of the built-in admin: its row becomes an admin's at the next sign-in, whoever made it."""
    if user_id == ADMIN_USER_ID and not principal.is_admin:
        raise refused(f"'{ADMIN_USER_ID}' is the built-in admin", param="user_id")


def _check_role(sent: Mapping[str, Any]) -> None:
    if sent.get("user_role") not in _LOW_ROLES:
        raise refused("Only a proxy admin may give this role", param="user_role")


async def may_see_user(principal: Principal, user_id: str | None) -> bool:
    """Oneself, members of organizations that the caller administers, everybody for who reads all."""
    if principal.can_read_all or (user_id is not None and user_id == principal.user_id):
        return True
    if user_id is None or not principal.organizations:
        return user_id is None
    return await OrganizationMembership.exists(user_id=user_id, organization_id__in=principal.organizations)


def sees_all_of(principal: Principal, user_id: str) -> bool:
    """Whether nothing of a user is kept from the caller; an admin of an organization sees what is of theirs."""
    return principal.can_read_all or user_id == principal.user_id


def is_home(principal: Principal, user: User) -> bool:
    """Whether a user was made for an organization that the caller administers."""
    return user.organization_id is not None and user.organization_id in principal.organizations


def seen_user(principal: Principal, user: User) -> dict[str, Any]:
    """A user's row as far as the caller may see it: of others' people who they are, all else as of a new user."""
    row = user.to_json()
    if sees_all_of(principal, user.user_id) or is_home(principal, user):
        return row
    return {**User(user_id=user.user_id).to_json(), **{name: row[name] for name in _PUBLIC}}


def seen_teams(principal: Principal, user_id: str) -> Q:
    """The condition of the teams of a user that the caller may see."""
    return Q() if sees_all_of(principal, user_id) else Q(organization_id__in=principal.organizations)


def seen_keys(principal: Principal, user: User, team_ids: Iterable[str]) -> Q:
    """The condition of a user's keys that the caller may see; `team_ids` are the teams that they may see.

    Whoever is taken into an organization brings keys along that are none of its admins' business.
    """
    if sees_all_of(principal, user.user_id):
        return Q()
    condition = Q(team_id__in=list(team_ids)) | Q(organization_id__in=principal.organizations)
    if is_home(principal, user):
        condition |= Q(team_id__isnull=True, organization_id__isnull=True)
    return condition


def seen_memberships(principal: Principal, user_id: str, rows: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """The memberships in organizations that the caller may see."""
    is_all = sees_all_of(principal, user_id)
    return [row for row in rows if is_all or row["organization_id"] in principal.organizations]
