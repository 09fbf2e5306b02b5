"""/health: the newest finding wins, and looking calls nobody."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import httpx
import pytest
from quart import Quart

from app import create_app
from app.models import BACKGROUND_CHECK, HealthCheck
from app.services import EXTENSION
from app.settings import Settings
from tests.admin.conftest import Caller


@pytest.fixture
def settings(settings: Settings) -> Settings:
    """With background checks, which leave the one deployment out: the tests write what was found of it."""
    (entry,) = settings.model_list
    info = {**entry["model_info"], "disable_background_health_check": True}
    return replace(
        settings,
        background_health_checks=True,
        health_check_interval=100.0,
        model_list=({**entry, "model_info": info},),
    )


async def found(instance: Quart, error: str | None, *, seconds_ago: float = 0.0, by: str = BACKGROUND_CHECK) -> None:
    """A check of the one deployment."""
    with instance.extensions[EXTENSION].database.active():
        row = await HealthCheck.create(
            health_check_id=f"{error}-{seconds_ago}-{by}",
            model_name="sample-chat",
            model_id="configured-1",
            status="healthy" if error is None else "unhealthy",
            error_message=error,
            checked_by=by,
        )
        at = datetime.now(UTC) - timedelta(seconds=seconds_ago)
        await HealthCheck.filter(health_check_id=row.health_check_id).update(checked_at=at)


async def test_the_newest_check_says_what_is_wrong(admin: Caller, alice: Caller, instance: Quart) -> None:
    await found(instance, None, seconds_ago=60)
    await found(instance, "the provider did not answer in time", seconds_ago=5)
    answer = await admin.get("/health")
    assert answer.status_code == 503
    (row,) = answer.json()["unhealthy_endpoints"]
    assert (row["model_id"], row["error"]) == ("configured-1", "the provider did not answer in time")
    (row,) = (await alice.get("/health")).json()["unhealthy_endpoints"]
    assert row["error"] == "The health check failed"
    await found(instance, None)
    assert (await admin.get("/health")).json()["healthy_count"] == 1


async def test_an_old_check_and_one_that_somebody_asked_for_say_nothing(admin: Caller, instance: Quart) -> None:
    await found(instance, "long ago", seconds_ago=301)
    await found(instance, "other parameters", by="alice")
    assert (await admin.get("/health")).json()["unhealthy_count"] == 0


async def test_without_details_only_names_are_said(admin: Caller, instance: Quart) -> None:
    services = instance.extensions[EXTENSION]
    services.settings = replace(services.settings, shows_health_details=False)
    await found(instance, "a reason")
    (row,) = (await admin.get("/health")).json()["unhealthy_endpoints"]
    assert set(row) == {"model", "model_name", "model_id"}


async def test_backlog_drain_and_shared_status_describe_this_process(admin: Caller, instance: Quart) -> None:
    backlog = (await admin.get("/health/backlog")).json()
    assert backlog == {"in_flight": 0, "admitted": 0, "queued": 0, "rejected": 0, "spend_waiting": 0}
    assert (await admin.get("/health/drain")).json() == {"status": "serving", "in_flight": 0}
    shared = (await admin.get("/health/shared-status")).json()
    assert (shared["shared_health_check_enabled"], shared["is_checking_here"]) == (True, True)
    assert shared["interval_seconds"] == 100


async def test_an_instance_that_ends_is_not_ready(admin: Caller, instance: Quart) -> None:
    instance.extensions[EXTENSION].is_shutting_down = True
    for path in ("/health/readiness", "/health/readiness/details"):
        answer = await admin.get(path)
        assert (answer.status_code, answer.json()) == (503, {"status": "shutting_down"})
    assert (await admin.get("/health/liveliness")).status_code == 200
    assert (await admin.get("/health/drain")).json()["status"] == "draining"
    instance.extensions[EXTENSION].is_shutting_down = False


async def test_details_of_readiness_can_be_opened(settings: Settings, client: httpx.AsyncClient) -> None:
    assert (await client.get("/health/readiness/details")).status_code == 401
    app = create_app(replace(settings, allow_public_readiness_details=True, background_health_checks=False))
    async with app.test_app():
        transport = httpx.ASGITransport(app=app)  # type: ignore[arg-type]
        async with httpx.AsyncClient(transport=transport, base_url="http://worker") as http:
            answer = await http.get("/health/readiness/details")
    assert answer.status_code == 200
    assert (answer.json()["status"], answer.json()["spend_waiting"]) == ("healthy", None)
