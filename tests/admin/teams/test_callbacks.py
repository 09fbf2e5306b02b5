"""Logging callbacks of a team, whose variables nobody ever reads again."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from quart import Quart

from app.models import AuditLog, Team
from app.security.callback_credentials import decrypted_variables
from app.services import EXTENSION
from app.settings import Settings
from tests.admin.conftest import Caller
from tests.admin.organization_cast import database_of, new_team, send

SECRET = "sk-lf-very-secret"
_VARIABLES = {"langfuse_secret_key": SECRET, "langfuse_host": "https://logs.example"}
_MEMBERS = [{"user_id": "alice", "role": "admin"}, {"user_id": "bob", "role": "user"}]


@pytest.fixture
def settings(settings: Settings) -> Settings:
    return replace(settings, callback_hosts=("https://logs.example", "https://other.example"))


async def _with_callback(admin: Caller) -> str:
    team_id = await new_team(admin, members_with_roles=_MEMBERS, metadata={"a": 1})
    answer = await admin.post(
        f"/team/{team_id}/callback", callback_name="langfuse", callback_type="success", callback_vars=_VARIABLES
    )
    assert answer.status_code == 200, answer.text
    assert SECRET not in answer.text
    return team_id


async def _opened(instance: Quart, team_id: str) -> dict[str, str]:
    with database_of(instance).active():
        team = await Team.get(team_id=team_id)
    return decrypted_variables(team.metadata["logging"][0], instance.extensions[EXTENSION].settings.salt_key)


async def test_a_callback_is_stored_encrypted_and_answered_masked(
    admin: Caller, alice: Caller, bob: Caller, vera: Caller, instance: Quart
) -> None:
    team_id = await _with_callback(admin)
    data = (await vera.get(f"/team/{team_id}/callback")).json()["data"]
    assert (data["success_callbacks"], data["failure_callbacks"]) == (["langfuse"], [])
    assert data["callback_vars"] == {"langfuse_secret_key": "****", "langfuse_host": "****"}
    info = await bob.get("/team/info", team_id=team_id)
    with database_of(instance).active():
        team = await Team.get(team_id=team_id)
        audit = await AuditLog.all().values("before_value", "updated_values")
    encrypted = team.metadata["logging"][0]["sealed_credentials"]
    for text in (info.text, json.dumps(audit)):
        assert SECRET not in text
        assert encrypted not in text
    assert SECRET not in json.dumps(team.metadata)
    assert await _opened(instance, team_id) == _VARIABLES


async def test_metadata_that_are_replaced_keep_the_callbacks(admin: Caller, alice: Caller, bob: Caller) -> None:
    team_id = await _with_callback(admin)
    data = (await admin.post("/team/update", team_id=team_id, metadata={"b": 2})).json()["data"]
    assert (data["metadata"]["b"], data["metadata"]["logging"][0]["callback_name"]) == (2, "langfuse")
    data = (await admin.post("/team/update", team_id=team_id, metadata={"logging": []})).json()["data"]
    assert data["metadata"] == {"logging": []}


async def test_stars_that_come_back_mean_as_it_was(admin: Caller, alice: Caller, bob: Caller, instance: Quart) -> None:
    team_id = await _with_callback(admin)
    metadata = (await admin.get("/team/info", team_id=team_id)).json()["team_info"]["metadata"]
    metadata["logging"][0]["callback_vars"]["langfuse_host"] = "https://other.example"
    assert (await admin.post("/team/update", team_id=team_id, metadata=metadata)).status_code == 200
    assert await _opened(instance, team_id) == {**_VARIABLES, "langfuse_host": "https://other.example"}


async def test_callbacks_in_the_metadata_of_a_new_team_are_encrypted_too(admin: Caller, instance: Quart) -> None:
    logging = [{"callback_name": "langfuse", "callback_vars": _VARIABLES}]
    answer = await admin.post("/team/new", metadata={"logging": logging})
    assert SECRET not in answer.text
    assert await _opened(instance, answer.json()["team_id"]) == _VARIABLES
    for wrong in ("x", [1], [{"callback_name": 1}], [{"callback_name": "l", "callback_vars": {"a": 1}}]):
        assert (await admin.post("/team/new", metadata={"logging": wrong})).status_code == 400


async def test_callbacks_go_one_by_one_and_all_at_once(admin: Caller, alice: Caller, bob: Caller) -> None:
    team_id = await _with_callback(admin)
    path = f"/team/{team_id}/callback"
    assert (await admin.post(path, callback_name="langfuse")).status_code == 400
    assert (await admin.post(path, callback_name="langfuse", callback_type="failure")).status_code == 200
    assert (await alice.post(path, callback_name="other", callback_vars={"key": "v"})).status_code == 200
    assert (await send(admin, "DELETE", f"{path}/nothing")).status_code == 404
    data = (await send(admin, "DELETE", f"{path}/langfuse")).json()["data"]
    assert (data["success_callbacks"], data["callback_vars"]) == (["other"], {"key": "****"})
    answer = (await admin.post(f"/team/{team_id}/disable_logging")).json()
    assert (answer["status"], answer["data"]["success_callbacks"]) == ("success", [])
    assert (await admin.get(path)).json()["data"]["callback_vars"] == {}


async def test_wrong_callbacks_are_refused(admin: Caller, alice: Caller, bob: Caller) -> None:
    team_id = await _with_callback(admin)
    path = f"/team/{team_id}/callback"
    cases: list[tuple[dict[str, object], int]] = [
        ({}, 422),
        ({"callback_name": ""}, 400),
        ({"callback_name": "x", "callback_type": "never"}, 422),
        ({"callback_name": "x", "callback_vars": {"key": 1}}, 400),
        ({"callback_name": "x", "callback_vars": {"key": "os.environ/HOME"}}, 400),
    ]
    for body, status in cases:
        assert (await admin.post(path, **body)).status_code == status
    assert (await admin.post("/team/zzz/callback", callback_name="x")).status_code == 404
    assert (await bob.post(path, callback_name="x")).status_code == 403
    assert (await bob.get(path)).status_code == 403
    assert (await bob.post(f"/team/{team_id}/disable_logging")).status_code == 403
