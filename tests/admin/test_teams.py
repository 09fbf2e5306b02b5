"""Teams and their members over the management API."""

from __future__ import annotations

import asyncio

from tests.admin.conftest import Caller


async def _team(admin: Caller, **fields: object) -> str:
    answer = await admin.post("/team/new", **fields)
    assert answer.status_code == 200, answer.text
    return str(answer.json()["team_id"])


async def test_the_creator_is_the_first_admin(admin: Caller) -> None:
    answer = (
        await admin.post("/team/new", team_alias="Team", models=["sample-chat"], max_budget=5, soft_budget=4)
    ).json()
    assert (answer["team_alias"], answer["models"], answer["max_budget"]) == ("Team", ["sample-chat"], 5)
    assert answer["members_with_roles"] == [{"user_id": "default_user_id", "user_email": None, "role": "admin"}]
    assert (answer["admins"], answer["members"], answer["blocked"]) == (["default_user_id"], [], False)


async def test_a_wrong_team_is_refused(admin: Caller) -> None:
    cases: list[tuple[dict[str, object], int]] = [
        ({"max_budget": 1, "soft_budget": 1}, 400),
        ({"max_budget": -1}, 400),
        ({"budget_duration": "5x"}, 400),
        ({"team_member_permissions": ["/nonsense"]}, 400),
        ({"team_id": "litellm-dashboard"}, 400),
        ({"models": "all"}, 422),
        ({"members_with_roles": [{"role": "king", "user_id": "u"}]}, 422),
    ]
    for body, status in cases:
        assert (await admin.post("/team/new", **body)).status_code == status
        assert (await admin.get("/team/list")).json() == []


async def test_an_id_is_there_once_and_an_alias_may_be_there_twice(admin: Caller) -> None:
    await _team(admin, team_id="t1", team_alias="Team")
    assert (await admin.post("/team/new", team_id="t1")).status_code == 400
    await _team(admin, team_id="t2", team_alias="Team")


async def test_only_what_is_sent_changes(admin: Caller) -> None:
    team_id = await _team(admin, team_alias="Team", max_budget=5, metadata={"a": 1}, budget_duration="1d")
    answer = (await admin.post("/team/update", team_id=team_id, tpm_limit=3)).json()
    assert answer["team_id"] == team_id
    data = answer["data"]
    assert (data["max_budget"], data["metadata"], data["tpm_limit"], data["team_alias"]) == (5, {"a": 1}, 3, "Team")
    data = (await admin.post("/team/update", team_id=team_id, max_budget=None, budget_duration=None)).json()["data"]
    assert (data["max_budget"], data["budget_duration"], data["budget_reset_at"]) == (None, None, None)
    assert (await admin.post("/team/update", team_id="zzz")).status_code == 404
    assert (await admin.post("/team/update", tpm_limit=3)).status_code == 422


async def test_members_come_and_go(admin: Caller, alice: Caller) -> None:
    team_id = await _team(admin)
    member = {"user_id": "alice", "role": "user"}
    answer = await admin.post("/team/member_add", team_id=team_id, member=member, max_budget_in_team=0.5)
    assert answer.status_code == 200, answer.text
    body = answer.json()
    assert [user["user_id"] for user in body["updated_users"]] == ["alice"]
    assert body["updated_team_memberships"][0]["litellm_budget_table"]["max_budget"] == 0.5
    assert body["members_with_roles"][1] == {"user_id": "alice", "user_email": "alice@acme.example", "role": "user"}
    assert (await admin.post("/team/member_add", team_id=team_id, member=member)).status_code == 400
    key = await admin.new_key(user_id="alice", team_id=team_id)
    gone = await admin.post("/team/member_delete", team_id=team_id, user_email="ALICE@acme.example")
    assert [row["user_id"] for row in gone.json()["members_with_roles"]] == ["default_user_id"]
    assert (await admin.get("/key/info", key=key["token"])).status_code == 404
    assert (await admin.post("/team/member_delete", team_id=team_id, user_id="alice")).status_code == 400


async def test_a_missing_member_is_created_by_address(admin: Caller) -> None:
    team_id = await _team(admin)
    members = [{"user_email": "New@acme.example", "role": "user"}, {"user_id": "n2", "role": "admin"}]
    assert (await admin.post("/team/member_add", team_id=team_id, member=members)).status_code == 200
    users = (await admin.get("/user/list", sort_by="created_at", sort_order="asc")).json()["users"]
    assert [(user["user_email"], user["teams"]) for user in users] == [
        ("new@acme.example", [team_id]),
        (None, [team_id]),
    ]


async def test_members_that_are_added_at_once_are_all_there(admin: Caller) -> None:
    team_id = await _team(admin)
    names = [f"u{number}" for number in range(12)]
    calls = [
        admin.post("/team/member_add", team_id=team_id, member={"user_id": name, "role": "user"}) for name in names
    ]
    assert {answer.status_code for answer in await asyncio.gather(*calls)} == {200}
    members = (await admin.get("/team/info", team_id=team_id)).json()["team_info"]["members_with_roles"]
    assert {member["user_id"] for member in members} == {*names, "default_user_id"}


async def test_a_wrong_addition_is_refused(admin: Caller) -> None:
    cases: list[tuple[dict[str, object], int]] = [
        ({"member": {"role": "user"}}, 422),
        ({"member": {"role": "king", "user_id": "u"}}, 422),
        ({"member": "alice"}, 422),
        ({}, 422),
        ({"team_id": "zzz", "member": {"user_id": "u", "role": "user"}}, 404),
    ]
    for body, status in cases:
        team_id = await _team(admin)
        assert (await admin.post("/team/member_add", **{"team_id": team_id, **body})).status_code == status


async def test_blocking_holds_at_once(admin: Caller) -> None:
    team_id = await _team(admin)
    assert (await admin.post("/team/block", team_id=team_id)).json()["blocked"] is True
    assert (await admin.get("/team/info", team_id=team_id)).json()["team_info"]["blocked"] is True
    assert (await admin.post("/team/unblock", team_id=team_id)).json()["blocked"] is False
    answer = await admin.post("/team/block", team_id="zzz")
    assert (answer.status_code, list(answer.json())) == (404, ["detail"])


async def test_deleting_a_team_takes_its_keys(admin: Caller) -> None:
    team_id = await _team(admin)
    key = await admin.new_key(team_id=team_id)
    holder = Caller(admin.client, key["key"])
    assert (await holder.get("/key/info")).status_code == 200
    assert (await admin.post("/team/delete", team_ids=[team_id])).json() == {"deleted_teams": [team_id]}
    assert (await holder.get("/key/info")).status_code == 401
    assert (await admin.post("/team/delete", team_ids=[team_id])).status_code == 404


async def test_a_team_as_its_page_shows_it(admin: Caller, alice: Caller, bob: Caller) -> None:
    team_id = await _team(admin, team_alias="Team", members_with_roles=[{"user_id": "alice", "role": "user"}])
    await admin.new_key(team_id=team_id, key_alias="of the team")
    info = (await alice.get("/team/info", team_id=team_id)).json()
    assert (info["team_id"], info["team_info"]["team_alias"]) == (team_id, "Team")
    assert [key["key_alias"] for key in info["keys"]] == ["of the team"]
    assert [row["user_id"] for row in info["team_memberships"]] == ["alice", "default_user_id"]
    assert (await bob.get("/team/info", team_id=team_id)).status_code == 403
    unknown = await admin.get("/team/info", team_id="nope")
    assert (unknown.status_code, unknown.json()["error"]["type"]) == (404, "auth_error")
    assert (await admin.get("/team/info")).status_code == 422


async def test_lists(admin: Caller, alice: Caller, vera: Caller) -> None:
    one = await _team(admin, team_alias="One", members_with_roles=[{"user_id": "alice", "role": "user"}])
    two = await _team(admin, team_alias="Two")
    await admin.new_key(team_id=one)
    assert [team["team_id"] for team in (await vera.get("/team/list")).json()] == [two, one]
    assert [team["team_id"] for team in (await alice.get("/team/list", user_id="alice")).json()] == [one]
    refusal = await alice.get("/team/list")
    assert (refusal.status_code, list(refusal.json())) == (401, ["detail"])
    assert (await alice.get("/v2/team/list", user_id="bob")).status_code == 401
    page = (await admin.get("/v2/team/list", page_size=1, sort_by="team_alias")).json()
    assert (page["total"], page["page"], page["page_size"], page["total_pages"]) == (2, 1, 1, 2)
    assert (page["teams"][0]["team_id"], page["teams"][0]["keys_count"], page["teams"][0]["members_count"]) == (
        one,
        1,
        2,
    )
    assert (await admin.get("/v2/team/list", team_alias="tw")).json()["total"] == 1


async def test_admins_of_a_team_manage_members_but_not_money(admin: Caller, alice: Caller, bob: Caller) -> None:
    team_id = await _team(admin, max_budget=1, members_with_roles=[{"user_id": "alice", "role": "admin"}])
    assert (
        await alice.post("/team/member_add", team_id=team_id, member={"user_id": "bob", "role": "user"})
    ).status_code == 200
    assert (
        await alice.post("/team/member_add", team_id=team_id, member={"user_id": "x", "role": "user"})
    ).status_code == 404
    assert (await alice.post("/team/update", team_id=team_id, team_alias="Ours")).status_code == 200
    assert (await alice.post("/team/update", team_id=team_id, max_budget=100)).status_code == 403
    assert (await alice.post("/team/unblock", team_id=team_id)).status_code == 403
    assert (await bob.post("/team/update", team_id=team_id, team_alias="Mine")).status_code == 403
    assert (await bob.post("/team/member_delete", team_id=team_id, user_id="alice")).status_code == 403
