"""The browser holds an id and nothing else; credentials stay on the server and end with the session."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from app.control_plane.session import COOKIE

from .console_app import Console, post, sign_in, text_of
from .contract_worker import ContractWorker


async def test_the_cookie_is_an_id_that_scripts_cannot_read(console: Console) -> None:
    response = await sign_in(console.browser(), "eu")
    cookie = response.headers["Set-Cookie"]
    assert cookie.startswith(f"{COOKIE}=")
    assert "HttpOnly" in cookie and "SameSite=Lax" in cookie and "Secure" not in cookie
    assert not any(key in cookie for key in console.workers["eu"].sessions)


async def test_over_https_the_cookie_is_secure(console: Console) -> None:
    client = console.app.test_client()
    form = {"worker_id": "eu", "username": "alice", "password": "correct horse"}
    response = await client.post("/ui/login", form=form, scheme="https")
    assert "Secure" in response.headers["Set-Cookie"]


def _other_signature(cookie: str) -> str:
    """Not by its last letter, which has bits that count for nothing."""
    return f"{cookie[:-2]}{'y' if cookie[-2] == 'x' else 'x'}{cookie[-1]}"


@pytest.mark.parametrize("forge", [lambda c: "made-up", _other_signature, lambda c: "x" + c, lambda c: ""])
async def test_a_forged_cookie_is_signed_out(console: Console, forge: object) -> None:
    assert callable(forge)
    response = await sign_in(console.browser(), "eu")
    genuine = response.headers["Set-Cookie"].split("=", 1)[1].split(";")[0]
    client = console.browser()
    client.set_cookie("localhost", COOKIE, forge(genuine))
    answer = await client.get("/ui/workers")
    assert answer.status_code == 303 and answer.headers["Location"].startswith("/ui/login")


async def test_the_id_changes_at_every_sign_in_and_forms_stay_valid(console: Console) -> None:
    client = await console.signed_in("eu")
    before = set(console.store.rows)
    form = {"key_alias": "from-an-older-tab"}
    page = await text_of(client, "/ui/workers/eu/keys/new")
    await sign_in(client, "us")
    assert len(console.store.rows) == 1 and not before & set(console.store.rows)
    token = page.split('name="csrf_token" value="')[1].split('"')[0]
    response = await client.post("/ui/workers/eu/keys", form={**form, "csrf_token": token})
    assert response.status_code == 200


async def test_no_page_holds_a_workers_credential(console: Console, eu: ContractWorker) -> None:
    client = await console.signed_in("eu")
    eu.add_key("checkout")
    for address in ("/ui/workers", "/ui/workers?full=1", "/ui/workers/eu/keys", "/ui/workers/eu/keys/new"):
        text = await text_of(client, address)
        assert not any(key in text for key in eu.sessions), address


async def test_each_worker_needs_its_own_sign_in_and_comes_back(console: Console) -> None:
    client = await console.signed_in("eu")
    response = await client.get("/ui/workers/us/teams?x=1")
    location = response.headers["Location"]
    assert location == "/ui/login?worker=us&next=/ui/workers/us/teams%3Fx%3D1"
    page = await text_of(client, location)
    assert 'value="us" data-env="staging" checked' in page
    answer = await sign_in(client, "us", next="/ui/workers/us/teams?x=1")
    assert answer.headers["Location"] == "/ui/workers/us/teams?x=1"
    assert (await client.get("/ui/workers/eu/keys")).status_code == 200


async def test_an_expired_credential_goes_to_sign_in_also_out_of_htmx(console: Console) -> None:
    client = await console.signed_in("eu")
    await sign_in(client, "us")
    row = next(iter(console.store.rows.values()))["credentials"]["eu"]
    row["expires_at"] = (datetime.now(UTC) - timedelta(seconds=1)).isoformat()
    headers = {"HX-Request": "true", "HX-Current-URL": "http://localhost/ui/workers/eu/keys?status=active"}
    response = await client.get("/ui/workers/eu/keys?alias=x", headers=headers)
    assert response.headers["HX-Redirect"] == "/ui/login?worker=eu&next=/ui/workers/eu/keys%3Fstatus%3Dactive"


async def test_a_credential_is_not_sent_to_another_address_under_the_same_id(
    console: Console, eu: ContractWorker
) -> None:
    client = await console.signed_in("eu")
    await sign_in(client, "us")
    next(iter(console.store.rows.values()))["credentials"]["eu"]["worker_url"] = "http://where-eu-was-before"
    sessions = set(eu.sessions)
    response = await client.get("/ui/workers/eu/keys")
    assert response.status_code == 303 and response.headers["Location"].startswith("/ui/login?worker=eu")
    await post(client, "/ui/logout", page="/ui/workers")
    assert set(eu.sessions) == sessions


async def test_a_session_that_the_worker_revoked_signs_out_there_only(console: Console, eu: ContractWorker) -> None:
    client = await console.signed_in("eu")
    await sign_in(client, "us")
    eu.sessions.clear()
    response = await client.get("/ui/workers/eu/keys")
    assert response.headers["Location"].startswith("/ui/login?worker=eu")
    assert (await client.get("/ui/workers/us/keys")).status_code == 200


async def test_sign_out_revokes_at_every_worker(console: Console, eu: ContractWorker, us: ContractWorker) -> None:
    client = await console.signed_in("eu")
    await sign_in(client, "us")
    response = await post(client, "/ui/logout")
    assert response.status_code == 303
    assert not eu.sessions and not us.sessions and not console.store.rows
    assert (await client.get("/ui/workers")).status_code == 303
