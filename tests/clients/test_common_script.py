"""Clients that people use pass one script against a worker: each is a program that prints what it saw.

The programs run in environments of their own, made by tests/clients/install: node_modules/ and .venv/ beside this file.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.clients.script import CITY_SCHEMA, PICTURE
from tests.conftest import MASTER_KEY
from tests.llm.live_worker import FAST, LiveWorker, deployment
from tests.services.command import REPOSITORY
from tests.services.quarterdeck import QuarterdeckFactory, QuarterdeckProcess
from tests.services.run_directory import RunDirectory
from tests.services.waiting import HANGS_AFTER_SECONDS
from tests.upstream import Fault, RecordedRequest, Reply, ScriptedUpstream, Stream, Usage

HERE = Path(__file__).parent
PROGRAMS = {
    "openai for Python": (sys.executable, "-m", "tests.clients.openai_client"),
    "langchain-openai": (str(HERE / ".venv/bin/python"), "-m", "tests.clients.langchain_client"),
    "openai for Node": ("node", str(HERE / "openai_client.mjs")),
    "Vercel AI SDK": ("node", str(HERE / "ai_sdk_client.mjs")),
}
STATUSES = (400, 404, 429, 500)
NAMES = [
    "say",
    "tools",
    "parallel-tools",
    "streamed-tools",
    "json",
    "stream",
    *(f"fails-{status}" for status in STATUSES),
]
PARIS = {"id": "call_1", "name": "weather", "input": {"city": "Paris"}}
ROME = {"id": "call_2", "name": "weather", "input": {"city": "Rome"}}


def called(*calls: dict[str, Any]) -> Reply:
    """An answer that calls tools."""
    found = [
        {
            "id": call["id"],
            "type": "function",
            "function": {"name": call["name"], "arguments": json.dumps(call["input"])},
        }
        for call in calls
    ]
    message = {"role": "assistant", "content": None, "tool_calls": found}
    choice = {"index": 0, "message": message, "finish_reason": "tool_calls"}
    usage = {"prompt_tokens": 9, "completion_tokens": 3, "total_tokens": 12}
    return Reply(
        body={
            "id": "chatcmpl-1",
            "object": "chat.completion",
            "created": 1,
            "model": "m",
            "choices": [choice],
            "usage": usage,
        }
    )


def streamed_calls(*calls: dict[str, Any]) -> Stream:
    """The same piece by piece, the arguments cut where no client expects it."""
    deltas: list[dict[str, Any]] = [{"role": "assistant", "content": None}]
    for index, call in enumerate(calls):
        function = {"name": call["name"], "arguments": ""}
        deltas.append({"tool_calls": [{"index": index, "id": call["id"], "type": "function", "function": function}]})
        arguments = json.dumps(call["input"])
        pieces = [arguments[start : start + 5] for start in range(0, len(arguments), 5)]
        deltas += [{"tool_calls": [{"index": index, "function": {"arguments": piece}}]} for piece in pieces]
    frame = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": "m"}
    events = [{**frame, "choices": [{"index": 0, "delta": delta, "finish_reason": None}]} for delta in deltas]
    events.append({**frame, "choices": [{"index": 0, "delta": {}, "finish_reason": "tool_calls"}]})
    return Stream(events=[*map(json.dumps, events), "[DONE]"])


@dataclass(frozen=True)
class Seen:
    """What a program printed, and what reached the provider meanwhile."""

    client: str
    said: dict[str, Any]
    requests: list[RecordedRequest]

    def request(self, model: str, part: str = "") -> Any:
        """The body of the last request for a model that contains this text."""
        return [one.json for one in self.requests if one.model == model and part in one.body.decode()][-1]


@pytest.fixture(scope="module")
async def upstream() -> AsyncIterator[ScriptedUpstream]:
    async with ScriptedUpstream() as scripted:
        scripted.on_model("say", Reply("It is warm", usage=Usage(9, 3)))
        scripted.on_model("tools", called(PARIS))
        scripted.on_model("parallel-tools", called(PARIS, ROME))
        scripted.on_model("streamed-tools", streamed_calls(PARIS, ROME))
        scripted.on_model("json", Reply('{"city": "Paris", "degrees": 21}'))
        scripted.on_model("stream", Stream(("It ", "is ", "warm 🌍"), usage=Usage(9, 3)))
        for status in STATUSES:
            scripted.on_model(f"fails-{status}", Fault.status(status))
        yield scripted


@pytest.fixture(scope="module")
def process(
    upstream: ScriptedUpstream, run_directory: RunDirectory, tmp_path_factory: pytest.TempPathFactory
) -> QuarterdeckProcess:
    factory = QuarterdeckFactory(run_directory, tmp_path_factory.mktemp("clients"), MASTER_KEY)
    models = [deployment(name, upstream.url, f"openai/{name}") for name in NAMES]
    models.append(deployment("embedding", upstream.url, "openai/text-embedding-3-small"))
    return factory({"model_list": models, "router_settings": {"num_retries": 0}}, env=FAST)


@pytest.fixture(scope="module", params=PROGRAMS)
async def seen(request: pytest.FixtureRequest, process: QuarterdeckProcess, upstream: ScriptedUpstream) -> Seen:
    async with httpx.AsyncClient(trust_env=False, timeout=20) as http:
        key = await LiveWorker(process, http).new_key()
    before = len(upstream.requests)
    program = await asyncio.create_subprocess_exec(
        *PROGRAMS[request.param],
        f"{process.url}/v1",
        key,
        cwd=REPOSITORY,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY), "NO_PROXY": "127.0.0.1"},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    async with asyncio.timeout(HANGS_AFTER_SECONDS):
        output, errors = await program.communicate()
    assert program.returncode == 0, errors.decode()
    return Seen(request.param, json.loads(output), upstream.requests[before:])


def test_chat(seen: Seen) -> None:
    assert (seen.said["chat"], seen.said["chat_tokens"]) == ("It is warm", 12)


def test_tools(seen: Seen) -> None:
    assert seen.said["tools"] == [PARIS]
    (tool,) = seen.request("tools")["tools"]
    assert (tool["type"], tool["function"]["name"]) == ("function", "weather")
    assert tool["function"]["parameters"]["required"] == ["city"]


def test_parallel_tools_and_their_results(seen: Seen) -> None:
    assert seen.said["parallel_tools"] == [PARIS, ROME]
    assert seen.said["after_tools"] == "It is warm"
    _, answer, *results = seen.request("say", '"tool_call_id"')["messages"]
    assert [call["id"] for call in answer["tool_calls"]] == ["call_1", "call_2"]
    assert [(result["role"], result["tool_call_id"]) for result in results] == [("tool", "call_1"), ("tool", "call_2")]


def test_streamed_tools(seen: Seen) -> None:
    assert seen.said["streamed_tools"] == [PARIS, ROME]


def test_json_schema(seen: Seen) -> None:
    assert seen.said["json"] == {"city": "Paris", "degrees": 21}
    sent = seen.request("json")["response_format"]
    assert sent["type"] == "json_schema"
    assert set(sent["json_schema"]["schema"]["properties"]) == set(CITY_SCHEMA["properties"])


def test_vision(seen: Seen) -> None:
    assert seen.said["vision"] == "It is warm"
    _, picture = seen.request("say", "image_url")["messages"][0]["content"]
    assert picture["image_url"]["url"] == PICTURE


def test_stream_and_its_usage(seen: Seen) -> None:
    assert (seen.said["stream"], seen.said["stream_tokens"]) == ("It is warm 🌍", 12)


def test_embeddings(seen: Seen) -> None:
    assert seen.said["embeddings"] == [[0.5, -0.25, 0.125]] * 2


def test_errors_have_the_sdk_s_own_classes(seen: Seen) -> None:
    names = {
        "400": "BadRequestError",
        "401": "AuthenticationError",
        "404": "NotFoundError",
        "429": "RateLimitError",
        "500": "InternalServerError",
        "unknown": "BadRequestError",
    }
    errors = seen.said["errors"]
    statuses = {name: 400 if name == "unknown" else int(name) for name in names}
    assert {name: error["status"] for name, error in errors.items()} == statuses
    if seen.client == "Vercel AI SDK":
        assert {error["name"] for error in errors.values()} == {"AI_APICallError"}
    else:
        assert {name: error["name"] for name, error in errors.items()} == names
