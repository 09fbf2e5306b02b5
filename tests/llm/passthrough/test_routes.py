"""Pass-through over real sockets: who may, what goes up to a provider, and with whose credential."""

from __future__ import annotations

import asyncio
import json

import httpx
import pytest

from tests.conftest import MASTER_KEY
from tests.llm.live_worker import LiveWorker, error_of
from tests.llm.relaying import CHAT, OPENAI_KEY, OTHERS, relaying, send
from tests.services.quarterdeck import QuarterdeckFactory, QuarterdeckProcess
from tests.upstream import Fault, Reply, ScriptedUpstream


@pytest.fixture(scope="module")
def relaying_process(factory: QuarterdeckFactory, upstream_port: int, refusing_port: int) -> QuarterdeckProcess:
    return factory(**relaying(f"http://127.0.0.1:{upstream_port}", f"http://127.0.0.1:{refusing_port}"))


@pytest.fixture
async def relay(relaying_process: QuarterdeckProcess, http: httpx.AsyncClient) -> LiveWorker:
    return LiveWorker(relaying_process, http)


# ---- what goes up --------------------------------------------------------------------------------------------------


async def test_the_credential_is_replaced_and_none_of_the_caller_s_is_forwarded(
    relay: LiveWorker, upstream: ScriptedUpstream
) -> None:
    key = await relay.new_key()
    headers = {
        "x-api-key": key,
        "api-key": key,
        "x-goog-api-key": key,
        "cookie": "session=of-the-caller",
        "x-litellm-tags": "a",
        "x-forwarded-for": "10.0.0.1",
        "openai-beta": "assistants=v2",
        "x-customer": "carla",
    }
    answer = await send(relay, key, "/openai/chat/completions?a=1&key=" + key, json=CHAT, headers=headers)
    assert answer.status_code == 200, answer.text
    (sent,) = upstream.requests
    assert (sent.method, sent.path, sent.query) == ("POST", "/v1/chat/completions", "a=1")
    assert sent.headers["authorization"] == f"Bearer {OPENAI_KEY}"
    assert sent.headers["openai-beta"] == "assistants=v2"
    assert sent.json == CHAT
    assert key not in json.dumps(sent.headers)
    assert not {"cookie", "x-api-key", "api-key", "x-goog-api-key", "x-litellm-tags", "x-customer"} & set(sent.headers)
    assert not [name for name in sent.headers if name.startswith("x-forwarded") or name == "remote-addr"]
    assert answer.json()["choices"][0]["message"]["content"] == "Hello world"
    assert "x-litellm-call-id" in answer.headers
    assert not [name for name in answer.headers if name.startswith(("x-litellm-model", "llm_provider-"))]


@pytest.mark.parametrize(
    ("path", "arrives", "header", "value"),
    [
        ("/openai/v1/embeddings", "/v1/embeddings", "authorization", f"Bearer {OPENAI_KEY}"),
        ("/openai_passthrough/responses", "/v1/responses", "authorization", f"Bearer {OPENAI_KEY}"),
        ("/anthropic/v1/messages", "/v1/messages", "x-api-key", OTHERS["ANTHROPIC_API_KEY"]),
        ("/azure/openai/v1/responses", "/openai/v1/responses", "api-key", OTHERS["AZURE_API_KEY"]),
    ],
)
async def test_each_provider_gets_its_own_credential(
    relay: LiveWorker, upstream: ScriptedUpstream, path: str, arrives: str, header: str, value: str
) -> None:
    upstream.plan(Reply(body={"ok": True}))
    assert (await send(relay, await relay.new_key(), path, json={})).status_code == 200
    (sent,) = upstream.requests
    assert (sent.path, sent.headers[header]) == (arrives, value)
    assert sum(secret in json.dumps(sent.headers) for secret in (OPENAI_KEY, *OTHERS.values())) == 1


async def test_gemini_takes_the_key_from_the_query_and_puts_its_own_there(
    relay: LiveWorker, upstream: ScriptedUpstream
) -> None:
    key = await relay.new_key()
    counts = {"promptTokenCount": 1000, "candidatesTokenCount": 10, "thoughtsTokenCount": 5}
    upstream.plan(Reply(body={"candidates": [], "usageMetadata": counts, "modelVersion": "gemini-2.5-flash"}))
    path = f"/gemini/v1beta/models/gemini-2.5-flash:generateContent?key={key}&alt=json"
    answer = await send(relay, None, path, json={"contents": []})
    assert answer.status_code == 200, answer.text
    (sent,) = upstream.requests
    assert sent.path == "/v1beta/models/gemini-2.5-flash:generateContent"
    assert sorted(sent.query.split("&")) == ["alt=json", f"key={OTHERS['GEMINI_API_KEY']}"]
    row = await relay.spend_row(key)
    assert (row["prompt_tokens"], row["completion_tokens"], row["model"]) == (1000, 15, "gemini-2.5-flash")
    assert row["spend"] > 0
    error_of(await send(relay, None, f"/openai/models?key={key}", "GET"), 401)


async def test_bedrock_requests_are_signed_again(relay: LiveWorker, upstream: ScriptedUpstream) -> None:
    key = await relay.new_key()
    upstream.plan(Reply(body={"usage": {"inputTokens": 100, "outputTokens": 20}}))
    model = "anthropic.claude-3-haiku-20240307-v1:0"
    answer = await send(
        relay,
        None,
        f"/bedrock/model/{model}/converse",
        json={"messages": []},
        headers={
            "authorization": f"AWS4-HMAC-SHA256 Credential={key}/20260101/us-east-1/bedrock/aws4_request, Signature=x",
            "x-amz-date": "20200101T000000Z",
        },
    )
    assert answer.status_code == 200, answer.text
    (sent,) = upstream.requests
    assert sent.path == f"/model/{model.replace(':', '%3A')}/converse"
    assert sent.headers["authorization"].startswith("AWS4-HMAC-SHA256 Credential=AKIAEXAMPLE/")
    assert "/eu-west-1/bedrock/aws4_request" in sent.headers["authorization"]
    assert sent.headers["x-amz-date"] != "20200101T000000Z"
    row = await relay.spend_row(key)
    assert (row["prompt_tokens"], row["completion_tokens"], row["model"]) == (100, 20, model)
    assert row["spend"] > 0


async def test_vertex_gets_a_token_of_the_service_account_once(relay: LiveWorker, upstream: ScriptedUpstream) -> None:
    key = await relay.new_key()
    usage = {"promptTokenCount": 10, "candidatesTokenCount": 2}
    upstream.on_prompt(
        "grant_type", Reply(body={"access_token": "ya29.token-of-google", "expires_in": 3600}, delay=0.1)
    )
    upstream.on_prompt("contents", Reply(body={"usageMetadata": usage}))
    short = "/vertex_ai/publishers/google/models/gemini-2.5-pro:generateContent"
    whole = f"/vertex-ai/v1/projects/project-one/locations/europe-west4{short.removeprefix('/vertex_ai')}"
    answers = await asyncio.gather(*(send(relay, key, path, json={"contents": []}) for path in (short, whole, short)))
    assert [answer.status_code for answer in answers] == [200, 200, 200]
    token, *calls = upstream.requests
    assert token.path == "/token"
    assert len(calls) == 3
    for call in calls:
        assert call.path == whole.removeprefix("/vertex-ai")
        assert call.headers["authorization"] == "Bearer ya29.token-of-google"
    rows = await relay.spend_rows(key, 3)
    assert all(row["spend"] > 0 and row["custom_llm_provider"] == "vertex_ai" for row in rows)
    elsewhere = short.replace("publishers", "v1/projects/project-one/locations/evil.example/publishers")
    error_of(await send(relay, key, elsewhere.replace("vertex_ai/v1/v1", "vertex_ai/v1"), json={}), 400)


async def test_a_deployment_lends_its_credential_and_its_model_name(
    relay: LiveWorker, upstream: ScriptedUpstream
) -> None:
    answer = await send(relay, await relay.new_key(), "/vllm/v1/classify", json={"model": "own", "input": "x"})
    assert answer.status_code == 200
    (sent,) = upstream.requests
    assert sent.path == "/v1/classify"
    assert sent.json == {"model": "served-name", "input": "x"}
    assert sent.headers["authorization"] == "Bearer vllm-key-of-the-gateway"


async def test_a_missing_credential_is_named(relay: LiveWorker, upstream: ScriptedUpstream) -> None:
    key = await relay.new_key()
    error = error_of(await send(relay, key, "/mistral/v1/chat/completions", json=CHAT), 503)
    assert "MISTRAL_API_KEY" in error["message"]
    assert error["type"] == "service_unavailable_error"
    assert (await relay.spend_row(key))["status"] == "failure"
    assert upstream.requests == []


@pytest.mark.parametrize(
    "path",
    [
        "/openai/..%2f..%2fadmin",
        "/openai/%2e%2e/%2e%2e/admin",
        "/openai/%252e%252e/admin",
        "/openai/v1/%2f%2fevil.example/x",
        "/openai/v1/..;/x",
        "/openai/v1/a%5C..%5Cb",
        "/openai/v1/a%00b",
        "/openai%2Fv1/models",
    ],
)
async def test_paths_that_could_escape_are_refused(relay: LiveWorker, upstream: ScriptedUpstream, path: str) -> None:
    key = await relay.new_key()
    reader, writer = await asyncio.open_connection("127.0.0.1", int(relay.url.rpartition(":")[2]))
    lines = f"GET {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {key}\r\nConnection: close\r\n\r\n"
    writer.write(lines.encode())
    status = (await reader.read()).split(b" ")[1]
    writer.close()
    assert status in (b"400", b"308", b"404"), status
    assert upstream.requests == []


async def test_own_routes_are_not_shadowed(relay: LiveWorker, upstream: ScriptedUpstream) -> None:
    """The deployment form of a chat is the gateway's own: an unknown model is its refusal, not the provider's."""
    key = await relay.new_key()
    error = error_of(await send(relay, key, "/openai/deployments/nothing/chat/completions", json=CHAT), 400)
    assert "no healthy deployments" in error["message"]
    assert (await relay.new_key()).startswith("sk-")  # /key/generate is configured as well, and does nothing
    assert upstream.requests == []


# ---- who may -------------------------------------------------------------------------------------------------------


async def test_models_of_body_path_and_form_need_a_grant(relay: LiveWorker, upstream: ScriptedUpstream) -> None:
    key = await relay.new_key(models=["gpt-4o-mini", "gemini/*"])
    assert (await send(relay, key, "/openai/chat/completions", json=CHAT)).status_code == 200
    refused = [
        await send(relay, key, "/openai/chat/completions", json={**CHAT, "model": "gpt-4o"}),
        await send(relay, key, "/openai/audio/transcriptions", files={"file": b"x"}, data={"model": "whisper-1"}),
        await send(relay, key, "/bedrock/model/anthropic.claude/converse", json={}),
        await send(relay, key, "/azure/openai/deployments/d/embeddings", json={"model": "gpt-4o-mini"}),
    ]
    for answer in refused:
        assert error_of(answer, 403)["type"] == "key_model_access_denied"
    granted = await send(relay, key, "/gemini/v1beta/models/gemini-x:generateContent", json={})
    assert granted.status_code == 200
    packed = {"content-encoding": "gzip"}
    error_of(await send(relay, key, "/openai/chat/completions", content=b"\x1f\x8b", headers=packed), 400)
    assert len(upstream.requests) == 2


async def test_blocked_keys_routes_limits_and_budgets_hold(relay: LiveWorker, upstream: ScriptedUpstream) -> None:
    blocked = await relay.new_key()
    await relay.manage("/key/block", key=blocked)
    error_of(await send(relay, blocked, "/openai/models", "GET"), 401)
    elsewhere = await relay.new_key(allowed_routes=["/anthropic/*"])
    assert (await send(relay, elsewhere, "/openai/models", "GET")).status_code == 403
    assert (await send(relay, elsewhere, "/anthropic/v1/models", "GET")).status_code == 200
    speaker, caller = [await relay.new_key(allowed_routes=[word]) for word in ("openai_routes", "llm_api_routes")]
    assert (await send(relay, speaker, "/openai/models", "GET")).status_code == 403
    assert (await send(relay, caller, "/openai/models", "GET")).status_code == 200
    bound = await relay.new_key(allowed_passthrough_routes=["/openai/*"], denied_passthrough_routes=["/openai/v2/*"])
    found = [
        (await send(relay, bound, f"/{path}/models", "GET")).status_code
        for path in ("openai", "openai/v2", "azure/openai")
    ]
    assert found == [200, 403, 403]
    limited = await relay.new_key(rpm_limit=1)
    assert (await send(relay, limited, "/openai/models", "GET")).status_code == 200
    error_of(await send(relay, limited, "/openai/models", "GET"), 429)
    spent = await relay.new_key(max_budget=0.2)
    assert (await send(relay, spent, "/v9/rerank", json={})).status_code == 200
    assert error_of(await send(relay, spent, "/openai/models", "GET"), 422)["type"] == "budget_exceeded"


@pytest.mark.parametrize(
    "path",
    [
        "/openai/files",
        "/openai/v2/batches/b-1",
        "/anthropic/v1/messages/batches",
        "/anthropic/v1%2Ffiles",
        "/azure/openai/Files",
        "/gemini/v1beta/cachedContents",
        "/openai/v1/chat/completions",
    ],
)
async def test_resources_that_all_callers_share_are_for_admins(
    relay: LiveWorker, upstream: ScriptedUpstream, path: str
) -> None:
    error = error_of(await send(relay, await relay.new_key(), path, "GET"), 403)
    assert "/v1/files" in error["message"]
    assert upstream.requests == []
    assert (await send(relay, MASTER_KEY, path, "GET")).status_code == 200


# ---- configured endpoints ------------------------------------------------------------------------------------------


async def test_a_configured_endpoint_has_its_credential_and_its_price(
    relay: LiveWorker, upstream: ScriptedUpstream
) -> None:
    key = await relay.new_key()
    upstream.plan(Reply(body={"results": []}))
    answer = await send(relay, key, "/v9/rerank", json={"model": "rerank-v3"}, headers={"x-own": "1"})
    assert answer.status_code == 200, answer.text
    (sent,) = upstream.requests
    assert sent.path == "/v1/rerank"
    assert (sent.headers["authorization"], sent.headers["x-fixed"]) == ("bearer co-key-of-the-gateway", "yes")
    assert "x-own" not in sent.headers
    row = await relay.spend_row(key)
    assert (row["spend"], row["call_type"]) == (0.25, "pass_through_endpoint")
    error_of(await send(relay, None, "/v9/rerank", json={}), 401)
    assert (await send(relay, key, "/v9/rerank/below", json={})).status_code == 404


async def test_an_open_endpoint_serves_everybody_below_its_path(relay: LiveWorker, upstream: ScriptedUpstream) -> None:
    answer = await send(relay, None, "/open/a%20b/c?size=9", "GET", headers={"x-own": "1", "cookie": "c=d"})
    assert answer.status_code == 200
    (sent,) = upstream.requests
    assert sent.path == "/base/a%20b/c"
    assert sorted(sent.query.split("&")) == ["from=target", "lang=en", "size=9"]
    assert sent.headers["x-own"] == "1"
    assert "cookie" not in sent.headers
    assert (await send(relay, None, "/open/..%2f..%2fetc", "GET")).status_code == 400


async def test_methods_times_and_lost_connections_of_configured_endpoints(
    relay: LiveWorker, upstream: ScriptedUpstream
) -> None:
    key = await relay.new_key()
    wrong = await send(relay, key, "/get-only", json={})
    assert (wrong.status_code, wrong.headers["allow"]) == (405, "GET")
    assert (await send(relay, key, "/get-only", "GET")).status_code == 200
    upstream.plan(Fault.hang())
    error_of(await send(relay, key, "/hasty", json={}), 408)
    error_of(await send(relay, key, "/refused", json={}), 500)
    assert [row["status"] for row in await relay.spend_rows(key, 3)] == ["success", "failure", "failure"]


async def test_a_stored_endpoint_serves_without_a_restart(relay: LiveWorker, upstream: ScriptedUpstream) -> None:
    key = await relay.new_key()
    assert (await send(relay, key, "/stored", json={})).status_code == 404
    headers = {"x-stored": "bearer os.environ/OPENAI_API_KEY"}
    address = f"{relay.url}/config/pass_through_endpoint"
    row = {"path": "/stored", "target": f"{upstream.origin}/there", "headers": headers}
    made = (await relay.http.post(address, json=row, headers=relay.admin)).json()
    async with asyncio.timeout(5):
        while (await send(relay, key, "/stored", json={})).status_code == 404:
            await asyncio.sleep(0.05)
    assert upstream.requests[-1].path == "/there"
    assert upstream.requests[-1].headers["x-stored"] == "bearer os.environ/OPENAI_API_KEY"
    assert (await send(relay, key, "/v9/rerank", json={})).status_code == 200
    gone = {"endpoint_id": made["endpoints"][0]["id"]}
    assert (await relay.http.delete(address, params=gone, headers=relay.admin)).status_code == 200
    async with asyncio.timeout(5):
        while (await send(relay, key, "/stored", json={})).status_code != 404:
            await asyncio.sleep(0.05)
