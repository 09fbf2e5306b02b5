"""Resources that all callers share at a provider are recognized, however their path is spelled."""

from __future__ import annotations

import pytest

from app.llm.passthrough.ownership import shared_account_resource
from app.llm.passthrough.path import safe_segments

VERTEX = "v1/projects/p/locations/l"


@pytest.mark.parametrize(
    ("provider", "method", "path", "found"),
    [
        ("openai", "GET", "v1/files", "files"),
        ("anthropic", "GET", "v1%2Ffiles", "files"),
        ("anthropic", "GET", "%2566iles", "files"),
        ("azure", "GET", "openai/Files", "files"),
        ("azure", "GET", "openai/files;x=1", "files"),
        ("azure", "DELETE", "openai/deployments/d-1", "deployments"),
        ("openai", "POST", "v1/realtime/client_secrets", "client_secrets"),
        ("openai", "POST", "v1/realtime/sessions", "sessions"),
        ("openai", "GET", "v1/chat/completions", "completions"),
        ("openai", "GET", "v1/videos", "videos"),
        ("openai", "DELETE", "v1/models/ft:gpt", "models"),
        ("gemini", "POST", "v1alpha/auth_tokens", "auth_tokens"),
        ("gemini", "POST", "v1beta/models/g-1:batchGenerateContent", "g-1"),
        ("mistral", "GET", "v1/batch/jobs", "batch"),
        ("hosted_vllm", "POST", "sleep", "sleep"),
        ("vertex_ai", "POST", f"{VERTEX}/customJobs", "customjobs"),
        ("vertex_ai", "GET", f"{VERTEX}/endpoints", "endpoints"),
        ("vertex_ai", "DELETE", f"{VERTEX}/models/7", "7"),
        ("vertex_ai", "POST", "discovery/v1/projects/p/dataStores/d/documents:import", "documents"),
    ],
)
def test_what_is_shared_is_named(provider: str, method: str, path: str, found: str) -> None:
    assert shared_account_resource(provider, method, safe_segments(path)) == found


@pytest.mark.parametrize(
    ("provider", "method", "path"),
    [
        ("openai", "POST", "v1/chat/completions"),
        ("openai", "GET", "v1/models"),
        ("openai", "GET", "v1/videos/a-1"),
        ("openai", "DELETE", "v1/responses/r-1"),
        ("anthropic", "POST", "v1/messages"),
        ("gemini", "POST", "v1beta/models/g-1:streamGenerateContent"),
        ("bedrock", "POST", "agents/a-1/agentAliases/b-1/sessions/s-1/text"),
        ("azure", "POST", "openai/deployments/d-1/chat/completions"),
        ("vertex_ai", "POST", f"{VERTEX}/publishers/google/models/g-1:generateContent"),
        ("vertex_ai", "POST", f"{VERTEX}/publishers/anthropic/models/c-1:streamRawPredict"),
        ("vertex_ai", "POST", f"{VERTEX}/endpoints/openapi/chat/completions"),
        ("vertex_ai", "GET", f"{VERTEX}/publishers/google/models"),
        ("vertex_ai", "POST", "discovery/v1/projects/p/servingConfigs/default:search"),
    ],
)
def test_calls_of_models_are_for_everybody(provider: str, method: str, path: str) -> None:
    assert shared_account_resource(provider, method, safe_segments(path)) is None
