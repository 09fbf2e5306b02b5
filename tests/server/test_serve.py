"""How an instance ends: not ready while balancers may still send to it, and never before what it began is finished."""

from __future__ import annotations

import os
import signal

import httpx

from tests.llm.live_worker import LiveWorker, content_of, deployment, payloads
from tests.services.quarterdeck import QuarterdeckFactory
from tests.upstream import ScriptedUpstream, Stream


async def test_an_instance_that_drains_is_not_ready_and_still_serves(quarterdeck_process: QuarterdeckFactory) -> None:
    process = quarterdeck_process(env={"QUARTERDECK_DRAIN_SECONDS": "60"})
    async with httpx.AsyncClient(trust_env=False, timeout=10, base_url=process.url) as http:
        os.kill(process.pid, signal.SIGTERM)
        answer = await http.get("/health/readiness")
        while answer.status_code == 200:  # the signal is on its way
            answer = await http.get("/health/readiness")
        assert (answer.status_code, answer.json()) == (503, {"status": "shutting_down"})
        headers = {"Authorization": f"Bearer {process.master_key}"}
        assert (await http.get("/health/drain", headers=headers)).json() == {"status": "draining", "in_flight": 0}
        os.kill(process.pid, signal.SIGTERM)
    assert process.wait() == 0, "a second signal ends the waiting"


async def test_a_stream_that_runs_is_finished(quarterdeck_process: QuarterdeckFactory) -> None:
    async with ScriptedUpstream() as upstream, httpx.AsyncClient(trust_env=False, timeout=10) as http:
        upstream.on_model("gpt-4o-mini", Stream(("a", "b", "c", "d"), interval=0.2))
        process = quarterdeck_process({"model_list": [deployment("chat", upstream.url)]})
        async with LiveWorker(process, http).stream(process.master_key) as answer:
            received = b""
            async for chunk in answer.aiter_bytes():
                if not received:
                    os.kill(process.pid, signal.SIGTERM)
                received += chunk
        frames = payloads(received)
        assert content_of(frames) == "abcd" and frames[-1] == "[DONE]"
        assert process.wait() == 0
