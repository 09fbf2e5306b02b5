"""Spend of the whole instance by tag, end user and provider, and what it answers to whom."""

from __future__ import annotations

from datetime import datetime

import pytest
from quart import Quart

from tests.admin.conftest import Caller
from tests.admin.spend_calls import PERIOD, TODAY, Spend, recorder


@pytest.fixture
def spend(instance: Quart) -> Spend:
    return recorder(instance)


async def test_spend_by_tag(admin: Caller, spend: Spend) -> None:
    await spend("a", "0.1", key_hash="k1", tags=["red"])
    await spend("b", "0.2", key_hash="k2", tags=["red"])
    await spend("c", "1", key_hash="k2", tags=["blue"])
    assert (await admin.get("/global/spend/tags", **PERIOD)).json() == {
        "spend_per_tag": [
            {"name": "blue", "spend": 1, "log_count": 1},
            {"name": "red", "spend": 0.3, "log_count": 2},
        ]
    }
    only = (await admin.get("/global/spend/tags", **PERIOD, tags="red")).json()["spend_per_tag"]
    assert [entry["name"] for entry in only] == ["red"]
    assert (await admin.get("/spend/tags")).json()[1] == {
        "individual_request_tag": "red",
        "log_count": 2,
        "total_spend": 0.3,
    }
    assert (await admin.get("/global/spend/all_tag_names")).json() == {"tag_names": ["blue", "red"]}


async def test_spend_by_end_user(admin: Caller, spend: Spend) -> None:
    assert (await admin.post("/global/spend/end_users")).json() == []
    await spend("a", "0.1", key_hash="k1", end_user="carol")
    await spend("b", "0.2", key_hash="k2", end_user="carol")
    await spend("c", "0.4", key_hash="k2", end_user="dave", days_ago=1)
    rows = (await admin.post("/global/spend/end_users", startTime=None)).json()
    assert [(row["end_user"], row["total_count"], row["total_spend"]) for row in rows] == [
        ("dave", 1, 0.4),
        ("carol", 2, 0.3),
    ]
    of_key = (await admin.post("/global/spend/end_users", api_key="k1")).json()
    assert [(row["end_user"], row["total_spend"]) for row in of_key] == [("carol", 0.1)]
    today = (await admin.post("/global/spend/end_users", startTime=f"{TODAY}T00:00:00Z")).json()
    assert [row["end_user"] for row in today] == ["carol"]
    assert (await admin.post("/global/spend/end_users", startTime="soon")).status_code == 422


async def test_spend_by_provider(admin: Caller, spend: Spend) -> None:
    await spend("a", "0.1", provider="azure")
    await spend("b", "0.2")
    assert (await admin.get("/global/spend/provider", **PERIOD)).json() == [
        {"provider": "openai", "spend": 0.2},
        {"provider": "azure", "spend": 0.1},
    ]
    assert (await admin.get("/global/spend/provider", start_date=TODAY)).status_code == 400


async def test_calls_and_tokens_per_day(admin: Caller, spend: Spend) -> None:
    await spend("a", "0.1")
    await spend("b", "0.2", model_group="other", days_ago=1)
    whole = (await admin.get("/global/activity", **PERIOD)).json()
    assert (whole["sum_api_requests"], whole["sum_total_tokens"]) == (2, 30)
    assert whole["daily_data"][-1] == {
        "date": datetime.fromisoformat(TODAY).strftime("%b %d"),
        "api_requests": 1,
        "total_tokens": 15,
    }
    models = (await admin.get("/global/activity/model", **PERIOD)).json()
    assert {entry["model"]: entry["sum_api_requests"] for entry in models} == {"other": 1, "sample-chat": 1}
    cached = (await admin.get("/global/activity/cache_hits", **PERIOD)).json()
    assert (cached["totals"]["api_requests"], cached["totals"]["cache_hits"], len(cached["groups"])) == (2, 0, 2)
    await spend("c", "0", is_cache_hit=True, cache_key="k")
    cached = (await admin.get("/global/activity/cache_hits", **PERIOD)).json()
    assert cached["totals"]["cache_hits"] == 1
    assert {group["model_group"]: group["cache_hits"] for group in cached["groups"]} == {"sample-chat": 1, "other": 0}
    gateway = (await admin.get("/gateway/daily/activity", **PERIOD)).json()
    assert (gateway["total_successful_requests"], gateway["total_failed_requests"]) == (3, 0)
    assert gateway["by_route"] == [
        {"category": "llm", "route": "/chat/completions", "successful_requests": 3, "failed_requests": 0}
    ]


async def test_calls_that_a_limit_refused(admin: Caller, spend: Spend) -> None:
    def failure(code: str) -> dict[str, object]:
        return {"status": "failure", "metadata": {"error_information": {"error_code": code}}}

    await spend("a", "0", **failure("429"), api_base="http://one/v1")
    await spend("b", "0", **failure("429"), model_group="other", days_ago=1)
    await spend("c", "0", **failure("500"))
    path = "/global/activity/exceptions"
    assert (await admin.get(path, **PERIOD)).json()["sum_num_rate_limit_exceptions"] == 2
    one = (await admin.get(path, **PERIOD, model_group="sample-chat")).json()
    assert [entry["num_rate_limit_exceptions"] for entry in one["daily_data"]] == [1]
    per_deployment = (await admin.get(f"{path}/deployment", **PERIOD)).json()
    assert {entry["api_base"]: entry["sum_num_rate_limit_exceptions"] for entry in per_deployment} == {
        "": 1,
        "http://one/v1": 1,
    }


async def test_it_is_all_for_admins_and_viewers(alice: Caller, ivan: Caller, vera: Caller) -> None:
    paths = (
        *("/global/spend", "/global/spend/logs", "/global/spend/keys", "/global/spend/teams", "/global/spend/models"),
        *("/global/spend/provider", "/global/spend/tags", "/global/spend/all_tag_names", "/global/spend/report"),
        *("/global/activity", "/global/activity/model", "/global/activity/cache_hits", "/global/activity/exceptions"),
        *("/global/activity/exceptions/deployment", "/gateway/daily/activity", "/spend/keys", "/spend/users"),
        "/spend/tags",
    )
    for path in paths:
        assert (await vera.get(path)).status_code == 200, path
        for caller in (alice, ivan):
            assert (await caller.get(path)).status_code == 401, path
