"""Budgets that several rows share, over the management API."""

from __future__ import annotations

from typing import Any

from quart import Quart

from app.models import AuditLog
from app.services import EXTENSION
from tests.admin.conftest import Caller


async def _budget(admin: Caller, **fields: Any) -> dict[str, Any]:
    answer = await admin.post("/budget/new", **fields)
    assert answer.status_code == 200, answer.text
    row: dict[str, Any] = answer.json()
    return row


async def test_a_budget_is_made_read_changed_and_deleted(admin: Caller) -> None:
    row = await _budget(admin, budget_id="b1", max_budget=5, rpm_limit=3, budget_duration="1d", soft_budget=4)
    assert (row["max_budget"], row["rpm_limit"], row["soft_budget"], row["version"]) == (5, 3, 4, 1)
    assert row["budget_reset_at"].endswith("T00:00:00+00:00")
    row = (await admin.post("/budget/update", budget_id="b1", rpm_limit=None)).json()
    assert (row["rpm_limit"], row["max_budget"], row["version"]) == (None, 5, 2)
    assert (await admin.post("/budget/info", budgets=["b1", "zz"])).json() == [row]
    assert (await admin.get("/budget/list")).json() == [row]
    assert (await admin.post("/budget/delete", id="b1")).json()["budget_id"] == "b1"
    assert (await admin.get("/budget/list")).json() == []


async def test_an_id_is_generated_when_none_is_given(admin: Caller) -> None:
    assert len((await _budget(admin, max_budget=1))["budget_id"]) == 36


async def test_what_is_wrong_is_refused_in_the_shape_of_these_routes(admin: Caller) -> None:
    await _budget(admin, budget_id="b1")
    cases: list[tuple[str, dict[str, Any], int, str]] = [
        ("/budget/new", {"budget_id": "b1"}, 400, "already exists"),
        ("/budget/new", {"max_budget": -1}, 400, "negative"),
        ("/budget/new", {"budget_duration": "5x"}, 400, "duration"),
        ("/budget/update", {"max_budget": 1}, 400, "budget_id is required"),
        ("/budget/update", {"budget_id": "zz"}, 404, "zz"),
        ("/budget/info", {"budgets": []}, 400, "budget id"),
        ("/budget/delete", {"id": "zz"}, 404, "zz"),
        ("/budget/delete", {}, 400, "budget_id is required"),
    ]
    for path, body, status, words in cases:
        answer = await admin.post(path, **body)
        assert (answer.status_code, words in answer.json()["detail"]["error"]) == (status, True), answer.text
    assert (await admin.post("/budget/new", max_budget="many")).status_code == 422
    assert (await admin.post("/budget/info")).status_code == 422


async def test_two_changes_of_one_version_end_in_a_conflict(admin: Caller) -> None:
    await _budget(admin, budget_id="b1")
    assert (await admin.post("/budget/update", budget_id="b1", max_budget=2, version=1)).status_code == 200
    assert (await admin.post("/budget/update", budget_id="b1", max_budget=3, version=1)).status_code == 409


async def test_a_budget_in_use_stays_unless_it_is_forced(admin: Caller, instance: Quart) -> None:
    await _budget(admin, budget_id="b1", max_budget=5)
    key = await admin.new_key(budget_id="b1")
    await admin.post("/customer/new", user_id="c1", budget_id="b1")
    refusal = await admin.post("/budget/delete", id="b1")
    assert (refusal.status_code, "1 keys, 1 customers" in refusal.json()["error"]["message"]) == (409, True)
    assert (await admin.post("/budget/delete", id="b1", force=True)).status_code == 200
    assert (await admin.info(key["key"]))["budget_id"] is None
    assert (await admin.get("/customer/info", end_user_id="c1")).json()["budget_id"] is None
    with instance.extensions[EXTENSION].database.active():
        row = await AuditLog.get(object_id="b1", action="deleted")
    assert row.before_value is not None
    assert row.before_value["unlinked"] == {"keys": 1, "customers": 1}


async def test_a_budget_that_keys_give_their_end_users_is_in_use_too(admin: Caller) -> None:
    await _budget(admin, budget_id="b1")
    await admin.new_key(end_user_budget_id="b1")
    refusal = await admin.post("/budget/delete", id="b1")
    assert (refusal.status_code, "1 keys (for" in refusal.json()["error"]["message"]) == (409, True)


async def test_a_budget_of_an_organization_cannot_be_forced_away(admin: Caller) -> None:
    await _budget(admin, budget_id="b1")
    answer = await admin.post("/organization/new", organization_alias="Acme", budget_id="b1")
    assert answer.status_code == 200, answer.text
    assert (await admin.post("/budget/delete", id="b1", force=True)).status_code == 409


async def test_pages_are_sorted_by_the_database(admin: Caller) -> None:
    for number in range(3):
        await _budget(admin, budget_id=f"b{number}", max_budget=number)
    page = (await admin.get("/management/v1/budgets", page=1, page_size=2, sort="-max_budget")).json()
    assert [row["budget_id"] for row in page["data"]] == ["b2", "b1"]
    assert (page["total"], page["total_pages"], page["page_size"]) == (3, 2, 2)
    page = (await admin.get("/management/v1/budgets", sort="budget_id:desc", search="B")).json()
    assert [row["budget_id"] for row in page["data"]] == ["b2", "b1", "b0"]
    assert (await admin.get("/management/v1/budgets", sort="password")).status_code == 400
    assert (await admin.get("/management/v1/budgets", page=0)).status_code == 422


async def test_settings_are_the_fields_of_a_form(admin: Caller) -> None:
    await _budget(admin, budget_id="b1", max_budget=5)
    fields = {row["field_name"]: row for row in (await admin.get("/budget/settings", budget_id="b1")).json()}
    assert (fields["max_budget"]["field_value"], fields["max_budget"]["stored_in_db"]) == (5, True)
    assert (fields["rpm_limit"]["field_type"], fields["rpm_limit"]["stored_in_db"]) == ("Integer", False)
    assert (await admin.get("/budget/settings", budget_id="zz")).status_code == 404


async def test_providers_without_a_budget_are_an_empty_answer(admin: Caller) -> None:
    assert (await admin.get("/provider/budgets")).json() == {"providers": {}}


async def test_who_may(admin: Caller, alice: Caller, vera: Caller) -> None:
    await _budget(admin, budget_id="b1")
    assert (await alice.post("/budget/new", max_budget=1)).status_code == 401
    assert (await vera.post("/budget/new", max_budget=1)).status_code == 403
    assert (await alice.get("/budget/list")).status_code == 401
    assert (await vera.get("/budget/list")).status_code == 200
    assert (await vera.post("/budget/info", budgets=["b1"])).status_code == 200
