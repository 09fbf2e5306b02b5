"""From an invitation's link to a first password."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import jwt
import pytest
from quart import Quart

from app.models import Invitation, VirtualKey
from app.security.credentials import hash_key, onboarding_token
from tests.admin.conftest import Caller
from tests.admin.org_cast import services_of
from tests.conftest import MASTER_KEY

PASSWORD = "my first password"


@pytest.fixture
async def link(admin: Caller, alice: Caller) -> str:
    """An open invitation of Alice."""
    return str((await admin.post("/invitation/new", user_id="alice")).json()["id"])


async def _token(client: httpx.AsyncClient, link: str) -> str:
    answer = await client.get("/onboarding/get_token", params={"invite_link": link})
    assert answer.status_code == 200, answer.text
    claims = jwt.decode(answer.json()["token"], options={"verify_signature": False})
    return str(claims["key"])


async def _claim(client: httpx.AsyncClient, token: str, **body: Any) -> httpx.Response:
    headers = {"Authorization": f"Bearer {token}"}
    body = {"user_id": "alice", "password": PASSWORD, **body}
    return await client.post("/onboarding/claim_token", json=body, headers=headers)


async def test_a_link_earns_a_token_that_is_no_session(client: httpx.AsyncClient, link: str, instance: Quart) -> None:
    answer = (await client.get("/onboarding/get_token", params={"invite_link": link})).json()
    assert set(answer) == {"login_url", "token", "user_email"}
    assert answer["user_email"] == "alice@acme.example"
    assert answer["token"] not in answer["login_url"] and link not in answer["login_url"]
    claims = jwt.decode(answer["token"], options={"verify_signature": False})
    assert claims["user_id"] == "alice" and claims["exp"] <= (datetime.now(UTC) + timedelta(minutes=15)).timestamp()
    inner = Caller(client, claims["key"])
    assert (await inner.get("/user/info")).status_code == 401
    with services_of(instance).database.active():
        assert await VirtualKey.filter(team_id="litellm-dashboard").count() == 0


async def test_a_claim_sets_the_password_and_signs_in(client: httpx.AsyncClient, admin: Caller, link: str) -> None:
    answer = await _claim(client, await _token(client, link), invitation_link=link)
    assert answer.status_code == 200, answer.text
    body = answer.json()
    assert (body["user_email"], body["user"]["user_id"]) == ("alice@acme.example", "alice")
    assert "password" not in body["user"] and PASSWORD not in answer.text
    claims = jwt.decode(body["token"], options={"verify_signature": False})
    assert (await Caller(client, claims["key"]).get("/user/info")).json()["user_id"] == "alice"
    login = await client.post("/v2/login", json={"username": "alice@acme.example", "password": PASSWORD})
    assert login.status_code == 200
    assert (await admin.get("/invitation/info", invitation_id=link)).json()["is_accepted"] is True
    again = await client.get("/onboarding/get_token", params={"invite_link": link})
    assert (again.status_code, "used" in again.json()["detail"]["error"]) == (401, True)


async def test_one_of_many_claims_at_once_wins(client: httpx.AsyncClient, link: str) -> None:
    token = await _token(client, link)
    claims = (_claim(client, token, invitation_link=link, password=f"{PASSWORD} {n}") for n in range(5))
    answers = await asyncio.gather(*claims)
    assert sorted(answer.status_code for answer in answers) == [200, 401, 401, 401, 401]


async def test_wrong_links_are_refused(client: httpx.AsyncClient, link: str, instance: Quart) -> None:
    unknown = await client.get("/onboarding/get_token", params={"invite_link": "x" * 43})
    assert (unknown.status_code, "not exist" in unknown.json()["detail"]["error"]) == (401, True)
    assert (await client.get("/onboarding/get_token")).status_code == 422
    token = await _token(client, link)
    with services_of(instance).database.active():
        await Invitation.filter(id=hash_key(link)).update(expires_at=datetime.now(UTC) - timedelta(seconds=1))
    expired = await client.get("/onboarding/get_token", params={"invite_link": link})
    assert (expired.status_code, "expired" in expired.json()["detail"]["error"]) == (401, True)
    assert (await _claim(client, token, invitation_link=link)).status_code == 401


async def test_wrong_claims_are_refused(client: httpx.AsyncClient, admin: Caller, bob: Caller, link: str) -> None:
    token = await _token(client, link)
    other = str((await admin.post("/invitation/new", user_id="bob")).json()["id"])
    soon = datetime.now(UTC) + timedelta(minutes=5)
    forged = onboarding_token(link, "alice", soon, "sk-another-master-key-0123456789")
    stale = onboarding_token(link, "alice", soon - timedelta(minutes=6), MASTER_KEY)
    for bad in ("", "nonsense", forged, stale, MASTER_KEY):
        assert (await _claim(client, bad, invitation_link=link)).status_code == 401, bad
    assert (await _claim(client, token, invitation_link=other)).status_code == 401
    assert (await _claim(client, token, invitation_link=link, user_id="bob")).status_code == 401
    short = await _claim(client, token, invitation_link=link, password="short")
    assert (short.status_code, short.json()["error"]["param"]) == (400, "password")
    assert (await _claim(client, token, invitation_link=link)).status_code == 200


async def test_a_claim_closes_the_other_links_to_the_user(client: httpx.AsyncClient, admin: Caller, link: str) -> None:
    """An older link that somebody still has would set the password once more."""
    older = (await admin.post("/invitation/new", user_id="alice")).json()["id"]
    token = await _token(client, older)
    assert (await _claim(client, await _token(client, link), invitation_link=link)).status_code == 200
    assert (await client.get("/onboarding/get_token", params={"invite_link": older})).status_code == 401
    assert (await _claim(client, token, invitation_link=older)).status_code == 401
