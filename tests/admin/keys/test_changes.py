"""Writing keys: versions, several writers at once, secrets, access groups."""

from __future__ import annotations

import asyncio

from quart import Quart

from app.models import AccessGroup
from tests.admin.conftest import Caller
from tests.admin.org_cast import services_of


async def test_the_second_of_two_admins_is_told(admin: Caller) -> None:
    key = await admin.new_key()
    version = (await admin.info(key["token"]))["version"]
    assert (await admin.post("/key/update", key=key["token"], rpm_limit=1, version=version)).status_code == 200
    late = await admin.post("/key/update", key=key["token"], rpm_limit=2, version=version)
    assert (late.status_code, late.json()["error"]["param"]) == (409, "version")
    by_header = await admin.send("/key/block", f'{{"key": "{key["token"]}"}}', **{"If-Match": str(version)})
    assert by_header.status_code == 409
    info = await admin.info(key["token"])
    assert (info["rpm_limit"], info["blocked"]) == (1, False)


async def test_fields_of_the_metadata_set_at_once_are_all_kept(admin: Caller) -> None:
    key = await admin.new_key(metadata={"a": 1})
    changes = ({"tags": ["t"]}, {"guardrails": ["g"]}, {"prompts": ["p"]})
    answers = await asyncio.gather(*(admin.post("/key/update", key=key["token"], **fields) for fields in changes))
    assert [answer.status_code for answer in answers] == [200] * 3
    assert (await admin.info(key["token"]))["metadata"] == {
        "a": 1,
        "tags": ["t"],
        "guardrails": ["g"],
        "prompts": ["p"],
    }


async def test_access_groups_know_their_keys(admin: Caller, instance: Quart) -> None:
    database = services_of(instance).database
    with database.active():
        for name in ("g1", "g2"):
            await AccessGroup.create(access_group_id=name, access_group_name=name)

    async def keys_of(name: str) -> list[str]:
        with database.active():
            return list((await AccessGroup.get(access_group_id=name)).assigned_key_ids)

    key = (await admin.new_key(access_group_ids=["g1"]))["token"]
    assert (await keys_of("g1"), await keys_of("g2")) == ([key], [])
    await admin.post("/key/update", key=key, access_group_ids=["g2"])
    assert (await keys_of("g1"), await keys_of("g2")) == ([], [key])
    assert (await admin.post("/key/update", key=key, access_group_ids=["nobody"])).status_code == 404
    assert (await admin.info(key))["access_group_ids"] == ["g2"]
    await admin.post("/key/delete", keys=[key])
    assert await keys_of("g2") == []


async def test_rotation_needs_an_interval(admin: Caller) -> None:
    assert (await admin.post("/key/generate", auto_rotate=True)).status_code == 400
    key = await admin.new_key(auto_rotate=True, rotation_interval="30d")
    assert (key["auto_rotate"], key["rotation_interval"], key["key_rotation_at"] is not None) == (True, "30d", True)
