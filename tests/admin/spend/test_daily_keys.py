"""Keys by what they spent, and the largest keys of each model."""

from __future__ import annotations

import pytest
from quart import Quart

from tests.admin.conftest import Caller
from tests.admin.spend_calls import PERIOD, Spend, recorder

KEYS = "/user/daily/activity/aggregated/keys"
TOP_KEYS = "/user/daily/activity/aggregated/model_top_keys"


@pytest.fixture
def spend(instance: Quart) -> Spend:
    return recorder(instance)


async def test_keys_are_listed_by_spend_in_pages(admin: Caller, spend: Spend) -> None:
    key = await admin.new_key(key_alias="busy")
    await spend("a", "0.3", key_hash=key["token"])
    await spend("b", "0.3", key_hash=key["token"], days_ago=1)
    await spend("c", "0.5", key_hash="k2")
    await spend("d", "0.1", key_hash="k3")
    first = (await admin.get(KEYS, **PERIOD, limit=2)).json()
    assert [(row["api_key"], row["metrics"]["spend"]) for row in first["results"]] == [(key["token"], 0.6), ("k2", 0.5)]
    assert first["results"][0]["metadata"]["key_alias"] == "busy"
    assert first["metadata"] == {"limit": 2, "offset": 0, "has_more": True, "total_count": 3}
    last = (await admin.get(KEYS, **PERIOD, limit=2, offset=2)).json()
    assert ([row["api_key"] for row in last["results"]], last["metadata"]["has_more"]) == (["k3"], False)


async def test_the_largest_keys_of_each_model(admin: Caller, spend: Spend) -> None:
    await spend("a", "0.1", key_hash="k1")
    await spend("b", "0.4", key_hash="k2")
    await spend("c", "0.2", key_hash="k1", model="other", model_group="group")
    answer = (await admin.get(TOP_KEYS, **PERIOD, limit=1)).json()
    assert [(row["model"], row["metrics"]["spend"], list(row["api_keys"])) for row in answer["results"]] == [
        ("sample-chat-1", 0.5, ["k2"]),
        ("other", 0.2, ["k1"]),
    ]
    grouped = (await admin.get(TOP_KEYS, **PERIOD, by_model_group="true")).json()
    assert [row["model"] for row in grouped["results"]] == ["sample-chat", "group"]
    only = (await admin.get(TOP_KEYS, **PERIOD, model_group="group")).json()
    assert [row["model"] for row in only["results"]] == ["group"]


async def test_users_see_their_own_keys(alice: Caller, spend: Spend) -> None:
    await spend("a", "0.1", key_hash="k1", user_id="alice")
    await spend("b", "0.4", key_hash="k2", user_id="bob")
    for path in (KEYS, TOP_KEYS):
        assert (await alice.get(path, **PERIOD, user_id="bob")).status_code == 403
    assert [row["api_key"] for row in (await alice.get(KEYS, **PERIOD)).json()["results"]] == ["k1"]
    assert list((await alice.get(TOP_KEYS, **PERIOD)).json()["results"][0]["api_keys"]) == ["k1"]


async def test_bad_input_is_refused(admin: Caller) -> None:
    cases: list[tuple[str, dict[str, object], int]] = [
        (KEYS, {}, 400),
        (KEYS, {**PERIOD, "limit": 101}, 422),
        (KEYS, {**PERIOD, "offset": 1000}, 400),
        (TOP_KEYS, {}, 400),
        (TOP_KEYS, {**PERIOD, "by_model_group": "perhaps"}, 422),
    ]
    for path, query, status in cases:
        assert (await admin.get(path, **query)).status_code == status
