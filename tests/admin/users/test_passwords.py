"""Changing one's own password."""

from __future__ import annotations

import jwt

from tests.admin.conftest import Caller

OLD, NEW = "one long password", "another long password"


async def _session(admin: Caller, password: str) -> Caller:
    answer = await admin.post("/v2/login", username="bob@acme.example", password=password)
    assert answer.status_code == 200, answer.text
    claims = jwt.decode(answer.json()["token"], options={"verify_signature": False})
    return Caller(admin.client, claims["key"])


async def test_a_new_password_holds_and_other_sessions_end(admin: Caller, bob: Caller) -> None:
    await admin.post("/user/update", user_id="bob", password=OLD)
    session, other = await _session(admin, OLD), await _session(admin, OLD)
    answer = await session.post("/user/password/change", current_password=OLD, new_password=NEW)
    assert (answer.status_code, answer.json()["user_id"]) == (200, "bob"), answer.text
    assert (await session.get("/user/info")).status_code == 200
    assert (await other.get("/user/info")).status_code == 401
    assert (await admin.post("/v2/login", username="bob@acme.example", password=OLD)).status_code == 401
    await _session(admin, NEW)


async def test_wrong_changes_are_refused(admin: Caller, bob: Caller) -> None:
    await admin.post("/user/update", user_id="bob", password=OLD)
    session = await _session(admin, OLD)
    wrong = await session.post("/user/password/change", current_password="guess", new_password=NEW)
    assert (wrong.status_code, "error" in wrong.json()["detail"]) == (400, True)
    same = await session.post("/user/password/change", current_password=OLD, new_password=OLD)
    assert same.status_code == 400
    short = await session.post("/user/password/change", current_password=OLD, new_password="short")
    assert (short.status_code, short.json()["error"]["type"]) == (400, "validation_error")
    assert (await session.post("/user/password/change", new_password=NEW)).status_code == 422
    await _session(admin, OLD)


async def test_only_a_session_changes_a_password(admin: Caller, bob: Caller) -> None:
    await admin.post("/user/update", user_id="bob", password=OLD)
    for caller in (admin, bob):
        refused = await caller.post("/user/password/change", current_password=OLD, new_password=NEW)
        assert refused.status_code == 403, refused.text


async def test_guesses_are_throttled(admin: Caller, bob: Caller) -> None:
    await admin.post("/user/update", user_id="bob", password=OLD)
    session = await _session(admin, OLD)
    statuses = [
        (await session.post("/user/password/change", current_password="guess", new_password=NEW)).status_code
        for _ in range(7)
    ]
    assert statuses[0] == 400 and statuses[-1] == 429
