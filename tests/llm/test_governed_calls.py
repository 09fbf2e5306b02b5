"""Each budget and each limit of the contract bounds a call: whose it is, and what the refusal says."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx
import pytest

from tests.llm.live_worker import FAST, LiveWorker, deployment, error_of
from tests.services.quarterdeck import QuarterdeckFactory, QuarterdeckProcess

# A mocked answer has tokens, and each of them costs this much.
_PRICE: dict[str, Any] = {"input_cost_per_token": 0.001, "output_cost_per_token": 0.001}


def mocked(name: str, **params: Any) -> dict[str, Any]:
    return deployment(name, "http://127.0.0.1:9/v1", mock_response="hello there", **_PRICE, **params)


@pytest.fixture(scope="module")
def governed_process(factory: QuarterdeckFactory) -> QuarterdeckProcess:
    config = {
        "model_list": [
            mocked("chat"),
            mocked("cheap"),
            {**mocked("grouped"), "model_info": {"access_groups": ["beta"]}},
            deployment("groq-chat", "http://127.0.0.1:9/v1", "groq/llama", mock_response="hello", **_PRICE),
        ],
        "general_settings": {"user_header_name": "x-customer"},
        "router_settings": {"provider_budget_config": {"groq": {"budget_limit": 0, "time_period": "1d"}}},
    }
    return factory(config, env=FAST)


@pytest.fixture
async def governed(governed_process: QuarterdeckProcess, http: httpx.AsyncClient) -> LiveWorker:
    return LiveWorker(governed_process, http)


async def refused_after_one(worker: LiveWorker, key: str, **call: Any) -> dict[str, Any]:
    """One call goes through, and the next is over a budget."""
    first = await worker.chat(key, **call)
    assert first.status_code == 200, first.text
    return error_of(await worker.chat(key, **call), 422)


async def test_a_team_s_budget_bounds_all_of_its_keys(governed: LiveWorker) -> None:
    team = await governed.manage("/team/new", max_budget=0.001)
    keys = [await governed.new_key(team_id=team["team_id"]) for _ in range(2)]
    assert (await governed.chat(keys[0])).status_code == 200
    error = error_of(await governed.chat(keys[1]), 422)
    assert f"Team={team['team_id']} Current cost" in error["message"]


async def test_a_member_s_budget_bounds_that_member_only(governed: LiveWorker) -> None:
    team = await governed.manage("/team/new")
    for name in ("mia", "max"):
        await governed.manage("/user/new", user_id=f"{name}-of-{team['team_id']}", auto_create_key=False)
    mia, other = (f"{name}-of-{team['team_id']}" for name in ("mia", "max"))
    for user_id, budget in ((mia, 0.001), (other, 5)):
        await governed.manage(
            "/team/member_add",
            team_id=team["team_id"],
            member={"role": "user", "user_id": user_id},
            max_budget_in_team=budget,
        )
    keys = [await governed.new_key(team_id=team["team_id"], user_id=user_id) for user_id in (mia, other)]
    assert f"TeamMember={mia}" in (await refused_after_one(governed, keys[0]))["message"]
    assert (await governed.chat(keys[1])).status_code == 200


async def test_an_organization_s_budget_bounds_its_teams(governed: LiveWorker) -> None:
    made = await governed.manage("/organization/new", organization_alias="acme", max_budget=0.001)
    team = await governed.manage("/team/new", organization_id=made["organization_id"])
    key = await governed.new_key(team_id=team["team_id"])
    assert f"Organization={made['organization_id']}" in (await refused_after_one(governed, key))["message"]


async def test_a_user_s_budget_bounds_personal_keys(governed: LiveWorker) -> None:
    user = await governed.manage("/user/new", max_budget=0.001)
    error = await refused_after_one(governed, user["key"])
    assert error["message"].startswith(f"ExceededBudget: User={user['user_id']} over budget.")


async def test_a_shared_budget_and_its_temporary_increase(governed: LiveWorker) -> None:
    budget = await governed.manage("/budget/new", max_budget=0.001)
    key = await governed.new_key(budget_id=budget["budget_id"])
    await refused_after_one(governed, key)
    await governed.manage("/budget/update", budget_id=budget["budget_id"], max_budget=100)
    assert (await governed.chat(key)).status_code == 200
    raised = await governed.new_key(max_budget=0)
    error_of(await governed.chat(raised), 422)
    increase = {"temp_budget_increase": 5, "temp_budget_expiry": "2999-01-01T00:00:00Z"}
    await governed.manage("/key/update", key=raised, **increase)
    assert (await governed.chat(raised)).status_code == 200


async def test_several_windows_hold_beside_the_budget(governed: LiveWorker) -> None:
    windows = [{"budget_duration": "1h", "max_budget": 0.001}, {"budget_duration": "30d", "max_budget": 100}]
    key = await governed.new_key(budget_limits=windows, max_budget=1000)
    assert (await refused_after_one(governed, key))["message"].startswith("ExceededBudget: Key over 1h budget.")


async def test_a_budget_of_one_model_leaves_the_others_alone(governed: LiveWorker) -> None:
    key = await governed.new_key(model_max_budget={"chat": {"max_budget": 0.001, "budget_duration": "1d"}})
    assert "model=chat" in (await refused_after_one(governed, key))["message"]
    assert (await governed.chat(key, "cheap")).status_code == 200


async def test_a_model_over_budget_hands_on_to_its_fallback(governed: LiveWorker) -> None:
    key = await governed.new_key(
        model_max_budget={"chat": {"max_budget": 0.001, "budget_duration": "1d"}}, budget_fallbacks={"chat": ["cheap"]}
    )
    for _ in range(3):
        assert (await governed.chat(key)).status_code == 200
    rows = await governed.spend_rows(key, 3)
    assert len({row["model_id"] for row in rows}) == 2


async def test_an_end_user_s_budget_and_block(governed: LiveWorker) -> None:
    key = await governed.new_key()
    await governed.manage("/customer/new", user_id="carla", max_budget=0.001)
    assert "End User=carla" in (await refused_after_one(governed, key, user="carla"))["message"]
    assert (await governed.chat(key, user="dora")).status_code == 200
    await governed.manage("/customer/block", user_ids=["dora"])
    assert error_of(await governed.chat(key, headers={"x-customer": "dora"}), 403)["type"] == "customer_blocked"
    await governed.manage("/customer/unblock", user_ids=["dora"])
    assert (await governed.chat(key, headers={"x-customer": "dora"})).status_code == 200


async def test_a_tag_s_budget_bounds_every_call_that_names_it(governed: LiveWorker) -> None:
    await governed.manage("/tag/new", name="campaign", max_budget=0.001)
    tagged = await governed.new_key(tags=["campaign"])
    assert "Tag=campaign" in (await refused_after_one(governed, tagged))["message"]
    plain = await governed.new_key()
    assert (await governed.chat(plain)).status_code == 200
    error_of(await governed.chat(plain, headers={"x-litellm-tags": "campaign"}), 422)


async def test_a_provider_over_its_budget_is_passed_by(governed: LiveWorker) -> None:
    error = error_of(await governed.chat(await governed.new_key(), "groq-chat"), 422)
    assert error["type"] == "budget_exceeded"
    assert "Provider=groq" in error["message"]


@pytest.mark.parametrize(
    ("fields", "descriptor"),
    [
        ({"rpm_limit": 1}, "api_key"),
        ({"model_rpm_limit": {"chat": 1}}, "model_per_key"),
        ({"tpm_limit": 30}, "api_key"),
    ],
)
async def test_limits_of_a_key(governed: LiveWorker, fields: dict[str, Any], descriptor: str) -> None:
    key = await governed.new_key(**fields)
    assert (await governed.chat(key)).status_code == 200
    assert f"for {descriptor}:" in error_of(await governed.chat(key), 429)["message"]
    if "model_rpm_limit" in fields:
        assert (await governed.chat(key, "cheap")).status_code == 200


async def test_limits_of_team_and_end_user(governed: LiveWorker) -> None:
    team = await governed.manage("/team/new", rpm_limit=1)
    keys = [await governed.new_key(team_id=team["team_id"]) for _ in range(2)]
    assert (await governed.chat(keys[0])).status_code == 200
    assert "for team:" in error_of(await governed.chat(keys[1]), 429)["message"]
    budget = await governed.manage("/budget/new", rpm_limit=1)
    await governed.manage("/customer/new", user_id="erik", budget_id=budget["budget_id"])
    key = await governed.new_key()
    assert (await governed.chat(key, user="erik")).status_code == 200
    assert "for end_user:" in error_of(await governed.chat(key, user="erik"), 429)["message"]


async def test_access_groups_of_both_kinds_grant_their_models(governed: LiveWorker) -> None:
    by_word = await governed.new_key(models=["beta"])
    assert (await governed.chat(by_word, "grouped")).status_code == 200
    error_of(await governed.chat(by_word, "chat"), 403)
    answer = await governed.http.post(
        f"{governed.url}/v1/access_group",
        json={"access_group_name": "writers", "access_model_names": ["cheap"]},
        headers=governed.admin,
    )
    assert answer.status_code == 201, answer.text
    by_row = await governed.new_key(access_group_ids=[answer.json()["access_group_id"]])
    assert (await governed.chat(by_row, "cheap")).status_code == 200
    error_of(await governed.chat(by_row, "chat"), 403)


async def test_spend_is_kept_for_everybody_that_a_call_names(governed: LiveWorker) -> None:
    made = await governed.manage("/organization/new", organization_alias="roll-up")
    team = await governed.manage("/team/new", organization_id=made["organization_id"])
    await governed.manage("/tag/new", name="roll-up", max_budget=100)
    key = await governed.new_key(team_id=team["team_id"])
    assert (await governed.chat(key, user="fred", headers={"x-litellm-tags": "roll-up"})).status_code == 200
    spend = (await governed.spend_row(key))["spend"]
    assert spend > 0
    await asyncio.sleep(0.3)
    organization = await governed.http.get(
        f"{governed.url}/organization/info",
        params={"organization_id": made["organization_id"]},
        headers=governed.admin,
    )
    customer = await governed.http.get(
        f"{governed.url}/customer/info", params={"end_user_id": "fred"}, headers=governed.admin
    )
    tags = (await governed.manage("/tag/info", names=["roll-up"]))["roll-up"]
    assert organization.json()["spend"] == customer.json()["spend"] == tags["spend"] == spend
