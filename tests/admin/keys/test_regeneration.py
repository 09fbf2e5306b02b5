"""A new secret for the same key, and spend that is set back."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta

import pytest
from quart import Quart

from app.models import AccessGroup, AuditLog, BudgetWindow, DeprecatedKey, VirtualKey
from app.security.credentials import hash_key
from tests.admin.conftest import Caller
from tests.admin.org_cast import organization, owned_by, services_of


async def _spent(instance: Quart, token: str, spend: float) -> None:
    with services_of(instance).database.active():
        await VirtualKey.filter(token=token).update(spend=spend, total_spend=spend)


async def test_a_regenerated_key_is_the_same_key_with_another_secret(admin: Caller, instance: Quart) -> None:
    old = await admin.new_key(key_alias="mine", max_budget=5, budget_duration="30d", metadata={"a": 1}, user_id="u1")
    await _spent(instance, old["token"], 1.5)
    answer = await admin.post(f"/key/{old['key']}/regenerate")
    assert answer.status_code == 200, answer.text
    new = answer.json()
    assert new["key"].startswith("sk-") and new["key"] != old["key"]
    assert new["token"] == new["token_id"] == hash_key(new["key"])
    kept = ("key_alias", "max_budget", "budget_reset_at", "metadata", "user_id", "created_at")
    assert [new[name] for name in kept] == [old[name] for name in kept]
    assert (new["spend"], new["rotation_count"], new["key_name"]) == (1.5, 1, f"sk-...{new['key'][-4:]}")
    assert (await Caller(admin.client, new["key"]).get("/key/info")).status_code == 200
    assert (await Caller(admin.client, old["key"]).get("/key/info")).status_code == 401
    assert (await admin.get("/key/info", key=old["token"])).status_code == 404


async def test_what_names_a_key_by_its_hash_follows(admin: Caller, instance: Quart) -> None:
    database = services_of(instance).database
    with database.active():
        await AccessGroup.create(access_group_id="g1", access_group_name="group")
    old = await admin.new_key(access_group_ids=["g1"])
    with database.active():
        await BudgetWindow.create(kind="key", id=old["token"], period="1h", starts_at=datetime.now(UTC), spend=2)
    new = (await admin.post("/key/regenerate", key=old["token"])).json()
    with database.active():
        group, window = await AccessGroup.get(access_group_id="g1"), await BudgetWindow.get(kind="key")
        audit = await AuditLog.get(action="rotated")
    assert group.assigned_key_ids == [new["token"]]
    assert (window.id, window.spend) == (new["token"], 2)
    assert audit.object_id == old["token"] and new["key"] not in str(audit.updated_values)
    assert (await admin.get("/key/list", access_group_id="g1")).json()["keys"] == [new["token"]]


async def test_a_grace_period_is_written_down(admin: Caller, instance: Quart) -> None:
    key = await admin.new_key()
    second = (await admin.post("/key/regenerate", key=key["key"], grace_period="24h")).json()
    third = (await admin.post("/key/regenerate", key=second["key"], grace_period="1h")).json()
    with services_of(instance).database.active():
        rows = {row.token: row for row in await DeprecatedKey.all()}
    assert {row.active_token for row in rows.values()} == {third["token"]}
    left = rows[key["token"]].revoke_at - datetime.now(UTC)
    assert timedelta(hours=23) < left <= timedelta(hours=24)
    await admin.post("/key/regenerate", key=third["key"])
    with services_of(instance).database.active():
        assert await DeprecatedKey.filter(revoke_at__gt=datetime.now(UTC)).count() == 0
        assert await DeprecatedKey.all().count() == 3


async def test_the_old_secret_is_good_until_its_grace_ends(admin: Caller) -> None:
    key = await admin.new_key()
    old = Caller(admin.client, key["key"])
    assert (await old.get("/key/info")).status_code == 200
    new = (await admin.post("/key/regenerate", key=key["key"], grace_period="1h")).json()
    assert (await old.get("/key/info")).status_code == 200
    await admin.post("/key/block", key=new["key"])
    assert (await old.get("/key/info")).status_code == 401
    await admin.post("/key/unblock", key=new["key"])
    assert (await old.get("/key/info")).status_code == 200
    await admin.post("/key/regenerate", key=new["key"])
    assert (await old.get("/key/info")).status_code == 401


async def test_a_deleted_key_takes_its_old_secrets_along(admin: Caller) -> None:
    key = await admin.new_key()
    new = (await admin.post("/key/regenerate", key=key["key"], grace_period="1h")).json()
    old = Caller(admin.client, key["key"])
    assert (await old.get("/key/info")).status_code == 200
    await admin.post("/key/delete", keys=[new["key"]])
    assert (await old.get("/key/info")).status_code == 401


async def test_fields_can_change_with_the_secret(admin: Caller) -> None:
    key = await admin.new_key(max_budget=1, duration="1s")
    new = (await admin.post(f"/key/{key['token']}/regenerate", max_budget=3, duration="1h", tags=["a"])).json()
    assert (new["max_budget"], new["metadata"], new["duration"]) == (3, {"tags": ["a"]}, "1h")
    assert datetime.fromisoformat(new["expires"]) > datetime.now(UTC) + timedelta(minutes=59)


async def test_a_secret_can_be_chosen(admin: Caller) -> None:
    key, other = await admin.new_key(), await admin.new_key()
    chosen = "sk-chosen-by-the-admin-1"
    assert (await admin.post("/key/regenerate", key=key["key"], new_key=chosen)).json()["key"] == chosen
    assert (await admin.post("/key/regenerate", key=chosen, new_key=other["key"])).status_code == 409
    assert (await admin.post("/key/regenerate", key=chosen, new_key=key["key"])).status_code == 409
    assert (await admin.post("/key/generate", key=key["key"])).status_code == 409
    for wrong in ("short", "sk-short", "sk-with a space inside it"):
        assert (await admin.post("/key/regenerate", key=chosen, new_key=wrong)).status_code == 400
    assert (await Caller(admin.client, chosen).get("/key/info")).status_code == 200


async def test_a_wrong_regeneration_is_refused(admin: Caller) -> None:
    key = (await admin.new_key())["key"]
    assert (await admin.post("/key/sk-nobody-has-this/regenerate")).status_code == 404
    assert (await admin.post("/key/regenerate", max_budget=1)).status_code == 422
    assert (await admin.post("/key/regenerate", key=key, grace_period="5x")).status_code == 400
    assert (await admin.post("/key/regenerate", key=key, grace_period="999999999w")).status_code == 400
    assert (await admin.post("/key/regenerate", key=key, version=9)).status_code == 409
    assert (await Caller(admin.client, key).get("/key/info")).status_code == 200


async def test_two_regenerations_at_once_leave_one_good_secret(admin: Caller) -> None:
    key = (await admin.new_key())["key"]
    answers = await asyncio.gather(*(admin.post("/key/regenerate", key=key) for _ in range(4)))
    good = [answer.json()["key"] for answer in answers if answer.status_code == 200]
    assert len(good) == 1, [answer.text for answer in answers]
    assert {answer.status_code for answer in answers} <= {200, 404, 409}
    assert (await Caller(admin.client, good[0]).get("/key/info")).status_code == 200


async def test_who_may_regenerate(admin: Caller, alice: Caller, bob: Caller, vera: Caller, ivan: Caller) -> None:
    key = (await alice.new_key())["key"]
    assert (await bob.post("/key/regenerate", key=key)).status_code == 403
    assert (await vera.post("/key/regenerate", key=key)).status_code == 403
    assert (await ivan.post("/key/regenerate", key=key)).status_code == 401
    assert (await alice.post("/key/regenerate", key=key, spend=0)).status_code == 403
    assert (await alice.post(f"/key/{key}/regenerate")).status_code == 200


async def test_a_new_secret_of_a_members_key_calls_models_only(admin: Caller, alice: Caller, bob: Caller) -> None:
    members = [{"user_id": "alice", "role": "admin"}, {"user_id": "bob", "role": "user"}]
    team = (await admin.post("/team/new", members_with_roles=members)).json()["team_id"]
    key = await admin.new_key(user_id="bob", team_id=team)
    refused = await bob.post("/key/regenerate", key=key["token"])
    assert (refused.status_code, refused.json()["error"]["type"]) == (401, "team_member_permission_error")
    new = (await alice.post("/key/regenerate", key=key["token"])).json()
    assert new["allowed_routes"] == ["llm_api_routes"]
    assert (await Caller(admin.client, new["key"]).get("/user/info")).status_code == 403


async def test_spend_is_set_back(admin: Caller, alice: Caller, instance: Quart) -> None:
    key = await alice.new_key(max_budget=5)
    await _spent(instance, key["token"], 1.5)
    assert (await alice.post(f"/key/{key['token']}/reset_spend", reset_to=0)).status_code == 403
    for wrong, status in ((2, 400), (-1, 400), (True, 422), ("x", 422), (None, 422)):
        answer = await admin.post(f"/key/{key['token']}/reset_spend", reset_to=wrong)
        assert answer.status_code == status, (wrong, answer.text)
    answer = await admin.post(f"/key/{key['key']}/reset_spend", reset_to=0.5)
    assert answer.json() == {
        "key_hash": key["token"],
        "spend": 0.5,
        "previous_spend": 1.5,
        "max_budget": 5,
        "budget_reset_at": None,
    }
    assert (await admin.post("/key/sk-unknown/reset_spend", reset_to=0)).status_code == 404
    assert (await admin.post(f"/key/{key['key']}/reset_spend")).status_code == 422


@pytest.mark.parametrize("role", ["team", "organization"])
async def test_admins_of_the_team_set_spend_back(admin: Caller, alice: Caller, instance: Quart, role: str) -> None:
    members = [{"user_id": "alice", "role": "admin"}] if role == "team" else []
    team = (await admin.post("/team/new", members_with_roles=members)).json()["team_id"]
    key = await admin.new_key(team_id=team)
    if role == "organization":
        assert (await alice.post(f"/key/{key['token']}/reset_spend", reset_to=0)).status_code == 403
        await owned_by(instance, team, await organization(instance, "acme", alice="org_admin"))
    assert (await alice.post(f"/key/{key['token']}/reset_spend", reset_to=0)).status_code == 200
