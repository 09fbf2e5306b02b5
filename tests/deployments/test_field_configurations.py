"""Configurations that people really have: what cannot be served is left out by name, and the rest serves as meant."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import httpx
import pytest

from tests.auth.instance import bearer
from tests.llm.live_worker import MESSAGES
from tests.services.quarterdeck import QuarterdeckFactory, QuarterdeckProcess
from tests.upstream import RecordedRequest, ScriptedUpstream

SECRET = "sk-internal-secret-of-this-company"
LEFT_OUT = ("claude", "bare-claude", "inhouse", "keyless", "empty", "shared", "nameless")


def entry(name: str, model: str, **params: Any) -> dict[str, Any]:
    return {"model_name": name, "litellm_params": {"model": model, **params}}


def config_of(origin: str) -> dict[str, Any]:
    of_the_gateway = {
        "base_model": "gpt-4o",
        "headers": {"X-Team": "a"},
        "ssl_verify": False,
        "supports_system_message": False,
        "model_info": {"a": 1},
        "litellm_system_prompt": "p",
        "mock_timeout": False,
    }
    return {
        "model_list": [
            entry("claude", "anthropic/claude-sonnet-4-5", api_key=SECRET),
            entry("bare-claude", "claude-sonnet-4-5", api_key=SECRET),
            entry("inhouse", "openai/x", api_key=SECRET, api_base="os.environ/INHOUSE_URL"),
            entry("keyless", "openai/x", api_base=f"{origin}/v1", api_key="os.environ/INHOUSE_KEY"),
            entry("empty", "openai/x", api_key=SECRET, api_base=""),
            entry("shared", "openai/x", litellm_credential_name="shared"),
            {"model_name": "nameless", "litellm_params": {}},
            entry("local", "ollama_chat/llama3.2", api_base=origin),
            entry("local-slash", "ollama/llama3.2", api_base=f"{origin}/"),
            entry("local-v1", "ollama/llama3.2", api_base=f"{origin}/v1"),
            entry("local-variable", "ollama/llama3.2"),
            entry("az", "azure/d", api_base=f" {origin} ", api_key=f"{SECRET}\n", **of_the_gateway),
            entry("az-v1", "azure/d", api_base=f"{origin}/openai/v1/", api_key=SECRET, api_version="preview"),
            entry("az-openai", "azure/d", api_base=f"{origin}/openai", api_key=SECRET),
            entry("az-query", "azure/d", api_base=f"{origin}?api-version=v1", api_key=SECRET),
            entry("openai/*", "openai/*"),
        ],
        "credential_list": [
            {
                "credential_name": "shared",
                "credential_values": {"api_key": SECRET, "api_base": "os.environ/INHOUSE_URL"},
            }
        ],
        "router_settings": {"ignore_invalid_deployments": True, "retry_policy": {"ImaginaryErrorRetries": 1}},
    }


@dataclass(frozen=True)
class Field:
    process: QuarterdeckProcess
    upstream: ScriptedUpstream
    http: httpx.AsyncClient

    async def chat(self, model: str) -> httpx.Response:
        return await self.http.post("/v1/chat/completions", json={"model": model, "messages": MESSAGES})

    async def sent_for(self, model: str) -> RecordedRequest:
        """What the provider got for one call."""
        answer = await self.chat(model)
        assert answer.status_code == 200, answer.text
        return self.upstream.requests[-1]

    async def listed(self, **query: str) -> list[str]:
        return [row["id"] for row in (await self.http.get("/v1/models", params=query)).json()["data"]]


@pytest.fixture
async def field(quarterdeck_process: QuarterdeckFactory) -> AsyncIterator[Field]:
    """An instance whose public addresses are all ours: what went to another host would be seen here."""
    async with ScriptedUpstream() as upstream:
        env = {
            "OPENAI_API_BASE": upstream.url,
            "ANTHROPIC_API_BASE": upstream.origin,
            "OLLAMA_API_BASE": upstream.origin,
            "LITELLM_MASTER_KEY": "sk-master-with-a-newline-0123456789\n",
        }
        process = quarterdeck_process(config_of(upstream.origin), env=env)
        headers = bearer("sk-master-with-a-newline-0123456789")
        async with httpx.AsyncClient(base_url=process.url, headers=headers, timeout=30, trust_env=False) as http:
            yield Field(process, upstream, http)


async def test_a_deployment_that_cannot_be_served_is_left_out_by_name_and_nothing_is_sent(field: Field) -> None:
    for name in LEFT_OUT:
        assert (await field.chat(name)).status_code in (400, 404), name
    assert field.upstream.requests == []
    warnings = (await field.http.get("/health/deployment_warnings")).json()
    assert [warning["model_name"] for warning in warnings["warnings"]] == list(LEFT_OUT)
    assert warnings["count"] == len(LEFT_OUT)
    rows = {row["model_name"]: row for row in (await field.http.get("/model/info")).json()["data"]}
    pages = (await field.http.get("/v2/model/info", params={"size": "100"})).json()["data"]
    assert set(rows) == {row["model_name"] for row in pages}
    log = field.process.log_text()
    for number, name in enumerate(LEFT_OUT):
        assert rows[name]["model_info"]["skipped_because"] == warnings["warnings"][number]["reason"]
        assert f"LEFT OUT  config.yaml: model_list[{number}] ({name}): " in log
    assert "INHOUSE_URL" in rows["inhouse"]["model_info"]["skipped_because"]
    assert log.count("deployment skipped") == len(LEFT_OUT)
    assert SECRET not in log + str(rows) + str(warnings)


async def test_unknown_names_of_policies_are_a_warning(field: Field) -> None:
    assert "without effect: router_settings.retry_policy.ImaginaryErrorRetries" in field.process.log_text()


@pytest.mark.parametrize("model", ["local", "local-slash", "local-v1", "local-variable"])
async def test_ollama_is_reached_below_v1_whatever_was_written(field: Field, model: str) -> None:
    assert (await field.sent_for(model)).path == "/v1/chat/completions"


async def test_all_forms_of_an_azure_address_lead_to_the_deployment(field: Field) -> None:
    sent = [await field.sent_for(model) for model in ("az-v1", "az-openai", "az-query")]
    assert [(request.path, request.query) for request in sent] == [
        ("/openai/v1/chat/completions", "api-version=preview"),
        ("/openai/deployments/d/chat/completions", "api-version=2024-10-21"),
        ("/openai/v1/chat/completions", ""),
    ]


async def test_what_steers_the_gateway_is_not_sent_and_the_base_model_has_the_price(field: Field) -> None:
    answer = await field.chat("az")
    assert float(answer.headers["x-litellm-response-cost"]) > 0
    (sent,) = field.upstream.requests
    assert sorted(sent.json) == ["messages", "model"]
    assert sent.headers["api-key"] == SECRET and "x-team" not in sent.headers


async def test_a_wildcard_is_listed_as_the_models_behind_it(field: Field) -> None:
    known, with_pattern = await field.listed(), await field.listed(return_wildcard_routes="true")
    assert {"openai/gpt-4o", "local"} <= set(known)
    assert "openai/*" not in known
    assert set(with_pattern) == {*known, "openai/*"}
    assert (await field.http.get("/v1/models/openai/gpt-4o")).status_code == 200
    key = (await field.http.post("/key/generate", json={"models": ["openai/gpt-4o"]})).json()["key"]
    answer = await field.http.get("/v1/models", headers=bearer(key))
    assert [row["id"] for row in answer.json()["data"]] == ["openai/gpt-4o"]
