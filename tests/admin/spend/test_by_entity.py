"""Keys and users by spend, and what a call would cost."""

from __future__ import annotations

import pytest
from quart import Quart

from tests.admin.conftest import Caller
from tests.admin.spend_calls import Spend, recorder

USAGE = {"prompt_tokens": 1000, "completion_tokens": 100}


@pytest.fixture
def spend(instance: Quart) -> Spend:
    return recorder(instance)


async def test_keys_and_users_by_spend(admin: Caller, alice: Caller, bob: Caller, spend: Spend) -> None:
    key = await admin.new_key(key_alias="busy", user_id="bob")
    await spend("a", "10.5", key_hash=key["token"], user_id="bob")
    await spend("b", "9", key_hash=(await admin.new_key(key_alias="second"))["token"], user_id="alice")
    rows = (await admin.get("/spend/keys")).json()
    assert [(row["key_alias"], row["spend"]) for row in rows[:2]] == [("busy", 10.5), ("second", 9)]
    assert [row["key_alias"] for row in (await admin.get("/spend/keys", limit=1)).json()] == ["busy"]
    assert {row["user_id"] for row in (await admin.get("/spend/keys", user_id="bob")).json()} == {"bob"}
    users = (await admin.get("/spend/users")).json()
    assert [row["user_id"] for row in users[:2]] == ["bob", "alice"]
    assert all("password" not in row for row in users)
    assert [row["user_id"] for row in (await admin.get("/spend/users", user_id="alice")).json()] == ["alice"]


async def test_the_cost_of_an_answer(alice: Caller) -> None:
    """The configured price: a millionth of a USD per token in, two out."""
    answer = await alice.post("/spend/calculate", completion_response={"model": "sample-chat", "usage": USAGE})
    assert (answer.status_code, answer.json()) == (200, {"cost": 0.0012})
    named = await alice.post("/spend/calculate", model="sample-chat", completion_response={"usage": USAGE})
    assert named.json() == {"cost": 0.0012}
    listed = await alice.post("/spend/calculate", model="openai/gpt-4o-mini", completion_response={"usage": USAGE})
    assert listed.json()["cost"] == pytest.approx(0.00021)


async def test_the_cost_of_a_prompt(alice: Caller) -> None:
    messages = [{"role": "user", "content": "x" * 4000}]
    cost = (await alice.post("/spend/calculate", model="sample-chat", messages=messages)).json()["cost"]
    assert 0.001 <= cost < 0.0011


async def test_what_has_no_price_is_refused(admin: Caller) -> None:
    cases: list[tuple[dict[str, object], int]] = [
        ({}, 400),
        ({"model": "sample-chat"}, 400),
        ({"completion_response": {"usage": USAGE}}, 400),
        ({"model": "never-heard-of", "completion_response": {"usage": USAGE}}, 400),
        ({"model": "sample-chat", "messages": "hello"}, 422),
        ({"completion_response": []}, 422),
    ]
    for body, status in cases:
        answer = await admin.post("/spend/calculate", **body)
        assert answer.status_code == status, body
