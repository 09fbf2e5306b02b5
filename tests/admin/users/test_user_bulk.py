"""Many users in one call."""

from __future__ import annotations

from tests.admin.conftest import Caller


async def test_each_user_succeeds_or_fails_for_itself(admin: Caller, alice: Caller) -> None:
    items = [{"user_id": "alice", "max_budget": 3}, {"user_id": "zzz"}, {"user_email": "alice@acme.example", "x": 1}]
    items.append({"user_id": "alice", "max_budget": "much"})
    answer = await admin.post("/user/bulk_update", users=items)
    assert answer.status_code == 200, answer.text
    result = answer.json()
    assert (result["total_requested"], result["successful_updates"], result["failed_updates"]) == (4, 2, 2)
    assert [one["success"] for one in result["results"]] == [True, False, True, False]
    assert result["results"][0]["updated_user"]["max_budget"] == 3
    assert (result["results"][1]["user_id"], result["results"][1]["updated_user"]) == ("zzz", None)
    assert "password" not in result["results"][0]["updated_user"]


async def test_all_users_at_once(admin: Caller, alice: Caller, bob: Caller) -> None:
    answer = await admin.post("/user/bulk_update", all_users=True, user_updates={"rpm_limit": 5})
    assert answer.json()["successful_updates"] == 2, answer.text
    assert (await admin.get("/v2/user/info", user_id="bob")).json()["rpm_limit"] == 5
    for change in ({}, {"password": "one for everybody"}, {"user_email": "a@b.c"}):
        assert (await admin.post("/user/bulk_update", all_users=True, user_updates=change)).status_code == 400


async def test_wrong_bulk_updates_are_refused(admin: Caller, alice: Caller) -> None:
    assert (await admin.post("/user/bulk_update")).status_code == 400
    assert (await admin.post("/user/bulk_update", users=[{"user_id": "x"}] * 501)).status_code == 400
    assert (await alice.post("/user/bulk_update", users=[{"user_id": "alice"}])).status_code == 401
