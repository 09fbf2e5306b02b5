"""Sign in to one worker, to this instance, and every way in which that is refused."""

from __future__ import annotations

import asyncio
import time

import pytest

from .console_app import Console, sign_in, text_of
from .contract_worker import ContractWorker


async def test_the_page_lists_names_and_no_addresses(console: Console) -> None:
    page = await text_of(console.browser(), "/ui/login")
    assert "EU Production" in page and "Frankfurt" in page and "http://eu" not in page


async def test_a_worker_opens_its_keys(console: Console) -> None:
    response = await sign_in(console.browser(), "us")
    assert (response.status_code, response.headers["Location"]) == (303, "/ui/workers/us/keys")


async def test_no_worker_means_the_control_plane_itself_and_opens_the_overview(console: Console) -> None:
    client = console.browser()
    response = await sign_in(client, "")
    assert response.headers["Location"] == "/ui/workers"
    assert console.own.sessions and not console.workers["eu"].sessions
    assert "EU Production" in await text_of(client, "/ui/workers")


async def test_an_instance_alone_has_no_list() -> None:
    console = Console({}, is_control_plane=False)
    client = console.browser()
    assert "worker_id" not in await text_of(client, "/ui/login")
    response = await client.post("/ui/login", form={"username": "alice", "password": "correct horse"})
    assert response.headers["Location"] == "/ui/workers/self/keys"
    assert "No keys on This worker" in await text_of(client, "/ui/workers/self/keys")


async def test_a_wrong_password_names_the_worker_and_keeps_the_name(console: Console) -> None:
    response = await sign_in(console.browser(), "us", password="wrong")
    text = await response.get_data(as_text=True)
    assert response.status_code == 401
    assert "US Staging did not accept this username and password." in text
    assert 'value="alice"' in text and "wrong" not in text and 'value="us" data-env="staging" checked' in text


async def test_a_worker_without_control_plane_url_says_what_to_set(console: Console) -> None:
    console.workers["us"].has_control_plane = False
    text = await (await sign_in(console.browser(), "us")).get_data(as_text=True)
    assert "<code>control_plane_url</code> under <code>general_settings</code> to <code>http://localhost</code>" in text


async def test_throttling_says_when_to_come_back(console: Console, eu: ContractWorker) -> None:
    body = {"error": {"message": "Too many", "type": "auth_error", "param": "username", "code": "429"}}
    eu.failures["/v3/login"] = (429, body)
    response = await sign_in(console.browser(), "eu")
    assert response.status_code == 429
    assert "Try again in 1 min" in await response.get_data(as_text=True)


@pytest.mark.parametrize("worker_id", ["down", "silent"])
async def test_a_dead_worker_is_said_within_two_seconds(console: Console, worker_id: str) -> None:
    started = time.perf_counter()
    response = await sign_in(console.browser(), worker_id)
    assert time.perf_counter() - started < 2
    assert response.status_code == 502
    assert "does not answer" in await response.get_data(as_text=True)


async def test_unknown_worker_and_missing_fields(console: Console) -> None:
    assert (await sign_in(console.browser(), "nope")).status_code == 404
    response = await console.browser().post("/ui/login", form={"worker_id": "eu"})
    assert response.status_code == 400


@pytest.mark.parametrize(
    "address",
    [
        "https://evil.example/ui/",
        "//evil.example/ui/",
        "/\\evil.example",
        "/ui/\\evil",
        "/ui/%2e%2e/%2E%2E//evil.example",
        "/ui/../x",
        "/other",
        "javascript:1",
        "/ui/logout",
        "/ui/workers\r\nSet-Cookie: a=b",
    ],
)
async def test_next_stays_inside_the_console(console: Console, address: str) -> None:
    response = await sign_in(console.browser(), "eu", next=address)
    assert response.headers["Location"] == "/ui/workers"


async def test_the_theme_is_the_servers(console: Console) -> None:
    client = console.browser()
    response = await client.post("/ui/theme", form={"theme": "dark", "next": "/ui/workers"})
    assert response.status_code == 303
    assert '<html lang="en" data-theme="dark">' in await text_of(client, "/ui/login")
    await client.post("/ui/theme", form={"theme": "<script>"})
    assert 'data-theme="dark"' in await text_of(client, "/ui/login")


async def test_guessing_at_the_console_is_stopped_before_the_worker_is_asked(console: Console) -> None:
    for _ in range(5):
        assert (await sign_in(console.browser(), "eu", password="guess")).status_code == 401
    refused = await sign_in(console.browser(), "eu")
    assert refused.status_code == 429
    assert refused.headers["Retry-After"] == "300"
    assert "Too many failed sign-ins" in await refused.get_data(as_text=True)
    assert (await sign_in(console.browser(), "us")).status_code == 303


async def test_guesses_that_come_all_at_once_are_counted(console: Console, eu: ContractWorker) -> None:
    client = console.browser()
    answers = await asyncio.gather(*(sign_in(client, "eu", password=f"guess {number}") for number in range(30)))
    assert {answer.status_code for answer in answers} == {401, 429}
    assert sum(path == "/v3/login" for _, path, _ in eu.requests) < 10
