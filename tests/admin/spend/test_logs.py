"""Spend over the management API: logs, days, and the totals of the whole instance."""

from __future__ import annotations

from datetime import datetime, timedelta

import pytest
from quart import Quart

from app.models import VirtualKey
from app.services import EXTENSION
from tests.admin.conftest import PROVIDER_SECRET, Caller
from tests.admin.spend_calls import NOW, TODAY, YESTERDAY, Spend, recorder


@pytest.fixture
def spend(instance: Quart) -> Spend:
    return recorder(instance)


async def test_logs_are_newest_first(admin: Caller, spend: Spend) -> None:
    key = await admin.new_key()
    await spend("one", "0.1", days_ago=1, key_hash=key["token"])
    await spend("two", "0.2", key_hash=key["token"], api_base="http://10.0.0.1/v1")
    await spend("other", "0.3", key_hash="somebody")
    rows = (await admin.get("/spend/logs", api_key=key["key"])).json()
    assert [(row["request_id"], row["spend"], row["total_tokens"]) for row in rows] == [
        ("two", 0.2, 15),
        ("one", 0.1, 15),
    ]
    assert rows[0]["api_base"] == "http://10.0.0.1/v1"
    assert {"startTime", "endTime", "completionStartTime", "metadata", "status"} <= set(rows[0])
    assert [row["request_id"] for row in (await admin.get("/spend/logs", api_key=key["token"])).json()] == [
        "two",
        "one",
    ]
    assert [row["request_id"] for row in (await admin.get("/spend/logs", request_id="one")).json()] == ["one"]
    today = await admin.get("/spend/logs", start_date=TODAY, end_date=TODAY, summarize="false")
    assert sorted(row["request_id"] for row in today.json()) == ["other", "two"]


async def test_logs_have_a_bound_and_say_so(admin: Caller, spend: Spend) -> None:
    for number in range(3):
        await spend(f"r{number}", "0.1")
    answer = await admin.get("/spend/logs", limit=2)
    assert (len(answer.json()), answer.headers["x-quarterdeck-truncated"]) == (2, "true")
    assert "x-quarterdeck-truncated" not in (await admin.get("/spend/logs", limit=3)).headers


async def test_logs_per_day_are_exact_and_padded(admin: Caller, spend: Spend) -> None:
    for number in range(10):
        await spend(f"r{number}", "0.1", user_id="alice", key_hash="k1")
    days = (await admin.get("/spend/logs", start_date=YESTERDAY, end_date=TODAY)).json()
    assert days[0] == {"startTime": YESTERDAY, "spend": 0.0, "users": {}, "models": {}}
    assert days[1] == {
        "k1": 1.0,
        "startTime": TODAY,
        "spend": 1.0,
        "users": {"alice": 1.0},
        "models": {"sample-chat-1": 1.0},
    }


async def test_a_wrong_range_is_refused(admin: Caller) -> None:
    cases: list[tuple[str, dict[str, object], int]] = [
        ("/spend/logs", {"start_date": TODAY}, 400),
        ("/spend/logs", {"start_date": TODAY, "end_date": YESTERDAY}, 400),
        ("/spend/logs", {"start_date": "0001-01-01", "end_date": "9999-12-31"}, 400),
        ("/spend/logs", {"start_date": "yesterday", "end_date": TODAY}, 422),
        ("/spend/logs", {"limit": 0}, 422),
        ("/spend/logs/ui", {}, 400),
        ("/spend/logs/ui", {"start_date": "x", "end_date": TODAY}, 422),
        ("/spend/logs/ui", {"start_date": TODAY, "end_date": TODAY, "sort_by": "metadata"}, 400),
        ("/user/daily/activity", {}, 400),
        ("/user/daily/activity", {"start_date": TODAY, "end_date": "no day"}, 422),
    ]
    for path, query, status in cases:
        assert (await admin.get(path, **query)).status_code == status


async def test_the_table_of_logs(admin: Caller, spend: Spend) -> None:
    await spend("cheap", "9", user_id="alice")
    await spend("dear", "10.5", user_id="bob")
    await spend("broken", "0", status="failure", metadata={"error_information": {"error_code": "500"}})
    period = {"start_date": f"{YESTERDAY} 00:00:00", "end_date": TODAY}
    page = (await admin.get("/spend/logs/ui", **period, sort_by="spend", page_size=2)).json()
    assert [row["request_id"] for row in page["data"]] == ["dear", "cheap"]
    assert (page["total"], page["page"], page["page_size"], page["total_pages"], page["total_is_capped"]) == (
        3,
        1,
        2,
        2,
        False,
    )

    async def found(**filters: object) -> list[str]:
        rows = (await admin.get("/spend/logs/v2", **period, **filters)).json()["data"]
        return sorted(row["request_id"] for row in rows)

    assert await found(status_filter="failure") == ["broken"]
    assert await found(min_spend=9.5) == ["dear"]
    assert await found(max_spend=9.5, user_id="alice") == ["cheap"]
    assert await found(search="che") == ["cheap"]
    assert await found(model="sample-chat-1", end_user="nobody") == []


async def test_users_see_their_own_spend(admin: Caller, alice: Caller, vera: Caller, spend: Spend) -> None:
    await spend("hers", "1", user_id="alice", key_hash="k1", api_base="http://10.0.0.1/v1")
    await spend("his", "2", user_id="bob", key_hash="k2")
    period = {"start_date": TODAY, "end_date": TODAY}
    rows = (await alice.get("/spend/logs")).json()
    assert [(row["request_id"], row["api_base"]) for row in rows] == [("hers", None)]
    assert [row["request_id"] for row in (await alice.get("/spend/logs/ui", **period)).json()["data"]] == ["hers"]
    assert (await alice.get("/spend/logs", **period)).json()[0]["spend"] == 1
    assert (await alice.get("/user/daily/activity", **period)).json()["metadata"]["total_spend"] == 1
    assert (await vera.get("/user/daily/activity", **period)).json()["metadata"]["total_spend"] == 3
    for path in ("/spend/logs", "/spend/logs/ui", "/user/daily/activity"):
        assert (await alice.get(path, **period, user_id="bob")).status_code == 403
    assert (await alice.get("/global/spend")).status_code == 401
    assert (await vera.get("/global/spend")).json()["spend"] == 3


async def test_activity_of_a_day(admin: Caller, alice: Caller, spend: Spend) -> None:
    key = await admin.new_key(key_alias="busy", user_id="alice")
    await spend("a", "0.1", key_hash=key["token"], user_id="alice")
    await spend("b", "0.2", key_hash=key["token"], user_id="alice", model="sample-chat-2")
    await spend("c", "0.4", key_hash="forgotten", status="failure")
    await spend("d", "1", days_ago=1, key_hash=key["token"], user_id="alice")
    answer = (await admin.get("/user/daily/activity", start_date=YESTERDAY, end_date=TODAY)).json()
    today, yesterday = answer["results"]
    assert (today["date"], yesterday["date"], yesterday["metrics"]["spend"]) == (TODAY, YESTERDAY, 1)
    metrics = today["metrics"]
    assert (metrics["spend"], metrics["api_requests"], metrics["failed_requests"], metrics["total_tokens"]) == (
        0.7,
        3,
        1,
        45,
    )
    assert {name: entry["metrics"]["spend"] for name, entry in today["breakdown"]["models"].items()} == {
        "sample-chat-1": 0.5,
        "sample-chat-2": 0.2,
    }
    keys = today["breakdown"]["api_keys"]
    assert keys[key["token"]]["metrics"]["spend"] == 0.3
    assert keys[key["token"]]["metadata"]["key_alias"] == "busy"
    assert keys["forgotten"]["metadata"]["key_exists"] is False
    of_the_model = today["breakdown"]["models"]["sample-chat-2"]["api_key_breakdown"]
    assert of_the_model[key["token"]]["metrics"]["spend"] == 0.2
    assert today["breakdown"]["entities"]["alice"]["metadata"]["user_email"] == "alice@acme.example"
    totals = answer["metadata"]
    assert (totals["total_spend"], totals["total_api_requests"], totals["page"], totals["has_more"]) == (
        1.7,
        4,
        1,
        False,
    )
    assert totals["total_successful_requests"] == 3


async def test_activity_filters_and_pages(admin: Caller, spend: Spend) -> None:
    period = {"start_date": YESTERDAY, "end_date": TODAY}
    await spend("a", "0.1", key_hash="k1")
    await spend("b", "0.2", key_hash="k2", days_ago=1)
    only = (await admin.get("/user/daily/activity", **period, api_key="k1")).json()
    assert [day["date"] for day in only["results"]] == [TODAY]
    page = (await admin.get("/user/daily/activity", **period, page_size=1, page=2)).json()
    assert ([day["date"] for day in page["results"]], page["metadata"]["total_pages"]) == ([YESTERDAY], 2)
    whole = (await admin.get("/user/daily/activity/aggregated", **period)).json()
    assert [day["metrics"]["spend"] for day in whole["results"]] == [0.1, 0.2]


async def test_activity_of_teams(admin: Caller, alice: Caller, bob: Caller, spend: Spend) -> None:
    members = [{"user_id": "alice", "role": "user"}]
    team = (await admin.post("/team/new", team_alias="Team", members_with_roles=members)).json()["team_id"]
    await spend("a", "0.1", team_id=team)
    await spend("b", "0.2")
    period = {"start_date": TODAY, "end_date": TODAY}
    day = (await admin.get("/team/daily/activity", **period)).json()["results"][0]
    assert (day["metrics"]["spend"], day["breakdown"]["entities"][team]["metadata"]) == (
        0.1,
        {"team_alias": "Team"},
    )
    assert (await alice.get("/team/daily/activity", **period, team_ids=team)).json()["metadata"]["total_spend"] == 0.1
    assert (await bob.get("/team/daily/activity", **period)).json()["results"] == []
    assert (await bob.get("/team/daily/activity", **period, team_ids=team)).status_code == 403


async def test_spend_of_the_whole_instance(admin: Caller, spend: Spend) -> None:
    team = (await admin.post("/team/new", team_alias="Team")).json()["team_id"]
    key = await admin.new_key(key_alias="busy", team_id=team)
    for number in range(3):
        await spend(f"r{number}", "0.1", key_hash=key["token"], team_id=team)
    await spend("dear", "10", key_hash="k2", model="m2", days_ago=1)
    assert (await admin.get("/global/spend")).json() == {"spend": 10.3, "max_budget": None}
    assert (await admin.get("/global/spend/logs")).json() == [
        {"date": YESTERDAY, "spend": 10},
        {"date": TODAY, "spend": 0.3},
    ]
    assert (await admin.get("/global/spend/logs", api_key=key["key"])).json() == [{"date": TODAY, "spend": 0.3}]
    top = (await admin.get("/global/spend/keys", limit=5)).json()
    assert [(row["api_key"], row["key_alias"], row["total_spend"]) for row in top] == [
        ("k2", None, 10),
        (key["token"], "busy", 0.3),
    ]
    assert (await admin.get("/global/spend/models")).json()[0] == {"model": "m2", "total_spend": 10}
    teams = (await admin.get("/global/spend/teams")).json()
    assert teams["daily_spend"] == [{"date": YESTERDAY, "Unassigned": 10}, {"date": TODAY, "Team": 0.3}]
    assert teams["total_spend_per_team"] == [
        {"team_id": "Unassigned", "total_spend": 10},
        {"team_id": "Team", "total_spend": 0.3},
    ]


async def test_what_a_key_spent_is_in_its_row(admin: Caller, spend: Spend) -> None:
    key = await admin.new_key()
    await spend("a", "0.1", key_hash=key["token"])
    await spend("b", "0.2", key_hash=key["token"])
    assert (await admin.info(key["token"]))["spend"] == 0.3
    await admin.post("/key/update", key=key["token"], spend=0)
    assert (await admin.info(key["token"]))["spend"] == 0


async def test_a_period_that_is_over_shows_no_spend(admin: Caller, instance: Quart, spend: Spend) -> None:
    key = await admin.new_key(budget_duration="1d", max_budget=1)
    await spend("a", "0.5", key_hash=key["token"])
    with instance.extensions[EXTENSION].database.active():
        await VirtualKey.filter(token=key["token"]).update(budget_reset_at=NOW - timedelta(seconds=1))
    info = await admin.info(key["token"])
    assert (info["spend"], datetime.fromisoformat(info["budget_reset_at"]) > NOW) == (0, True)


async def test_health_looks_at_calls_and_makes_none(admin: Caller, alice: Caller, spend: Spend) -> None:
    answer = await admin.get("/health")
    assert (answer.status_code, answer.json()["healthy_count"]) == (200, 1)
    await spend(
        "ours",
        "0",
        status="failure",
        model_id="configured-1",
        metadata={"error_information": {"error_code": "400"}},
    )
    assert (await admin.get("/health")).status_code == 200
    await spend(
        "theirs",
        "0",
        status="failure",
        model_id="configured-1",
        metadata={"error_information": {"error_code": "500"}},
    )
    answer = await alice.get("/health")
    assert (answer.status_code, answer.json()["unhealthy_endpoints"][0]["model_id"]) == (503, "configured-1")
    assert "127.0.0.1" not in answer.text
    assert PROVIDER_SECRET not in answer.text
    assert (await admin.get("/health", model="another")).json()["unhealthy_count"] == 0
