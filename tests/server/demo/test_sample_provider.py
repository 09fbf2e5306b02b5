"""The sample provider answers the official SDK as OpenAI would, over a real socket."""

from __future__ import annotations

import math
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator

import httpx
import openai
import pytest
from openai import AsyncOpenAI

from tests.services.ports import free_port
from tests.services.waiting import HANGS_AFTER_SECONDS, answers, wait_while_alive


@pytest.fixture(scope="module")
def provider_url() -> Iterator[str]:
    port = free_port()
    command = [sys.executable, "-m", "app.server.demo.sample_provider", "--port", str(port)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    url = f"http://localhost:{port}/v1"
    try:
        wait_while_alive(
            lambda: answers(f"{url}/models"),
            is_alive=lambda: process.poll() is None,
            log=lambda: "(not kept)",
            what="the sample provider answers",
        )
        yield url
    finally:
        process.send_signal(signal.SIGTERM)
        assert process.wait(HANGS_AFTER_SECONDS) == 0


@pytest.fixture
async def sdk(provider_url: str) -> AsyncIterator[AsyncOpenAI]:
    async with AsyncOpenAI(base_url=provider_url, api_key="sk-any", max_retries=0) as client:
        yield client


async def test_models(sdk: AsyncOpenAI) -> None:
    names = [model.id for model in (await sdk.models.list()).data]
    assert names == ["sample-chat", "sample-chat-mini", "sample-embedding"]


async def test_chat_counts_tokens_by_the_input(sdk: AsyncOpenAI) -> None:
    short = await sdk.chat.completions.create(model="sample-chat", messages=[{"role": "user", "content": "Hello"}])
    long = await sdk.chat.completions.create(
        model="sample-chat",
        messages=[
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": [{"type": "text", "text": "What is the capital of France? " * 20}]},
        ],
    )
    assert short.usage is not None and long.usage is not None
    assert short.choices[0].message.content is not None and '"Hello"' in short.choices[0].message.content
    assert short.choices[0].finish_reason == "stop"
    assert 0 < short.usage.prompt_tokens < 10 < 100 < long.usage.prompt_tokens
    assert short.usage.total_tokens == short.usage.prompt_tokens + short.usage.completion_tokens


async def test_max_tokens_cuts_the_answer(sdk: AsyncOpenAI) -> None:
    answer = await sdk.chat.completions.create(
        model="sample-chat-mini", messages=[{"role": "user", "content": "Hello"}], max_tokens=3
    )
    assert answer.usage is not None and answer.usage.completion_tokens == 3
    assert answer.choices[0].finish_reason == "length"


async def test_stream_with_usage_says_the_same_as_json(sdk: AsyncOpenAI) -> None:
    whole = await sdk.chat.completions.create(
        model="sample-chat", messages=[{"role": "user", "content": "Hello"}], max_tokens=20
    )
    stream = await sdk.chat.completions.create(
        model="sample-chat",
        messages=[{"role": "user", "content": "Hello"}],
        max_tokens=20,
        stream=True,
        stream_options={"include_usage": True},
    )
    arrived = []
    chunks = []
    async for chunk in stream:
        arrived.append(time.monotonic())
        chunks.append(chunk)
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert text == whole.choices[0].message.content
    assert chunks[0].choices[0].delta.role == "assistant"
    assert [chunk.choices[0].finish_reason for chunk in chunks if chunk.choices][-1] == "length"
    assert chunks[-1].choices == [] and chunks[-1].usage == whole.usage
    assert arrived[-1] - arrived[0] > 0.2  # event by event, not in one piece


async def test_stream_without_usage(sdk: AsyncOpenAI) -> None:
    stream = await sdk.completions.create(model="sample-chat", prompt="Hello", max_tokens=4, stream=True)
    chunks = [chunk async for chunk in stream]
    assert all(chunk.usage is None for chunk in chunks)
    assert "".join(chunk.choices[0].text for chunk in chunks).startswith("You asked")


async def test_completion(sdk: AsyncOpenAI) -> None:
    answer = await sdk.completions.create(model="sample-chat", prompt="Hello")
    assert answer.choices[0].text and answer.usage is not None and answer.usage.prompt_tokens == 1


async def test_embeddings_are_unit_vectors_and_near_for_shared_words(sdk: AsyncOpenAI) -> None:
    texts = ["the red car drives fast", "a red car", "invoices of last year"]
    packed = await sdk.embeddings.create(model="sample-embedding", input=texts)  # the SDK asks for base64
    plain = await sdk.embeddings.create(model="sample-embedding", input=texts[0], encoding_format="float", dimensions=8)
    car, other_car, invoices = (row.embedding for row in packed.data)
    assert len(car) == 256 and len(plain.data[0].embedding) == 8
    assert math.isclose(math.hypot(*car), 1, rel_tol=1e-4)
    assert cosine(car, other_car) > cosine(car, invoices)
    assert packed.usage.prompt_tokens == packed.usage.total_tokens > 10
    tokens = await sdk.embeddings.create(model="sample-embedding", input=[1, 2, 3])
    assert len(tokens.data) == 1


def cosine(one: list[float], other: list[float]) -> float:
    return sum(a * b for a, b in zip(one, other, strict=True))


async def test_refusals_look_like_openai(sdk: AsyncOpenAI, provider_url: str) -> None:
    with pytest.raises(openai.NotFoundError) as refused:
        await sdk.chat.completions.create(model="gpt-9", messages=[{"role": "user", "content": "Hello"}])
    assert refused.value.code == "model_not_found"
    with pytest.raises(openai.BadRequestError):
        await sdk.chat.completions.create(model="sample-chat", messages=[])
    with pytest.raises(openai.BadRequestError):
        await sdk.embeddings.create(model="sample-embedding", input="x", dimensions=100_000)
    async with httpx.AsyncClient(trust_env=False) as client:
        answer = await client.post(f"{provider_url}/chat/completions", content=b"{")
    assert answer.status_code == 400 and answer.json()["error"]["type"] == "invalid_request_error"
