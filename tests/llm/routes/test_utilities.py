"""What the gateway says about a call without making it."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from tests.llm.live_worker import FAST, MESSAGES, PROVIDER_KEY, LiveWorker, deployment, error_of
from tests.services.quarterdeck import QuarterdeckFactory, QuarterdeckProcess


@pytest.fixture(scope="module")
def worker_process(factory: QuarterdeckFactory, upstream_port: int) -> QuarterdeckProcess:
    here = f"http://127.0.0.1:{upstream_port}/v1"
    models = [
        deployment("chat", here, temperature=0.5),
        deployment(
            "llama", here, "openai_like/llama-3", signing_token=PROVIDER_KEY, extra_body={"api_key": PROVIDER_KEY}
        ),
        deployment("embedding", here, "openai/text-embedding-3-small"),
        deployment("pictures", here, "openai/dall-e-3", output_cost_per_image=0.04),
    ]
    models[3]["model_info"] = {"mode": "image_generation", "supports_vision": False}
    return factory({"model_list": models}, env=FAST)


async def call(worker: LiveWorker, key: str, method: str, path: str, **sent: Any) -> httpx.Response:
    return await worker.http.request(method, f"{worker.url}{path}", headers={"Authorization": f"Bearer {key}"}, **sent)


async def test_tokens_are_counted_here(worker: LiveWorker, key: str) -> None:
    answer = await call(
        worker, key, "POST", "/utils/token_counter", json={"model": "chat", "prompt": "Hello world, how are you?"}
    )
    assert answer.status_code == 200, answer.text
    counted = answer.json()
    assert counted == {
        "total_tokens": 7,
        "request_model": "chat",
        "model_used": "gpt-4o-mini",
        "tokenizer_type": "openai_tokenizer",
        "count_source": "local_tokenizer",
        "original_response": None,
        "error": False,
        "error_message": None,
        "status_code": None,
    }
    messages = await call(worker, key, "POST", "/utils/token_counter", json={"model": "llama", "messages": MESSAGES})
    assert (messages.json()["total_tokens"], messages.json()["tokenizer_type"]) == (8, "estimate")


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"prompt": "x"}, "model"),
        ({"model": "chat"}, "messages"),
        ({"model": "chat", "messages": "x"}, "messages"),
        ({"model": "chat", "messages": ["x"]}, "messages"),
        ({"model": "chat", "prompt": 7}, "prompt"),
        ({"model": "unknown", "prompt": "x"}, "model"),
    ],
)
async def test_what_cannot_be_counted_is_refused(
    worker: LiveWorker, key: str, body: dict[str, Any], param: str
) -> None:
    assert error_of(await call(worker, key, "POST", "/utils/token_counter", json=body), 400)["param"] == param


async def test_what_a_provider_would_get_is_shown_without_a_secret(worker: LiveWorker, key: str) -> None:
    asked: dict[str, Any] = {
        "call_type": "completion",
        "request_body": {"model": "chat", "messages": MESSAGES, "num_retries": 1},
    }
    answer = await call(worker, key, "POST", "/utils/transform_request", json=asked)
    shown = answer.json()
    assert shown["raw_request_body"] == {"model": "gpt-4o-mini", "messages": MESSAGES, "temperature": 0.5}
    assert shown["raw_request_headers"] == {"Content-Type": "application/json", "Authorization": "****"}
    assert shown["raw_request_api_base"] is None and PROVIDER_KEY not in answer.text
    master = await call(worker, worker.process.master_key, "POST", "/utils/transform_request", json=asked)
    assert master.json()["raw_request_api_base"].endswith("/v1/chat/completions")
    asked["request_body"]["model"] = "llama"
    secrets = await call(worker, worker.process.master_key, "POST", "/utils/transform_request", json=asked)
    assert secrets.json()["raw_request_body"]["signing_token"] == "****" and PROVIDER_KEY not in secrets.text
    for wrong in ({"call_type": "nothing"}, {"call_type": "acompletion", "request_body": []}, {}):
        error_of(await call(worker, key, "POST", "/utils/transform_request", json=wrong), 400)


async def test_a_model_s_parameters_and_facts_are_known(worker: LiveWorker, key: str) -> None:
    params = (await call(worker, key, "GET", "/utils/supported_openai_params?model=chat")).json()
    assert "temperature" in params["supported_openai_params"]
    params = (await call(worker, key, "GET", "/utils/supported_openai_params?model=embedding")).json()
    assert params["supported_openai_params"] == ["dimensions", "encoding_format", "user"]
    info = (await call(worker, key, "GET", "/utils/model_info?model=pictures")).json()
    assert (info["key"], info["mode"], info["supports_vision"]) == ("dall-e-3", "image_generation", False)
    error_of(await call(worker, key, "GET", "/utils/model_info"), 400)
    groups = (await call(worker, key, "GET", "/model_group/info?model_group=pictures")).json()["data"]
    assert "size" in groups[0]["supported_openai_params"]


async def test_only_who_may_call_a_model_hears_about_it(worker: LiveWorker) -> None:
    key = await worker.new_key(models=["chat"])
    for method, path, body in (
        ("GET", "/utils/supported_openai_params?model=llama", None),
        ("GET", "/utils/model_info?model=llama", None),
        ("POST", "/utils/token_counter", {"model": "llama", "prompt": "x"}),
        (
            "POST",
            "/utils/transform_request",
            {"call_type": "acompletion", "request_body": {"model": "llama", "messages": MESSAGES}},
        ),
    ):
        error_of(await call(worker, key, method, path, json=body), 403)
