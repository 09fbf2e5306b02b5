"""How models did lately."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from quart import Quart

from app.models import SpendLog
from app.services import EXTENSION
from tests.admin.conftest import Caller

NOON = datetime.now(UTC).replace(hour=12, minute=0, second=0, microsecond=0) - timedelta(days=1)
DAY = NOON.date().isoformat()
BASE = "http://a/v1"


@pytest.fixture
async def calls(instance: Quart) -> None:
    rows: list[dict[str, Any]] = [
        {"completion_tokens": 10, "request_duration_ms": 1000, "completion_start_time": NOON + timedelta(seconds=0.5)},
        {"completion_tokens": 10, "request_duration_ms": 3000},
        {"completion_tokens": 1, "request_duration_ms": 90_000, "api_base": "http://b/v1"},
        {"status": "failure", "metadata": {"error_information": {"error_class": "RateLimitError"}}},
        {"status": "failure", "metadata": {}},
        {"model_group": "other", "completion_tokens": 1, "request_duration_ms": 1},
        {"completion_tokens": 1, "request_duration_ms": 1, "start_time": NOON - timedelta(days=90)},
    ]
    with instance.extensions[EXTENSION].database.active():
        for number, row in enumerate(rows):
            usual = {"model_group": "chat", "model": "m", "api_base": BASE, "start_time": NOON, "call_type": "x"}
            filled = {**usual, **row}
            ends = filled["start_time"] + timedelta(seconds=5)
            await SpendLog.create(request_id=f"r{number}", end_time=ends, **filled)


@pytest.mark.usefixtures("calls")
async def test_seconds_per_token_for_each_day_and_target(admin: Caller) -> None:
    answer = (await admin.get("/model/metrics", _selected_model_group="chat")).json()
    assert answer == {"data": [{"date": DAY, BASE: 0.2, "http://b/v1": 90}], "all_api_bases": [BASE, "http://b/v1"]}
    assert (await admin.get("/model/metrics", _selected_model_group="zz")).json() == {"data": [], "all_api_bases": []}
    since = (NOON - timedelta(days=100)).isoformat()
    days = (await admin.get("/model/metrics", model_group="chat", startTime=since)).json()["data"]
    assert [len(day) for day in days] == [2, 3]


@pytest.mark.usefixtures("calls")
async def test_seconds_to_the_first_token(admin: Caller) -> None:
    answer = (await admin.get("/model/streaming_metrics")).json()
    assert answer == {"data": [{"date": DAY, BASE: pytest.approx(0.5, abs=0.002)}], "all_api_bases": [BASE]}


@pytest.mark.usefixtures("calls")
async def test_slow_calls_are_counted(admin: Caller) -> None:
    rows = (await admin.get("/model/metrics/slow_responses", _selected_model_group="chat")).json()
    assert rows == [
        {"api_base": "http://b/v1", "total_count": 1, "slow_count": 1},
        {"api_base": BASE, "total_count": 2, "slow_count": 0},
    ]


@pytest.mark.usefixtures("calls")
async def test_errors_are_counted_by_class(admin: Caller) -> None:
    answer = (await admin.get("/model/metrics/exceptions")).json()
    assert answer["data"] == [{"model": f"chat-{BASE}", "RateLimitError": 1, "Unknown": 1}]
    assert answer["exception_types"] == ["RateLimitError", "Unknown"]


async def test_who_may(alice: Caller, vera: Caller) -> None:
    for path in ("/model/metrics", "/model/metrics/exceptions", "/model/metrics/slow_responses"):
        assert (await alice.get(path)).status_code == 401
        assert (await vera.get(path)).status_code == 200
    assert (await vera.get("/model/streaming_metrics", startTime="yesterday")).status_code == 422
