"""The official SDK and plain HTTP against a worker: answers, headers, bodies, money."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import openai
import pytest

from tests.llm.live_worker import MESSAGES, PROVIDER_KEY, LiveWorker, error_of, hash_of
from tests.upstream import Reply, ScriptedUpstream, Usage

PATHS = ["/v1{}", "{}", "/engines/chat{}", "/openai/deployments/chat{}"]
CLIENT_KEY_HEADERS = [
    ("authorization", "Bearer {}"),
    ("authorization", "bearer {}"),
    ("api-key", "{}"),
    ("x-api-key", "{}"),
    ("x-litellm-api-key", "{}"),
    ("x-litellm-api-key", "Bearer {}"),
    ("x-goog-api-key", "{}"),
    ("ocp-apim-subscription-key", "{}"),
]


# ---- the official SDK ----------------------------------------------------------------------------------------------


async def test_the_sdk_gets_a_chat_completion(worker: LiveWorker, upstream: ScriptedUpstream, key: str) -> None:
    upstream.plan(Reply("Fine", usage=Usage(9, 2, cached=4)))
    async with worker.sdk(key) as sdk:
        chat = await sdk.chat.completions.create(model="chat", messages=MESSAGES, temperature=0.5)
    assert (chat.choices[0].message.content, chat.model) == ("Fine", "chat")
    assert chat.usage is not None and chat.usage.prompt_tokens_details is not None
    assert chat.usage.prompt_tokens_details.cached_tokens == 4


async def test_the_sdk_gets_a_stream_with_usage(worker: LiveWorker, upstream: ScriptedUpstream, key: str) -> None:
    async with worker.sdk(key) as sdk:
        stream = await sdk.chat.completions.create(
            model="chat", messages=MESSAGES, stream=True, stream_options={"include_usage": True}
        )
        chunks = [chunk async for chunk in stream]
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices) == "Hello world "
    assert {chunk.model for chunk in chunks} == {"chat"}
    assert chunks[-1].usage is not None and chunks[-1].usage.total_tokens == 12


async def test_the_sdk_gets_embeddings_and_text(worker: LiveWorker, upstream: ScriptedUpstream, key: str) -> None:
    async with worker.sdk(key) as sdk:
        vectors = await sdk.embeddings.create(model="embedding", input=["a", "b"], encoding_format="float")
        text = await sdk.completions.create(model="text", prompt="hi")
    assert [row.index for row in vectors.data] == [0, 1]
    assert vectors.model == "embedding"
    assert (text.choices[0].text, text.model) == ("Hello world", "text")
    assert [request.path for request in upstream.requests] == ["/v1/embeddings", "/v1/completions"]


async def test_the_sdk_lists_the_models_that_its_key_may_call(worker: LiveWorker) -> None:
    async with worker.sdk(await worker.new_key(models=["chat", "team/*"])) as sdk:
        models = [model.id async for model in sdk.models.list()]
        assert models == ["chat", "team/nested"]
        assert (await sdk.models.retrieve("team/nested")).owned_by == "openai"
        with pytest.raises(openai.NotFoundError):
            await sdk.models.retrieve("text")


async def test_the_sdk_raises_its_own_errors(worker: LiveWorker, key: str) -> None:
    async with worker.sdk("sk-unknown") as sdk:
        with pytest.raises(openai.AuthenticationError):
            await sdk.chat.completions.create(model="chat", messages=MESSAGES)
    async with worker.sdk(key) as sdk:
        with pytest.raises(openai.BadRequestError):
            await sdk.chat.completions.create(model="unknown", messages=MESSAGES)
        with pytest.raises(openai.RateLimitError):
            await sdk.chat.completions.create(model="mocked-limit", messages=MESSAGES)


async def test_a_mocked_model_answers_without_a_provider(worker: LiveWorker, key: str) -> None:
    async with worker.sdk(key) as sdk:
        chat = await sdk.chat.completions.create(model="mocked", messages=MESSAGES)
        assert chat.choices[0].message.content == "Hello from the mock"
        stream = await sdk.chat.completions.create(model="mocked", messages=MESSAGES, stream=True)
        text = "".join([chunk.choices[0].delta.content or "" async for chunk in stream if chunk.choices])
    assert text == "Hello from the mock"
    rows = await worker.spend_rows(key, 2)
    assert {(row["prompt_tokens"], row["completion_tokens"]) for row in rows} == {(10, 20)}


# ---- money ---------------------------------------------------------------------------------------------------------


async def test_spend_is_exact_and_visible_within_five_seconds(
    worker: LiveWorker, upstream: ScriptedUpstream, key: str
) -> None:
    upstream.plan(Reply(usage=Usage(9, 2, cached=4)))
    await worker.chat(key, user="customer-7", metadata={"tags": ["nightly"]})
    row = await worker.spend_row(key)
    assert Decimal(str(row["spend"])) == Decimal("0.00000225")
    assert Decimal(str((await worker.key_info(key))["spend"])) == Decimal("0.00000225")
    assert (row["api_key"], row["status"], row["model"], row["model_group"]) == (
        hash_of(key),
        "success",
        "gpt-4o-mini",
        "chat",
    )
    assert (row["prompt_tokens"], row["completion_tokens"], row["total_tokens"]) == (9, 2, 11)
    assert (row["end_user"], row["request_tags"], row["call_type"]) == ("customer-7", ["nightly"], "acompletion")
    assert (row["model_id"], row["custom_llm_provider"]) == ("chat-1", "openai")
    assert key not in str(row)


async def test_an_unpriced_model_answers_and_costs_nothing(
    worker: LiveWorker, upstream: ScriptedUpstream, key: str
) -> None:
    answer = await worker.chat(key, "unpriced")
    assert answer.status_code == 200
    assert "x-litellm-response-cost" not in answer.headers
    assert (await worker.spend_row(key))["spend"] == 0


async def test_a_usage_of_nonsense_does_not_break_the_call(
    worker: LiveWorker, upstream: ScriptedUpstream, key: str
) -> None:
    usage = {"prompt_tokens": 10**30, "prompt_tokens_details": [1], "completion_tokens": "many", "x": "\0"}
    upstream.plan(Reply(body={"choices": [], "usage": usage}))
    assert (await worker.chat(key, user="\0")).status_code == 200
    await worker.chat(key)
    assert len(await worker.spend_rows(key, 2)) == 2


# ---- paths and keys ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("prefix", PATHS)
@pytest.mark.parametrize(
    ("operation", "body"),
    [
        ("/chat/completions", {"messages": MESSAGES}),
        ("/completions", {"prompt": "hi"}),
        ("/embeddings", {"input": "hi"}),
    ],
)
async def test_every_alias_of_an_operation_answers(
    worker: LiveWorker, upstream: ScriptedUpstream, key: str, prefix: str, operation: str, body: dict[str, Any]
) -> None:
    headers = {"Authorization": f"Bearer {key}"}
    sent = body if "chat{}" in prefix else {**body, "model": "chat"}
    path = prefix.format(operation)
    answer = await worker.http.post(f"{worker.url}{path}?api-version=2024-10-21", json=sent, headers=headers)
    assert answer.status_code == 200, answer.text
    assert (upstream.requests[0].path, upstream.requests[0].model) == (f"/v1{operation}", "gpt-4o-mini")


async def test_a_model_in_the_path_may_hold_slashes_and_the_body_wins_over_it(
    worker: LiveWorker, upstream: ScriptedUpstream, key: str
) -> None:
    headers = {"Authorization": f"Bearer {key}"}
    url = f"{worker.url}/openai/deployments/team/nested/chat/completions"
    assert (await worker.http.post(url, json={"messages": MESSAGES}, headers=headers)).json()["model"] == "team/nested"
    body = {"messages": MESSAGES, "model": "unpriced"}
    assert (await worker.http.post(url, json=body, headers=headers)).json()["model"] == "unpriced"


async def test_a_deployment_s_id_is_a_model(worker: LiveWorker, upstream: ScriptedUpstream, key: str) -> None:
    assert (await worker.chat(key, "chat-1")).json()["model"] == "chat-1"


@pytest.mark.parametrize(("name", "form"), CLIENT_KEY_HEADERS)
async def test_each_header_of_the_contract_carries_the_key(
    worker: LiveWorker, upstream: ScriptedUpstream, key: str, name: str, form: str
) -> None:
    answer = await worker.chat(None, headers={name: form.format(key)})
    assert answer.status_code == 200, answer.text
    sent = upstream.requests[0].headers
    assert key not in str(sent) and sent["authorization"] == f"Bearer {PROVIDER_KEY}"


async def test_the_gateway_s_own_header_wins(worker: LiveWorker, upstream: ScriptedUpstream, key: str) -> None:
    good, bad = {"x-litellm-api-key": key}, {"x-litellm-api-key": "sk-unknown"}
    assert (await worker.chat("sk-unknown", headers=good)).status_code == 200
    error_of(await worker.chat(key, headers=bad), 401)


# ---- what crosses the gateway --------------------------------------------------------------------------------------


async def test_the_provider_gets_what_the_client_sent_and_no_more(
    worker: LiveWorker, upstream: ScriptedUpstream, key: str
) -> None:
    headers = {"cookie": "session=client", "x-private": "client", "accept-encoding": "gzip", "x-litellm-tags": "a"}
    sent: dict[str, Any] = {
        "foo_bar": {"deep": [1, None, "é"]},
        "top_k": 5,
        "temperature": 1.0,
        "num_retries": 7,
        "cache": {},
    }
    await worker.chat(key, headers=headers, **sent)
    (request,) = upstream.requests
    assert request.json == {
        "model": "gpt-4o-mini",
        "messages": MESSAGES,
        "foo_bar": {"deep": [1, None, "é"]},
        "top_k": 5,
        "temperature": 1.0,
    }
    assert key.encode() not in request.body
    assert {"cookie", "x-private", "x-litellm-tags"}.isdisjoint(request.headers)
    assert request.headers["accept-encoding"] == "identity"


async def test_a_deployment_adds_its_defaults_and_headers(
    worker: LiveWorker, upstream: ScriptedUpstream, key: str
) -> None:
    await worker.chat(key, "defaults", temperature=0.9)
    (request,) = upstream.requests
    assert (request.json["temperature"], request.json["top_p"]) == (0.9, 0.5)
    assert request.headers["x-extra"] == "yes"


async def test_cookies_of_a_provider_are_neither_kept_nor_passed_on(
    worker: LiveWorker, upstream: ScriptedUpstream, key: str
) -> None:
    fault = {"set-cookie": "tenant=alice; Path=/", "keep-alive": "timeout=5", "x-request-id": "r1"}
    limits = {"x-ratelimit-remaining-requests": "41"}
    upstream.plan(Reply(headers={**fault, **limits}), Reply())
    answer = await worker.chat(key)
    assert {"set-cookie", "llm_provider-set-cookie", "keep-alive", "llm_provider-keep-alive"}.isdisjoint(answer.headers)
    assert answer.headers["llm_provider-x-request-id"] == "r1"
    assert "x-request-id" not in answer.headers
    assert answer.headers["x-ratelimit-remaining-requests"] == "41"
    await worker.chat(key)
    assert "cookie" not in upstream.requests[1].headers


async def test_the_answer_says_who_served_it_and_what_it_cost(worker: LiveWorker, upstream: ScriptedUpstream) -> None:
    key = await worker.new_key(max_budget=10)
    upstream.plan(Reply(usage=Usage(9, 2)))
    answer = await worker.chat(key, "costly", headers={"x-litellm-call-id": "my-call"})
    headers = answer.headers
    assert headers["x-litellm-call-id"] == "my-call"
    assert headers["x-litellm-model-group"] == "costly"
    assert headers["x-litellm-model-name"] == "openai/gpt-4o-mini"
    assert headers["x-litellm-model-api-base"] == upstream.url
    assert headers["x-litellm-response-cost"] == headers["x-litellm-response-cost-original"] == "0.013000000000"
    assert Decimal(headers["x-litellm-response-cost-input"]) == Decimal("0.009")
    assert Decimal(headers["x-litellm-response-cost-output"]) == Decimal("0.004")
    assert Decimal(headers["x-litellm-key-spend"]) == Decimal("0.013")
    assert Decimal(headers["x-litellm-key-max-budget"]) == 10
    assert (headers["x-litellm-attempted-retries"], headers["x-litellm-attempted-fallbacks"]) == ("0", "0")
    assert float(headers["x-litellm-response-duration-ms"]) >= float(headers["x-litellm-overhead-duration-ms"]) >= 0
    assert headers["x-litellm-model-id"] and headers["x-litellm-version"]
    assert (headers["x-frame-options"], headers["x-content-type-options"]) == ("DENY", "nosniff")
    assert (await worker.spend_row(key))["litellm_call_id"] == "my-call"


@pytest.mark.parametrize("given", ["", "x" * 257, "tab\tinside"])
async def test_a_call_id_that_is_none_is_replaced(
    worker: LiveWorker, upstream: ScriptedUpstream, key: str, given: str
) -> None:
    answer = await worker.chat(key, headers={"x-litellm-call-id": given})
    assert answer.status_code == 200
    assert len(answer.headers["x-litellm-call-id"]) == 36


async def test_a_call_id_of_full_length_is_echoed_and_does_not_hold_up_spend(
    worker: LiveWorker, upstream: ScriptedUpstream, key: str
) -> None:
    answer = await worker.chat(key, headers={"x-litellm-call-id": "x" * 256})
    assert answer.headers["x-litellm-call-id"] == "x" * 256
    assert (await worker.spend_row(key))["litellm_call_id"].startswith("xxx")


async def test_one_upstream_connection_serves_many_calls(
    worker: LiveWorker, upstream: ScriptedUpstream, key: str
) -> None:
    for _ in range(5):
        assert (await worker.chat(key)).status_code == 200
    assert upstream.connections == 1


@pytest.mark.parametrize(
    ("model", "headers"), [("nobody-serves-this", {}), ("chat", {"x-litellm-call-id": "my-refused-call"})]
)
async def test_a_refusal_names_its_call_as_well(worker: LiveWorker, model: str, headers: dict[str, str]) -> None:
    key = await worker.new_key(models=["chat"], max_budget=0)
    answer = await worker.chat(key, model, headers=headers)
    assert answer.status_code in (403, 422)
    assert answer.headers["x-litellm-call-id"] == headers.get("x-litellm-call-id", answer.headers["x-litellm-call-id"])
    assert answer.headers["x-litellm-response-cost"] == "0"
    assert answer.headers["x-litellm-version"]
