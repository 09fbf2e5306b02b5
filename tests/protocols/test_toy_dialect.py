"""A dialect that is added from outside serves both its own clients and, as a provider, those of OpenAI's dialect.

Nothing in app/llm knows of it: tests/protocols/toy.py is registered, and a provider's row names it.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterator, Mapping
from pathlib import Path
from typing import Any, cast

import httpx
import pytest
from hypercorn.asyncio import serve
from hypercorn.config import Config
from quart import Quart, Response, g, request

from app import create_app
from app.auth.guard import authenticate
from app.llm.routes.openai import answer_call
from app.protocols.dialects import DIALECTS, register
from app.protocols.providers import PROVIDERS, Provider
from app.settings import Settings
from tests.conftest import MASTER_KEY
from tests.protocols.toy import TALK, TOY
from tests.services.ports import free_port
from tests.upstream import Fault, Pieces, Reply, ScriptedUpstream

_HEADERS = {"Authorization": f"Bearer {MASTER_KEY}"}
_CHAT = {"messages": [{"role": "user", "content": "Ahoy"}]}
_TALK = {"turns": [{"who": "human", "says": ["Ahoy"]}]}
_SPENT = {"in": 3, "out": 4}


@pytest.fixture
def toy_dialect() -> Iterator[None]:
    register(TOY)
    PROVIDERS["toy"] = Provider("toy", None, None, dialect="toy")
    yield
    del DIALECTS["toy"], PROVIDERS["toy"]


@pytest.fixture
async def upstream() -> AsyncIterator[ScriptedUpstream]:
    async with ScriptedUpstream() as scripted:
        yield scripted


async def talk() -> Response:
    g.principal = await authenticate(cast(Mapping[str, str], request.headers))
    return await answer_call(TALK, None)


def instance(upstream: ScriptedUpstream, database_url: str, state_dir: Path) -> Quart:
    """Two models of the same provider, which speaks the toy dialect and OpenAI's."""
    toy = {"model": "toy/small", "api_base": upstream.url, "api_key": "sk-of-the-provider"}
    prices = {"input_cost_per_token": 0.5, "output_cost_per_token": 0.25}
    models = [
        {"model_name": "toy", "litellm_params": {**toy, **prices}},
        {"model_name": "gpt", "litellm_params": {**toy, "model": "openai/gpt-4o-mini", **prices}},
        {"model_name": "broken", "litellm_params": {**toy, "model": "toy/broken"}},
    ]
    settings = Settings(
        master_key=MASTER_KEY,
        database_url=database_url,
        state_dir=state_dir,
        model_list=tuple(models),
        fallbacks={},
        num_retries=0,
    )
    app = create_app(settings)
    app.add_url_rule("/toy/talk", view_func=talk, methods=["POST"])
    return app


@pytest.fixture
async def worker(
    toy_dialect: None, upstream: ScriptedUpstream, migrated_sqlite_url: str, tmp_path: Path
) -> AsyncIterator[httpx.AsyncClient]:
    config, stopping = Config(), asyncio.Event()
    config.bind = [f"127.0.0.1:{free_port()}"]
    app = instance(upstream, migrated_sqlite_url, tmp_path)
    serving = asyncio.create_task(serve(app, config, shutdown_trigger=stopping.wait))
    transport = httpx.AsyncHTTPTransport(retries=8)  # of the connection alone: until the server listens
    async with httpx.AsyncClient(transport=transport, base_url=f"http://{config.bind[0]}", headers=_HEADERS) as client:
        yield client
        stopping.set()
        await serving


def lines(*records: Any) -> Pieces:
    return Pieces([json.dumps(record).encode() + b"\n" for record in records], content_type="application/x-ndjson")


async def test_a_client_of_openai_s_dialect_is_answered_by_a_provider_of_another(
    worker: httpx.AsyncClient, upstream: ScriptedUpstream
) -> None:
    upstream.plan(Reply(body={"says": ["Ahoy yourself"], "end": "done", "spent": _SPENT}))
    answer = await worker.post("/v1/chat/completions", json={**_CHAT, "model": "toy", "max_tokens": 5})
    assert answer.status_code == 200, answer.text
    body = answer.json()
    assert body["choices"][0]["message"]["content"] == "Ahoy yourself"
    assert (body["model"], body["usage"]["prompt_tokens"], body["usage"]["completion_tokens"]) == ("toy", 3, 4)
    assert float(answer.headers["x-litellm-response-cost"]) == 3 * 0.5 + 4 * 0.25
    sent = upstream.requests[0]
    assert (sent.path, sent.headers["authorization"]) == ("/v1/talk", "Bearer sk-of-the-provider")
    assert sent.json == {"engine": "small", "turns": [{"who": "human", "says": ["Ahoy"]}], "limit": 5}


async def test_its_stream_is_one_of_openai_s_events(worker: httpx.AsyncClient, upstream: ScriptedUpstream) -> None:
    upstream.plan(lines({"piece": "Ahoy "}, {"piece": "yourself"}, {"end": "done", "spent": _SPENT}))
    wanted = {**_CHAT, "model": "toy", "stream": True, "stream_options": {"include_usage": True}}
    answer = await worker.post("/v1/chat/completions", json=wanted)
    *frames, done, _ = answer.text.split("\n\n")
    chunks = [json.loads(frame.removeprefix("data: ")) for frame in frames]
    text = "".join(choice["delta"].get("content") or "" for chunk in chunks for choice in chunk["choices"])
    assert (text, done) == ("Ahoy yourself", "data: [DONE]")
    assert chunks[-1]["usage"]["completion_tokens"] == 4


async def test_a_call_of_a_tool_comes_through(worker: httpx.AsyncClient, upstream: ScriptedUpstream) -> None:
    upstream.plan(Reply(body={"says": [{"use": "look", "id": "1", "with": {"at": "sea"}}], "end": "use"}))
    tool = {"type": "function", "function": {"name": "look", "parameters": {"type": "object"}}}
    answer = await worker.post("/v1/chat/completions", json={**_CHAT, "model": "toy", "tools": [tool]})
    choice = answer.json()["choices"][0]
    assert choice["finish_reason"] == "tool_calls"
    assert json.loads(choice["message"]["tool_calls"][0]["function"]["arguments"]) == {"at": "sea"}
    assert upstream.requests[0].json["kit"] == [{"call": "look", "about": "", "shape": {"type": "object"}}]


async def test_its_own_client_is_answered_in_its_words(worker: httpx.AsyncClient, upstream: ScriptedUpstream) -> None:
    upstream.plan(Reply("Ahoy yourself"))
    answer = await worker.post("/toy/talk", json={**_TALK, "engine": "gpt"})
    assert answer.status_code == 200, answer.text
    assert answer.json() == {
        "engine": "gpt",
        "says": ["Ahoy yourself"],
        "end": "done",
        "spent": {"in": 9, "out": 3},
    }
    assert upstream.requests[0].json["messages"] == [{"role": "user", "content": "Ahoy"}]


async def test_its_own_client_gets_its_own_stream(worker: httpx.AsyncClient, upstream: ScriptedUpstream) -> None:
    answer = await worker.post("/toy/talk", json={**_TALK, "engine": "gpt", "live": True})
    records = [json.loads(line) for line in answer.text.splitlines() if line]
    assert "".join(record.get("piece", "") for record in records) == "Hello world "
    assert records[-1] == {"end": "done", "spent": {"in": 9, "out": 3}}


@pytest.mark.parametrize(
    ("headers", "body", "status"),
    [
        ({}, {**_TALK, "engine": "nobody"}, 400),
        ({}, {"engine": "gpt"}, 400),
        ({"Authorization": "Bearer sk-unknown-0123456789"}, {**_TALK, "engine": "gpt"}, 401),
    ],
)
async def test_errors_are_told_in_the_caller_s_dialect(
    worker: httpx.AsyncClient, headers: dict[str, str], body: dict[str, Any], status: int
) -> None:
    answer = await worker.post("/toy/talk", json=body, headers=headers)
    assert (answer.status_code, list(answer.json())) == (status, ["oops"])


async def test_a_provider_s_own_words_reach_the_client(worker: httpx.AsyncClient, upstream: ScriptedUpstream) -> None:
    upstream.plan(Reply(status=400, body={"oops": "too many sails"}))
    answer = await worker.post("/v1/chat/completions", json={**_CHAT, "model": "toy"})
    assert answer.status_code == 400
    assert "too many sails" in answer.json()["error"]["message"]


async def test_an_answer_without_sense_is_a_failure(worker: httpx.AsyncClient, upstream: ScriptedUpstream) -> None:
    upstream.plan(Fault.wrong_json())
    answer = await worker.post("/v1/chat/completions", json={**_CHAT, "model": "toy"})
    assert answer.status_code == 500
    assert "not valid JSON" in answer.json()["error"]["message"]


async def test_what_a_dialect_has_no_words_for_is_refused_by_name(worker: httpx.AsyncClient) -> None:
    answer = await worker.post("/v1/chat/completions", json={**_CHAT, "model": "toy", "seed": 7})
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "seed")
    answer = await worker.post("/v1/embeddings", json={"model": "toy", "input": "x"})
    assert answer.status_code == 400
    assert "no such operation" in answer.json()["error"]["message"]
