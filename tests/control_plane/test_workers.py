"""The overview: every worker for itself, what is wrong first, nothing old shown as live."""

from __future__ import annotations

import time
from datetime import UTC, datetime

from .console_app import Console, sign_in, text_of
from .contract_worker import ContractWorker


async def test_the_overview_does_not_wait_for_any_worker(console: Console) -> None:
    client = await console.signed_in("eu")
    started = time.perf_counter()
    page = await text_of(client, "/ui/workers")
    assert time.perf_counter() - started < 0.5
    assert page.count("Checking") == 4 and page.count("EU Production") > 1
    assert 'hx-get="/ui/workers/silent/tile"' in page
    assert "<noscript>" in page and "/ui/workers?full=1" in page


async def test_a_tile_has_live_figures(console: Console, eu: ContractWorker) -> None:
    eu.add_day(datetime.now(UTC).date().isoformat(), {"chat-small": 12.5}, requests=400, failed=2)
    tile = await text_of(await console.signed_in("eu"), "/ui/workers/eu/tile")
    assert "Healthy" in tile and "$12.50" in tile and "400" in tile and "0.50%" in tile and "0.1.0" in tile
    assert "<html" not in tile


async def test_a_worker_without_sign_in_shows_health_only(console: Console) -> None:
    tile = await text_of(await console.signed_in("eu"), "/ui/workers/us/tile")
    assert "Healthy" in tile and "Sign in to see usage" in tile and "$" not in tile


async def test_dead_workers_have_tiles_in_time(console: Console) -> None:
    client = await console.signed_in("eu")
    for worker_id in ("down", "silent"):
        started = time.perf_counter()
        tile = await text_of(client, f"/ui/workers/{worker_id}/tile")
        assert time.perf_counter() - started < 1.8
        assert "Unreachable" in tile and "Does not answer" in tile


async def test_figures_of_a_worker_that_went_away_are_not_shown(console: Console, eu: ContractWorker) -> None:
    eu.add_day(datetime.now(UTC).date().isoformat(), {"chat-small": 12.5})
    client = await console.signed_in("eu")
    assert "$12.50" in await text_of(client, "/ui/workers/eu/tile")
    console.network.hosts["eu"] = None
    tile = await text_of(client, "/ui/workers/eu/tile")
    assert "$12.50" not in tile and "last answer" in tile and "0.1.0, as last seen" in tile


async def test_the_whole_overview_in_one_answer_without_script(console: Console, eu: ContractWorker) -> None:
    eu.add_key("triage", spend=11, max_budget=10)
    client = await console.signed_in("eu")
    await sign_in(client, "us")
    started = time.perf_counter()
    page = await text_of(client, "/ui/workers?full=1")
    assert time.perf_counter() - started < 2
    assert "Checking" not in page and "2 unreachable" in page
    assert page.index("Does not answer") < page.index("Key triage has spent its budget")


async def test_degraded_workers_say_why(console: Console, eu: ContractWorker, us: ContractWorker) -> None:
    eu.add_day(datetime.now(UTC).date().isoformat(), {"chat-small": 1.0}, requests=100, failed=9)
    us.failures["/health/readiness"] = (503, {"detail": "database unavailable"})
    client = await console.signed_in("eu")
    summary = await text_of(client, "/ui/workers/summary")
    assert "9.0% of today&#39;s requests failed (9 of 100)" in summary
    assert "Answers 503 to a health check: database unavailable" in summary
    assert "2 degraded" in summary


async def test_only_signed_in_callers_see_it(console: Console) -> None:
    for address in ("/ui/workers", "/ui/workers/summary", "/ui/workers/eu/tile", "/ui/workers/eu"):
        assert (await console.browser().get(address)).status_code == 303


async def test_short_addresses_lead_on(console: Console) -> None:
    client = await console.signed_in("eu")
    for address in ("/ui", "/ui/"):
        assert (await client.get(address)).headers["Location"] == "/ui/workers"
    assert (await client.get("/ui/workers/eu")).headers["Location"] == "/ui/workers/eu/keys"
    assert (await client.get("/ui/workers/nope/tile")).status_code == 404


async def test_every_route_says_who_may_call_it(console: Console) -> None:
    for rule in console.app.url_map.iter_rules():
        if rule.endpoint.startswith("console."):
            assert getattr(console.app.view_functions[rule.endpoint], "access", None) in ("public", "console"), rule
