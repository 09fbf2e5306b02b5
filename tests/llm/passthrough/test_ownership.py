"""Calls of models are for every key, everything else at a provider is shared, however its path is spelled."""

from __future__ import annotations

import json
from typing import Any

import pytest

from app.llm.passthrough.ownership import is_model_call, shared_reference
from app.llm.passthrough.path import safe_segments

VERTEX = "v1/projects/p/locations/l"


@pytest.mark.parametrize(
    ("provider", "method", "path"),
    [
        ("openai", "GET", "v1/files"),
        ("openai", "POST", "v1/realtime/client_secrets"),
        ("openai", "POST", "v1/realtime/calls"),
        ("openai", "POST", "v1/realtime/calls/c-1/hangup"),
        ("openai", "GET", "v1/chat/completions"),
        ("openai", "GET", "v1/chat/completions/c-1"),
        ("openai", "GET", "v1/videos"),
        ("openai", "GET", "v1/videos/v-1"),
        ("openai", "GET", "v1/videos/v-1/content"),
        ("openai", "POST", "v1/videos/v-1/remix"),
        ("openai", "GET", "v1/responses/r-1"),
        ("openai", "DELETE", "v1/responses/r-1"),
        ("openai", "POST", "v1/responses/r-1/cancel"),
        ("openai", "DELETE", "v1/models/ft:gpt"),
        ("openai", "POST", "v1/something-new"),
        ("openai", "GET", "v1/models/a%2Ffiles"),
        ("openai", "POST", "v1/chat%2Fcompletions"),
        ("openai", "POST", "v1/chat/completions;x"),
        ("azure", "GET", "openai/Files"),
        ("azure", "GET", "openai/files;x=1"),
        ("azure", "DELETE", "openai/deployments/d-1"),
        ("azure", "GET", "openai/v1/responses/r-1"),
        ("azure", "POST", "openai/deployments/d-1/x"),
        ("anthropic", "GET", "v1%2Ffiles"),
        ("anthropic", "GET", "%2566iles"),
        ("anthropic", "POST", "v1/messages/batches"),
        ("anthropic", "POST", "v1/sessions"),
        ("anthropic", "POST", "v1/agents/a-1"),
        ("anthropic", "GET", "v1/memory_stores/m-1/memories"),
        ("gemini", "POST", "v1alpha/auth_tokens"),
        ("gemini", "POST", "v1beta/models/g-1:batchGenerateContent"),
        ("gemini", "POST", "v1beta/models/g-1:x:generateContent"),
        ("gemini", "GET", "v1beta/models/g-1/operations/o-1"),
        ("gemini", "GET", "v1beta/interactions/i-1"),
        ("mistral", "GET", "v1/batch/jobs"),
        ("mistral", "POST", "v1/agents/completions"),
        ("mistral", "POST", "v1/conversations/c-1"),
        ("cohere", "POST", "v1/embed-jobs"),
        ("bedrock", "POST", "agents/a-1/agentAliases/b-1/sessions/s-1/text"),
        ("bedrock", "DELETE", "agents/a-1/agentAliases/b-1/memories"),
        ("bedrock", "POST", "knowledgebases/k-1/retrieve"),
        ("bedrock", "POST", "retrieveAndGenerate"),
        ("bedrock", "POST", "async-invoke"),
        ("hosted_vllm", "POST", "sleep"),
        ("hosted_vllm", "POST", "v1/load_lora_adapter"),
        ("hosted_vllm", "POST", "abort_requests"),
        ("hosted_vllm", "GET", "metrics"),
        ("vertex_ai", "POST", f"{VERTEX}/customJobs"),
        ("vertex_ai", "GET", f"{VERTEX}/endpoints"),
        ("vertex_ai", "DELETE", f"{VERTEX}/models/7"),
        ("vertex_ai", "GET", f"{VERTEX}/endpoints/7:predict"),
        ("vertex_ai", "POST", f"{VERTEX}/publishers/google/models/g-1:fetchPredictOperation"),
        ("vertex_ai", "POST", f"{VERTEX}/reasoningEngines/7/sessions/8:predict"),
        ("vertex_ai", "POST", "discovery/v1/projects/p/dataStores/d/documents:import"),
        ("vertex_ai", "POST", "discovery/v1/projects/p/dataStores/d/conversations/c-1:converse"),
        ("unknown", "POST", "v1/chat/completions"),
    ],
)
def test_what_callers_share_is_no_call_of_a_model(provider: str, method: str, path: str) -> None:
    assert not is_model_call(provider, method, safe_segments(path))


@pytest.mark.parametrize(
    ("provider", "method", "path"),
    [
        ("openai", "POST", "v1/chat/completions"),
        ("openai", "POST", "audio/transcriptions"),
        ("openai", "POST", "v1/responses"),
        ("openai", "GET", "v1/models"),
        ("openai", "HEAD", "v1/models/ft:gpt:o"),
        ("anthropic", "POST", "v1/messages"),
        ("anthropic", "POST", "v1/messages/count_tokens"),
        ("gemini", "POST", "v1beta/models/g-1:streamGenerateContent"),
        ("gemini", "POST", "v1beta/openai/chat/completions"),
        ("bedrock", "POST", "model/anthropic.claude-3-haiku-20240307-v1:0/converse"),
        ("bedrock", "POST", "model/arn:aws:bedrock:eu-west-1:1:inference-profile%2Fx/invoke"),
        ("azure", "POST", "openai/deployments/d-1/chat/completions"),
        ("azure", "POST", "openai/v1/responses"),
        ("azure", "POST", "anthropic/v1/messages"),
        ("cohere", "POST", "v2/rerank"),
        ("mistral", "POST", "v1/fim/completions"),
        ("hosted_vllm", "POST", "v1/classify"),
        ("vertex_ai", "POST", f"{VERTEX}/publishers/google/models/g-1:generateContent"),
        ("vertex_ai", "POST", f"{VERTEX}/publishers/anthropic/models/c-1:streamRawPredict"),
        ("vertex_ai", "POST", f"{VERTEX}/endpoints/openapi/chat/completions"),
        ("vertex_ai", "GET", f"{VERTEX}/publishers/google/models"),
        ("vertex_ai", "POST", "discovery/v1/projects/p/servingConfigs/default:search"),
    ],
)
def test_calls_of_models_are_for_everybody(provider: str, method: str, path: str) -> None:
    assert is_model_call(provider, method, safe_segments(path))


@pytest.mark.parametrize(
    ("body", "name"),
    [
        ({"previous_response_id": "r-1"}, "previous_response_id"),
        ({"conversation": {"id": "c-1"}}, "conversation"),
        ({"cachedContent": "cachedContents/1"}, "cachedContent"),
        ({"cached_content": "cachedContents/1"}, "cached_content"),
        ({"container": "c-1"}, "container"),
        ({"session": "projects/p/sessions/7"}, "session"),
        ({"input": [{"content": [{"type": "input_file", "file_id": "f-1"}]}]}, "file_id"),
        ({"tools": [{"type": "file_search", "vector_store_ids": ["v-1"]}]}, "vector_store_ids"),
        ({"tools": [{"type": "code_interpreter", "container": "c-1"}]}, "container"),
        ({"contents": [{"parts": [{"fileData": {"fileUri": "files/7"}}]}]}, "fileUri"),
        ({"previous_response_id": None, "session": "projects/p/sessions/-"}, None),
        ({"tools": [{"type": "code_interpreter", "container": {"type": "auto"}}]}, None),
        ({"tools": [{"type": "function", "parameters": {"properties": {"file_id": {"type": "string"}}}}]}, None),
        ({"messages": [{"role": "user", "content": "previous_response_id"}]}, None),
        ([1], None),
    ],
)
def test_a_body_that_names_what_is_stored_is_told(body: Any, name: str | None) -> None:
    assert shared_reference(json.dumps(body).encode()) == name


def test_escapes_in_a_name_do_not_hide_it() -> None:
    assert shared_reference(rb'{"\u0070revious_response_id": "r-1"}') == "previous_response_id"
    assert shared_reference(b"not JSON") is None
