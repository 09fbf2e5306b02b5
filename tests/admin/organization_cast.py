"""More of the cast: Olga administers an organization; and short ways to make teams and organizations."""

from __future__ import annotations

from typing import Any, cast

import httpx
from quart import Quart

from app.services import EXTENSION, Services
from app.storage.database import Database
from tests.admin.conftest import Caller

ORGANIZATION = "acme"


async def send(caller: Caller, method: str, path: str, **body: Any) -> httpx.Response:
    """A request with a JSON body by any method."""
    return await caller.client.request(method, path, json=body, headers=caller.headers)


async def new_team(admin: Caller, **fields: Any) -> str:
    """A new team; answers its id."""
    answer = await admin.post("/team/new", **fields)
    assert answer.status_code == 200, answer.text
    return str(answer.json()["team_id"])


async def new_organization(admin: Caller, organization_id: str = ORGANIZATION, **fields: Any) -> str:
    """A new organization; answers its id."""
    body = {"organization_alias": organization_id.title(), **fields}
    answer = await admin.post("/organization/new", organization_id=organization_id, **body)
    assert answer.status_code == 200, answer.text
    return organization_id


async def organization_admin(admin: Caller, organization_id: str = ORGANIZATION, name: str = "olga") -> Caller:
    """An internal user who is admin of one organization."""
    user = await admin.post("/user/new", user_id=name, user_email=f"{name}@acme.example", user_role="internal_user")
    assert user.status_code == 200, user.text
    member = {"user_id": name, "role": "org_admin"}
    added = await admin.post("/organization/member_add", organization_id=organization_id, member=member)
    assert added.status_code == 200, added.text
    return Caller(admin.client, user.json()["key"])


def database_of(instance: Quart) -> Database:
    """The database of an instance, for what no route can do."""
    return cast(Services, instance.extensions[EXTENSION]).database
