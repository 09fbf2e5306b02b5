"""Virtual keys over the management API: create, look, change, block, delete, and who may do it."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime, timedelta

import httpx
import pytest

from tests.admin.conftest import Caller


async def test_a_new_key_shows_its_secret_once(admin: Caller) -> None:
    key = await admin.new_key(key_alias="first", models=["sample-chat"], max_budget=1.5)
    assert key["key"].startswith("sk-")
    assert key["token"] == key["token_id"] == hashlib.sha256(key["key"].encode()).hexdigest()
    assert key["key_name"] == f"sk-...{key['key'][-4:]}"
    for answer in (
        await admin.get("/key/info", key=key["token"]),
        await admin.get("/key/list", return_full_object=True),
    ):
        assert key["key"] not in answer.text
    info = await admin.info(key["key"])
    assert (info["key_alias"], info["models"], info["max_budget"], info["status"]) == (
        "first",
        ["sample-chat"],
        1.5,
        "active",
    )
    assert "token" not in info


async def test_a_key_can_be_generated_from_nothing(admin: Caller) -> None:
    key = await admin.new_key()
    assert key["models"] == []
    assert (key["key_alias"], key["max_budget"], key["expires"], key["user_id"], key["blocked"]) == (None,) * 4 + (
        False,
    )


async def test_money_stays_as_it_was_written(admin: Caller) -> None:
    answer = await admin.send("/key/generate", '{"max_budget": 0.1, "soft_budget": "0.07", "spend": 0.000000000001}')
    assert '"max_budget":0.1' in answer.text.replace(" ", "")
    info = await admin.info(answer.json()["token"])
    assert (info["max_budget"], info["soft_budget"], info["spend"]) == (0.1, 0.07, 1e-12)


async def test_a_key_expires_and_its_budget_starts_anew(admin: Caller) -> None:
    key = await admin.new_key(duration="1h", budget_duration="1d", max_budget=1)
    left = datetime.fromisoformat(key["expires"]) - datetime.now(UTC)
    assert timedelta(minutes=59) < left <= timedelta(hours=1)
    reset_at = datetime.fromisoformat(key["budget_reset_at"])
    assert (reset_at.hour, reset_at.minute, reset_at.second) == (0, 0, 0)
    assert reset_at > datetime.now(UTC)


async def test_fields_without_a_column_live_in_the_metadata(admin: Caller) -> None:
    key = await admin.new_key(metadata={"owner": "ops"}, model_rpm_limit={"sample-chat": 5}, tags=["a"])
    assert key["metadata"] == {"owner": "ops", "model_rpm_limit": {"sample-chat": 5}, "tags": ["a"]}
    assert key["tags"] == ["a"]


async def test_a_key_type_sets_the_routes(admin: Caller) -> None:
    assert (await admin.new_key(key_type="llm_api"))["allowed_routes"] == ["llm_api_routes"]
    assert (await admin.new_key(key_type="read_only"))["allowed_routes"] == ["info_routes"]


async def test_unknown_fields_are_accepted_and_named(admin: Caller) -> None:
    answer = await admin.send("/key/generate", '{"nonsense": 1, "x\\r\\ny: z": 2}')
    assert answer.status_code == 200
    assert answer.headers["x-quarterdeck-unknown-fields"] == "nonsense, ?"


async def test_what_cannot_be_meant_is_refused(admin: Caller) -> None:
    cases: list[tuple[dict[str, object], int, str]] = [
        ({"duration": "5x"}, 400, "duration"),
        ({"budget_duration": "5x"}, 400, "budget_duration"),
        ({"budget_duration": "0d"}, 400, "budget_duration"),
        ({"duration": "999999999w"}, 400, "duration"),
        ({"max_budget": -1}, 400, "max_budget"),
        ({"max_budget": 10**18}, 400, "max_budget"),
        ({"budget_id": "nobody"}, 404, "budget_id"),
        ({"team_id": "nobody"}, 400, "team_id"),
        ({"key": "not-a-key-at-all-0123"}, 400, "key"),
        ({"key": "sk-short"}, 400, "key"),
        ({"key": "sk-with a space in it 0123"}, 400, "key"),
    ]
    for body, status, param in cases:
        answer = await admin.post("/key/generate", **body)
        assert answer.status_code == status, body
        error = answer.json()["error"]
        assert (error["param"], error["code"]) == (param, str(status))
        assert set(error) == {"message", "type", "param", "code"}
    assert (await admin.get("/key/list")).json()["total_count"] == 0


async def test_a_body_that_is_no_object_is_refused(admin: Caller) -> None:
    too_deep = '{"metadata": ' + '{"a":' * 80 + "1" + "}" * 81
    for raw in ("{", "", "[1]", "null", '{"a": NaN}', "[" * 100_000, too_deep, b"\xff"):
        answer = await admin.send("/key/generate", raw)
        assert answer.status_code == 422, raw
        assert answer.json()["detail"][0]["loc"][0] == "body"


async def test_every_wrong_field_is_named_at_once(admin: Caller) -> None:
    answer = await admin.post("/key/generate", models="sample-chat", tpm_limit=1.5, max_budget=True)
    assert answer.status_code == 422
    assert {tuple(problem["loc"]): problem["type"] for problem in answer.json()["detail"]} == {
        ("body", "models"): "list_type",
        ("body", "tpm_limit"): "int_from_float",
        ("body", "max_budget"): "float_type",
    }
    assert (await admin.get("/key/list")).json()["total_count"] == 0


async def test_an_alias_is_taken_once(admin: Caller) -> None:
    await admin.new_key(key_alias="only")
    answer = await admin.post("/key/generate", key_alias="only")
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "key_alias")
    other = await admin.new_key(key_alias="other")
    assert (await admin.post("/key/update", key=other["key"], key_alias="only")).status_code == 400
    assert (await admin.post("/key/update", key=other["key"], key_alias="other")).status_code == 200


async def test_a_custom_key_never_overwrites_another(admin: Caller) -> None:
    await admin.new_key(key="sk-custom-key-0123456789", key_alias="custom")
    answer = await admin.post("/key/generate", key="sk-custom-key-0123456789", key_alias="thief")
    assert answer.status_code == 409
    assert (await admin.info("sk-custom-key-0123456789"))["key_alias"] == "custom"


async def test_only_what_is_sent_changes(admin: Caller) -> None:
    key = await admin.new_key(
        key_alias="k", max_budget=2, tpm_limit=7, metadata={"a": 1}, budget_duration="1d", duration="1d"
    )
    answer = await admin.post("/key/update", key=key["key"], rpm_limit=3)
    assert (answer.status_code, answer.json()["key"]) == (200, key["key"])
    info = await admin.info(key["token"])
    unchanged = ("key_alias", "max_budget", "tpm_limit", "metadata", "budget_duration", "budget_reset_at", "expires")
    assert [info[name] for name in unchanged] == [key[name] for name in unchanged]
    assert info["rpm_limit"] == 3


async def test_null_clears_and_zero_is_zero(admin: Caller) -> None:
    key = await admin.new_key(
        max_budget=2, tpm_limit=7, duration="1d", budget_duration="1d", models=["a"], metadata={"a": 1}
    )
    cleared: dict[str, object] = {
        "max_budget": None,
        "tpm_limit": "",
        "duration": None,
        "budget_duration": None,
        "models": [],
        "metadata": None,
    }
    row = (await admin.post("/key/update", key=key["token"], **cleared)).json()
    assert [row[name] for name in ("max_budget", "tpm_limit", "expires", "budget_duration", "budget_reset_at")] == [
        None
    ] * 5
    assert (row["models"], row["metadata"]) == ([], {})
    assert (await admin.post("/key/update", key=key["token"], max_budget=0)).json()["max_budget"] == 0


async def test_minus_one_means_forever(admin: Caller) -> None:
    key = await admin.new_key(duration="1d")
    assert (await admin.post("/key/update", key=key["key"], duration="-1")).json()["expires"] is None


async def test_a_key_is_found_by_its_alias_for_a_change(admin: Caller) -> None:
    key = await admin.new_key(key_alias="known")
    assert (await admin.post("/key/update", key_alias="known", rpm_limit=2)).json()["token"] == key["token"]
    assert (await admin.post("/key/update", key_alias="unknown", rpm_limit=2)).status_code == 404
    assert (await admin.post("/key/update", key="sk-unknown", rpm_limit=2)).status_code == 404
    assert (await admin.post("/key/update", rpm_limit=2)).status_code == 422


async def test_a_blocked_key_is_refused_at_once(admin: Caller) -> None:
    key = await admin.new_key()
    holder = Caller(admin.client, key["key"])
    assert (await holder.get("/key/info")).status_code == 200
    assert (await admin.post("/key/block", key=key["key"])).json()["blocked"] is True
    assert (await holder.get("/key/info")).status_code == 401
    assert (await admin.post("/key/unblock", key=key["token"])).json()["blocked"] is False
    assert (await holder.get("/key/info")).status_code == 200
    assert (await admin.post("/key/block", key="sk-unknown")).status_code == 404


async def test_a_deleted_key_is_gone_at_once(admin: Caller) -> None:
    first, second = await admin.new_key(key_alias="first"), await admin.new_key(key_alias="second")
    holder = Caller(admin.client, first["key"])
    assert (await holder.get("/key/info")).status_code == 200
    answer = await admin.post("/key/delete", keys=[first["key"], "sk-unknown"], key_aliases=["second"])
    assert answer.json() == {"deleted_keys": [first["key"], "second"]}
    assert (await holder.get("/key/info")).status_code == 401
    assert (await admin.get("/key/info", key=second["token"])).status_code == 404
    assert (await admin.post("/key/delete", keys=[first["key"]])).status_code == 404
    assert (await admin.post("/key/delete")).status_code == 422
    assert (await admin.post("/key/delete", keys=[])).status_code == 422
    deleted = (await admin.get("/key/list", status="deleted", return_full_object=True)).json()["keys"]
    assert {(key["key_alias"], key["status"]) for key in deleted} == {("first", "deleted"), ("second", "deleted")}


async def test_no_key_and_a_bad_key_are_401(client: httpx.AsyncClient) -> None:
    assert (await client.post("/key/generate", json={})).status_code == 401
    answer = await Caller(client, "sk-nobody-has-this-one").post("/key/generate")
    assert (answer.status_code, answer.json()["error"]["type"]) == (401, "token_not_found_in_db")


async def test_roles_decide_who_may_write(alice: Caller, vera: Caller, ivan: Caller) -> None:
    assert [(await caller.post("/key/generate")).status_code for caller in (alice, vera, ivan)] == [200, 403, 401]
    for path in ("/user/new", "/team/new", "/user/update", "/user/delete", "/team/delete"):
        assert [(await caller.post(path)).status_code for caller in (alice, vera, ivan)] == [401, 403, 401], path
    model = {"model_name": "m", "litellm_params": {"model": "openai/m"}}
    assert [(await caller.post("/model/new", **model)).status_code for caller in (alice, vera, ivan)] == [403] * 3


async def test_a_user_has_power_over_own_keys_only(admin: Caller, alice: Caller, bob: Caller) -> None:
    key = await alice.new_key(key_alias="of alice")
    assert (key["user_id"], key["created_by"]) == ("alice", "alice")
    assert (await alice.post("/key/update", key=key["key"], rpm_limit=1)).status_code == 200
    assert (await bob.get("/key/info", key=key["token"])).status_code == 403
    assert (await bob.post("/key/update", key=key["token"], rpm_limit=9)).status_code == 403
    assert (await bob.post("/key/delete", keys=[key["token"]])).status_code == 403
    assert (await alice.post("/key/generate", user_id="bob")).status_code == 403
    assert (await alice.post("/key/update", key=key["key"], user_id=None)).status_code == 403
    assert (await admin.info(key["token"]))["rpm_limit"] == 1
    assert (await alice.post("/key/delete", keys=[key["token"]])).status_code == 200


@pytest.mark.parametrize("fields", [{"spend": 0}, {"permissions": {"a": True}}, {"blocked": False}])
async def test_a_user_cannot_lift_what_was_put_on_them(admin: Caller, alice: Caller, fields: dict[str, object]) -> None:
    key = await alice.new_key()
    assert (await alice.post("/key/update", key=key["key"], **fields)).status_code == 403
    assert (await alice.post("/key/unblock", key=key["key"])).status_code == 403


async def test_a_key_without_a_user_sees_itself_only(admin: Caller) -> None:
    key, other = await admin.new_key(), await admin.new_key()
    holder = Caller(admin.client, key["key"])
    assert (await holder.get("/key/info")).json()["key"] == key["token"]
    assert (await holder.get("/key/info", key=other["token"])).status_code == 403
    answer = await holder.get("/key/list")
    assert (answer.status_code, answer.json()["error"]["param"]) == (403, "user_id")


async def test_the_master_key_has_no_row(admin: Caller) -> None:
    assert (await admin.get("/key/info")).status_code == 404
