"""Keys of teams and organizations: who may do what to them."""

from __future__ import annotations

from typing import Any

import pytest
from quart import Quart

from app.models import Team
from tests.admin.conftest import Caller
from tests.admin.org_cast import organization, owned_by, services_of

DEEDS: list[tuple[str, dict[str, Any]]] = [
    ("/key/update", {"rpm_limit": 3}),
    ("/key/block", {}),
    ("/key/unblock", {}),
    ("/key/regenerate", {}),
]


async def _team(admin: Caller, *members: tuple[str, str], **fields: Any) -> str:
    rows = [{"user_id": user_id, "role": role} for user_id, role in members]
    answer = await admin.post("/team/new", members_with_roles=rows, **fields)
    assert answer.status_code == 200, answer.text
    return str(answer.json()["team_id"])


@pytest.mark.parametrize(("path", "fields"), DEEDS)
async def test_a_member_needs_the_permission_of_the_team(
    admin: Caller, alice: Caller, bob: Caller, instance: Quart, path: str, fields: dict[str, Any]
) -> None:
    team = await _team(admin, ("alice", "user"))
    key = await admin.new_key(team_id=team)
    refused = await alice.post(path, key=key["token"], **fields)
    assert (refused.status_code, refused.json()["error"]["type"]) == (401, "team_member_permission_error"), refused.text
    assert (await bob.post(path, key=key["token"], **fields)).status_code == 403
    with_permission = await _permit(instance, team, path)
    assert with_permission == [path]
    allowed = await alice.post(path, key=key["token"], **fields)
    assert allowed.status_code == 200, allowed.text
    assert (await bob.post(path, key=allowed.json()["token"], **fields)).status_code == 403


async def _permit(instance: Quart, team_id: str, *routes: str) -> list[str]:
    with services_of(instance).database.active():
        await Team.filter(team_id=team_id).update(team_member_permissions=list(routes))
        team = await Team.get(team_id=team_id)
    return list(team.team_member_permissions)


async def test_an_owner_needs_the_permission_for_a_key_of_the_team_too(
    admin: Caller, alice: Caller, instance: Quart
) -> None:
    team = await _team(admin, ("alice", "user"))
    key = await admin.new_key(team_id=team, user_id="alice")
    assert (await alice.post("/key/update", key=key["token"], rpm_limit=1)).status_code == 401
    assert (await alice.post("/key/delete", keys=[key["token"]])).status_code == 401
    await _permit(instance, team, "/key/delete")
    assert (await alice.post("/key/delete", keys=[key["token"]])).status_code == 200


async def test_members_see_the_keys_of_their_team(admin: Caller, alice: Caller, bob: Caller) -> None:
    key = await admin.new_key(team_id=await _team(admin, ("alice", "user")))
    assert (await alice.get("/key/info", key=key["token"])).status_code == 200
    assert (await bob.get("/key/info", key=key["token"])).status_code == 403
    answer = (await alice.post("/v2/key/info", keys=[key["token"], "sk-unknown"])).json()
    assert (answer["key"], [row["token"] for row in answer["info"]]) == ([key["token"], "sk-unknown"], [key["token"]])
    assert (await bob.post("/v2/key/info", keys=[key["token"]])).json()["info"] == []


async def test_a_service_account_is_nobodys(admin: Caller, alice: Caller, bob: Caller, instance: Quart) -> None:
    path = "/key/service-account/generate"
    missing = await admin.post(path, key_alias="robot")
    assert (missing.status_code, list(missing.json())) == (400, ["detail"])
    team = await _team(admin, ("alice", "user"))
    assert (await bob.post(path, team_id=team)).status_code == 403
    assert (await alice.post(path, team_id=team)).json()["error"]["type"] == "team_member_permission_error"
    await _permit(instance, team, path)
    answer = await alice.post(path, team_id=team, key_alias="robot", user_id="bob", metadata={"a": 1})
    assert answer.status_code == 200, answer.text
    key = answer.json()
    assert (key["user_id"], key["team_id"]) == (None, team)
    assert key["metadata"] == {"a": 1, "service_account_id": "robot"}
    changed = (await admin.post("/key/update", key=key["key"], metadata={"b": 2})).json()
    assert changed["metadata"] == {"b": 2, "service_account_id": "robot"}


async def test_admins_of_an_organization_manage_keys_of_its_teams(
    admin: Caller, alice: Caller, bob: Caller, instance: Quart
) -> None:
    team, foreign = await _team(admin, ("bob", "user")), await _team(admin)
    key = await admin.new_key(team_id=team)
    assert (await alice.post("/key/update", key=key["token"], rpm_limit=1)).status_code == 403
    await owned_by(instance, team, await organization(instance, "acme", alice="org_admin"))
    for path, fields in DEEDS[:3]:
        assert (await alice.post(path, key=key["token"], **fields)).status_code == 200, path
    assert (await alice.new_key(team_id=team, user_id="bob"))["allowed_routes"] == ["llm_api_routes"]
    listed = (await alice.get("/key/list", team_id=team)).json()["keys"]
    assert key["token"] in listed and len(listed) == 2
    assert key["token"] in (await alice.get("/key/list", include_team_keys=True)).json()["keys"]
    assert (await alice.post("/key/generate", team_id=foreign)).status_code == 400
    assert (await alice.post("/key/generate", organization_id="acme")).status_code == 200
    assert (await alice.post("/key/generate", organization_id="elsewhere")).status_code == 403
    assert (await alice.post("/key/delete", keys=[key["token"]])).status_code == 200


async def test_nobody_gives_a_key_more_than_its_owner_has(admin: Caller, alice: Caller) -> None:
    await admin.post("/user/update", user_id="alice", max_budget=5, rpm_limit=10)
    for fields in ({"max_budget": 6}, {"rpm_limit": 11}):
        refused = await alice.post("/key/generate", **fields)
        assert (refused.status_code, refused.json()["error"]["param"]) == (400, next(iter(fields)))
        assert "user=alice" in refused.json()["error"]["message"]
    key = await alice.new_key(max_budget=5, rpm_limit=10)
    assert (await alice.post("/key/update", key=key["key"], max_budget=5.01)).status_code == 400
    assert (await admin.post("/key/update", key=key["key"], max_budget=50)).status_code == 200


async def test_nobody_gives_a_key_more_than_its_team_has(admin: Caller, alice: Caller) -> None:
    team = await _team(admin, ("alice", "admin"), max_budget=5)
    refused = await alice.post("/key/generate", team_id=team, max_budget=6)
    assert refused.status_code == 400 and f"team={team}" in refused.text
    assert (await alice.post("/key/generate", team_id=team, max_budget=5)).status_code == 200


async def test_a_key_does_not_slip_out_of_its_team(admin: Caller, alice: Caller, bob: Caller, instance: Quart) -> None:
    team = await _team(admin, ("alice", "admin"), ("bob", "user"))
    robot = await admin.new_key(team_id=team)
    assert (await alice.post("/key/update", key=robot["token"], team_id=None)).status_code == 403
    await _permit(instance, team, "/key/update")
    assert (await bob.post("/key/update", key=robot["token"], user_id="bob")).status_code == 403
    own = await bob_key(admin, team)
    assert (await bob.post("/key/update", key=own, user_id=None)).status_code == 403
    assert (await bob.post("/key/update", key=own, team_id=None)).status_code == 200


async def bob_key(admin: Caller, team: str) -> str:
    return str((await admin.new_key(team_id=team, user_id="bob"))["token"])


async def test_fields_of_admins_do_not_hide_in_the_metadata(admin: Caller, alice: Caller) -> None:
    hidden = {"throttle_on_budget_exceeded": True}
    assert (await alice.post("/key/generate", metadata=hidden)).status_code == 403
    assert (await admin.post("/key/generate", metadata=hidden)).status_code == 200


async def test_any_key_asks_after_its_own_health(admin: Caller) -> None:
    holder = Caller(admin.client, (await admin.new_key())["key"])
    answer = await holder.post("/key/health")
    assert (answer.status_code, answer.json()) == (200, {"key": "healthy", "logging_callbacks": None})
