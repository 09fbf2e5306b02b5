"""Invitations: made, looked at, closed and deleted by admins."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from tests.admin.conftest import Caller


async def _invited(admin: Caller, user_id: str = "alice") -> dict[str, object]:
    answer = await admin.post("/invitation/new", user_id=user_id)
    assert answer.status_code == 200, answer.text
    invitation: dict[str, object] = answer.json()
    return invitation


async def test_an_invitation_lives_for_a_week(admin: Caller, alice: Caller) -> None:
    invitation = await _invited(admin)
    assert (invitation["user_id"], invitation["is_accepted"], invitation["accepted_at"]) == ("alice", False, None)
    assert len(str(invitation["id"])) == 43
    left = datetime.fromisoformat(str(invitation["expires_at"])) - datetime.now(UTC)
    assert timedelta(days=6, hours=23) < left <= timedelta(days=7)
    shown = await admin.get("/invitation/info", invitation_id=str(invitation["id"]))
    assert shown.json() == invitation


async def test_an_invitation_is_closed_opened_and_deleted(admin: Caller, alice: Caller) -> None:
    invitation_id = (await _invited(admin))["id"]
    closed = (await admin.post("/invitation/update", invitation_id=invitation_id, is_accepted=True)).json()
    assert closed["is_accepted"] is True and closed["accepted_at"] is not None
    opened = (await admin.post("/invitation/update", invitation_id=invitation_id, is_accepted=False)).json()
    assert (opened["is_accepted"], opened["accepted_at"]) == (False, None)
    deleted = await admin.post("/invitation/delete", invitation_id=invitation_id)
    assert (deleted.status_code, deleted.json()["id"]) == (200, invitation_id)
    for answer in (
        await admin.get("/invitation/info", invitation_id=str(invitation_id)),
        await admin.post("/invitation/delete", invitation_id=invitation_id),
    ):
        assert (answer.status_code, "does not exist" in answer.json()["detail"]["error"]) == (400, True)


async def test_the_audit_trail_does_not_hold_the_link(admin: Caller, alice: Caller) -> None:
    invitation_id = str((await _invited(admin))["id"])
    await admin.post("/invitation/update", invitation_id=invitation_id, is_accepted=True)
    for path in ("/audit", "/user/info?user_id=alice", "/user/list"):
        assert invitation_id not in (await admin.get(path)).text


async def test_unknown_users_get_no_invitation(admin: Caller) -> None:
    assert (await admin.post("/invitation/new", user_id="zzz")).status_code == 404
    assert (await admin.post("/invitation/new")).status_code == 422


@pytest.mark.parametrize("path", ["/invitation/new", "/invitation/update", "/invitation/delete"])
async def test_admins_only(alice: Caller, vera: Caller, path: str) -> None:
    for caller in (alice, vera):
        refused = await caller.post(path, user_id="alice")
        assert (refused.status_code, refused.json()["error"]["code"]) == (400, "400")


async def test_a_deleted_user_takes_invitations_along(admin: Caller, alice: Caller) -> None:
    invitation_id = (await _invited(admin))["id"]
    await admin.post("/user/delete", user_ids=["alice"])
    assert (await admin.get("/invitation/info", invitation_id=str(invitation_id))).status_code == 400
