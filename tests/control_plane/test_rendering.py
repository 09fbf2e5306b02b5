"""Pages for what goes wrong: a worker that refuses, fails or is away, and addresses that are none."""

from __future__ import annotations

import time

import pytest

from .console_app import Console, sign_in, text_of
from .contract_worker import ContractWorker

EU = "/ui/workers/eu"
SECTIONS = ("keys", "models", "teams", "users", "spend")


async def test_a_role_that_may_not_read_gets_a_clear_page(console: Console, eu: ContractWorker) -> None:
    message = "Authentication Error, Only proxy admin can do this. Your role=internal_user"
    eu.failures["/user/list"] = (403, {"detail": {"error": "Only admins list users"}})
    body = {"error": {"message": message, "type": "auth_error", "param": None, "code": "401"}}
    eu.failures["/team/list"] = (401, body)
    client = await console.signed_in("eu")
    for section, status, text in (
        ("users", 403, "Only admins list users"),
        ("teams", 401, "Only proxy admin can do this"),
    ):
        response = await client.get(f"{EU}/{section}")
        page = await response.get_data(as_text=True)
        assert response.status_code == status and "EU Production does not allow this" in page and text in page
    assert (await client.get(f"{EU}/keys/new")).status_code == 200


async def test_a_failing_worker_says_what_it_answered(console: Console, eu: ContractWorker) -> None:
    eu.failures["/key/list"] = (503, {"error": {"message": "database unavailable", "type": "x", "code": "503"}})
    response = await (await console.signed_in("eu")).get(f"{EU}/keys")
    page = await response.get_data(as_text=True)
    assert response.status_code == 502
    assert "<code>503</code>" in page and "database unavailable" in page and "Try again" in page


@pytest.mark.parametrize("section", SECTIONS)
async def test_a_dead_worker_is_a_designed_page_within_two_seconds(console: Console, section: str) -> None:
    client = await console.signed_in("eu")
    await sign_in(client, "us")
    del console.network.hosts["us"]
    started = time.perf_counter()
    page = await text_of(client, f"/ui/workers/us/{section}")
    assert time.perf_counter() - started < 2
    assert "US Staging does not answer" in page and "LLM traffic does not pass through the console" in page
    assert f'href="/ui/workers/us/{section}"' in page and "Try again" in page and 'aria-current="page"' in page
    started = time.perf_counter()
    await text_of(client, f"{EU}/{section}")
    assert time.perf_counter() - started < 0.5


async def test_a_dead_worker_says_so_also_before_sign_in_and_comes_back(console: Console, us: ContractWorker) -> None:
    client = await console.signed_in("eu")
    console.network.hosts["us"] = None
    assert "connection refused" in await text_of(client, "/ui/workers/us/keys")
    console.network.hosts["us"] = us
    assert (await client.get("/ui/workers/us/keys")).headers["Location"].startswith("/ui/login?worker=us")


async def test_a_change_that_got_no_answer_is_not_called_a_failure(console: Console, eu: ContractWorker) -> None:
    client = await console.signed_in("eu")
    page = await text_of(client, f"{EU}/keys/new")
    token = page.split('name="csrf_token" value="')[1].split('"')[0]
    console.network.hosts["eu"] = None
    response = await client.post(f"{EU}/keys", form={"key_alias": "x", "csrf_token": token})
    text = await response.get_data(as_text=True)
    assert "may or may not have been made" in text and f'href="{EU}/keys"' in text


async def test_a_fragment_of_a_dead_worker_replaces_the_whole_content(console: Console) -> None:
    client = await console.signed_in("eu")
    console.network.hosts["eu"] = None
    response = await client.get(f"{EU}/keys", headers={"HX-Request": "true", "HX-Target": "keys"})
    assert response.headers["HX-Retarget"] == "#main"


async def test_unknown_workers_and_pages(console: Console) -> None:
    client = await console.signed_in("eu")
    for address, text in (("/ui/workers/nope/keys", "Unknown worker"), ("/ui/nope", "No such page")):
        response = await client.get(address)
        assert response.status_code == 404 and text in await response.get_data(as_text=True)
    assert (await console.browser().get("/ui/workers/nope/keys")).status_code == 303
    assert (await client.get("/ui/nope", headers={})).headers["Cache-Control"] == "no-store"


async def test_the_switcher_keeps_the_section(console: Console) -> None:
    page = await text_of(await console.signed_in("eu"), f"{EU}/spend?days=7")
    assert 'href="/ui/workers/us/spend"' in page and 'href="/ui/workers/down/spend"' in page
