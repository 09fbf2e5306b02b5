"""Daily activity of organizations, tags, end users and teams: sums, breakdowns, and who may see them."""

from __future__ import annotations

import pytest
from quart import Quart

from app.admin.spend import daily_activity as activity
from app.admin.spend import daily_rows as activity_rows
from app.admin.spend.daily_rows import TEAMS, Scope
from app.models import DailyEntitySpend, DailySpend
from app.services import EXTENSION
from tests.admin.conftest import Caller
from tests.admin.spend_calls import PERIOD, TODAY, YESTERDAY, Spend, recorder


@pytest.fixture
def spend(instance: Quart) -> Spend:
    return recorder(instance)


async def _total(caller: Caller, path: str, **query: object) -> object:
    answer = await caller.get(path, **PERIOD, **query)
    return answer.json()["metadata"]["total_spend"] if answer.status_code == 200 else answer.status_code


async def test_tags_are_summed_and_broken_down(admin: Caller, spend: Spend) -> None:
    await spend("a", "0.1", key_hash="k1", tags=["red"])
    await spend("b", "0.2", key_hash="k2", tags=["blue"], days_ago=1)
    await spend("c", "5", key_hash="k1")
    answer = (await admin.get("/tag/daily/activity", **PERIOD)).json()
    assert [(day["date"], day["metrics"]["spend"]) for day in answer["results"]] == [(TODAY, 0.1), (YESTERDAY, 0.2)]
    red = answer["results"][0]["breakdown"]["entities"]["red"]
    assert (red["metrics"]["spend"], red["metrics"]["total_tokens"]) == (0.1, 15)
    assert red["api_key_breakdown"]["k1"]["metrics"]["spend"] == 0.1
    assert await _total(admin, "/tag/daily/activity", tags="red") == 0.1
    assert await _total(admin, "/tag/daily/activity", exclude_tags="red") == 0.2
    assert await _total(admin, "/tag/daily/activity/aggregated", api_key="k2") == 0.2


async def test_tags_of_ones_own_keys_are_all_that_a_user_sees(admin: Caller, alice: Caller, spend: Spend) -> None:
    hers = (await alice.new_key())["token"]
    await spend("a", "0.1", key_hash=hers, user_id="alice", tags=["red"])
    await spend("b", "0.2", key_hash="other", tags=["red"])
    assert await _total(admin, "/tag/daily/activity") == 0.3
    assert await _total(alice, "/tag/daily/activity") == 0.1
    assert await _total(alice, "/tag/daily/activity", tags="red") == 0.1
    assert await _total(alice, "/tag/daily/activity", api_key="other") == 403


async def test_end_users_are_for_admins_and_viewers(admin: Caller, alice: Caller, vera: Caller, spend: Spend) -> None:
    await spend("a", "0.1", key_hash="k1", end_user="carol")
    await spend("b", "0.2", key_hash="k1", end_user="dave")
    for path in ("/customer/daily/activity", "/customer/daily/activity/aggregated", "/end_user/daily/activity"):
        assert await _total(vera, path) == 0.3
        assert await _total(vera, path, end_user_ids="carol") == 0.1
        assert await _total(alice, path) == 401


async def test_organizations_are_for_their_admins(admin: Caller, alice: Caller, bob: Caller, spend: Spend) -> None:
    organization = (await admin.post("/organization/new", organization_alias="Acme")).json()["organization_id"]
    member = {"user_id": "alice", "role": "org_admin"}
    added = await admin.post("/organization/member_add", organization_id=organization, member=member)
    assert added.status_code == 200, added.text
    await spend("a", "0.1", key_hash="k1", organization_id=organization)
    await spend("b", "0.2", key_hash="k2", organization_id="another")
    day = (await admin.get("/organization/daily/activity", **PERIOD)).json()["results"][0]
    assert day["metrics"]["spend"] == 0.3
    assert day["breakdown"]["entities"][organization]["metadata"] == {"organization_alias": "Acme"}
    assert await _total(alice, "/organization/daily/activity") == 0.1
    assert await _total(alice, "/organization/daily/activity", organization_ids="another") == 403
    assert await _total(bob, "/organization/daily/activity/aggregated") == 0


async def test_whoever_has_no_team_sees_no_teams_spend(admin: Caller, bob: Caller, spend: Spend) -> None:
    await spend("a", "0.1", key_hash="k1", team_id="t1")
    for query in ({}, {"team_ids": ","}, {"team_ids": " "}):
        assert await _total(bob, "/team/daily/activity", **query) == 0
    assert await _total(admin, "/team/daily/activity") == 0.1
    assert await _total(admin, "/team/daily/activity", exclude_team_ids="t1") == 0
    assert await _total(admin, "/team/daily/activity", team_ids="t1", model="another") == 0


def test_an_empty_id_never_leads_to_the_sum_of_all() -> None:
    table, where = Scope(entity=TEAMS, days=[TODAY], ids=[""]).totals()
    assert table == "daily_entity_spend"
    assert "entity_id <> $4" in where.sql and where.parameters[3] == ""


async def test_a_filter_on_the_model_holds_everywhere(admin: Caller, spend: Spend) -> None:
    await spend("a", "0.1", key_hash="k1", user_id="alice", team_id="t1")
    await spend("b", "7", key_hash="k2", user_id="bob", team_id="t2", model="dear")
    for path in ("/user/daily/activity", "/team/daily/activity"):
        answer = (await admin.get(path, **PERIOD, model="sample-chat-1")).json()
        breakdown = answer["results"][0]["breakdown"]
        assert (answer["metadata"]["total_spend"], set(breakdown["models"]), set(breakdown["api_keys"])) == (
            0.1,
            {"sample-chat-1"},
            {"k1"},
        )
        assert len(breakdown["entities"]) == 1


async def test_only_the_largest_keys_are_named(admin: Caller, spend: Spend) -> None:
    for number in range(5):
        await spend(f"r{number}", f"0.{number + 1}", key_hash=f"k{number}")
    answer = (await admin.get("/user/daily/activity", **PERIOD, api_key_limit=2)).json()
    assert set(answer["results"][0]["breakdown"]["api_keys"]) == {"k3", "k4"}
    assert (answer["metadata"]["api_keys_are_capped"], answer["metadata"]["total_spend"]) == (True, 1.5)
    whole = (await admin.get("/user/daily/activity", **PERIOD)).json()
    assert (len(whole["results"][0]["breakdown"]["api_keys"]), whole["metadata"]["api_keys_are_capped"]) == (5, False)


async def test_every_key_is_summed_and_the_largest_are_in_the_groups_too(
    admin: Caller, spend: Spend, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(activity, "_KEY_DAYS", 0)
    for number in range(5):
        of_key = {"key_hash": f"k{number}", "user_id": "alice"}
        await spend(f"a{number}", f"0.{number + 1}", **of_key, tags=["red"], model="m1")
        await spend(f"b{number}", "0.01", **of_key, tags=["blue"], model="m2")
        await spend(f"c{number}", "0.02", **of_key, tags=["blue"], model="m2", days_ago=1)
    for path, group in (("/tag/daily/activity", "blue"), ("/user/daily/activity", "alice")):
        today, yesterday = ((day["breakdown"]) for day in (await admin.get(path, **PERIOD)).json()["results"])
        spent = {key: entry["metrics"]["spend"] for key, entry in today["api_keys"].items()}
        assert spent == {f"k{number}": round(0.11 + number / 10, 2) for number in range(5)}
        assert set(yesterday["api_keys"]) == set(spent)
        assert set(today["models"]["m1"]["api_key_breakdown"]) == {"k2", "k3", "k4"}
        assert today["models"]["m2"]["api_key_breakdown"]["k4"]["metrics"]["spend"] == 0.01
        assert today["providers"]["openai"]["api_key_breakdown"]["k4"]["metrics"]["spend"] == 0.51
        assert set(yesterday["entities"][group]["api_key_breakdown"]) == {"k2", "k3", "k4"}


async def test_more_than_is_looked_at_is_told(admin: Caller, spend: Spend, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(activity_rows, "_MAX_CANDIDATES", 5)
    for number in range(6):
        await spend(f"r{number}", f"0.{number + 1}", key_hash=f"k{number}", tags=[f"t{number}"])
    for path in ("/user/daily/activity", "/tag/daily/activity"):
        answer = (await admin.get(path, **PERIOD)).json()
        assert set(answer["results"][0]["breakdown"]["api_keys"]) == {f"k{number}" for number in range(1, 6)}
        assert (answer["metadata"]["api_keys_are_capped"], answer["metadata"]["total_spend"]) == (True, 2.1)
        only = (await admin.get(path, **PERIOD, api_key="k0")).json()
        assert (list(only["results"][0]["breakdown"]["api_keys"]), only["metadata"]["api_keys_are_capped"]) == (
            ["k0"],
            False,
        )


async def test_sums_of_the_instance_are_read_and_not_computed(admin: Caller, instance: Quart, spend: Spend) -> None:
    await spend("a", "0.1", key_hash="k1", team_id="t1")
    with instance.extensions[EXTENSION].database.active():
        await DailySpend.all().update(api_requests=99)
        await DailyEntitySpend.filter(kind="all").update(api_requests=7)
    answer = (await admin.get("/user/daily/activity", **PERIOD)).json()
    assert answer["metadata"]["total_api_requests"] == 7


async def test_days_without_traffic_and_bad_input(admin: Caller) -> None:
    empty = (await admin.get("/tag/daily/activity", **PERIOD)).json()
    assert (empty["results"], empty["metadata"]["total_pages"], empty["metadata"]["has_more"]) == ([], 0, False)
    cases: list[tuple[dict[str, object], int]] = [
        ({}, 400),
        ({**PERIOD, "page": 0}, 422),
        ({**PERIOD, "api_key_limit": 5000}, 422),
        ({**PERIOD, "timezone": "Berlin"}, 422),
        ({**PERIOD, "timezone": -60}, 200),
        ({"start_date": "2020-01-01", "end_date": TODAY}, 400),  # fixed date: too many days, whatever today is
    ]
    for name in ("user", "team", "organization", "tag", "customer"):
        for query, status in cases:
            assert (await admin.get(f"/{name}/daily/activity", **query)).status_code == status, (name, query)
