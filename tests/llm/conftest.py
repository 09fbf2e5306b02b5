"""A worker process per module, and a scripted upstream of each test at the address that the worker knows."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator, Iterator
from typing import Any

import httpx
import pytest

from tests.conftest import MASTER_KEY
from tests.llm.live_worker import FAST, LiveWorker, deployment
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
def refusing_port() -> Iterator[int]:
    """A port that refuses connections: bound, and nobody listens."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        yield bound.getsockname()[1]


@pytest.fixture(scope="module")
def factory(run_directory: RunDirectory, tmp_path_factory: pytest.TempPathFactory) -> Iterator[QuarterdeckFactory]:
    started = QuarterdeckFactory(run_directory, tmp_path_factory.mktemp("workers"), MASTER_KEY)
    yield started
    started.close()


@pytest.fixture(scope="module")
def model_list(upstream_port: int, refusing_port: int) -> list[dict[str, Any]]:
    """The models of the module's worker."""
    here, nowhere = f"http://127.0.0.1:{upstream_port}/v1", f"http://127.0.0.1:{refusing_port}/v1"
    return [
        deployment("chat", here, id="chat-1"),
        deployment("text", here, "openai/gpt-3.5-turbo-instruct"),
        deployment("embedding", here, "openai/text-embedding-3-small"),
        deployment("team/nested", here),
        deployment("unpriced", here, "openai/no-such-model-9000"),
        deployment("free", here, input_cost_per_token=0, output_cost_per_token=0),
        deployment("costly", here, input_cost_per_token=0.001, output_cost_per_token=0.002),
        deployment("defaults", here, temperature=0.2, top_p=0.5, extra_headers={"x-extra": "yes"}),
        deployment("impatient", here, timeout=0.4, stream_timeout=0.4),
        deployment("refused", nowhere),
        deployment("half-refused", nowhere, id="refused-half"),
        deployment("half-refused", here, id="answering-half"),
        deployment("pair", here, "openai/gpt-4o-mini", id="pair-a"),
        deployment("pair", here, "openai/gpt-4o", id="pair-b"),
        deployment("mocked", here, mock_response="Hello from the mock"),
        deployment("mocked-limit", here, mock_response="litellm.RateLimitError"),
    ]


@pytest.fixture(scope="module")
def worker_process(factory: QuarterdeckFactory, model_list: list[dict[str, Any]]) -> QuarterdeckProcess:
    return factory({"model_list": model_list, "general_settings": {"max_request_size_mb": 1}}, env=FAST)


@pytest.fixture
async def http() -> AsyncIterator[httpx.AsyncClient]:
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=20)
    async with httpx.AsyncClient(trust_env=False, timeout=20, limits=limits) as client:
        yield client


@pytest.fixture
async def worker(worker_process: QuarterdeckProcess, http: httpx.AsyncClient) -> LiveWorker:
    return LiveWorker(worker_process, http)


@pytest.fixture
async def key(worker: LiveWorker) -> str:
    """A fresh key that may do everything that a client may."""
    return await worker.new_key()
