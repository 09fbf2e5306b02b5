"""Organizations for tests of routes that are not about them."""

from __future__ import annotations

from quart import Quart

from app.models import Organization, OrganizationMembership, Team
from app.services import EXTENSION, Services


def services_of(instance: Quart) -> Services:
    services: Services = instance.extensions[EXTENSION]
    return services


async def organization(instance: Quart, name: str, **members: str) -> str:
    """An organization with members, given as user id = role; answers its id."""
    with services_of(instance).database.active():
        await Organization.get_or_create(organization_id=name)
        for user_id, role in members.items():
            await OrganizationMembership.create(organization_id=name, user_id=user_id, user_role=role)
    for user_id in members:
        services_of(instance).keys.forget_user(user_id)
    return name


async def owned_by(instance: Quart, team_id: str, name: str) -> None:
    """Put a team into an organization."""
    with services_of(instance).database.active():
        await Team.filter(team_id=team_id).update(organization_id=name)
