"""Whatever the scope of the response cache: what a team's own model says never answers the calls of others."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from tests.llm.cached_worker import is_hit
from tests.llm.live_worker import LiveWorker, content_of, deployment
from tests.security.tenants import MOCKED, TeamAdmin, new_team, text_of, worker_with
from tests.services.quarterdeck import QuarterdeckFactory
from tests.upstream import Reply, ScriptedUpstream


@pytest.fixture
async def upstream() -> AsyncIterator[ScriptedUpstream]:
    async with ScriptedUpstream() as scripted:
        yield scripted


@pytest.fixture(params=["global", "organization"])
async def worker(
    request: pytest.FixtureRequest, quarterdeck_process: QuarterdeckFactory, upstream: ScriptedUpstream
) -> AsyncIterator[LiveWorker]:
    config = {
        "model_list": [
            deployment("chat", upstream.url),
            deployment("embedding", upstream.url, "openai/text-embedding-3-small"),
            deployment("tagged", upstream.url, "openai/free", tags=["free"]),
            deployment("tagged", upstream.url, "openai/paid", tags=["paid"]),
        ],
        "litellm_settings": {"cache": True, "cache_params": {"type": "local", "scope": request.param}},
        "router_settings": {"enable_tag_filtering": True},
    }
    async with worker_with(quarterdeck_process, config) as started:
        yield started


@pytest.fixture
async def teams(worker: LiveWorker) -> tuple[TeamAdmin, TeamAdmin]:
    """Two teams of one organization."""
    made = await worker.manage("/organization/new", organization_alias="acme")
    first, second = [await new_team(worker, name, organization_id=made["organization_id"]) for name in ("t1", "t2")]
    return first, second


async def embed(worker: LiveWorker, key: str) -> httpx.Response:
    body, headers = {"model": "embedding", "input": "hi"}, {"Authorization": f"Bearer {key}"}
    return await worker.http.post(f"{worker.url}/v1/embeddings", json=body, headers=headers)


async def test_what_a_team_s_own_model_said_is_for_that_team(
    worker: LiveWorker, upstream: ScriptedUpstream, teams: tuple[TeamAdmin, TeamAdmin]
) -> None:
    attacker, victim = teams
    await attacker.new_model("chat", MOCKED)
    assert [is_hit(await worker.chat(attacker.calls)) for _ in range(2)] == [False, True]
    answer = await worker.chat(victim.calls)
    assert (text_of(answer), is_hit(answer)) == ("Hello world", False)
    assert content_of(await worker.frames(victim.calls)) == "Hello world"
    # The other way round: the shared answer is not the own model's.
    assert text_of(await worker.chat(attacker.calls)) == "of the team"
    # What the two scopes are for goes on: others who call the shared model share its answer.
    third = await new_team(worker, "t3", organization_id=(await _organization_of(worker, victim)))
    assert is_hit(await worker.chat(third.calls))
    assert len(upstream.requests) == 1


async def _organization_of(worker: LiveWorker, team: TeamAdmin) -> str:
    path, query = f"{worker.url}/team/info", {"team_id": team.team_id}
    answer = await worker.http.get(path, params=query, headers=worker.admin)
    return str(answer.json()["team_info"]["organization_id"])


async def test_vectors_of_a_team_s_own_model_are_for_that_team(
    worker: LiveWorker, upstream: ScriptedUpstream, teams: tuple[TeamAdmin, TeamAdmin]
) -> None:
    attacker, victim = teams
    await attacker.new_model("embedding", {**MOCKED, "model": "openai/text-embedding-3-small"})
    poisoned = (await embed(worker, attacker.calls)).json()["data"][0]["embedding"]
    answer = await embed(worker, victim.calls)
    assert not is_hit(answer)
    assert answer.json()["data"][0]["embedding"] != poisoned
    assert len(upstream.requests) == 1


async def test_tags_of_a_key_that_choose_the_deployment_are_part_of_the_cache_key(
    worker: LiveWorker, upstream: ScriptedUpstream, teams: tuple[TeamAdmin, TeamAdmin]
) -> None:
    for name in ("free", "paid"):
        upstream.on_model(name, Reply(name))
    tagged: dict[str, Any] = {"team_id": teams[0].team_id}
    free, paid = [await worker.new_key(**tagged, metadata={"tags": [name]}) for name in ("free", "paid")]
    assert [text_of(await worker.chat(key, "tagged")) for key in (free, paid, free)] == ["free", "paid", "free"]
    assert len(upstream.requests) == 2
