"""Who finds whom."""

from __future__ import annotations

from tests.admin.conftest import Caller


async def _found(caller: Caller, **query: str) -> list[str]:
    answer = await caller.get("/user/filter/ui", **query)
    assert answer.status_code == 200, answer.text
    return [user["user_id"] for user in answer.json()]


async def test_admins_find_by_a_part(admin: Caller, alice: Caller, bob: Caller, vera: Caller) -> None:
    assert await _found(admin, user_email="ACME") == ["alice", "bob", "vera"]
    assert await _found(vera, user_id="li") == ["alice"]
    answer = await admin.get("/user/filter/ui", user_id="bob")
    assert answer.json() == [{"user_id": "bob", "user_email": "bob@acme.example"}]


async def test_others_find_those_of_their_teams(admin: Caller, alice: Caller, bob: Caller, ivan: Caller) -> None:
    assert await _found(alice, user_email="acme") == ["alice"]
    members = [{"user_id": "alice", "role": "admin"}, {"user_id": "ivan", "role": "user"}]
    await admin.post("/team/new", members_with_roles=members)
    assert await _found(alice, user_email="acme") == ["alice", "ivan"]
    assert await _found(ivan, user_email="acme") == ["ivan"]
    assert await _found(alice, user_email="Bob@acme.example") == ["bob"]
    holder = Caller(admin.client, (await admin.new_key())["key"])
    assert await _found(holder, user_email="acme") == []


async def test_users_are_counted_without_a_licence(admin: Caller, alice: Caller, vera: Caller) -> None:
    counted = (await vera.get("/user/available_users")).json()
    assert (counted["total_users"], counted["total_users_used"], counted["total_teams_used"]) == (None, 2, 0)
    assert (await alice.get("/user/available_users")).status_code == 401
