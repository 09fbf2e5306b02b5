"""Setting all spend back to zero."""

from __future__ import annotations

from quart import Quart

from app.admin.spend import by_entity as spend_reset
from app.models import AuditLog, VirtualKey
from app.services import EXTENSION
from tests.admin.conftest import Caller
from tests.admin.spend_calls import recorder


async def test_only_the_master_key_resets_spend(admin: Caller, alice: Caller, vera: Caller) -> None:
    created = await admin.post("/user/new", user_id="root", user_role="proxy_admin")
    other_admin = Caller(admin.client, created.json()["key"])
    for caller in (alice, vera, other_admin):
        assert (await caller.post("/global/spend/reset")).status_code in (401, 403)


async def test_keys_and_teams_start_again_in_batches(admin: Caller, instance: Quart) -> None:
    spend, team = recorder(instance), (await admin.post("/team/new", team_alias="Team")).json()["team_id"]
    keys = [await admin.new_key(team_id=team) for _ in range(3)]
    untouched = await admin.new_key()
    for number, key in enumerate(keys):
        await spend(f"r{number}", "0.5", key_hash=key["token"], team_id=team)
    spend_reset._BATCH, usual = 2, spend_reset._BATCH
    try:
        answer = (await admin.post("/global/spend/reset")).json()
    finally:
        spend_reset._BATCH = usual
    assert (answer["status"], answer["keys"], answer["teams"]) == ("success", 3, 1)
    for key in keys:
        assert (await admin.info(key["token"]))["spend"] == 0
    assert (await admin.get("/team/info", team_id=team)).json()["team_info"]["spend"] == 0
    assert (await admin.get("/global/spend")).json()["spend"] == 1.5
    with instance.extensions[EXTENSION].database.active():
        rows = await AuditLog.filter(object_id="*")
        versions = {key.token: key.version for key in await VirtualKey.all()}
        total = (await VirtualKey.get(token=keys[0]["token"])).total_spend
    assert len(rows) == 3
    assert float(total) == 0.5
    assert (versions[keys[0]["token"]] > 1, versions[untouched["token"]]) == (True, 1)
