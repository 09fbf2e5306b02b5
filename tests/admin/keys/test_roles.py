"""What a key that one person gives to another may do: never more than call models."""

from __future__ import annotations

import jwt
import pytest
from quart import Quart

from tests.admin.conftest import Caller
from tests.admin.org_cast import organization


async def _team_of(admin: Caller, *members: tuple[str, str]) -> str:
    rows = [{"user_id": user_id, "role": role} for user_id, role in members]
    answer = await admin.post("/team/new", members_with_roles=rows)
    assert answer.status_code == 200, answer.text
    return str(answer.json()["team_id"])


async def test_a_team_admin_makes_no_key_of_an_admin(admin: Caller, alice: Caller) -> None:
    await admin.post("/user/new", user_id="root", user_role="proxy_admin", auto_create_key=False)
    team_id = await _team_of(admin, ("alice", "admin"))
    await alice.post("/team/member_add", team_id=team_id, member={"user_id": "root"})
    refused = await alice.post("/key/generate", team_id=team_id, user_id="root")
    assert refused.status_code == 403 and refused.json()["error"]["param"] == "user_id", refused.text
    own = await alice.new_key(team_id=team_id)
    assert (await alice.post("/key/update", key=own["key"], user_id="root")).status_code == 403


async def test_a_team_admin_does_not_act_as_a_member(admin: Caller, alice: Caller, bob: Caller) -> None:
    team_id = await _team_of(admin, ("alice", "admin"), ("bob", "user"))
    key = await alice.new_key(team_id=team_id, user_id="bob")
    as_bob = Caller(alice.client, key["key"])
    for path in ("/key/generate", "/key/delete"):
        assert (await as_bob.post(path, keys=[])).status_code == 403
    assert (await as_bob.get("/user/info")).status_code == 403


async def test_the_limit_of_such_a_key_cannot_be_lifted(admin: Caller, alice: Caller, bob: Caller) -> None:
    team_id = await _team_of(admin, ("alice", "admin"), ("bob", "user"))
    assert (await alice.post("/key/generate", team_id=team_id, user_id="bob", key_type="management")).status_code == 403
    key = (await alice.new_key(team_id=team_id, user_id="bob"))["key"]
    cases: list[dict[str, object]] = [
        {"allowed_routes": []},
        {"allowed_routes": None},
        {"key_type": "default"},
        {"models": []},
    ]
    for fields in cases:
        changed = await alice.post("/key/update", key=key, **fields)
        assert changed.json()["allowed_routes"] == ["llm_api_routes"], (fields, changed.text)
    assert (await alice.post("/key/update", key=key, allowed_routes=["/user/info"])).status_code == 403


async def test_a_key_that_changes_hands_is_limited(admin: Caller, alice: Caller, bob: Caller) -> None:
    team_id = await _team_of(admin, ("alice", "admin"), ("bob", "user"))
    own = await alice.new_key(team_id=team_id)
    assert own["allowed_routes"] == []
    given = (await alice.post("/key/update", key=own["key"], user_id="bob")).json()
    assert (given["user_id"], given["allowed_routes"]) == ("bob", ["llm_api_routes"])


async def test_an_admin_of_the_instance_gives_whole_keys(admin: Caller, bob: Caller) -> None:
    assert (await admin.new_key(user_id="bob"))["allowed_routes"] == []


async def test_a_team_admin_learns_only_the_names_of_whom_they_add(admin: Caller, alice: Caller, bob: Caller) -> None:
    team_id = await _team_of(admin, ("alice", "admin"))
    added = (await alice.post("/team/member_add", team_id=team_id, member={"user_id": "bob"})).json()
    assert added["updated_users"] == [{"user_id": "bob", "user_email": "bob@acme.example", "user_alias": None}]


async def _session_of_bob(admin: Caller, password: str) -> Caller:
    assert (await admin.post("/user/update", user_id="bob", password=password)).status_code == 200
    answer = await admin.post("/v2/login", username="bob@acme.example", password=password)
    claims = jwt.decode(answer.json()["token"], options={"verify_signature": False})
    return Caller(admin.client, claims["key"])


async def test_a_session_cannot_be_made_to_last(admin: Caller, bob: Caller) -> None:
    session = await _session_of_bob(admin, "one long password")
    assert (await session.get("/user/info")).status_code == 200
    for caller in (session, admin):
        refused = await caller.post("/key/update", key=session.key, duration="-1")
        assert refused.status_code == 403 and "session" in refused.text


async def test_a_new_password_ends_the_sessions_of_the_old_one(admin: Caller, bob: Caller) -> None:
    session = await _session_of_bob(admin, "one long password")
    assert (await session.get("/user/info")).status_code == 200
    await _session_of_bob(admin, "another long password")
    assert (await session.get("/user/info")).status_code == 401
    assert (await bob.get("/user/info")).status_code == 200


async def test_a_key_stays_in_an_organization_that_its_owner_does_not_administer(
    admin: Caller, alice: Caller, instance: Quart
) -> None:
    """Its budget bounds the key."""
    await organization(instance, "other")
    await organization(instance, "acme", alice="org_admin")
    bound = await admin.new_key(user_id="alice", organization_id="other")
    for organization_id in ("acme", None):
        refused = await alice.post("/key/update", key=bound["key"], organization_id=organization_id)
        assert refused.status_code == 403, organization_id
    loose = await alice.new_key()
    assert (await alice.post("/key/update", key=loose["key"], organization_id="acme")).status_code == 200


@pytest.mark.parametrize(
    "fields",
    [  # fixed dates: far ahead; the numbers beside them are wrong
        {"metadata": {"tags": 5}},
        {"metadata": {"end_user_budget_id": ["x"]}},
        {"max_budget": 0, "metadata": {"temp_budget_increase": "NaN", "temp_budget_expiry": "2099-01-01T00:00:00Z"}},
        {"max_budget": 0, "metadata": {"temp_budget_increase": "inf", "temp_budget_expiry": "2099-01-01T00:00:00Z"}},
        {"model_max_budget": {"sample-chat": {"max_budget": 0, "budget_duration": {"every": "day"}}}},
    ],
)
async def test_odd_metadata_neither_break_a_key_nor_raise_its_budget(
    admin: Caller, alice: Caller, fields: dict[str, object]
) -> None:
    odd = Caller(alice.client, (await admin.new_key(user_id="alice", **fields))["key"])
    assert (await odd.get("/key/info")).status_code == 200
    assert (await odd.get("/v1/models")).status_code == 200
    if "max_budget" in fields or "model_max_budget" in fields:
        call = await odd.post("/v1/chat/completions", model="sample-chat", messages=[{"role": "user", "content": "x"}])
        assert call.json()["error"]["type"] == "budget_exceeded", call.text


async def test_a_key_that_is_limited_to_routes_keeps_its_limit(admin: Caller) -> None:
    key = (await admin.new_key(user_id="default_user_id", allowed_routes=["/key/*"]))["key"]
    limited = Caller(admin.client, key)
    changes: tuple[dict[str, object], ...] = ({"allowed_routes": []}, {"key_type": "default"})
    for fields in changes:
        refused = await limited.post("/key/update", key=key, **fields)
        assert refused.status_code in (401, 403), refused.text


async def test_an_owner_cannot_raise_a_ceiling_for_a_time(alice: Caller) -> None:
    key = (await alice.new_key())["key"]
    increase = {"temp_budget_increase": 5, "temp_budget_expiry": "2999-01-01T00:00:00Z"}
    assert (await alice.post("/key/update", key=key, **increase)).status_code == 403
    assert (await alice.post("/key/update", key=key, metadata=increase)).status_code == 403


async def test_credentials_of_callbacks_are_not_shown(admin: Caller) -> None:
    logging = [{"callback_name": "langfuse", "callback_vars": {"langfuse_secret_key": "lf-secret"}}]
    key = await admin.new_key(metadata={"logging": logging})
    assert "lf-secret" not in str(key)
    assert "lf-secret" not in (await admin.get("/key/list", return_full_object=True)).text
