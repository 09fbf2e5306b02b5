"""The configuration of a worker with a response cache, and how to tell that it answered from it."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx

from tests.llm.live_worker import LiveWorker, deployment

CACHE_KEY = "x-litellm-cache-key"
_PRICE: dict[str, Any] = {"input_cost_per_token": 0.001, "output_cost_per_token": 0.001}


def models(port: int) -> list[dict[str, Any]]:
    here = f"http://127.0.0.1:{port}/v1"
    return [
        deployment("chat", here, id="chat-1", **_PRICE),
        deployment("text", here, "openai/gpt-3.5-turbo-instruct"),
        deployment("embedding", here, "openai/text-embedding-3-small", **_PRICE),
        deployment("first", here, "openai/first"),
        deployment("second", here, "openai/second"),
    ]


def configured(port: int, **params: Any) -> dict[str, Any]:
    return {
        "model_list": models(port),
        "litellm_settings": {"cache": True, "cache_params": params},
        "router_settings": {
            "num_retries": 0,
            "disable_cooldowns": True,
            "fallbacks": [{"first": ["second"]}],
            "model_group_alias": {"alias": "chat"},
        },
    }


def is_hit(answer: httpx.Response) -> bool:
    assert answer.status_code == 200, answer.text
    return CACHE_KEY in answer.headers


async def hit(worker: LiveWorker, key: str, **call: Any) -> httpx.Response:
    """A call that was cached, once that is so: writes to Redis go out beside the calls."""
    for _ in range(200):
        answer = await worker.chat(key, **call)
        if is_hit(answer):
            return answer
        await asyncio.sleep(0.01)
    raise AssertionError("never a hit")
