"""Workers that answer nonsense, and addresses that nobody meant: a page that says so, and nothing else breaks."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest

from .console_app import Console, sign_in, text_of
from .contract_worker import ContractWorker

_ODD_DAYS: list[Any] = [
    [],
    "text",
    None,
    {"results": "text"},
    {"results": [{"date": "today", "metrics": {"api_requests": "many"}}]},
]


@pytest.mark.parametrize("answer", _ODD_DAYS, ids=lambda answer: json.dumps(answer)[:40])
async def test_nonsense_of_one_worker_leaves_the_overview(console: Console, eu: ContractWorker, answer: Any) -> None:
    client = await console.signed_in("eu")
    await sign_in(client, "us")
    today = datetime.now(UTC).date().isoformat()
    eu.failures["/user/daily/activity"] = (200, json.dumps(answer).replace('"today"', f'"{today}"'))
    page = await text_of(client, "/ui/workers?full=1")
    assert "something that the console cannot read" in page and "US Staging" in page
    assert (await client.get("/ui/workers/us/spend")).status_code == 200
    response = await client.get("/ui/workers/eu/spend")
    assert response.status_code == 502
    assert "This page could not be shown" in await response.get_data(as_text=True)


async def test_an_odd_health_check_leaves_the_overview(console: Console, eu: ContractWorker) -> None:
    client = await console.signed_in("eu")
    eu.failures["/health/readiness"] = (200, "[]")
    assert "Answers a health check with something" in await text_of(client, "/ui/workers?full=1")


@pytest.mark.parametrize("spend", ["NaN", "Infinity", "1e999999999"])
async def test_numbers_without_a_size_are_refused(console: Console, eu: ContractWorker, spend: str) -> None:
    client = await console.signed_in("eu")
    eu.failures["/key/list"] = (200, f'{{"keys": [{{"token": "a", "spend": {spend}, "max_budget": 1}}]}}')
    response = await client.get("/ui/workers/eu/keys")
    assert response.status_code == 502 and "is not JSON" in await response.get_data(as_text=True)


async def test_an_endlessly_nested_answer_is_refused(console: Console, eu: ContractWorker) -> None:
    client = await console.signed_in("eu")
    eu.failures["/key/list"] = (200, "[" * 100_000)
    assert (await client.get("/ui/workers/eu/keys")).status_code == 502


@pytest.mark.parametrize("number", ["²", "9" * 5000, "-1", "٣", "0"])
async def test_a_page_number_that_is_none_shows_the_first_page(console: Console, number: str) -> None:
    client = await console.signed_in("eu")
    for section in ("keys", "users"):
        response = await client.get(f"/ui/workers/eu/{section}", query_string={"page": number})
        assert response.status_code == 200


async def test_a_limit_with_thousands_of_digits_is_an_error_of_its_field(console: Console) -> None:
    client = await console.signed_in("eu")
    page = await text_of(client, "/ui/workers/eu/keys/new")
    token = page.split('name="csrf_token" value="')[1].split('"')[0]
    form = {"csrf_token": token, "key_alias": "k", "rpm_limit": "9" * 5000}
    response = await client.post("/ui/workers/eu/keys", form=form)
    assert response.status_code == 422
    assert "Enter a whole number" in await response.get_data(as_text=True)


async def test_a_username_of_any_script_can_change_things(console: Console, eu: ContractWorker) -> None:
    client = console.browser()
    await sign_in(client, "eu", username="Łukasz")
    page = await text_of(client, "/ui/workers/eu/keys/new")
    token = page.split('name="csrf_token" value="')[1].split('"')[0]
    response = await client.post("/ui/workers/eu/keys", form={"csrf_token": token, "key_alias": "k"})
    assert response.status_code == 200 and len(eu.keys) == 1


async def test_a_secret_is_shown_even_when_the_list_behind_it_fails(console: Console, eu: ContractWorker) -> None:
    client = await console.signed_in("eu")
    page = await text_of(client, "/ui/workers/eu/keys/new")
    token = page.split('name="csrf_token" value="')[1].split('"')[0]
    eu.failures["/key/list"] = (500, {"error": {"message": "down"}})
    response = await client.post("/ui/workers/eu/keys", form={"csrf_token": token, "key_alias": "k"})
    assert response.status_code == 200
    assert "Copy this secret now" in await response.get_data(as_text=True)
