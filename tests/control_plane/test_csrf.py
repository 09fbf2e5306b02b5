"""Changes come from our own pages, with the session's own token."""

from __future__ import annotations

import pytest

from .console_app import Console, post, sign_in, text_of
from .contract_worker import ContractWorker


@pytest.mark.parametrize("token", [None, "", "0" * 64, "é"])
async def test_a_missing_or_wrong_token_changes_nothing(
    console: Console, eu: ContractWorker, token: str | None
) -> None:
    client = await console.signed_in("eu")
    form = {"key_alias": "stolen", **({} if token is None else {"csrf_token": token})}
    response = await client.post("/ui/workers/eu/keys", form=form)
    assert response.status_code == 403
    assert "This form cannot be accepted" in await response.get_data(as_text=True)
    assert not eu.keys


async def test_a_token_of_another_session_is_wrong(console: Console, eu: ContractWorker) -> None:
    alice, bob = await console.signed_in("eu"), await console.signed_in("eu")
    page = await text_of(bob, "/ui/workers/eu/keys/new")
    token = page.split('name="csrf_token" value="')[1].split('"')[0]
    response = await alice.post("/ui/workers/eu/keys", form={"key_alias": "x", "csrf_token": token})
    assert response.status_code == 403 and not eu.keys


async def test_the_header_of_htmx_is_as_good_as_the_field(console: Console, eu: ContractWorker) -> None:
    client = await console.signed_in("eu")
    page = await text_of(client, "/ui/workers/eu/keys")
    token = page.split('"X-CSRF-Token": "')[1].split('"')[0]
    response = await client.post("/ui/workers/eu/keys", form={"key_alias": "x"}, headers={"X-CSRF-Token": token})
    assert response.status_code == 200 and len(eu.keys) == 1


CROSS_SITE = [{"Origin": "https://evil.example"}, {"Origin": "null"}, {"Sec-Fetch-Site": "cross-site"}]


@pytest.mark.parametrize("headers", [*CROSS_SITE, {"Sec-Fetch-Site": "same-site"}])
async def test_sign_in_from_another_site_is_refused(console: Console, headers: dict[str, str]) -> None:
    form = {"worker_id": "eu", "username": "alice", "password": "correct horse"}
    response = await console.browser().post("/ui/login", form=form, headers=headers)
    assert response.status_code == 403
    assert not console.workers["eu"].sessions and not console.store.rows


async def test_sign_in_from_our_own_page_or_a_plain_client_works(console: Console) -> None:
    form = {"worker_id": "eu", "username": "alice", "password": "correct horse"}
    own = {"Origin": "http://localhost", "Sec-Fetch-Site": "same-origin"}
    assert (await console.browser().post("/ui/login", form=form, headers=own)).status_code == 303
    assert (await sign_in(console.browser(), "eu")).status_code == 303


@pytest.mark.parametrize("headers", CROSS_SITE)
async def test_even_a_right_token_does_not_help_another_site(console: Console, headers: dict[str, str]) -> None:
    client = await console.signed_in("eu")
    page = await text_of(client, "/ui/workers/eu/keys")
    token = page.split('"X-CSRF-Token": "')[1].split('"')[0]
    response = await client.post("/ui/workers/eu/keys", form={"csrf_token": token, "key_alias": "x"}, headers=headers)
    assert response.status_code == 403


async def test_signing_out_needs_the_token(console: Console) -> None:
    client = await console.signed_in("eu")
    assert (await client.post("/ui/logout")).status_code == 403
    assert (await post(client, "/ui/logout")).status_code == 303


async def test_pages_carry_the_headers_of_a_console(console: Console) -> None:
    client = await console.signed_in("eu")
    headers = (await client.get("/ui/workers/eu/keys")).headers
    assert headers["Content-Security-Policy"].startswith("default-src 'self';")
    assert "frame-ancestors 'none'" in headers["Content-Security-Policy"]
    assert headers["Cache-Control"] == "no-store"
    assert headers["X-Content-Type-Options"] == "nosniff"
