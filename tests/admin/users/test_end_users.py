"""Customers (end users) over the management API."""

from __future__ import annotations

from typing import Any

import pytest

from tests.admin.conftest import Caller


async def _customer(admin: Caller, user_id: str = "c1", **fields: Any) -> dict[str, Any]:
    answer = await admin.post("/customer/new", user_id=user_id, **fields)
    assert answer.status_code == 200, answer.text
    row: dict[str, Any] = answer.json()
    return row


async def _info(admin: Caller, user_id: str = "c1") -> dict[str, Any]:
    row: dict[str, Any] = (await admin.get("/customer/info", end_user_id=user_id)).json()
    return row


async def test_a_customer_has_a_budget_of_its_own(admin: Caller) -> None:
    row = await _customer(admin, alias="Acme", max_budget=5, budget_duration="1d", allowed_model_region="eu")
    assert (row["alias"], row["allowed_model_region"], row["blocked"], row["spend"]) == ("Acme", "eu", False, 0)
    assert row["budget_id"].startswith("end-user-")
    assert row["litellm_budget_table"]["max_budget"] == 5
    assert row["budget_reset_at"] == row["litellm_budget_table"]["budget_reset_at"] is not None
    assert await _info(admin) == row


async def test_only_what_is_sent_changes(admin: Caller) -> None:
    await _customer(admin, alias="Acme", max_budget=5, models=["m"])
    row = (await admin.post("/customer/update", user_id="c1", rpm_limit=3)).json()
    budget = row["litellm_budget_table"]
    assert (budget["max_budget"], budget["rpm_limit"], row["alias"], row["models"]) == (5, 3, "Acme", ["m"])
    row = (await admin.post("/customer/update", user_id="c1", alias="", max_budget=None)).json()
    assert (row["alias"], row["litellm_budget_table"]["max_budget"]) == (None, None)
    assert (await admin.post("/customer/update", user_id="zz", alias="x")).status_code == 404
    assert (await admin.post("/customer/update", user_id="c1", alias="x", version=1)).status_code == 409


async def test_a_shared_budget_takes_the_place_of_the_own_one(admin: Caller) -> None:
    await admin.post("/budget/new", budget_id="b1", max_budget=7)
    own = (await _customer(admin, max_budget=5))["budget_id"]
    row = (await admin.post("/customer/update", user_id="c1", budget_id="b1")).json()
    assert (row["budget_id"], row["litellm_budget_table"]["max_budget"]) == ("b1", 7)
    assert (await admin.post("/budget/info", budgets=[own])).json() == []
    row = (await admin.post("/customer/update", user_id="c1", max_budget=1)).json()
    assert row["budget_id"].startswith("end-user-")
    assert (await admin.post("/budget/info", budgets=["b1"])).json()[0]["max_budget"] == 7
    row = (await admin.post("/customer/update", user_id="c1", budget_id=None)).json()
    assert (row["budget_id"], row["litellm_budget_table"]) == (None, None)


async def test_what_is_wrong_is_refused(admin: Caller) -> None:
    await admin.post("/budget/new", budget_id="b1")
    await _customer(admin)
    cases: list[tuple[dict[str, Any], int]] = [
        ({}, 422),
        ({"user_id": ""}, 400),
        ({"user_id": "c1"}, 400),
        ({"user_id": "c2", "budget_id": "zz"}, 404),
        ({"user_id": "c2", "budget_id": "b1", "max_budget": 1}, 422),
        ({"user_id": "c2", "max_budget": -1}, 400),
        ({"user_id": "c2", "allowed_model_region": "mars"}, 422),
    ]
    for body, status in cases:
        assert (await admin.post("/customer/new", **body)).status_code == status, body
    assert [row["user_id"] for row in (await admin.get("/customer/list")).json()] == ["c1"]
    assert len((await admin.get("/budget/list")).json()) == 1
    twice = (await admin.post("/customer/new", user_id="c1")).json()["error"]
    assert (twice["type"], twice["param"], twice["code"]) == ("bad_request", "user_id", "400")
    unknown = await admin.get("/customer/info", end_user_id="zz")
    assert (unknown.status_code, unknown.json()["error"]["type"]) == (404, "not_found")


@pytest.mark.parametrize("prefix", ["/customer", "/end_user"])
async def test_block_and_unblock_also_who_was_never_seen(admin: Caller, prefix: str) -> None:
    await _customer(admin)
    rows = (await admin.post(f"{prefix}/block", user_ids=["c1", "new"])).json()["blocked_users"]
    assert [(row["user_id"], row["blocked"]) for row in rows] == [("c1", True), ("new", True)]
    assert (await _info(admin, "new"))["blocked"] is True
    rows = (await admin.post(f"{prefix}/unblock", user_ids=["new"])).json()["unblocked_users"]
    assert [row["blocked"] for row in rows] == [False]
    assert (await _info(admin))["blocked"] is True
    assert (await admin.post(f"{prefix}/unblock", user_ids=["c1", "zz"])).status_code == 404
    assert (await _info(admin))["blocked"] is True
    assert (await admin.post(f"{prefix}/block", user_ids=[])).status_code == 400


async def test_deletion_takes_the_own_budget_along_and_leaves_shared_ones(admin: Caller) -> None:
    await admin.post("/budget/new", budget_id="b1")
    await _customer(admin, "c1", max_budget=1)
    await _customer(admin, "c2", budget_id="b1")
    assert (await admin.post("/customer/delete", user_ids=["c1", "zz"])).status_code == 404
    answer = (await admin.post("/end_user/delete", user_ids=["c1", "c2"])).json()
    assert answer["deleted_customers"] == 2
    assert "['c1', 'c2']" in answer["message"]
    assert (await admin.get("/end_user/list")).json() == []
    assert [row["budget_id"] for row in (await admin.get("/budget/list")).json()] == ["b1"]


async def test_lists_have_pages_and_filters(admin: Caller) -> None:
    for name in ("a1", "a2", "b1"):
        await _customer(admin, name, max_budget=1)
    await admin.post("/customer/block", user_ids=["a2"])

    async def ids(**query: Any) -> list[str]:
        return [row["user_id"] for row in (await admin.get("/customer/list", **query)).json()]

    assert await ids() == ["a1", "a2", "b1"]
    assert await ids(page=2, page_size=2) == ["b1"]
    assert await ids(search="a") == ["a1", "a2"]
    assert await ids(blocked="true") == ["a2"]
    assert (await admin.get("/customer/list")).json()[0]["litellm_budget_table"]["max_budget"] == 1
    assert (await admin.get("/customer/list", page_size=100_000)).status_code == 422


async def test_who_may(admin: Caller, alice: Caller, vera: Caller) -> None:
    await _customer(admin)
    assert (await alice.post("/customer/new", user_id="c2")).status_code == 401
    assert (await vera.post("/end_user/block", user_ids=["c1"])).status_code == 403
    assert (await alice.get("/customer/list")).status_code == 401
    assert (await vera.get("/end_user/info", end_user_id="c1")).status_code == 200
