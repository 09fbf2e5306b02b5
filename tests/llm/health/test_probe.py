"""One small call to a deployment: which are probed, what is sent, how a failure reads, what is logged as spend."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from app.deployments.deployment import Deployment, build_deployment
from app.llm.health.probe import PROBE_KEY_HASH, ConnectionTest, HealthProbe, can_be_probed
from app.llm.upstream.client import Upstream
from app.models import SpendLog
from app.settings import Settings
from app.spend.ledger import SpendLedger
from app.storage.database import Database
from tests.llm.ended_calls import target
from tests.upstream import Fault, ScriptedUpstream

API_KEY = "sk-provider-0123456789"
PRICES = {"input_cost_per_token": 0.001, "output_cost_per_token": 0.002}
# 9 tokens in, 3 out: what the scripted provider counts for every answer.
COST = 9 * Decimal("0.001") + 3 * Decimal("0.002")


@dataclass
class Probes:
    """A scripted provider, and both kinds of probes with a real client and a real ledger."""

    provider: ScriptedUpstream
    database: Database
    ledger: SpendLedger
    health: HealthProbe
    connection: ConnectionTest

    def deployment(self, info: dict[str, Any] | None = None, **params: Any) -> Deployment:
        return build_deployment("chat", {**self.params(), **PRICES, **params}, info, {})

    def params(self, **params: Any) -> dict[str, Any]:
        return {"model": "openai/gpt-4o-mini", "api_base": self.provider.url, "api_key": API_KEY, **params}

    async def spend_logs(self) -> list[SpendLog]:
        await self.ledger.flush()
        with self.database.active():
            return await SpendLog.all()


@pytest.fixture
async def probes(migrated_sqlite_url: str, tmp_path: Path) -> AsyncIterator[Probes]:
    environment = {"OPENAI_API_KEY": "sk-of-the-environment-0123456789"}
    settings = Settings(database_url=migrated_sqlite_url, state_dir=tmp_path)
    database, upstream = Database(settings), Upstream(settings)
    ledger = SpendLedger(settings, database)
    await database.open()
    try:
        async with ScriptedUpstream() as provider:
            health, connection = HealthProbe(upstream, ledger), ConnectionTest(upstream, environment)
            yield Probes(provider, database, ledger, health, connection)
    finally:
        upstream.close()
        await database.close()


# ---- which deployments are probed ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("model", "info", "expected"),
    [
        ("openai/gpt-4o", {}, True),
        ("openai/gpt-4o", {"mode": "embedding"}, True),
        ("openai/gpt-4o", {"mode": "image_generation"}, False),
        ("openai/gpt-4o", {"disable_background_health_check": True}, False),
        ("openai/*", {}, False),
        ("openai/*", {"health_check_model": "openai/gpt-4o"}, True),
    ],
)
def test_only_a_known_model_of_a_cheap_mode_is_probed(model: str, info: dict[str, Any], expected: bool) -> None:
    assert can_be_probed(replace(target("chat", model), model_info=info)) is expected


def test_a_blocked_deployment_is_not_probed() -> None:
    assert not can_be_probed(replace(target("chat"), is_blocked=True))


# ---- health probes -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("mode", "path", "body"),
    [
        ("chat", "/v1/chat/completions", {"messages": [{"role": "user", "content": "Hi"}], "max_tokens": 16}),
        ("completion", "/v1/completions", {"prompt": "Hi", "max_tokens": 16}),
        ("embedding", "/v1/embeddings", {"input": "Hi"}),
    ],
)
async def test_each_mode_has_its_own_smallest_call(probes: Probes, mode: str, path: str, body: dict[str, Any]) -> None:
    assert await probes.health.probe(probes.deployment({"mode": mode})) is None
    (request,) = probes.provider.requests
    assert (request.method, request.path) == ("POST", path)
    assert request.json == {"model": "gpt-4o-mini", **body}
    assert request.headers["authorization"] == f"Bearer {API_KEY}"


async def test_model_and_tokens_of_a_probe_can_be_configured(probes: Probes) -> None:
    info = {"health_check_model": "openai/gpt-4o", "health_check_max_tokens": 3}
    assert await probes.health.probe(probes.deployment(info)) is None
    (request,) = probes.provider.requests
    assert (request.model, request.json["max_tokens"]) == ("gpt-4o", 3)


async def test_a_probe_is_logged_at_the_price_of_its_deployment(probes: Probes) -> None:
    deployment = probes.deployment({"id": "d1"})
    assert await probes.health.probe(deployment) is None
    (row,) = await probes.spend_logs()
    assert (row.api_key, row.model_id, row.model_group, row.model) == (PROBE_KEY_HASH, "d1", "chat", "gpt-4o-mini")
    assert (row.spend, row.prompt_tokens, row.completion_tokens) == (COST, 9, 3)


async def test_another_health_check_model_is_logged_at_its_own_price(probes: Probes) -> None:
    assert await probes.health.probe(probes.deployment({"health_check_model": "gpt-4o"})) is None
    (row,) = await probes.spend_logs()
    assert row.model == "gpt-4o" and 0 < row.spend < COST


async def test_a_probe_without_a_known_price_is_logged_as_unpriced(probes: Probes) -> None:
    assert await probes.health.probe(probes.deployment({"health_check_model": "no-such-model-9000"})) is None
    (row,) = await probes.spend_logs()
    assert row.spend == 0 and row.metadata["unpriced"] is True


async def test_a_refusal_is_told_without_the_credential_and_costs_nothing(probes: Probes) -> None:
    probes.provider.plan(Fault.status(401, message=f"wrong key {API_KEY}"))
    error = await probes.health.probe(probes.deployment())
    assert error is not None and "AuthenticationError" in error and "wrong key ****" in error
    assert API_KEY not in error
    assert await probes.spend_logs() == []


async def test_a_long_refusal_is_cut(probes: Probes) -> None:
    probes.provider.plan(Fault.status(500, message="x" * 5000))
    error = await probes.health.probe(probes.deployment())
    assert error is not None and len(error) == 500


async def test_an_answer_that_is_not_json_is_an_error(probes: Probes) -> None:
    probes.provider.plan(Fault.garbage())
    assert await probes.health.probe(probes.deployment()) == "the answer is not valid JSON"
    assert await probes.spend_logs() == []


async def test_a_provider_that_stays_silent_is_given_up_after_the_configured_time(probes: Probes) -> None:
    probes.provider.plan(Fault.hang())
    error = await probes.health.probe(probes.deployment({"health_check_timeout": 0.2}))
    assert error is not None and "did not answer in time" in error


async def test_a_mock_is_healthy_and_calls_nobody(probes: Probes) -> None:
    assert await probes.health.probe(probes.deployment(mock_response="hello")) is None
    assert probes.provider.requests == [] and await probes.spend_logs() == []


# ---- connection tests ----------------------------------------------------------------------------------------------


async def test_a_connection_test_makes_one_call_of_one_token_and_is_not_logged(probes: Probes) -> None:
    assert await probes.connection.test("chat", probes.params(), "chat") == {"status": "success"}
    (request,) = probes.provider.requests
    assert (request.path, request.model, request.json["max_tokens"]) == ("/v1/chat/completions", "gpt-4o-mini", 1)
    assert await probes.spend_logs() == []


async def test_a_failed_connection_test_says_why_without_the_credential(probes: Probes) -> None:
    probes.provider.plan(Fault.status(401, message=f"wrong key {API_KEY}"))
    outcome = await probes.connection.test("chat", probes.params(), "chat")
    assert outcome["status"] == "error" and "wrong key ****" in outcome["error"] and API_KEY not in outcome["error"]


async def test_a_connection_test_of_a_mock_calls_nobody(probes: Probes) -> None:
    assert await probes.connection.test("chat", probes.params(mock_response="hello"), "chat") == {"status": "success"}
    assert probes.provider.requests == []


@pytest.mark.parametrize(
    ("params", "mode", "problem"),
    [
        ({}, "image_generation", "mode 'image_generation' cannot be tested; use chat, completion, embedding"),
        ({"litellm_credential_name": "shared"}, "chat", "litellm_credential_name cannot be tested"),
        ({"api_key": "os.environ/OPENAI_API_KEY"}, "chat", "os.environ/ is resolved in the configuration file only"),
        ({"model": ""}, "chat", "litellm_params.model is missing"),
    ],
)
async def test_parameters_that_cannot_be_tested_call_nobody(
    probes: Probes, params: dict[str, Any], mode: str, problem: str
) -> None:
    with pytest.raises(ValueError, match=problem):
        await probes.connection.test("chat", probes.params(**params), mode)
    assert probes.provider.requests == []


async def test_the_environment_s_key_goes_to_no_address_of_a_caller(probes: Probes) -> None:
    params = {"model": "openai/gpt-4o-mini", "api_base": probes.provider.url}
    assert await probes.connection.test("chat", params, "chat") == {"status": "success"}
    (request,) = probes.provider.requests
    assert "authorization" not in request.headers
