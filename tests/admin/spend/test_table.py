"""The table of calls: every filter, sessions, one call, and who may see it."""

from __future__ import annotations

from typing import Any

import pytest
from quart import Quart

from app.admin.spend import table as spend_table
from tests.admin.conftest import Caller
from tests.admin.spend_calls import PERIOD, TODAY, Spend, recorder

TABLE = "/spend/logs/ui"
REFUSED = {"error_information": {"error_code": "429", "error_message": "Slow down, 100%_sure"}}


@pytest.fixture
def spend(instance: Quart) -> Spend:
    return recorder(instance)


async def _ids(caller: Caller, **filters: Any) -> list[str]:
    answer = await caller.get(TABLE, **PERIOD, **filters)
    assert answer.status_code == 200, answer.text
    return sorted(row["request_id"] for row in answer.json()["data"])


async def test_every_filter_finds_its_calls(admin: Caller, spend: Spend) -> None:
    key = await admin.new_key(key_alias="busy-key")
    await spend("a", "9", key_hash=key["token"], user_id="alice", session_id="s1", model_id="d1", end_user="carol")
    await spend("b", "10.5", team_id="t1", model="m2", model_group="g2")
    await spend("c", "0", status="failure", metadata=REFUSED)
    cases: list[tuple[dict[str, Any], list[str]]] = [
        ({"key_alias": "BUSY"}, ["a"]),
        ({"key_alias": "nobody"}, []),
        ({"api_key": key["key"]}, ["a"]),
        ({"api_key": key["token"]}, ["a"]),
        ({"user_id": "alice"}, ["a"]),
        ({"session_id": "s1"}, ["a"]),
        ({"model_id": "d1"}, ["a"]),
        ({"end_user": "carol"}, ["a"]),
        ({"request_id": "a"}, ["a"]),
        ({"team_id": "t1"}, ["b"]),
        ({"model": "m2"}, ["b"]),
        ({"model_group": "g2"}, ["b"]),
        ({"min_spend": 9.5}, ["b"]),
        ({"max_spend": 9.5}, ["a", "c"]),
        ({"min_spend": 9, "max_spend": 9}, ["a"]),
        ({"status_filter": "failure"}, ["c"]),
        ({"error_code": "429"}, ["c"]),
        ({"error_code": "500"}, []),
        ({"error_message": "slow DOWN"}, ["c"]),
        ({"error_message": "100%_"}, ["c"]),
        ({"error_message": "100__"}, []),
        ({"cache_hit_filter": "True"}, []),
        ({"cache_hit": "False", "model": "m2"}, ["b"]),
        ({"search": "CAROL"}, ["a"]),
        ({"search": "g2"}, ["b"]),
        ({"search": "%"}, []),
        ({"exclude_internal_health_checks": "true"}, ["a", "b", "c"]),
    ]
    for filters, expected in cases:
        assert await _ids(admin, **filters) == expected, filters


async def test_rows_are_sorted_by_number_and_not_by_letter(admin: Caller, spend: Spend) -> None:
    for name, cost in (("a", "9"), ("b", "10.5"), ("c", "0.5")):
        await spend(name, cost)
    for order, expected in (("desc", ["b", "a", "c"]), ("asc", ["c", "a", "b"])):
        rows = (await admin.get(TABLE, **PERIOD, sort_by="spend", sort_order=order)).json()["data"]
        assert [row["request_id"] for row in rows] == expected


async def test_a_session_is_one_row_with_its_sums(admin: Caller, spend: Spend) -> None:
    await spend("old", "0.1", session_id="s1", days_ago=1)
    await spend("new", "0.2", session_id="s1")
    await spend("alone", "0.4")
    answer = (await admin.get(TABLE, **PERIOD, group_by_session="true")).json()
    assert answer["total"] == 2
    rows = {row["request_id"]: (row["session_total_count"], row["session_total_spend"]) for row in answer["data"]}
    assert rows == {"new": (2, 0.3), "alone": (1, 0.4)}
    calls = (await admin.get("/spend/logs/session/ui", session_id="s1")).json()
    assert ([row["request_id"] for row in calls["data"]], calls["total"]) == (["old", "new"], 2)


async def test_a_cut_says_so(admin: Caller, spend: Spend, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spend_table, "_MAX_EXAMINED", 2)
    monkeypatch.setattr(spend_table, "_MAX_COUNTED", 2)
    for number in range(4):
        await spend(f"r{number}", "0.1", days_ago=number % 2, model="m" if number else "rare")
    plain = (await admin.get(TABLE, **PERIOD)).json()
    assert (len(plain["data"]), plain["total"], plain["total_is_capped"], plain["examined_since"]) == (4, 2, True, None)
    examined = (await admin.get(TABLE, **PERIOD, model="m")).json()
    assert examined["total_is_capped"] is True
    assert examined["examined_since"] is not None
    assert [row["request_id"] for row in examined["data"]] == ["r2"]


async def test_every_page_of_a_filter_without_an_index_has_the_total(admin: Caller, spend: Spend) -> None:
    for number in range(5):
        await spend(f"r{number}", f"0.{number + 1}", days_ago=number % 2, model="rare" if number == 0 else "m")
    expected = {"startTime": ["r4", "r2", "r3", "r1"], "spend": ["r4", "r3", "r2", "r1"]}
    for sort_by, ids in expected.items():
        query = {**PERIOD, "model": "m", "sort_by": sort_by, "page_size": 3}
        for page, found in ((1, ids[:3]), (2, ids[3:]), (3, [])):
            answer = (await admin.get(TABLE, **query, page=page)).json()
            assert [row["request_id"] for row in answer["data"]] == found
            assert (answer["total"], answer["total_pages"], answer["total_is_capped"]) == (4, 2, False)


async def test_one_call_has_no_prompt_and_is_for_those_who_may_see_it(
    admin: Caller, alice: Caller, bob: Caller, spend: Spend
) -> None:
    await spend("call/1", "0.1", user_id="alice")
    for caller in (admin, alice):
        assert (await caller.get(f"{TABLE}/call/1", start_date=TODAY)).json() == {
            "messages": [],
            "response": {},
            "proxy_server_request": {},
        }
    assert (await bob.get(f"{TABLE}/call/1")).json() is None
    assert (await admin.get(f"{TABLE}/unknown")).json() is None


async def test_users_see_own_rows_and_team_admins_those_of_their_team(
    admin: Caller, alice: Caller, bob: Caller, spend: Spend
) -> None:
    members = [{"user_id": "alice", "role": "admin"}]
    team = (await admin.post("/team/new", team_alias="Team", members_with_roles=members)).json()["team_id"]
    await spend("hers", "0.1", user_id="alice", session_id="s1")
    await spend("his", "0.2", user_id="bob", team_id=team, session_id="s1")
    assert await _ids(alice) == ["hers"]
    assert await _ids(alice, team_id=team) == ["his"]
    assert await _ids(alice, team_id=team, user_id="bob") == ["his"]
    assert await _ids(bob, team_id=team) == ["his"]
    assert (await alice.get(TABLE, **PERIOD, user_id="bob")).status_code == 403
    rows = (await bob.get("/spend/logs/session/ui", session_id="s1")).json()["data"]
    assert [row["request_id"] for row in rows] == ["his"]


async def test_bad_input_is_refused(admin: Caller) -> None:
    cases: list[tuple[dict[str, Any], int]] = [
        ({}, 400),
        ({**PERIOD, "sort_by": "metadata"}, 400),
        ({**PERIOD, "sort_order": "sideways"}, 400),
        ({**PERIOD, "min_spend": -1}, 400),
        ({**PERIOD, "min_spend": "much"}, 422),
        ({**PERIOD, "page_size": 1001}, 422),
        ({**PERIOD, "page": 1_000_000}, 400),
        ({**PERIOD, "start_date": "9999-99-99"}, 422),
        ({**PERIOD, "end_date": "9999-12-31"}, 200),
        ({**PERIOD, "group_by_session": "perhaps"}, 422),
    ]
    for query, status in cases:
        assert (await admin.get(TABLE, **query)).status_code == status, query
    assert (await admin.get("/spend/logs/session/ui")).status_code == 422
