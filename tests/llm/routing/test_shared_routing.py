"""Routing over two processes: what one learns the other knows, and limits of deployments hold for both together."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from typing import Any

import httpx
import pytest

from tests.llm.live_worker import FAST, LiveWorker, deployment, error_of
from tests.services.quarterdeck import QuarterdeckFactory
from tests.upstream import Fault, Reply, ScriptedUpstream

_HEARD_SECONDS = 2.0


def two_workers(
    start: QuarterdeckFactory, http: httpx.AsyncClient, config: dict[str, Any], database_url: str, **env: str
) -> list[LiveWorker]:
    processes = [start(config, database_url=database_url, env={**FAST, **env}, wait=False) for _ in range(2)]
    for process in processes:
        process.wait_until_alive()
    return [LiveWorker(process, http) for process in processes]


def asked(upstream: ScriptedUpstream) -> Counter[str]:
    return Counter(request.model for request in upstream.requests)


async def test_a_deployment_that_rests_here_rests_there(
    upstream: ScriptedUpstream,
    quarterdeck_process: QuarterdeckFactory,
    migrated_postgres_url: str,
    http: httpx.AsyncClient,
) -> None:
    models = [
        deployment("chat", upstream.url, "openai/limited", id="limited"),
        deployment("safe", upstream.url, "openai/safe"),
    ]
    config = {"model_list": models, "router_settings": {"fallbacks": [{"chat": ["safe"]}], "num_retries": 0}}
    here, there = two_workers(quarterdeck_process, http, config, migrated_postgres_url)
    key = await here.new_key()
    upstream.on_model("limited", Fault.status(429, retry_after=60))
    started = time.monotonic()
    assert (await here.chat(key)).headers["x-litellm-model-group"] == "safe"
    assert asked(upstream) == {"limited": 1, "safe": 1}
    deadline = time.monotonic() + _HEARD_SECONDS
    # The other one does not ask until it has heard; a call that never falls back would itself teach it.
    while time.monotonic() < deadline:
        answer = await there.chat(key, disable_fallbacks=True, headers={"x-litellm-num-retries": "0"})
        error = error_of(answer, 429)
        if error["type"] == "all_deployments_in_cooldown":
            break
        await asyncio.sleep(0.02)
    assert error["type"] == "all_deployments_in_cooldown"
    assert 58 - (time.monotonic() - started) <= int(answer.headers["retry-after"]) <= 60
    before = asked(upstream)["limited"]
    assert (await there.chat(key)).headers["x-litellm-model-group"] == "safe"
    assert asked(upstream)["limited"] == before


@pytest.mark.parametrize(
    ("store", "router"),
    [
        ("redis", {"routing_strategy": "usage-based-routing-v2"}),
        ("postgres", {"optional_pre_call_checks": ["enforce_model_rate_limits"]}),
    ],
    ids=["redis", "postgres"],
)
async def test_a_deployment_never_gets_more_than_its_requests_a_minute(
    upstream: ScriptedUpstream,
    quarterdeck_process: QuarterdeckFactory,
    migrated_postgres_url: str,
    http: httpx.AsyncClient,
    request: pytest.FixtureRequest,
    store: str,
    router: dict[str, Any],
) -> None:
    models = [
        deployment("chat", upstream.url, "openai/small", rpm=5),
        deployment("chat", upstream.url, "openai/large", rpm=15),
    ]
    env = {"REDIS_URL": request.getfixturevalue("redis_url")} if store == "redis" else {}
    workers = two_workers(
        quarterdeck_process, http, {"model_list": models, "router_settings": router}, migrated_postgres_url, **env
    )
    key = await workers[0].new_key()
    upstream.on_model("small", Reply(delay=0.1))
    upstream.on_model("large", Reply(delay=0.1))
    answers = await asyncio.gather(*(workers[number % 2].chat(key) for number in range(60)))
    statuses = Counter(answer.status_code for answer in answers)
    assert asked(upstream) == {"small": 5, "large": 15}
    assert statuses == {200: 20, 429: 40}
    refused = next(answer for answer in answers if answer.status_code == 429)
    assert "Deployment over defined" in error_of(refused, 429)["message"]
    assert int(refused.headers["retry-after"]) > 0
    rows = await workers[0].spend_rows(key, 60)
    assert Counter(row["status"] for row in rows) == {"success": 20, "failure": 40}
