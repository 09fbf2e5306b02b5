"""Background checks of a running worker: one small call per deployment and interval, kept, paid for, and redacted."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from tests.llm.live_worker import FAST, PROVIDER_KEY, LiveWorker, deployment
from tests.services.quarterdeck import QuarterdeckFactory, QuarterdeckProcess
from tests.upstream import Fault, ScriptedUpstream


@pytest.fixture(scope="module")
def worker_process(factory: QuarterdeckFactory, upstream_port: int) -> QuarterdeckProcess:
    here = f"http://127.0.0.1:{upstream_port}/v1"
    info: dict[str, dict[str, Any]] = {
        "well": {"health_check_max_tokens": 7},
        "broken": {},
        "swapped": {"health_check_model": "openai/gpt-4o"},
        "vectors": {"mode": "embedding"},
        "left-out": {"disable_background_health_check": True},
        "pictures": {"mode": "image_generation"},
    }
    models = []
    for name, facts in info.items():
        entry = deployment(name, here, f"openai/{name}-model")
        models.append({**entry, "model_info": {"id": name, **facts}})
    # A name that cannot be looked up at all fails in a way of its own, and keeps nobody else from being checked.
    odd = deployment("odd", f"http://{'é' * 63}.example/v1", "openai/odd-model")
    models.append({**odd, "model_info": {"id": "odd"}})
    general = {"background_health_checks": True, "health_check_interval": 1, "health_check_concurrency": 2}
    return factory({"model_list": models, "general_settings": general}, env=FAST)


@pytest.fixture
async def upstream(upstream_port: int) -> Any:
    async with ScriptedUpstream(port=upstream_port) as scripted:
        scripted.on_model("broken-model", Fault.status(401, message=f"wrong key {PROVIDER_KEY}"))
        yield scripted


async def eventually(worker: LiveWorker, path: str, holds: Callable[[Any], bool], **query: Any) -> Any:
    deadline = time.monotonic() + 15
    while True:
        answer = await worker.http.get(f"{worker.url}{path}", params=query, headers=worker.admin)
        if holds(answer.json()):
            return answer.json()
        assert time.monotonic() < deadline, answer.text
        await asyncio.sleep(0.05)


async def test_deployments_are_asked_in_the_background_and_health_says_what_was_found(
    worker: LiveWorker, upstream: ScriptedUpstream
) -> None:
    # Before this test the upstream was not there, so that everything was unhealthy.
    await eventually(worker, "/health", lambda body: body["unhealthy_count"] == 2)
    body = (await worker.http.get(f"{worker.url}/health", headers=worker.admin)).json()
    row, odd = sorted(body["unhealthy_endpoints"], key=lambda one: str(one["model_id"]))
    assert odd["model_id"] == "odd"
    assert row["model_id"] == "broken" and "AuthenticationError" in row["error"] and PROVIDER_KEY not in row["error"]
    assert {one["model_id"] for one in body["healthy_endpoints"]} >= {"well", "swapped", "vectors", "left-out"}
    alone = await worker.http.get(f"{worker.url}/health", params={"model": "broken"}, headers=worker.admin)
    assert alone.status_code == 503
    asked = {request.model: request for request in upstream.requests}
    assert set(asked) == {"well-model", "broken-model", "gpt-4o", "vectors-model"}
    assert asked["well-model"].json["max_tokens"] == 7 and asked["gpt-4o"].json["max_tokens"] == 16
    assert asked["vectors-model"].path == "/v1/embeddings" and "max_tokens" not in asked["vectors-model"].json
    latest = await eventually(worker, "/health/latest", lambda body: "broken" in body["latest_health_checks"])
    assert latest["latest_health_checks"]["broken"]["status"] == "unhealthy"


async def test_what_checks_cost_is_in_the_spend_log(worker: LiveWorker, upstream: ScriptedUpstream) -> None:
    rows = await eventually(
        worker,
        "/spend/logs",
        lambda rows: any(row["model_group"] == "swapped" for row in rows),
        api_key="litellm-internal-health-check",
    )
    (row, *_) = [row for row in rows if row["model_group"] == "swapped"]
    assert row["spend"] > 0 and row["model"] == "gpt-4o"


async def test_looking_at_health_calls_nobody(factory: QuarterdeckFactory, upstream: ScriptedUpstream) -> None:
    async with httpx.AsyncClient(trust_env=False) as http:
        worker = LiveWorker(factory({"model_list": [deployment("quiet", upstream.url, "openai/quiet")]}), http)
        for _ in range(3):
            answer = await http.get(f"{worker.url}/health", headers=worker.admin)
            assert answer.json()["healthy_count"] == 1
    assert "quiet" not in {request.model for request in upstream.requests}
