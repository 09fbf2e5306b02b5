"""The spend report and its groupings."""

from __future__ import annotations

import pytest
from quart import Quart

from tests.admin.conftest import Caller
from tests.admin.spend_calls import PERIOD, TODAY, YESTERDAY, Spend, recorder


@pytest.fixture
def spend(instance: Quart) -> Spend:
    return recorder(instance)


async def test_a_report_of_teams(admin: Caller, spend: Spend) -> None:
    team = (await admin.post("/team/new", team_alias="Team")).json()["team_id"]
    await spend("a", "0.1", key_hash="k1", team_id=team)
    await spend("b", "0.2", key_hash="k2", team_id=team, days_ago=1)
    await spend("c", "5", key_hash="k2")
    report = (await admin.get("/global/spend/report", **PERIOD)).json()
    assert [(entry["group_by_day"], entry["teams"][0]["total_spend"]) for entry in report] == [
        (YESTERDAY, 0.2),
        (TODAY, 0.1),
    ]
    assert report[1]["teams"] == [
        {
            "team_name": "Team",
            "total_spend": 0.1,
            "metadata": [{"model": "sample-chat-1", "spend": 0.1, "total_tokens": 15, "api_key": "k1"}],
        }
    ]


async def test_other_groupings(admin: Caller, spend: Spend) -> None:
    await spend("a", "0.1", key_hash="k1", user_id="alice", end_user="carol", organization_id="o1")
    await spend("b", "0.2", key_hash="k2", user_id="bob", end_user="dave")
    cases = [
        ({"group_by": "customer"}, "customers", "customer", {"carol", "dave"}),
        ({"customer_id": "carol"}, "customers", "customer", {"carol"}),
        ({"group_by": "customer", "api_key": "k2"}, "customers", "customer", {"dave"}),
        ({"group_by": "organization"}, "organizations", "organization", {"o1"}),
        ({"group_by": "internal_user"}, "internal_users", "internal_user", {"alice", "bob"}),
        ({"internal_user_id": "bob"}, "internal_users", "internal_user", {"bob"}),
        ({"api_key": "k1"}, "api_keys", "api_key", {"k1"}),
        ({"group_by": "api_key", "internal_user_id": "bob"}, "api_keys", "api_key", {"k2"}),
    ]
    for query, list_name, name, expected in cases:
        report = (await admin.get("/global/spend/report", **PERIOD, **query)).json()
        assert {group[name] for group in report[0][list_name]} == expected, query


async def test_what_does_not_fit_is_refused(admin: Caller) -> None:
    cases: list[tuple[dict[str, object], int]] = [
        ({"group_by": "weather"}, 422),
        ({"start_date": TODAY}, 400),
        ({"group_by": "team", "customer_id": "carol"}, 400),
        ({"group_by": "customer", "organization_id": "o1"}, 400),
    ]
    for query, status in cases:
        assert (await admin.get("/global/spend/report", **query)).status_code == status, query
