"""Sign-in of a worker: what is asked, what is answered, and what the session may do."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from app.models import User, VirtualKey
from app.security.credentials import hash_key, hash_password, pkce_challenge
from tests.auth.instance import ADMIN, CONSOLE, Instance, bearer, claims_of, serving
from tests.conftest import MASTER_KEY

VERIFIER = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk"


async def new_user(instance: Instance, email: str, password: str | None, role: str | None) -> None:
    with instance.services.database.active():
        stored = hash_password(password) if password else None
        await User.create(user_id=email, user_email=email, password=stored, user_role=role)


async def session_row(instance: Instance, token: str) -> VirtualKey | None:
    with instance.services.database.active():
        return await VirtualKey.get_or_none(token=hash_key(claims_of(token)["key"]))


# ---- discovery -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/.well-known/litellm-ui-config", "/litellm/.well-known/litellm-ui-config"])
async def test_discovery_describes_a_worker(worker: Instance, path: str) -> None:
    answer = await worker.http.get(path)
    assert list(answer.json().items()) == [
        ("server_root_path", ""),
        ("proxy_base_url", None),
        ("auto_redirect_to_sso", False),
        ("admin_ui_disabled", False),
        ("sso_configured", False),
        ("hide_default_credentials_hint", False),
        ("is_control_plane", False),
        ("mcp_stdio_enabled", False),
        ("workers", []),
    ]
    refused = await worker.http.post(path)
    assert (refused.status_code, refused.json()) == (405, {"detail": "Method Not Allowed"})


# ---- what is answered ----------------------------------------------------------------------------------------------


async def test_a_right_password_is_answered_with_a_token_and_the_way_on(worker: Instance) -> None:
    answer = await worker.http.post("/v2/login", json=ADMIN)
    assert answer.status_code == 200
    assert answer.json() == {
        "redirect_url": "http://worker/ui?login=success",
        "token": answer.cookies["token"],
    }


async def test_a_form_is_answered_with_the_way_on(worker: Instance) -> None:
    answer = await worker.http.post("/login", data=ADMIN)
    assert answer.status_code == 303
    assert answer.headers["Location"] == "http://worker/ui?login=success"
    assert claims_of(answer.cookies["token"])["user_id"] == "default_user_id"


async def test_a_code_is_exchanged_for_the_token(worker: Instance) -> None:
    started = await worker.http.post("/v3/login", json=ADMIN)
    assert started.status_code == 200
    assert set(started.json()) == {"code", "expires_in"}
    assert len(started.json()["code"]) == 43
    assert started.json()["expires_in"] == 60
    assert "Set-Cookie" not in started.headers
    finished = await worker.exchange(started.json()["code"])
    assert finished.status_code == 200
    assert finished.json() == {"token": finished.cookies["token"], "redirect_url": "http://worker/ui?login=success"}
    again = await worker.exchange(started.json()["code"])
    assert again.status_code == 401


async def test_a_public_address_leads_the_way_on(migrated_sqlite_url: str, tmp_path: Path) -> None:
    async with serving(
        migrated_sqlite_url, state_dir=tmp_path, proxy_base_url="https://gw.example.com", server_root_path="/ai"
    ) as instance:
        answer = await instance.http.post("/v2/login", json=ADMIN)
        assert answer.json()["redirect_url"] == "https://gw.example.com/ai/ui?login=success"


# ---- what is refused -------------------------------------------------------------------------------------------------

_WRONG = {"message": "", "type": "auth_error", "param": "invalid_credentials", "code": "401"}


@pytest.mark.parametrize("path", ["/v2/login", "/v3/login"])
@pytest.mark.parametrize(
    "body",
    [
        {"username": "admin", "password": "wrong"},
        {"username": "Admin", "password": MASTER_KEY},
        {"username": "nobody@example.com", "password": "wrong"},
        {"username": "admin"},
        {"password": MASTER_KEY},
        {},
        {"username": None, "password": None},
        {"username": 7, "password": ["x"]},
        {"username": "\x00", "password": "\x00"},
        {"username": "a" * 5000, "password": "b" * 5000},
    ],
)
async def test_wrong_names_and_passwords_have_one_answer(worker: Instance, path: str, body: dict[str, Any]) -> None:
    answer = await worker.http.post(path, json=body)
    assert answer.status_code == 401
    assert {**answer.json()["error"], "message": ""} == _WRONG
    assert "Set-Cookie" not in answer.headers


async def test_odd_names_are_no_trouble_for_either_database(database_url: str, tmp_path: Path) -> None:
    async with serving(database_url, state_dir=tmp_path) as instance:
        for username in ("\x00", "a\x00b@example.com", "a" * 5000, "'; DROP TABLE user_account; --", "😀"):
            answer = await instance.http.post("/v2/login", json={"username": username, "password": "x"})
            assert answer.status_code == 401, (username, answer.text)
        answer = await instance.http.post("/login", data={"username": "a\x00b", "password": "x"})
        assert answer.status_code == 401


@pytest.mark.parametrize("path", ["/v2/login", "/v3/login", "/v3/login/exchange"])
@pytest.mark.parametrize(
    "body",
    [b"", b"{", b"username=admin&password=x", b'["admin"]', b'"admin"', b"null", b'{"username": "\\ud800"}', b"\xff"],
)
async def test_what_is_no_json_object_is_a_clear_400(worker: Instance, path: str, body: bytes) -> None:
    answer = await worker.http.post(path, content=body)
    assert answer.status_code == 400
    assert answer.json()["error"] == {
        "message": "The body must be a JSON object",
        "type": "auth_error",
        "param": "request_body",
        "code": "400",
    }


@pytest.mark.parametrize("body", [{}, {"code": ""}, {"code": None}])
async def test_an_exchange_needs_a_code(worker: Instance, body: dict[str, Any]) -> None:
    answer = await worker.http.post("/v3/login/exchange", json=body)
    assert answer.status_code == 400
    assert answer.json()["error"] == {
        "message": "Missing 'code' parameter",
        "type": "auth_error",
        "param": "code",
        "code": "400",
    }


@pytest.mark.parametrize("code", ["x" * 43, "unknown", 12345, ["x"], {"a": 1}, "\x00", True])
async def test_a_forged_code_is_refused(worker: Instance, code: Any) -> None:
    answer = await worker.exchange(code)
    assert answer.status_code == 401
    assert answer.json()["error"] == {
        "message": "Invalid or expired login code",
        "type": "auth_error",
        "param": "code",
        "code": "401",
    }
    assert "Set-Cookie" not in answer.headers


@pytest.mark.parametrize("path", ["/v3/login", "/v3/login/exchange"])
@pytest.mark.parametrize("body", [b'{"username": "admin"}', b"not json"])
async def test_without_a_control_plane_its_routes_are_not_there(
    migrated_sqlite_url: str, tmp_path: Path, path: str, body: bytes
) -> None:
    async with serving(migrated_sqlite_url, state_dir=tmp_path) as instance:
        answer = await instance.http.post(path, content=body)
        assert answer.status_code == 404
        error = answer.json()["error"]
        assert (error["type"], error["param"], error["code"]) == ("not_found_error", "control_plane_url", "404")


@pytest.mark.parametrize("path", ["/login", "/v2/login", "/v3/login", "/v3/login/exchange", "/session/logout"])
async def test_sign_in_routes_take_post_only(worker: Instance, path: str) -> None:
    answer = await worker.http.get(path)
    assert (answer.status_code, answer.json()) == (405, {"detail": "Method Not Allowed"})


# ---- the token and its key -----------------------------------------------------------------------------------------


async def test_the_token_says_who_signed_in(worker: Instance) -> None:
    claims = claims_of(await worker.token())
    key, ends = claims.pop("key"), claims.pop("exp")
    assert key.startswith("sk-")
    assert abs(ends - (datetime.now(UTC) + timedelta(hours=24)).timestamp()) < 60
    assert claims == {
        "user_id": "default_user_id",
        "user_email": None,
        "user_role": "proxy_admin",
        "login_method": "username_password",
        "premium_user": True,
        "auth_header_name": "Authorization",
        "disabled_non_admin_personal_key_creation": False,
        "server_root_path": "",
        "password_reset_required": False,
    }


async def test_the_session_key_is_capped_and_ends_with_the_session(migrated_sqlite_url: str, tmp_path: Path) -> None:
    async with serving(
        migrated_sqlite_url,
        state_dir=tmp_path,
        session_duration=timedelta(minutes=30),
        max_ui_session_budget=Decimal("0.25"),
    ) as instance:
        row = await session_row(instance, await instance.token())
        assert row is not None
        assert row.max_budget == Decimal("0.25")
        assert row.team_id == "litellm-dashboard"
        assert row.user_id == "default_user_id"
        assert row.metadata == {"login_method": "username_password"}
        assert row.expires is not None
        assert abs(row.expires - datetime.now(UTC) - timedelta(minutes=30)) < timedelta(minutes=1)


async def test_the_session_key_works_as_a_key_and_the_token_does_not(worker: Instance) -> None:
    token = await worker.token()
    assert (await worker.http.get("/v1/models", headers=bearer(claims_of(token)["key"]))).status_code == 200
    assert (await worker.http.get("/v1/models", headers=bearer(token))).status_code == 401
    assert worker.http.cookies["token"] == token
    assert (await worker.http.get("/v1/models")).status_code == 401


async def test_an_ended_session_is_refused(migrated_sqlite_url: str, tmp_path: Path) -> None:
    async with serving(migrated_sqlite_url, state_dir=tmp_path, session_duration=timedelta(0)) as instance:
        key = claims_of(await instance.token())["key"]
        answer = await instance.http.get("/v1/models", headers=bearer(key))
        assert answer.status_code == 401
        assert answer.json()["error"]["type"] == "expired_key"


async def test_a_user_signs_in_with_email_in_any_case_and_password(worker: Instance) -> None:
    await new_user(worker, "alice@example.com", "correct horse", "internal_user")
    claims = claims_of(await worker.token(username="Alice@Example.com", password="correct horse"))
    assert (claims["user_id"], claims["user_role"]) == ("alice@example.com", "internal_user")
    assert claims["user_email"] == "alice@example.com"


async def test_a_user_without_role_is_a_viewer_and_one_without_password_cannot_sign_in(worker: Instance) -> None:
    await new_user(worker, "vera@example.com", "correct horse", None)
    await new_user(worker, "ivan@example.com", None, "internal_user")
    claims = claims_of(await worker.token(username="vera@example.com", password="correct horse"))
    assert claims["user_role"] == "internal_user_viewer"
    for password in ("", "None", "null"):
        answer = await worker.http.post("/v2/login", json={"username": "ivan@example.com", "password": password})
        assert answer.status_code == 401


async def test_the_built_in_admin_has_the_name_and_password_of_the_settings(
    migrated_sqlite_url: str, tmp_path: Path
) -> None:
    async with serving(
        migrated_sqlite_url, state_dir=tmp_path, ui_username="captain", ui_password="ahoy there"
    ) as instance:
        assert (await instance.http.post("/v2/login", json=ADMIN)).status_code == 401
        captain = {"username": "captain", "password": "ahoy there"}
        assert claims_of(await instance.token(**captain))["user_role"] == "proxy_admin"
        captain["password"] = MASTER_KEY
        assert (await instance.http.post("/v2/login", json=captain)).status_code == 401


async def test_the_built_in_admin_can_be_shut_out(migrated_sqlite_url: str, tmp_path: Path) -> None:
    async with serving(migrated_sqlite_url, state_dir=tmp_path, disable_env_credential_login=True) as instance:
        assert (await instance.http.post("/v2/login", json=ADMIN)).status_code == 401


async def test_ended_sessions_are_swept_at_the_next_sign_in(worker: Instance) -> None:
    token = await worker.token()
    row = await session_row(worker, token)
    assert row is not None
    with worker.services.database.active():
        row.expires = datetime.now(UTC) - timedelta(seconds=1)
        await row.save()
    await worker.token()
    assert await session_row(worker, token) is None


# ---- logout --------------------------------------------------------------------------------------------------------


async def test_logout_revokes_the_session_at_once(worker: Instance) -> None:
    token = await worker.token()
    key = bearer(claims_of(token)["key"])
    assert (await worker.http.get("/v1/models", headers=key)).status_code == 200
    answer = await worker.http.post("/session/logout", headers=key)
    assert (answer.status_code, answer.json()) == (200, {"message": "Session revoked."})
    assert "Max-Age=0" in answer.headers["Set-Cookie"]
    assert await session_row(worker, token) is None
    assert (await worker.http.get("/v1/models", headers=key)).status_code == 401


async def test_only_sessions_log_out(worker: Instance) -> None:
    answer = await worker.http.post("/session/logout", headers=bearer(MASTER_KEY))
    assert answer.status_code == 403
    assert set(answer.json()["detail"]) == {"error"}
    assert (await worker.http.post("/session/logout")).status_code == 401


# ---- proof of the page that asked (PKCE) ---------------------------------------------------------------------------


async def test_a_code_with_a_challenge_needs_its_verifier(worker: Instance) -> None:
    code = await worker.code(code_challenge=pkce_challenge(VERIFIER))
    assert (await worker.exchange(code, code_verifier=VERIFIER)).status_code == 200


@pytest.mark.parametrize("proof", [{}, {"code_verifier": ""}, {"code_verifier": "wrong"}])
async def test_a_stolen_code_is_worth_nothing_without_the_verifier(worker: Instance, proof: dict[str, str]) -> None:
    code = await worker.code(code_challenge=pkce_challenge(VERIFIER))
    assert (await worker.exchange(code, **proof)).status_code == 401
    assert (await worker.exchange(code, code_verifier=VERIFIER)).status_code == 401


async def test_a_verifier_without_a_challenge_changes_nothing(worker: Instance) -> None:
    assert (await worker.exchange(await worker.code(), code_verifier=VERIFIER)).status_code == 200


# ---- the cookie ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("base", "asked_at", "is_secure"),
    [
        (None, "http://worker", False),
        (None, "https://worker", True),
        ("https://gw.example.com", "http://worker", True),
        ("http://gw.example.com", "https://worker", False),
    ],
)
async def test_the_cookie_is_out_of_reach_of_scripts_and_secure_over_https(
    migrated_sqlite_url: str, tmp_path: Path, base: str | None, asked_at: str, is_secure: bool
) -> None:
    async with serving(
        migrated_sqlite_url, state_dir=tmp_path, proxy_base_url=base, control_plane_url=CONSOLE
    ) as instance:
        code = await instance.code()
        for path, body in {"/v2/login": ADMIN, "/v3/login/exchange": {"code": code}}.items():
            answer = await instance.http.post(f"{asked_at}{path}", json=body)
            name, *attributes = answer.headers["Set-Cookie"].split("; ")
            assert name.startswith("token=")
            assert {"HttpOnly", "SameSite=Lax", "Path=/"} <= set(attributes)
            assert ("Secure" in attributes) is is_secure
            assert not [item for item in attributes if item.startswith(("Max-Age", "Expires"))]


async def test_many_guesses_at_once_do_not_hold_up_other_work(worker: Instance) -> None:
    bodies = [{"username": f"user-{number}", "password": "guess"} for number in range(16)]
    guesses = [asyncio.create_task(worker.http.post("/v2/login", json=body)) for body in bodies]
    await asyncio.sleep(0.2)
    await asyncio.to_thread(int)  # where the address of a provider is looked up
    assert sum(guess.done() for guess in guesses) < 12
    assert {answer.status_code for answer in await asyncio.gather(*guesses)} == {401}
