"""Many keys in one call."""

from __future__ import annotations

from tests.admin.conftest import Caller


async def test_each_key_succeeds_or_fails_for_itself(admin: Caller) -> None:
    key = await admin.new_key()
    items = [
        {"key": key["key"], "max_budget": 3, "tags": ["a"]},
        {"key": "sk-unknown", "max_budget": 3},
        {"key": key["token"], "max_budget": -1},
        {"key": key["token"], "max_budget": "much"},
        {"max_budget": 3},
    ]
    answer = await admin.post("/key/bulk_update", keys=items)
    assert answer.status_code == 200, answer.text
    result = answer.json()
    assert (result["total_requested"], len(result["failed_updates"])) == (5, 4)
    assert [one["key"] for one in result["failed_updates"]] == ["sk-unknown", key["token"], key["token"], None]
    assert all(one["key_info"] is None and one["failed_reason"] for one in result["failed_updates"])
    (changed,) = result["successful_updates"]
    assert (changed["key"], changed["key_info"]["max_budget"]) == (key["key"], 3)
    assert changed["key_info"]["metadata"] == {"tags": ["a"]}


async def test_a_stale_version_fails_that_key(admin: Caller) -> None:
    key = (await admin.new_key())["token"]
    result = (await admin.post("/key/bulk_update", keys=[{"key": key, "rpm_limit": 1, "version": 9}])).json()
    assert "meanwhile" in result["failed_updates"][0]["failed_reason"]


async def test_wrong_bulk_updates_are_refused(admin: Caller, alice: Caller, vera: Caller) -> None:
    empty: list[dict[str, list[str]]] = [{}, {"keys": []}]
    for body in empty:
        answer = await admin.post("/key/bulk_update", **body)
        assert (answer.status_code, answer.json()["detail"]["error"]) == (400, "No keys provided for update")
    assert (await admin.post("/key/bulk_update", keys=[{"key": "sk-x"}] * 501)).status_code == 400
    assert (await admin.post("/key/bulk_update", keys=["sk-x"])).status_code == 422
    for caller in (alice, vera):
        assert (await caller.post("/key/bulk_update", keys=[{"key": "sk-x"}])).status_code == 403
