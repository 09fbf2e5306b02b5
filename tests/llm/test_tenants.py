"""What one tenant sends never takes a model away from the others."""

from __future__ import annotations

from typing import Any

import pytest

from tests.llm.live_worker import FAST, ONCE, LiveWorker, deployment
from tests.services.quarterdeck import QuarterdeckFactory, QuarterdeckProcess
from tests.upstream import Reply, ScriptedUpstream

HASTY: dict[str, Any] = {"timeout": 0.01}


@pytest.fixture(scope="module")
def worker_process(factory: QuarterdeckFactory, upstream_port: int) -> QuarterdeckProcess:
    here = f"http://127.0.0.1:{upstream_port}/v1"
    models = [deployment("alone", here, "openai/slow-1"), deployment("other", here)]
    models += [deployment("two", here, "openai/slow-2", id=f"two-{number}") for number in range(2)]
    return factory({"model_list": models}, env=FAST)


@pytest.mark.parametrize("model", ["alone", "two"])
async def test_a_client_s_own_hurry_makes_no_deployment_rest(
    worker: LiveWorker, upstream: ScriptedUpstream, key: str, model: str
) -> None:
    for name in ("slow-1", "slow-2"):
        upstream.on_model(name, Reply(delay=0.1))
    hasty = await worker.new_key()
    for _ in range(8):
        assert (await worker.chat(hasty, model, headers=ONCE, **HASTY)).status_code == 408
    metrics = await worker.http.get(f"{worker.url}/metrics", headers=worker.admin)
    assert "litellm_deployment_cooled_down" not in metrics.text
    assert (await worker.chat(key, model, headers=ONCE)).status_code == 200


async def test_a_client_s_own_fallback_is_no_reason_to_rest_the_only_deployment(
    worker: LiveWorker, upstream: ScriptedUpstream, key: str
) -> None:
    upstream.on_model("slow-1", Reply(status=500, body={"error": {"message": "broken"}}))
    failing = await worker.new_key()
    for _ in range(8):
        assert (await worker.chat(failing, "alone", headers=ONCE, fallbacks=["other"])).status_code == 200
    # It answers again, and nobody else ever had a fallback that would make up for its rest.
    upstream.on_model("slow-1", Reply())
    assert (await worker.chat(key, "alone", headers=ONCE)).status_code == 200
