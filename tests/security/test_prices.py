"""What a team says that its models cost is paid by that team alone, and no price is an attack by itself."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from decimal import Decimal
from typing import Any

import pytest

from app.deployments.deployment import build_deployment
from tests.llm.live_worker import SPEND_SECONDS, LiveWorker, deployment, error_of
from tests.security.tenants import MOCKED, TeamAdmin, model_for, new_team, text_of, worker_with
from tests.services.quarterdeck import QuarterdeckFactory

# As dear as a price may be: 300 USD for one mocked answer.
_DEAR: dict[str, Any] = {"input_cost_per_token": 10, "output_cost_per_token": 10}
_BUDGET = 50
_MARKED: dict[str, Any] = {"user": "customer", "metadata": {"tags": ["campaign"]}}


@pytest.fixture
async def worker(quarterdeck_process: QuarterdeckFactory) -> AsyncIterator[LiveWorker]:
    """Everything that tenants share has a budget: instance, provider, tag, end user, access group, organization."""
    price: dict[str, Any] = {"input_cost_per_token": 0.01, "output_cost_per_token": 0.01}
    shared = deployment("chat", "http://127.0.0.1:9/v1", mock_response="shared", **price)
    config = {
        "model_list": [{**shared, "model_info": {"access_groups": ["beta"]}}],
        "litellm_settings": {"max_budget": _BUDGET, "budget_duration": "30d"},
        "router_settings": {"provider_budget_config": {"openai": {"budget_limit": _BUDGET, "time_period": "1d"}}},
    }
    async with worker_with(quarterdeck_process, config) as started:
        await started.manage("/tag/new", name="campaign", max_budget=_BUDGET)
        await started.manage("/customer/new", user_id="customer", max_budget=_BUDGET)
        path, body = f"{started.url}/access_group/beta/budget", {"max_budget": _BUDGET}
        assert (await started.http.put(path, json=body, headers=started.admin)).status_code == 200
        yield started


@pytest.fixture
async def organization(worker: LiveWorker) -> str:
    limits = {"max_budget": _BUDGET, "tpm_limit": 500}
    return str((await worker.manage("/organization/new", organization_alias="acme", **limits))["organization_id"])


@pytest.fixture
async def team(worker: LiveWorker, organization: str) -> TeamAdmin:
    return await new_team(worker, "t1", organization_id=organization)


async def get(worker: LiveWorker, path: str, **query: Any) -> Any:
    answer = await worker.http.get(f"{worker.url}{path}", params=query, headers=worker.admin)
    assert answer.status_code == 200, answer.text
    return answer.json()


async def spent(worker: LiveWorker, organization: str) -> dict[str, float]:
    """What the database says that each of those who share spent."""
    tags = await worker.manage("/tag/info", names=["campaign"])
    return {
        "tag": tags["campaign"]["spend"],
        "end user": (await get(worker, "/customer/info", end_user_id="customer"))["spend"],
        "organization": (await get(worker, "/organization/info", organization_id=organization))["spend"],
        "access group": (await get(worker, "/access_group/beta/budget"))["spend"],
    }


async def team_spend(worker: LiveWorker, team: TeamAdmin) -> float:
    return float((await get(worker, "/team/info", team_id=team.team_id))["team_info"]["spend"])


async def eventually(read: Callable[[], Awaitable[float]], expected: float) -> None:
    deadline = time.monotonic() + SPEND_SECONDS
    while (value := await read()) != pytest.approx(expected):
        assert time.monotonic() < deadline, f"{value} and not {expected}"
        await asyncio.sleep(0.05)


async def test_a_price_of_a_team_is_paid_by_the_team_alone(
    worker: LiveWorker, organization: str, team: TeamAdmin
) -> None:
    await team.new_model("dear", {**MOCKED, **_DEAR}, access_groups=["beta"])
    for _ in range(2):
        assert (await worker.chat(team.calls, "dear", **_MARKED)).status_code == 200
    await eventually(lambda: team_spend(worker, team), 600)
    assert (await worker.key_info(team.calls))["spend"] == 600
    assert set((await spent(worker, organization)).values()) == {0}
    # Neither what is held in memory nor what is stored stands in anybody's way.
    other = await new_team(worker, "t2", organization_id=organization)
    for key in (await worker.new_key(), other.calls, team.calls):
        assert text_of(await worker.chat(key, **_MARKED)) == "shared"


async def test_a_price_of_a_team_is_bounded_by_the_team_s_own_budgets(worker: LiveWorker) -> None:
    poor = await new_team(worker, "poor", max_budget=200)
    await poor.new_model("dear", {**MOCKED, **_DEAR})
    assert (await worker.chat(poor.calls, "dear")).status_code == 200
    assert "Team=poor" in error_of(await worker.chat(poor.calls, "dear"), 422)["message"]


async def test_a_listed_price_of_a_team_s_mock_is_paid_by_the_team_alone(
    worker: LiveWorker, organization: str, team: TeamAdmin
) -> None:
    """Without a price of its own: which model it claims to be is the team's word as well."""
    await team.new_model("claimed", {**MOCKED, "model": "openai/o1-pro"})
    assert (await worker.chat(team.calls, "claimed", **_MARKED)).status_code == 200
    await eventually(lambda: team_spend(worker, team), 0.0135)
    assert set((await spent(worker, organization)).values()) == {0}


async def test_tokens_of_a_team_s_own_model_use_up_no_limit_of_others(
    worker: LiveWorker, organization: str, team: TeamAdmin
) -> None:
    await team.new_model("own", MOCKED)
    for _ in range(20):
        assert (await worker.chat(team.calls, "own")).status_code == 200
    other = await new_team(worker, "t2", organization_id=organization)
    assert (await worker.chat(other.calls)).status_code == 200


async def test_a_price_of_the_instance_for_a_team_is_paid_by_all_that_share(
    worker: LiveWorker, organization: str, team: TeamAdmin
) -> None:
    await model_for(worker, "t1", "ours", {**MOCKED, "input_cost_per_token": 0.1}, access_groups=["beta"])
    assert (await worker.chat(team.calls, "ours", **_MARKED)).status_code == 200
    await eventually(lambda: team_spend(worker, team), 1)
    assert set((await spent(worker, organization)).values()) == {1}


async def test_in_a_group_of_both_each_deployment_bills_whom_it_may(
    worker: LiveWorker, organization: str, team: TeamAdmin
) -> None:
    """The instance's deployment comes first until the shared budgets have no room; then the team's own answers."""
    of_instance = {**MOCKED, "mock_response": "of the instance", "input_cost_per_token": 4, "order": 1}
    await model_for(worker, "t1", "both", of_instance, access_groups=["beta"])
    await team.new_model("both", {**MOCKED, **_DEAR, "order": 2})
    said = [text_of(await worker.chat(team.calls, "both", **_MARKED)) for _ in range(4)]
    assert said == ["of the instance", "of the instance", "of the team", "of the team"]
    await eventually(lambda: team_spend(worker, team), 680)
    assert set((await spent(worker, organization)).values()) == {80}


# ---- prices that are none ------------------------------------------------------------------------------------------

_BAD_PRICES = [-1, -0.000001, "-1", "NaN", "Infinity", "-Infinity", "1e400", 1000, 10.01, True, "free", float("nan")]
_NAMES = ("input_cost_per_token", "output_cost_per_token", "cache_read_input_token_cost", "output_cost_per_audio_token")


@pytest.mark.parametrize("price", [*_BAD_PRICES, float("inf"), Decimal(-1)])
def test_a_price_that_is_none_is_refused_wherever_it_is_read(price: object) -> None:
    """The configuration file, the API and the database have this one reader."""
    good = {"model": "openai/gpt-4o", "api_key": "sk-x"}
    for name in _NAMES:
        for params, info in (({name: price}, {}), ({"input_cost_per_token": 1}, {name: price})):
            with pytest.raises(ValueError, match=name):
                build_deployment("chat", {**good, **params}, info, {})


async def test_a_price_that_is_none_is_not_stored(worker: LiveWorker, team: TeamAdmin) -> None:
    model_id = await team.new_model("own", MOCKED)
    for price in _BAD_PRICES[:-1]:
        bad = {"output_cost_per_token": price}
        for answer in (
            await team.try_model("bad", {**MOCKED, **bad}),
            await team.try_model("bad", MOCKED, **bad),
            await team.send(f"/model/{model_id}/update", "PATCH", litellm_params=bad),
            await team.send(f"/model/{model_id}/update", "PATCH", model_info=bad),
        ):
            assert "output_cost_per_token" in error_of(answer, 400)["message"], price
    rows = (await get(worker, "/v2/model/info"))["data"]
    assert [row["model_name"] for row in rows] == ["chat", "own"]
