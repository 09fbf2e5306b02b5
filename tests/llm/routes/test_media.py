"""Pictures, audio, moderation and reranking against a worker: the official SDK, plain HTTP, money, faults."""

from __future__ import annotations

import asyncio
import json
from decimal import Decimal
from typing import Any

import httpx
import openai
import pytest

from tests.llm.live_worker import FAST, LiveWorker, error_of
from tests.llm.routes.media_models import form_of, media_models, post
from tests.services.quarterdeck import QuarterdeckFactory, QuarterdeckProcess
from tests.upstream import Fault, Pieces, Reply, ScriptedUpstream

PNG = b"\x89PNG\r\n\x1a\n--not a boundary\r\n" + bytes(range(256)) * 8


@pytest.fixture(scope="module")
def worker_process(factory: QuarterdeckFactory, upstream_port: int, refusing_port: int) -> QuarterdeckProcess:
    here, nowhere = f"http://127.0.0.1:{upstream_port}/v1", f"http://127.0.0.1:{refusing_port}/v1"
    return factory({"model_list": media_models(here, nowhere)}, env=FAST)


# ---- pictures ------------------------------------------------------------------------------------------------------


async def test_pictures_are_made_and_billed_each(worker: LiveWorker, upstream: ScriptedUpstream, key: str) -> None:
    upstream.plan(Reply(body={"created": 1, "data": [{"url": "https://x/1"}, {"url": "https://x/2"}]}))
    async with worker.sdk(key) as sdk:
        made = await sdk.images.with_raw_response.generate(
            model="pictures", prompt="a ship", n=2, extra_body={"num_retries": 0}
        )
    assert [one.url for one in made.parse().data or ()] == ["https://x/1", "https://x/2"]
    assert "model" not in json.loads(made.text)
    assert upstream.requests[0].path == "/v1/images/generations"
    assert upstream.requests[0].json == {"model": "dall-e-3", "prompt": "a ship", "n": 2}
    assert made.headers["x-litellm-response-cost"] == "0.080000000000"
    row = await worker.spend_row(key)
    assert (Decimal(str(row["spend"])), row["call_type"]) == (Decimal("0.08"), "aimage_generation")
    assert row["metadata"]["usage_object"] == {"images": 2}


async def test_a_model_that_counts_tokens_is_billed_by_them(
    worker: LiveWorker, upstream: ScriptedUpstream, key: str
) -> None:
    usage = {
        "input_tokens": 50,
        "output_tokens": 1000,
        "total_tokens": 1050,
        "input_tokens_details": {"text_tokens": 50},
    }
    upstream.plan(Reply(body={"created": 1, "data": [{"b64_json": "AA=="}], "usage": usage}))
    await post(worker, key, "/images/generations", json={"model": "gpt-image", "prompt": "a ship"})
    row = await worker.spend_row(key)
    assert (row["prompt_tokens"], row["completion_tokens"]) == (50, 1000)
    assert Decimal(str(row["spend"])) == Decimal("0.0405")


async def test_pictures_are_edited_with_their_bytes_untouched(
    worker: LiveWorker, upstream: ScriptedUpstream, key: str
) -> None:
    upstream.plan(Reply(body={"created": 1, "data": [{"b64_json": "AA=="}]}))
    async with worker.sdk(key) as sdk:
        await sdk.images.edit(
            model="pictures",
            prompt="in the rain",
            image=[("a.png", PNG, "image/png"), ('b "2".png', PNG[::-1], "image/png")],
            mask=("mask.png", b"mask", "image/png"),
            extra_body={"metadata": {"user_id": "u"}, "tags": ["x"], "num_retries": 1},
        )
    form = form_of(upstream)
    assert [(part.name, part.filename, part.value, part.content_type) for part in form.files()] == [
        ("image[]", "a.png", PNG, "image/png"),
        ("image[]", 'b "2".png', PNG[::-1], "image/png"),
        ("mask", "mask.png", b"mask", "image/png"),
    ]
    assert {part.name: part.text for part in form.parts if part.filename is None} == {
        "model": "dall-e-3",
        "prompt": "in the rain",
    }
    assert Decimal(str((await worker.spend_row(key))["spend"])) == Decimal("0.04")


async def test_events_of_pictures_are_passed_on_and_their_usage_billed(
    worker: LiveWorker, upstream: ScriptedUpstream, key: str
) -> None:
    partial = (
        b'event: image_generation.partial_image\ndata: {"type":"image_generation.partial_image","b64_json":"AA"}\n\n'
    )
    done = b'data: {"type":"image_generation.completed","usage":{"input_tokens":10,"output_tokens":100}}\n\n'
    upstream.plan(Pieces([partial, done[:30], done[30:]], "text/event-stream; charset=utf-8"))
    answer = await post(
        worker, key, "/v1/images/generations", json={"model": "gpt-image", "prompt": "x", "stream": True}
    )
    assert answer.content == partial + done
    assert answer.headers["content-type"] == "text/event-stream; charset=utf-8"
    row = await worker.spend_row(key)
    assert Decimal(str(row["spend"])) == Decimal("0.0041")


# ---- speech --------------------------------------------------------------------------------------------------------


async def test_speech_is_passed_on_while_it_comes(worker: LiveWorker, upstream: ScriptedUpstream, key: str) -> None:
    pieces = [b"ID3\x00" * 50, b"\xff\xfb" * 100, b"end"]
    upstream.plan(Pieces(pieces, "audio/mpeg", interval=0.05, headers={"x-request-id": "r1"}))
    received: list[bytes] = []
    async with worker.sdk(key) as sdk:
        speech = sdk.audio.speech.with_streaming_response
        async with speech.create(model="voice", voice="alloy", input="Grüße") as answer:
            assert answer.headers["content-type"] == "audio/mpeg"
            assert answer.headers["llm_provider-x-request-id"] == "r1"
            received = [chunk async for chunk in answer.iter_bytes()]
    assert (b"".join(received), len(received)) == (b"".join(pieces), 3)
    assert upstream.requests[0].json == {"model": "tts-1", "voice": "alloy", "input": "Grüße"}
    row = await worker.spend_row(key)
    assert Decimal(str(row["spend"])) == 5 * Decimal("0.000015")
    assert row["metadata"]["usage_object"] == {"characters": 5}


async def test_speech_of_a_failing_deployment_comes_from_another_one(
    worker: LiveWorker, upstream: ScriptedUpstream, key: str
) -> None:
    upstream.on_model("tts-1", Pieces([b"audio"], "audio/mpeg"))
    for _ in range(4):
        answer = await post(
            worker, key, "/audio/speech", json={"model": "voice-in-trouble", "voice": "a", "input": "x"}
        )
        assert (answer.status_code, answer.content) == (200, b"audio"), answer.text
        assert answer.headers["x-litellm-model-id"] == "voice-fine"


async def test_speech_that_breaks_off_ends_broken_and_is_logged_as_a_failure(
    worker: LiveWorker, upstream: ScriptedUpstream, key: str
) -> None:
    upstream.plan(Pieces([b"half"], "audio/mpeg", cut="reset"))
    with pytest.raises(httpx.RemoteProtocolError):
        await post(worker, key, "/audio/speech", json={"model": "voice", "voice": "a", "input": "x"})
    row = await worker.spend_row(key)
    assert row["status"] == "failure"
    assert row["metadata"]["error_information"]["error_class"] == "MidStreamError"


async def test_a_page_in_place_of_audio_is_no_page_of_ours(
    worker: LiveWorker, upstream: ScriptedUpstream, key: str
) -> None:
    upstream.plan(Pieces([b"<script>"], "text/html"))
    answer = await post(worker, key, "/audio/speech", json={"model": "voice", "voice": "a", "input": "x"})
    assert answer.headers["content-type"] == "application/octet-stream"
    assert answer.headers["x-content-type-options"] == "nosniff"


async def test_speech_without_a_price_is_marked_as_such(
    worker: LiveWorker, upstream: ScriptedUpstream, key: str
) -> None:
    upstream.plan(Pieces([b"x"], "audio/mpeg"))
    await post(worker, key, "/audio/speech", json={"model": "unpriced", "voice": "a", "input": "x"})
    row = await worker.spend_row(key)
    assert (row["spend"], row["metadata"]["unpriced"]) == (0, True)


async def test_a_client_that_leaves_stops_the_speaker_and_pays(
    worker: LiveWorker, upstream: ScriptedUpstream, key: str
) -> None:
    upstream.plan(Pieces([b"x" * 10] * 200, "audio/mpeg", interval=0.05))
    body = {"model": "voice", "voice": "a", "input": "x"}
    headers = {"Authorization": f"Bearer {key}"}
    async with worker.http.stream("POST", f"{worker.url}/audio/speech", json=body, headers=headers) as answer:
        await anext(answer.aiter_raw())
    await upstream.wait_for_disconnects(1)
    row = await worker.spend_row(key)
    assert (row["status"], Decimal(str(row["spend"]))) == ("failure", Decimal("0.000015"))


async def test_an_empty_answer_is_a_failure(worker: LiveWorker, upstream: ScriptedUpstream, key: str) -> None:
    upstream.plan(*[Pieces([], "audio/mpeg")] * 3)
    body = {"model": "voice", "voice": "a", "input": "x", "num_retries": 0}
    error_of(await post(worker, key, "/audio/speech", json=body), 500)


async def test_a_budget_holds_what_units_will_cost(worker: LiveWorker, upstream: ScriptedUpstream) -> None:
    key = await worker.new_key(max_budget=0.05)
    upstream.plan(Reply(body={"created": 1, "data": [{}, {}]}, delay=0.3))
    body = {"model": "pictures", "prompt": "x", "n": 2}
    answers = await asyncio.gather(*[post(worker, key, "/images/generations", json=body) for _ in range(4)])
    assert sorted(answer.status_code for answer in answers) == [200, 422, 422, 422]
    assert len(upstream.requests) == 1


# ---- moderation and reranking --------------------------------------------------------------------------------------


async def test_moderation_names_the_model_that_was_asked_for(
    worker: LiveWorker, upstream: ScriptedUpstream, key: str
) -> None:
    result = {"flagged": True, "categories": {"self-harm/intent": False}, "category_scores": {"self-harm/intent": 0.1}}
    upstream.plan(Reply(body={"id": "m", "model": "omni-moderation-2024", "results": [result]}))
    async with worker.sdk(key) as sdk:
        said = await sdk.moderations.create(model="censor", input=["a", "b"])
    assert (said.model, said.results[0].flagged) == ("censor", True)
    assert (await worker.spend_row(key))["call_type"] == "amoderation"


async def test_moderation_without_a_model_asks_for_the_dialect_s_own(worker: LiveWorker, key: str) -> None:
    error = error_of(await post(worker, key, "/moderations", json={"input": "x"}), 400)
    assert "model=omni-moderation-latest" in error["message"]


@pytest.mark.parametrize("prefix", ["", "/v1", "/v2"])
async def test_documents_are_ranked_and_searches_billed(
    worker: LiveWorker, upstream: ScriptedUpstream, key: str, prefix: str
) -> None:
    ranked = {
        "id": "r",
        "results": [{"index": 1, "relevance_score": 0.9}],
        "meta": {"billed_units": {"search_units": 1}},
    }
    upstream.plan(Reply(body=ranked))
    body = {"model": "ranker", "query": "capital?", "documents": ["Rome", "Paris"], "top_n": 1}
    answer = await post(worker, key, f"{prefix}/rerank", json=body)
    assert answer.json() == ranked
    assert upstream.requests[0].path == "/v1/rerank"
    assert upstream.requests[0].json == {**body, "model": "rerank-v3.5"}
    assert Decimal(str((await worker.spend_row(key))["spend"])) == Decimal("0.002")


# ---- refusals ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "body", "param"),
    [
        ("/images/generations", {"model": "pictures"}, "prompt"),
        ("/images/generations", {"model": "pictures", "prompt": 7}, "prompt"),
        ("/images/generations", {"model": "pictures", "prompt": "x", "n": 0}, "n"),
        ("/images/generations", {"prompt": "x"}, "model"),
        ("/images/generations", {"model": "pictures", "prompt": "x", "api_base": "http://x"}, "api_base"),
        ("/audio/speech", {"model": "voice"}, "input"),
        ("/audio/speech", {"model": "voice", "input": ["x"], "voice": "a"}, "input"),
        ("/rerank", {"model": "ranker", "query": "a", "documents": "abc"}, "documents"),
        ("/moderations", {"model": "censor"}, "input"),
        ("/rerank", {"model": "ranker", "documents": ["a"]}, "query"),
        ("/rerank", {"model": "ranker", "query": "a"}, "documents"),
        ("/rerank", {"model": "ranker", "query": "a", "documents": []}, "documents"),
    ],
)
async def test_a_body_that_cannot_work_is_refused_here(
    worker: LiveWorker, upstream: ScriptedUpstream, key: str, path: str, body: dict[str, Any], param: str
) -> None:
    error = error_of(await post(worker, key, path, json=body), 400)
    assert (error["param"], error["type"]) == (param, "invalid_request_error")
    assert not upstream.requests


@pytest.mark.parametrize(
    ("path", "data", "files", "param"),
    [
        ("/audio/transcriptions", {"model": "ears"}, {"other": b"x"}, "file"),
        ("/audio/transcriptions", {}, {"file": b"x"}, "model"),
        ("/audio/transcriptions", {"model": "ears", "api_key": "sk"}, {"file": b"x"}, "api_key"),
        ("/images/edits", {"model": "pictures", "prompt": "x"}, {"mask": b"x"}, "image"),
        ("/images/edits", {"model": "pictures"}, {"image": b"x"}, "prompt"),
        ("/images/edits", {"model": "pictures", "prompt": "x", "n": "many"}, {"image": b"x"}, "n"),
    ],
)
async def test_a_form_that_cannot_work_is_refused_here(
    worker: LiveWorker,
    upstream: ScriptedUpstream,
    key: str,
    path: str,
    data: dict[str, str],
    files: dict[str, bytes],
    param: str,
) -> None:
    error = error_of(await post(worker, key, path, data=data, files=files), 400)
    assert error["param"] == param
    assert not upstream.requests


@pytest.mark.parametrize("body", [b"", b"{}", b"--x\r\n", b"--x\r\nContent-Disposition: form-data; name=a\r\n\r\nb"])
async def test_what_is_no_form_is_refused_here(worker: LiveWorker, key: str, body: bytes) -> None:
    for content_type in ("application/json", "multipart/form-data", "multipart/form-data; boundary=x"):
        headers = {"Authorization": f"Bearer {key}", "Content-Type": content_type}
        answer = await worker.http.post(f"{worker.url}/audio/transcriptions", content=body, headers=headers)
        error_of(answer, 400)


async def test_a_provider_s_refusal_reads_as_ever(worker: LiveWorker, upstream: ScriptedUpstream, key: str) -> None:
    upstream.plan(Fault.status(400, "Your request was rejected by our safety system", code="moderation_blocked"))
    async with worker.sdk(key) as sdk:
        with pytest.raises(openai.BadRequestError, match="ContentPolicyViolationError"):
            await sdk.images.generate(model="pictures", prompt="x")


async def test_a_key_needs_access_to_the_model(worker: LiveWorker, upstream: ScriptedUpstream) -> None:
    key = await worker.new_key(models=["ears"])
    error_of(await post(worker, key, "/images/generations", json={"model": "pictures", "prompt": "x"}), 403)
    assert not upstream.requests


@pytest.mark.parametrize("path", ["/images/generations", "/audio/speech"])
async def test_a_path_may_name_the_model(worker: LiveWorker, upstream: ScriptedUpstream, key: str, path: str) -> None:
    answer = await post(
        worker, key, f"/openai/deployments/mocked{path}?api-version=2024-10-21", json={"prompt": "x", "input": "x"}
    )
    assert answer.status_code == 200, answer.text
    assert not upstream.requests
