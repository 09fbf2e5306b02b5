"""An admin of a team manages what the team made itself, and nothing that anybody else calls."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

from tests.llm.live_worker import ONCE, LiveWorker, deployment
from tests.security.tenants import MOCKED, TeamAdmin, model_for, new_team, text_of, worker_with
from tests.services.quarterdeck import QuarterdeckFactory
from tests.upstream import ScriptedUpstream


@pytest.fixture
async def upstream() -> AsyncIterator[ScriptedUpstream]:
    async with ScriptedUpstream() as scripted:
        yield scripted


@pytest.fixture
async def worker(quarterdeck_process: QuarterdeckFactory, upstream: ScriptedUpstream) -> AsyncIterator[LiveWorker]:
    config = {
        "model_list": [
            deployment("openai/*", upstream.url, "openai/*"),
            deployment("premium", upstream.url, "openai/premium"),
            deployment("chat", upstream.url, "openai/gpt-4o-mini"),
        ],
        "router_settings": {"fallbacks": [{"chat": ["premium"]}], "num_retries": 0},
    }
    async with worker_with(quarterdeck_process, config) as started:
        yield started


@pytest.fixture
async def team(worker: LiveWorker) -> TeamAdmin:
    return await new_team(worker, "t1")


async def row_of(worker: LiveWorker, model_id: str) -> dict[str, Any]:
    path, query = f"{worker.url}/model/info", {"litellm_model_id": model_id}
    answer = await worker.http.get(path, params=query, headers=worker.admin)
    assert answer.status_code == 200, answer.text
    row: dict[str, Any] = answer.json()["data"][0]
    return row


# ---- what an admin of the instance made ----------------------------------------------------------------------------

_REWRITES: list[dict[str, Any]] = [
    {"litellm_params": {"input_cost_per_token": 0, "output_cost_per_token": 0}},
    {"litellm_params": {"model": "openai/o1-pro"}},
    {"litellm_params": {"rpm": None, "max_parallel_requests": None}},
    {"litellm_params": {"extra_headers": {"x-billed-to": "somebody"}}},
    {"litellm_params": {"mock_response": "free"}},
    {"litellm_params": {"api_key": "sk-of-the-team"}},
    {"model_name": "renamed"},
    {"model_info": {"access_groups": ["all"], "base_model": "gpt-4o-mini"}},
]


async def test_a_model_that_an_admin_made_for_a_team_is_not_the_team_s_to_change(
    worker: LiveWorker, upstream: ScriptedUpstream, team: TeamAdmin
) -> None:
    params = {"model": "openai/gpt-4o", "api_base": upstream.url, "api_key": "sk-x", "rpm": 50}
    model_id = await model_for(worker, "t1", "ours", {**params, "input_cost_per_token": 0.5})
    before = await row_of(worker, model_id)
    for change in _REWRITES:
        answer = await team.send(f"/model/{model_id}/update", "PATCH", **change)
        assert answer.status_code == 403, f"{change}: {answer.text}"
        info = {**change.get("model_info", {}), "id": model_id}
        answer = await team.send("/model/update", **{**change, "model_info": info})
        assert answer.status_code == 403, f"{change}: {answer.text}"
    for path in ("/model/delete", "/model/block", "/model/unblock"):
        assert (await team.send(path, id=model_id)).status_code == 403, path
    assert await row_of(worker, model_id) == before
    answer = await worker.chat(team.calls, "ours")
    assert float(answer.headers["x-litellm-response-cost-input"]) == 4.5
    assert upstream.requests[-1].model == "gpt-4o"


async def test_what_a_team_made_is_its_own_until_an_admin_moves_it(worker: LiveWorker, team: TeamAdmin) -> None:
    model_id, other_id = await team.new_model("ours", MOCKED), await team.new_model("more", MOCKED)
    change = {"litellm_params": {"mock_response": "changed", "input_cost_per_token": 0.1}}
    assert (await team.send(f"/model/{model_id}/update", "PATCH", **change)).status_code == 200
    assert text_of(await worker.chat(team.calls, "ours")) == "changed"
    # An admin who changes it leaves it the team's; one who moves it answers for it from then on.
    edit = {"litellm_params": {"rpm": 9}, "model_info": {"id": model_id}}
    await worker.manage("/model/update", **edit)
    assert (await team.send(f"/model/{model_id}/update", "PATCH", model_name="same")).status_code == 200
    for team_id in (None, "t1"):
        await worker.manage("/model/update", model_info={"id": model_id, "team_id": team_id})
    assert (await team.send(f"/model/{model_id}/update", "PATCH", **change)).status_code == 403
    assert (await team.send("/model/delete", id=model_id)).status_code == 403
    assert (await team.send("/model/delete", id=other_id)).status_code == 200


async def test_no_team_lends_a_credential_to_pass_through(team: TeamAdmin) -> None:
    lent = {"model": "openai/gpt-4o", "api_key": "sk-of-the-team", "use_in_pass_through": True}
    answer = await team.try_model("lent", lent)
    assert answer.status_code == 403
    assert answer.json()["error"]["param"] == "litellm_params.use_in_pass_through"
    model_id = await team.new_model("own", MOCKED)
    change = {"litellm_params": {"use_in_pass_through": "true"}}
    assert (await team.send(f"/model/{model_id}/update", "PATCH", **change)).status_code == 403


# ---- names that others call ----------------------------------------------------------------------------------------


async def test_an_id_that_a_team_asks_for_takes_no_model_from_others(
    worker: LiveWorker, upstream: ScriptedUpstream, team: TeamAdmin
) -> None:
    wanted = "openai/gpt-4o-mini"
    assert await team.new_model("mine", MOCKED, id=wanted) != wanted
    other = await new_team(worker, "t2")
    for key in (await worker.new_key(), other.calls, team.calls):
        assert text_of(await worker.chat(key, wanted)) == "Hello world"
    assert [request.model for request in upstream.requests] == ["gpt-4o-mini"] * 3


async def test_an_id_of_another_team_s_model_is_no_model_to_others(
    worker: LiveWorker, upstream: ScriptedUpstream, team: TeamAdmin
) -> None:
    """Whoever chose it: the look-up goes on as if it were not there."""
    await model_for(worker, "t1", "theirs", MOCKED, id="openai/gpt-4o")
    assert text_of(await worker.chat(team.calls, "openai/gpt-4o")) == "of the team"
    assert text_of(await worker.chat(await worker.new_key(), "openai/gpt-4o")) == "Hello world"
    assert upstream.requests[-1].model == "gpt-4o"


async def test_a_team_s_model_gets_no_grant_by_its_name(worker: LiveWorker, upstream: ScriptedUpstream) -> None:
    """`chat` falls back on `premium` for whoever may call `chat`, not for a team that calls its own model so."""
    poor = await new_team(worker, "poor", models=["chat"])
    assert (await worker.chat(poor.calls, "premium")).status_code == 403
    await poor.new_model("chat", {**MOCKED, "mock_response": "litellm.InternalServerError"})
    assert (await worker.chat(poor.calls, "chat", headers=ONCE)).status_code == 500
    assert upstream.requests == []
    granted = await new_team(worker, "granted", models=["chat", "premium"])
    await granted.new_model("chat", {**MOCKED, "mock_response": "litellm.InternalServerError"})
    assert text_of(await worker.chat(granted.calls, "chat", headers=ONCE)) == "Hello world"
