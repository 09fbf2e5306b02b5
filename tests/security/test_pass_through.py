"""Attacks by pass-through: what tenants of a credential share, and routes denied in one spelling."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import httpx
import pytest

from tests.conftest import MASTER_KEY
from tests.llm.live_worker import LiveWorker, error_of
from tests.llm.relaying import relaying, send
from tests.services.ports import free_port
from tests.services.quarterdeck import QuarterdeckFactory, QuarterdeckProcess
from tests.services.run_directory import RunDirectory
from tests.upstream import ScriptedUpstream


@pytest.fixture(scope="module")
def upstream_port() -> int:
    return free_port()


@pytest.fixture
async def upstream(upstream_port: int) -> AsyncIterator[ScriptedUpstream]:
    async with ScriptedUpstream(port=upstream_port) as scripted:
        yield scripted


@pytest.fixture(scope="module")
def process(
    run_directory: RunDirectory, tmp_path_factory: pytest.TempPathFactory, upstream_port: int
) -> Iterator[QuarterdeckProcess]:
    factory = QuarterdeckFactory(run_directory, tmp_path_factory.mktemp("workers"), MASTER_KEY)
    here = f"http://127.0.0.1:{upstream_port}"
    yield factory(**relaying(here, here))
    factory.close()


@pytest.fixture
async def relay(process: QuarterdeckProcess) -> AsyncIterator[LiveWorker]:
    async with httpx.AsyncClient(trust_env=False, timeout=20) as http:
        yield LiveWorker(process, http)


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/openai/v1/realtime/calls/c-1/hangup"),
        ("GET", "/openai/v1/responses/r-1"),
        ("DELETE", "/openai/responses/r-1"),
        ("GET", "/openai/v1/videos/v-1/content"),
        ("POST", "/anthropic/v1/sessions"),
        ("GET", "/anthropic/v1/memory_stores/m-1"),
        ("POST", "/bedrock/agents/a-1/agentAliases/b-1/sessions/s-1/text"),
        ("POST", "/vllm/sleep"),
        ("POST", "/vllm/v1/load_lora_adapter"),
        ("GET", "/gemini/v1beta/models/g-1/operations/o-1"),
        ("POST", "/openai/v1/a-call-of-tomorrow"),
    ],
)
async def test_a_tenant_never_reaches_what_tenants_of_a_credential_share(
    relay: LiveWorker, upstream: ScriptedUpstream, method: str, path: str
) -> None:
    error_of(await send(relay, await relay.new_key(), path, method), 403)
    assert upstream.requests == []
    assert (await send(relay, await relay.new_admin_key(), path, method)).status_code == 200
    assert len(upstream.requests) == 1


async def test_a_tenant_never_names_a_stored_response_of_another_in_a_body(
    relay: LiveWorker, upstream: ScriptedUpstream
) -> None:
    body = b'{"model": "gpt-4o-mini", "input": "and then?", "pre\\u0076ious_response_id": "resp_of_another"}'
    headers = {"content-type": "application/json"}
    answer = await send(relay, await relay.new_key(), "/openai/responses", content=body, headers=headers)
    assert "previous_response_id" in error_of(answer, 403)["message"]
    assert upstream.requests == []


@pytest.mark.parametrize(
    ("denied", "path"),
    [
        ("/openai/v1/embeddings", "/openai/embeddings"),
        ("/openai/v1/embeddings", "/openai_passthrough/v1/embeddings"),
        ("/openai/embeddings", "/openai/v1/embeddings"),
        ("/openai/v1/embeddings*", "/openai/v1/embeddings/"),
        ("/openai/v1/embeddings", "/openai/V1/Embeddings"),
        ("/azure/openai/v1/*", "/azure_ai/openai/v1/embeddings"),
        ("/gemini/models/g-1:*", "/gemini/v1beta/models/g-1%3AcountTokens"),
        ("/vertex_ai/publishers/google/*", "/vertex-ai/v1/projects/project-one/locations/europe-west4/{model}"),
        ("/vertex_ai/v1/projects/project-one/*", "/vertex_ai/{model}"),
        ("/v9/rerank", "/v9/rerank/"),
    ],
)
async def test_a_route_denied_in_one_spelling_is_denied_in_all(
    relay: LiveWorker, upstream: ScriptedUpstream, denied: str, path: str
) -> None:
    path = path.replace("{model}", "publishers/google/models/gemini-2.5-pro:countTokens")
    key = await relay.new_key(denied_passthrough_routes=[denied])
    answer = await send(relay, key, path, json={})
    assert answer.status_code == 403, answer.text
    assert "not allowed to use the pass-through route" in answer.text
    assert upstream.requests == []
