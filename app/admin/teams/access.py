"""Who may see, edit and create which team.

Admins of the instance and of the team's organization may do everything to it, the latter within the organization's
bounds. An admin of the team manages members, permissions and callbacks, and edits what raises no ceiling. Members see
it, and their own keys of it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from enum import IntEnum
from typing import Any

from ...auth.model_access import EVERY_MODEL, NO_MODEL
from ...auth.principal import Principal
from ...errors import Forbidden
from ...models import Budget, Organization, Team, TeamMembership
from ...web.fields import bad_request
from .fields import EDITABLE_BY_TEAM_ADMINS, IN_TEAM_METADATA, OF_MEMBER_BUDGET, json_value, plain


class TeamPermissions(IntEnum):
    """What a caller may do with one team; each includes the ones below it."""

    NONE = 0
    MEMBER = 1
    READER = 2
    TEAM_ADMIN = 3
    UNRESTRICTED = 4


async def permissions_over(principal: Principal, team: Team) -> TeamPermissions:
    """The caller's permissions over a team."""
    if principal.is_admin or (team.organization_id is not None and team.organization_id in principal.organizations):
        return TeamPermissions.UNRESTRICTED
    membership = None
    if principal.user_id is not None:
        membership = await TeamMembership.get_or_none(team_id=team.team_id, user_id=principal.user_id)
    if membership is not None and membership.is_admin and not principal.can_read_all:
        return TeamPermissions.TEAM_ADMIN
    if principal.can_read_all:
        return TeamPermissions.READER
    return (
        TeamPermissions.MEMBER if membership is not None or principal.team_id == team.team_id else TeamPermissions.NONE
    )


async def check_may_manage(principal: Principal, team: Team) -> TeamPermissions:
    """Raises 403 unless the caller is an admin of this instance, of the team's organization or of the team."""
    permissions = await permissions_over(principal, team)
    if permissions < TeamPermissions.TEAM_ADMIN:
        raise Forbidden("Only an admin of this instance, of the organization or of the team may do this")
    return permissions


async def check_may_own(principal: Principal, team: Team, action: str) -> None:
    """Raises 403 for all but admins of this instance and of the team's organization."""
    if await permissions_over(principal, team) < TeamPermissions.UNRESTRICTED:
        raise Forbidden(f"Only a proxy admin or an admin of the team's organization may {action}")


def edit_access(permissions: TeamPermissions) -> dict[str, Any]:
    """`caller_edit_access` of /team/info."""
    if permissions is TeamPermissions.UNRESTRICTED:
        return {"kind": "unrestricted"}
    if permissions is TeamPermissions.TEAM_ADMIN:
        return {"kind": "team_admin", "editable_fields": list(EDITABLE_BY_TEAM_ADMINS)}
    return {"kind": "none"}


def editable_part(sent: Mapping[str, Any], team: Team) -> dict[str, Any]:
    """What an admin of the team may write of a request; fields that change nothing are left out.

    Forms send all that they know, so only a real change of another field is refused. Raises 403.
    """
    editable = {}
    for name, value in sent.items():
        if name in EDITABLE_BY_TEAM_ADMINS or (name == "max_budget" and _lowers(team, value)):
            editable[name] = value
        elif name not in ("team_id", "version") and not _is_as_before(name, value, team):
            if name == "max_budget":
                raise Forbidden("Only a proxy admin can raise a team's max_budget", param=name)
            raise Forbidden(f"Only a proxy admin may change '{name}' of a team", param=name)
    return editable


def _lowers(team: Team, ceiling: Any) -> bool:
    return ceiling is not None and (team.max_budget is None or ceiling < team.max_budget)


def _is_as_before(name: str, value: Any, team: Team) -> bool:
    if name in IN_TEAM_METADATA:
        return _same(team.metadata.get(name), json_value(value))
    if name in OF_MEMBER_BUDGET:
        return value is None
    return _same(getattr(team, name), value)


def _same(before: Any, value: Any) -> bool:
    """Nothing is as good as an empty list, and not as zero."""
    nothing: tuple[object, ...] = (None, "", [], {})
    return bool(before == value) or (before in nothing and value in nothing)


# ---- bounds of an organization ---------------------------------------------------------------------------------------


async def need_organization(organization_id: str) -> Organization:
    """The organization that a team is to belong to. Raises 400 for an unknown one."""
    organization = await Organization.get_or_none(organization_id=organization_id)
    if organization is None:
        raise bad_request(f"Organization not found, passed organization_id={organization_id}", "organization_id")
    return organization


def check_may_place(principal: Principal, organization_id: str | None, before: str | None = None) -> None:
    """Raises 403 for a team that an admin of organizations puts into, or takes out of, one that is not theirs."""
    if principal.is_admin or organization_id == before:
        return
    if organization_id not in principal.organizations or (before is not None and before not in principal.organizations):
        raise Forbidden("Admins of an organization may have teams in their own organizations", param="organization_id")


async def check_bounds(columns: Mapping[str, Any], organization_id: str) -> None:
    """Raises 400 when what a team is given is more than its organization has. `columns`: what is to be written."""
    organization = await need_organization(organization_id)
    for model in columns.get("models") or ():
        if not is_granted(model, organization.models):
            raise bad_request(
                f"Model '{model}' not in organization's allowed models. Organization allowed models="
                f"{organization.models}. Organization: {organization_id}",
                "models",
            )
    budget = await Budget.get_or_none(budget_id=organization.budget_id) if organization.budget_id else None
    if budget is None:
        return
    for name in ("max_budget", "tpm_limit", "rpm_limit"):
        wanted, ceiling = columns.get(name), getattr(budget, name)
        if wanted is not None and ceiling is not None and wanted > ceiling:
            raise bad_request(
                f"Team {name} ({plain(wanted)}) exceeds organization's {name} ({plain(ceiling)}). "
                f"Organization: {organization_id}",
                name,
            )


def is_granted(model: str, granted: Iterable[str]) -> bool:
    """Whether a list of grants covers a model name; an empty list grants everything."""
    names = list(granted)
    if not names or model == NO_MODEL or not EVERY_MODEL.isdisjoint(names):
        return True
    return any(name == model or (name.endswith("*") and model.startswith(name[:-1])) for name in names)
