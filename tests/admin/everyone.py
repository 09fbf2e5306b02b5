"""Everyone who may call an instance, each with a key: for tests that ask who may do what."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx

from tests.admin.conftest import Caller
from tests.auth.instance import CONSOLE, Instance, serving
from tests.conftest import MASTER_KEY

MODEL_LIST = (
    {
        "model_name": "sample",
        "litellm_params": {"model": "openai/sample", "api_key": "none", "mock_response": "Ahoy"},
        "model_info": {"id": "configured"},
    },
)
_ROLES = {
    "A": "proxy_admin",
    "V": "proxy_admin_viewer",
    "O": "internal_user",
    "I": "internal_user",
    "W": "internal_user_viewer",
    "T": "internal_user",
    "U": "internal_user",
}


@dataclass(frozen=True)
class Everyone:
    """An instance and its callers by letter; a letter is the id of its user too.

    M the master key, A proxy_admin, V proxy_admin_viewer, O admin of the organization `acme`, I internal_user,
    W internal_user_viewer, T admin and U member of the team `crew`, K a key without a user, L a key for /key/info only.
    There are also the organization `rival` and the teams `acme-team` and `rival-team`.
    """

    worker: Instance
    callers: dict[str, Caller]


@asynccontextmanager
async def everyone(database_url: str, state_dir: Path) -> AsyncIterator[Everyone]:
    """An instance on a migrated database, with the whole cast."""
    settings = {"control_plane_url": CONSOLE, "model_list": MODEL_LIST, "failed_login_limit": 10_000}
    async with serving(database_url, state_dir=state_dir, **settings) as worker:
        yield Everyone(worker, await callers_of(worker.http))


async def callers_of(http: httpx.AsyncClient) -> dict[str, Caller]:
    """The cast of `Everyone`, made by calls of the API on a fresh instance."""
    admin = Caller(http, MASTER_KEY)
    keys = {letter: await _key_of_new_user(admin, letter, role) for letter, role in _ROLES.items()}
    await _make_teams(admin)
    keys["K"] = (await admin.new_key(key_alias="nobody's"))["key"]
    keys["L"] = (await admin.new_key(user_id="A", allowed_routes=["/key/info"]))["key"]
    return {"M": admin} | {letter: Caller(http, key) for letter, key in keys.items()}


async def _make_teams(admin: Caller) -> None:
    members = [{"user_id": "T", "role": "admin"}, {"user_id": "U", "role": "user"}]
    await _done(admin.post("/team/new", team_id="crew", members_with_roles=members))
    for organization in ("acme", "rival"):
        await _done(admin.post("/organization/new", organization_id=organization, organization_alias=organization))
        await _done(admin.post("/team/new", team_id=f"{organization}-team", organization_id=organization))
    member = {"user_id": "O", "role": "org_admin"}
    await _done(admin.post("/organization/member_add", organization_id="acme", member=member))


async def _key_of_new_user(admin: Caller, user_id: str, role: str) -> str:
    answer = await _done(admin.post("/user/new", user_id=user_id, user_role=role))
    return str(answer.json()["key"])


async def _done(call: Awaitable[httpx.Response]) -> httpx.Response:
    answer = await call
    assert answer.status_code == 200, answer.text
    return answer
