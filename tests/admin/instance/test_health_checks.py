"""Checks of deployments: one small call on demand, and no credential in what is kept of it."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from quart import Quart

from app.errors import UpstreamError
from app.models import HealthCheck
from app.services import EXTENSION
from tests.admin.conftest import Caller

SECRET = "sk-secret-of-a-try-0123456789"
PARAMS = {"model": "openai/sample", "api_key": SECRET, "extra_headers": {"x-auth": f"Token {SECRET}-2"}}


class Prober:
    """Answers what a test wants; remembers the calls."""

    def __init__(self) -> None:
        self.answer: Mapping[str, Any] | Exception = {"status": "success"}
        self.calls: list[tuple[str, str]] = []

    async def test(self, model_name: str, litellm_params: Mapping[str, Any], mode: str) -> Mapping[str, Any]:
        self.calls.append((model_name, mode))
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


@pytest.fixture
def tester(instance: Quart) -> Prober:
    prober = Prober()
    instance.extensions[EXTENSION].connection_tester = prober
    return prober


async def test_a_deployment_is_tried_once_and_the_outcome_is_kept(admin: Caller, tester: Prober) -> None:
    answer = await admin.post("/health/test_connection", litellm_params=PARAMS, mode="embedding")
    assert answer.status_code == 200, answer.text
    assert (answer.json()["status"], answer.json()["result"]["model"]) == ("success", "openai/sample")
    assert tester.calls == [("openai/sample", "embedding")]
    latest = (await admin.get("/health/latest")).json()
    assert latest["total_models"] == 1
    row = latest["latest_health_checks"]["openai/sample"]
    assert (row["status"], row["healthy_count"], row["error_message"]) == ("healthy", 1, None)


@pytest.mark.parametrize(
    "outcome",
    [
        {"status": "error", "error": f"401: wrong key {SECRET}, header {SECRET}-2"},
        UpstreamError(f"401: wrong key {SECRET}, header {SECRET}-2"),
        ValueError(f"api_base http://{SECRET}@host holds more than an address"),
    ],
)
async def test_a_failure_is_told_without_credentials(admin: Caller, tester: Prober, outcome: Any) -> None:
    tester.answer = outcome
    answer = await admin.post("/health/test_connection", litellm_params=PARAMS)
    assert (answer.status_code, answer.json()["status"]) == (200, "error")
    assert "****" in answer.json()["result"]["error"]
    history = await admin.get("/health/history", status_filter="unhealthy")
    assert history.json()["total_records"] == 1
    assert SECRET not in answer.text + history.text


async def test_wrong_tries_call_nobody(admin: Caller, alice: Caller, vera: Caller, tester: Prober) -> None:
    reference = {"model": "openai/x", "api_key": "os.environ/LITELLM_MASTER_KEY"}
    for body, status in (
        ({}, 422),
        ({"litellm_params": {}}, 400),
        ({"litellm_params": reference}, 400),
        ({"litellm_params": PARAMS, "mode": "telepathy"}, 422),
    ):
        assert (await admin.post("/health/test_connection", **body)).status_code == status, body
    refused = [await caller.post("/health/test_connection", litellm_params=PARAMS) for caller in (alice, vera)]
    assert [answer.status_code for answer in refused] == [401, 403]
    assert tester.calls == []


async def test_an_instance_without_calls_to_providers_says_so(admin: Caller, instance: Quart) -> None:
    instance.extensions[EXTENSION].connection_tester = None
    assert (await admin.post("/health/test_connection", litellm_params=PARAMS)).status_code == 503


@pytest.fixture
async def checks(instance: Quart) -> None:
    with instance.extensions[EXTENSION].database.active():
        for number in range(6):
            await HealthCheck.create(
                health_check_id=str(number),
                model_name="b" if number % 2 else "a",
                status="unhealthy" if number == 5 else "healthy",
                error_message="address 10.0.0.7 refused" if number == 5 else None,
            )
            moment = datetime(2026, 1, 1, tzinfo=UTC) + timedelta(hours=number)  # fixed date: only their order matters
            await HealthCheck.filter(health_check_id=str(number)).update(checked_at=moment)


@pytest.mark.usefixtures("checks")
async def test_the_newest_check_of_each_model(admin: Caller, alice: Caller) -> None:
    rows = (await admin.get("/health/latest")).json()["latest_health_checks"]
    assert {name: row["health_check_id"] for name, row in rows.items()} == {"a": "4", "b": "5"}
    seen = await alice.get("/health/latest")
    assert seen.json()["latest_health_checks"]["b"]["status"] == "unhealthy"
    assert "10.0.0.7" not in seen.text


@pytest.mark.usefixtures("checks")
async def test_the_history_is_paged_and_filtered(admin: Caller) -> None:
    body = (await admin.get("/health/history", model="a", limit=2, offset=1)).json()
    assert [row["health_check_id"] for row in body["health_checks"]] == ["2", "0"]
    assert (body["total_records"], body["limit"], body["offset"]) == (3, 2, 1)
    assert (await admin.get("/health/history", status_filter="odd")).status_code == 422
    assert (await admin.get("/health/history", limit=100_000)).status_code == 422


async def test_services_that_are_not_configured(admin: Caller) -> None:
    for query, status in (({"service": "slack"}, 422), ({"service": "fax"}, 400), ({}, 422)):
        assert (await admin.get("/health/services", **query)).status_code == status, query
