"""Who comes into a team and who leaves it."""

from __future__ import annotations

import asyncio

from quart import Quart

from app.models import ConfigEntry
from tests.admin.conftest import Caller
from tests.admin.organization_cast import database_of, new_organization, new_team, organization_admin


async def test_members_come_and_go(admin: Caller, alice: Caller) -> None:
    team_id = await new_team(admin)
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
    team_id = await new_team(admin)
    members = [{"user_email": "New@acme.example", "role": "user"}, {"user_id": "n2", "role": "admin"}]
    assert (await admin.post("/team/member_add", team_id=team_id, member=members)).status_code == 200
    users = (await admin.get("/user/list", sort_by="created_at", sort_order="asc")).json()["users"]
    assert [(user["user_email"], user["teams"]) for user in users] == [
        ("new@acme.example", [team_id]),
        (None, [team_id]),
    ]


async def test_members_that_are_added_at_once_are_all_there(admin: Caller) -> None:
    team_id = await new_team(admin)
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
        team_id = await new_team(admin)
        assert (await admin.post("/team/member_add", **{"team_id": team_id, **body})).status_code == status


async def test_terms_of_an_addition_are_the_membership_s_own_budget(admin: Caller) -> None:
    team_id = await new_team(admin, team_member_budget=1)
    member = {"user_id": "u1", "role": "user"}
    answer = await admin.post(
        "/team/member_add", team_id=team_id, member=member, budget_duration="1d", allowed_models=["sample-chat"]
    )
    row = answer.json()["updated_team_memberships"][0]
    assert (row["budget_source"], row["litellm_budget_table"]["allowed_models"]) == ("custom", ["sample-chat"])
    answer = await admin.post("/team/member_add", team_id=team_id, member={"user_id": "u2", "role": "user"})
    row = answer.json()["updated_team_memberships"][0]
    assert (row["budget_source"], row["litellm_budget_table"]["max_budget"]) == ("team_default", 1)


async def test_admins_of_a_team_manage_members_but_create_nobody(admin: Caller, alice: Caller, bob: Caller) -> None:
    team_id = await new_team(admin, members_with_roles=[{"user_id": "alice", "role": "admin"}])
    added = await alice.post("/team/member_add", team_id=team_id, member={"user_id": "bob", "role": "user"})
    assert added.status_code == 200
    assert set(added.json()["updated_users"][0]) == {"user_id", "user_email", "user_alias"}
    stranger = {"user_id": "x", "role": "user"}
    assert (await alice.post("/team/member_add", team_id=team_id, member=stranger)).status_code == 404
    assert (await bob.post("/team/member_add", team_id=team_id, member={"user_id": "alice"})).status_code == 403
    assert (await bob.post("/team/member_delete", team_id=team_id, user_id="alice")).status_code == 403


async def test_admins_of_the_organization_create_users_in_it(admin: Caller) -> None:
    await new_organization(admin)
    olga = await organization_admin(admin)
    team_id = await new_team(olga, organization_id="acme")
    answer = await olga.post("/team/member_add", team_id=team_id, member={"user_email": "new@acme.example"})
    assert answer.status_code == 200, answer.text
    user_id = answer.json()["updated_users"][0]["user_id"]
    info = (await olga.get("/organization/info", organization_id="acme")).json()
    assert user_id in [member["user_id"] for member in info["members"]]


async def test_many_members_are_added_one_by_one(admin: Caller, alice: Caller) -> None:
    team_id = await new_team(admin)
    members = [{"user_id": "alice", "role": "user"}, {"role": "user"}, {"user_id": "u1"}, {"user_id": "u1"}]
    answer = (await admin.post("/team/bulk_member_add", team_id=team_id, members=members, max_budget_in_team=1)).json()
    assert [result["success"] for result in answer["results"]] == [True, False, True, False]
    assert (answer["total_requested"], answer["successful_additions"], answer["failed_additions"]) == (4, 2, 2)
    assert answer["results"][3]["error"] == "User already in team. Member: user_id=u1"
    assert answer["results"][0]["updated_team_membership"]["litellm_budget_table"]["max_budget"] == 1
    assert len(answer["updated_team"]["members_with_roles"]) == 3
    assert (await admin.post("/team/bulk_member_add", team_id=team_id, members=[])).status_code == 400
    too_many = [{"user_id": f"n{number}"} for number in range(501)]
    assert (await admin.post("/team/bulk_member_add", team_id=team_id, members=too_many)).status_code == 400
    assert (await admin.post("/team/bulk_member_add", team_id="zzz", members=members)).status_code == 404
    assert (await alice.post("/team/bulk_member_add", team_id=team_id, members=members)).status_code == 403


async def test_everybody_is_added_by_an_admin(admin: Caller, alice: Caller, bob: Caller) -> None:
    team_id = await new_team(admin, members_with_roles=[{"user_id": "alice", "role": "admin"}])
    assert (await alice.post("/team/bulk_member_add", team_id=team_id, all_users=True)).status_code == 403
    answer = (await admin.post("/team/bulk_member_add", team_id=team_id, all_users=True)).json()
    assert [(result["user_id"], result["success"]) for result in answer["results"]] == [("bob", True)]


async def test_users_join_an_available_team_as_plain_members(
    admin: Caller, alice: Caller, bob: Caller, instance: Quart
) -> None:
    team_id, other = await new_team(admin, team_alias="Open"), await new_team(admin)
    with database_of(instance).active():
        await ConfigEntry.create(param_name="default_team_settings", param_value={"available_teams": [team_id]})
    assert [team["team_id"] for team in (await alice.get("/team/available")).json()] == [team_id]
    for wrong in (
        {"team_id": other, "member": {"user_id": "alice"}},
        {"team_id": team_id, "member": {"user_id": "bob"}},
        {"team_id": team_id, "member": {"user_id": "alice", "role": "admin"}},
        {"team_id": team_id, "member": {"user_id": "alice"}, "max_budget_in_team": 9},
    ):
        assert (await alice.post("/team/member_add", **wrong)).status_code == 403
    assert (await alice.post("/team/member_add", team_id=team_id, member={"user_id": "alice"})).status_code == 200
    assert (await alice.get("/team/available")).json() == []


async def test_nothing_is_available_unless_it_is_set(admin: Caller) -> None:
    assert (await admin.get("/team/available")).json() == []


async def test_one_call_adds_so_many_members_and_no_more(admin: Caller) -> None:
    team_id = await new_team(admin)
    members = [{"user_id": f"user-{number}"} for number in range(501)]
    assert (await admin.post("/team/member_add", team_id=team_id, member=members)).status_code == 400
