"""A worker that relays everything to the scripted upstream, and how the tests of pass-through call it."""

from __future__ import annotations

import json
from typing import Any

import httpx

from tests.llm.google_account import service_account
from tests.llm.live_worker import FAST, LiveWorker

OPENAI_KEY = "sk-openai-of-the-gateway"
OTHERS = {
    "ANTHROPIC_API_KEY": "sk-ant-of-the-gateway",
    "GEMINI_API_KEY": "AIza-of-the-gateway",
    "AZURE_API_KEY": "azure-key-of-the-gateway",
    "COHERE_API_KEY": "co-key-of-the-gateway",
    "AWS_ACCESS_KEY_ID": "AKIAEXAMPLE",
    "AWS_SECRET_ACCESS_KEY": "example-secret-access-key",
    "AWS_REGION_NAME": "eu-west-1",
}
CHAT = {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "hi"}]}


def relaying(here: str, nowhere: str) -> dict[str, Any]:
    """`config` and `env` of the worker: all providers are at `here`, and nobody listens at `nowhere`."""
    bases = ("OPENAI_API_BASE", "ANTHROPIC_API_BASE", "GEMINI_API_BASE", "AZURE_API_BASE")
    endpoints: list[dict[str, Any]] = [
        {"path": "/v9/rerank", "target": f"{here}/v1/rerank", "cost_per_request": 0.25}
        | {"headers": {"Authorization": "bearer os.environ/COHERE_API_KEY", "x-fixed": "yes"}},
        {"path": "/open", "target": f"{here}/base?from=target", "auth": False, "include_subpath": True}
        | {"default_query_params": {"lang": "en", "size": 5}, "merge_query_params": True, "forward_headers": True},
        {"path": "/get-only", "target": here, "methods": ["GET"]},
        {"path": "/hasty", "target": here, "timeout": 0.3},
        {"path": "/refused", "target": nowhere},
        {"path": "/key/generate", "target": here},
    ]
    config: dict[str, Any] = {
        "model_list": [
            {
                "model_name": "gemini-of-europe",
                "litellm_params": {
                    "model": "vertex_ai/gemini-2.5-pro",
                    "api_base": here,
                    "vertex_project": "project-one",
                    "vertex_location": "europe-west4",
                    "vertex_credentials": json.dumps(service_account(f"{here}/token")),
                    "use_in_pass_through": True,
                },
            },
            {
                "model_name": "own",
                "litellm_params": {
                    "model": "hosted_vllm/served-name",
                    "api_base": f"{here}/v1",
                    "api_key": "vllm-key-of-the-gateway",
                    "use_in_pass_through": True,
                },
            },
        ],
        "general_settings": {"pass_through_endpoints": endpoints, "user_header_name": "x-customer"},
    }
    keys = {"OPENAI_API_KEY": OPENAI_KEY, **OTHERS, "AWS_BEDROCK_RUNTIME_ENDPOINT": here}
    return {"config": config, "env": {**FAST, **keys, **dict.fromkeys(bases, here)}}


async def send(relay: LiveWorker, key: str | None, path: str, method: str = "POST", **more: Any) -> httpx.Response:
    """Call the worker with a virtual key, or without one; `more` are arguments of the HTTP client."""
    headers = {**({"Authorization": f"Bearer {key}"} if key else {}), **more.pop("headers", {})}
    return await relay.http.request(method, f"{relay.url}{path}", headers=headers, **more)
