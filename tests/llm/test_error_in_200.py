"""A provider's 200 whose body is an error, on every operation: a failure that others may make good, and a row of it."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from tests.llm.live_worker import FAST, LiveWorker, deployment, error_of
from tests.llm.routes.media_models import WAV
from tests.services.quarterdeck import QuarterdeckFactory, QuarterdeckProcess
from tests.upstream import Answer, Pieces, Reply, ScriptedUpstream, Step

ERROR = {"error": {"message": "in-band trouble", "code": 502}}
IN_BAND = Reply(body=ERROR)
JSON_BODIES: dict[str, dict[str, Any]] = {
    "/chat/completions": {"messages": [{"role": "user", "content": "hi"}]},
    "/completions": {"prompt": "hi"},
    "/embeddings": {"input": "hi"},
    "/images/generations": {"prompt": "a ship"},
    "/moderations": {"input": "hi"},
    "/rerank": {"query": "hi", "documents": ["a", "b"]},
    "/audio/speech": {"input": "hi", "voice": "alloy"},
}
# What answers where the scripted provider has no answer of its own.
FINE: dict[str, Step] = {
    "/images/generations": Reply(body={"created": 1, "data": [{"url": "https://x/1"}]}),
    "/moderations": Reply(body={"id": "m", "model": "m", "results": []}),
    "/rerank": Reply(body={"id": "r", "results": [{"index": 0, "relevance_score": 0.5}]}),
    "/audio/speech": Pieces((b"ID3", b"\0" * 2000), content_type="audio/mpeg"),
}


@pytest.fixture(scope="module")
def worker_process(factory: QuarterdeckFactory, upstream_port: int) -> QuarterdeckProcess:
    here = f"http://127.0.0.1:{upstream_port}/v1"
    models = [deployment(name, here, f"openai/{name}", id=name, cooldown_time=0) for name in ("first", "second")]
    router = {"num_retries": 0, "fallbacks": [{"first": ["second"]}]}
    return factory({"model_list": models, "router_settings": router}, env=FAST)


async def post(worker: LiveWorker, key: str, path: str, model: str) -> httpx.Response:
    body = {"model": model, **JSON_BODIES[path]}
    return await worker.http.post(f"{worker.url}/v1{path}", json=body, headers={"Authorization": f"Bearer {key}"})


@pytest.mark.parametrize("path", JSON_BODIES)
async def test_another_model_takes_over(worker: LiveWorker, upstream: ScriptedUpstream, key: str, path: str) -> None:
    upstream.plan(IN_BAND, FINE.get(path, Answer()))
    answer = await post(worker, key, path, "first")
    assert answer.status_code == 200, answer.text
    assert b"in-band" not in answer.content
    assert [request.model for request in upstream.requests] == ["first", "second"]
    row = await worker.spend_row(key)
    assert (row["status"], [attempt["model_id"] for attempt in row["metadata"]["failed_attempts"]]) == (
        "success",
        ["first"],
    )


@pytest.mark.parametrize("path", JSON_BODIES)
async def test_the_status_is_the_errors_own(
    worker: LiveWorker, upstream: ScriptedUpstream, key: str, path: str
) -> None:
    upstream.plan(IN_BAND)
    error = error_of(await post(worker, key, path, "second"), 502)
    assert "in-band trouble" in error["message"]
    row = await worker.spend_row(key)
    assert (row["status"], row["spend"]) == ("failure", 0)
    assert row["metadata"]["error_information"]["error_code"] == "502"


@pytest.mark.parametrize(
    ("body", "status", "words"),
    [
        ({"error": {"message": "slow down", "type": "rate_limit_error"}}, 429, "slow down"),
        ({"error": {"message": "no", "code": "context_length_exceeded"}}, 400, "ContextWindowExceededError"),
        ({"message": "Endpoint request timed out"}, 500, "timed out"),
        ({"success": False, "errors": [{"code": 7003, "message": "no route"}]}, 500, "no route"),
    ],
)
async def test_shapes_of_errors(
    worker: LiveWorker, upstream: ScriptedUpstream, key: str, body: Any, status: int, words: str
) -> None:
    upstream.plan(Reply(body=body))
    assert words in error_of(await post(worker, key, "/chat/completions", "second"), status)["message"]


async def test_an_error_in_place_of_a_transcript(worker: LiveWorker, upstream: ScriptedUpstream, key: str) -> None:
    for response_format in ("json", "text"):
        upstream.plan(IN_BAND)
        answer = await worker.http.post(
            f"{worker.url}/v1/audio/transcriptions",
            data={"model": "second", "response_format": response_format},
            files={"file": ("a.wav", WAV, "audio/wav")},
            headers={"Authorization": f"Bearer {key}"},
        )
        assert "in-band trouble" in error_of(answer, 502)["message"]


async def test_an_error_as_the_first_event_of_a_relayed_stream(
    worker: LiveWorker, upstream: ScriptedUpstream, key: str
) -> None:
    event = b'data: {"error": {"message": "in-band trouble", "code": 503}}\n\n'
    upstream.plan(Pieces((event,), content_type="text/event-stream"), FINE["/images/generations"])
    body = {"model": "first", "prompt": "a ship", "stream": True}
    answer = await worker.http.post(
        f"{worker.url}/v1/images/generations", json=body, headers={"Authorization": f"Bearer {key}"}
    )
    assert answer.json()["data"], answer.text
    assert [request.model for request in upstream.requests] == ["first", "second"]
