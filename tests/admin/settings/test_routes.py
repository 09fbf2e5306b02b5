"""Configuration over the API: sections, fields, secrets, and honest headers."""

from __future__ import annotations

import asyncio
import json
from typing import Any

from quart import Quart

from app.models import AuditLog, ConfigEntry
from app.services import EXTENSION
from app.storage.stored_settings import overridden, stored_overrides
from tests.admin.conftest import PROVIDER_SECRET, Caller
from tests.conftest import MASTER_KEY

NO_EFFECT, RESTART = "x-quarterdeck-no-effect", "x-quarterdeck-after-restart"


async def stored(instance: Quart, name: str) -> dict[str, Any]:
    with instance.extensions[EXTENSION].database.active():
        row = await ConfigEntry.get(param_name=name)
    return dict(row.param_value)


async def row_of(admin: Caller, name: str, section: str) -> dict[str, Any]:
    rows = (await admin.get("/config/list", config_type=section)).json()
    found: dict[str, Any] = next(row for row in rows if row["field_name"] == name)
    return found


async def test_sections_are_merged_and_null_takes_a_key_out(admin: Caller, instance: Quart) -> None:
    answer = await admin.post(
        "/config/update", router_settings={"num_retries": 5}, litellm_settings={"request_timeout": 12.5}
    )
    assert (answer.status_code, answer.json()) == (200, {"message": "Config updated successfully"})
    await admin.post("/config/update", router_settings={"timeout": 30})
    assert await stored(instance, "router_settings") == {"num_retries": 5, "timeout": 30}
    await admin.post("/config/update", router_settings={"num_retries": None})
    assert await stored(instance, "router_settings") == {"timeout": 30}


async def test_what_is_stored_overrides_what_the_instance_was_told(admin: Caller, instance: Quart) -> None:
    await admin.post("/config/update", router_settings={"num_retries": 5, "stream_timeout": 3})
    services = instance.extensions[EXTENSION]
    with services.database.active():
        settings = overridden(services.settings, await stored_overrides())
    assert (settings.num_retries, settings.stream_timeout) == (5, 3.0)


async def test_unknown_sections_and_fields_are_refused_by_name(admin: Caller, instance: Quart) -> None:
    for body, word in (
        ({"guardrails": []}, "guardrails"),
        ({"router_settings": {"num_retrys": 5}}, "num_retrys"),
        ({"general_settings": {"master_key": "sk-other"}}, "master_key"),
        ({"router_settings": {"num_retries": "many"}}, "num_retries"),
        ({"litellm_settings": {"s3_callback_params": {"a": "os.environ/LITELLM_MASTER_KEY"}}}, "os.environ"),
        ({"environment_variables": {"LITELLM_SALT_KEY": "x"}}, "LITELLM_SALT_KEY"),
        ({"environment_variables": {"not a name": "x"}}, "name"),
        ({"environment_variables": {"OPENAI_API_BASE": "http://evil.example"}}, "OPENAI_API_KEY"),
        ({"environment_variables": {"A": ["x"]}}, "A"),
    ):
        answer = await admin.post("/config/update", **body)
        assert (answer.status_code, word in answer.text) == (400, True), (body, answer.text)
    assert (await admin.post("/config/update", router_settings=[])).status_code == 422
    with instance.extensions[EXTENSION].database.active():
        assert await ConfigEntry.all().count() == 0


async def test_settings_without_effect_are_stored_and_named(admin: Caller, instance: Quart) -> None:
    answer = await admin.post(
        "/config/update",
        litellm_settings={"drop_params": True, "request_timeout": 9},
        general_settings={"max_request_size_mb": 8},
        alert_types=["budget_alerts"],
    )
    assert answer.status_code == 200, answer.text
    named = answer.headers[NO_EFFECT].split(", ")
    assert "litellm_settings.drop_params" in named
    assert "litellm_settings.request_timeout" not in named
    assert "general_settings.max_request_size_mb" in answer.headers[RESTART]
    assert (await stored(instance, "general_settings"))["alert_types"] == ["budget_alerts"]


async def test_secrets_are_encrypted_starred_out_and_kept(admin: Caller, vera: Caller, instance: Quart) -> None:
    secret = "hook-secret-0123456789"
    await admin.post(
        "/config/update",
        environment_variables={"SLACK_WEBHOOK_URL": f"https://hooks.example/{secret}", "GROQ_API_KEY": secret},
        litellm_settings={"cache_params": {"host": "a.example", "password": secret}},
    )
    for name in ("environment_variables", "litellm_settings"):
        assert secret not in json.dumps(await stored(instance, name))
    for path in ("/config/yaml", "/get/config/callbacks", "/config/list?config_type=litellm_settings"):
        answer = await vera.get(path)
        assert answer.status_code == 200
        assert secret not in answer.text
        assert PROVIDER_SECRET not in answer.text
        assert MASTER_KEY not in answer.text
    with instance.extensions[EXTENSION].database.active():
        assert secret not in json.dumps(await AuditLog.all().values("before_value", "updated_values"))
    before = await stored(instance, "litellm_settings")
    kept = {"cache_params": {"host": "a.example", "password": "****"}}
    assert (await admin.post("/config/update", litellm_settings=kept)).status_code == 200
    assert await stored(instance, "litellm_settings") == before
    moved = {"cache_params": {"host": "evil.example", "password": "****"}}
    assert (await admin.post("/config/update", litellm_settings=moved)).status_code == 400


async def test_every_change_is_in_the_audit_log_and_a_repetition_is_none(admin: Caller, instance: Quart) -> None:
    for _ in range(2):
        await admin.post("/config/update", router_settings={"num_retries": 5})
    with instance.extensions[EXTENSION].database.active():
        rows = await AuditLog.filter(table_name="LiteLLM_Config")
    assert [(row.object_id, row.before_value, row.updated_values) for row in rows] == [
        ("router_settings", {"num_retries": None}, {"num_retries": 5})
    ]


async def test_changes_at_the_same_time_all_count(admin: Caller, instance: Quart) -> None:
    names = ["num_retries", "timeout", "stream_timeout", "allowed_fails", "cooldown_time"]
    answers = await asyncio.gather(*(admin.post("/config/update", router_settings={name: 7}) for name in names))
    assert [answer.status_code for answer in answers] == [200] * 5
    assert await stored(instance, "router_settings") == dict.fromkeys(names, 7)


async def test_callbacks_are_added_to_those_that_are_stored(admin: Caller, instance: Quart) -> None:
    for name in ("langfuse", "s3", "langfuse"):
        await admin.post("/config/update", litellm_settings={"success_callback": [name]})
    assert (await stored(instance, "litellm_settings"))["success_callback"] == ["langfuse", "s3"]


# ---- single fields -------------------------------------------------------------------------------------------------


async def test_a_list_of_fields_says_where_values_come_from(admin: Caller) -> None:
    row = await row_of(admin, "num_retries", "router_settings")
    assert (row["field_value"], row["source"], row["stored_in_db"], row["editable"]) == (2, "default", None, True)
    await admin.post("/config/field/update", field_name="num_retries", field_value=4, config_type="router_settings")
    row = await row_of(admin, "num_retries", "router_settings")
    assert (row["field_value"], row["source"], row["stored_in_db"]) == (4, "db", True)
    assert (row["field_type"], row["field_default_value"], row["premium_field"]) == ("Integer", 2, False)
    master = await row_of(admin, "master_key", "general_settings")
    assert (master["field_value"], master["source"], master["editable"]) == ("****", "config", False)
    size = await row_of(admin, "max_request_size_mb", "general_settings")
    assert (size["editable"], "restart" in size["field_description"]) == (False, True)
    idle = await row_of(admin, "drop_params", "litellm_settings")
    assert (idle["editable"], "effect" in idle["field_description"]) == (False, True)
    assert (await admin.get("/config/list", config_type="secrets")).status_code == 422


async def test_one_field_is_read_written_and_deleted(admin: Caller) -> None:
    name = {"field_name": "proxy_batch_write_at"}
    unset = await admin.get("/config/field/info", field_name="alert_types")
    assert (unset.status_code, unset.json()) == (400, {"detail": {"error": "Field name=alert_types is not set"}})
    answer = await admin.post("/config/field/update", **name, field_value=5, config_type="general_settings")
    assert answer.json() == {
        "param_name": "general_settings",
        "param_value": {"proxy_batch_write_at": 5},
        "version": 1,
    }
    assert "proxy_batch_write_at" in answer.headers[RESTART]
    assert (await admin.get("/config/field/info", **name)).json() == {
        "field_name": "proxy_batch_write_at",
        "field_value": 5,
        "source": "db",
        "editable": False,
        "version": 1,
    }
    answer = await admin.post("/config/field/delete", **name, config_type="general_settings")
    assert answer.json() == {"param_name": "general_settings", "param_value": {}, "version": 2}
    assert (await admin.post("/config/field/delete", **name)).status_code == 400


async def test_who_read_an_older_version_is_told_so(admin: Caller) -> None:
    field = {"field_name": "num_retries", "config_type": "router_settings"}
    version = (await admin.post("/config/field/update", **field, field_value=4)).json()["version"]
    assert (await admin.post("/config/field/update", **field, field_value=5, version=version)).status_code == 200
    assert (await admin.post("/config/field/update", **field, field_value=6, version=version)).status_code == 409
    assert (await admin.get("/config/field/info", **field)).json()["field_value"] == 5


async def test_a_field_that_nobody_knows_is_refused_in_the_words_of_the_contract(admin: Caller) -> None:
    for path in ("/config/field/update", "/config/field/delete"):
        answer = await admin.post(path, field_name="zz", field_value=1, config_type="general_settings")
        assert (answer.status_code, answer.json()) == (400, {"detail": {"error": "Invalid field=zz passed in."}})
    assert (await admin.get("/config/field/info", field_name="zz")).status_code == 400
    assert (await admin.post("/config/field/update", field_value=1)).status_code == 422
    wrong = await admin.post("/config/field/update", field_name="master_key", field_value="sk-other")
    assert wrong.status_code == 400


async def test_only_admins_change_and_only_readers_look(admin: Caller, vera: Caller, alice: Caller) -> None:
    body = {"router_settings": {"num_retries": 1}}
    assert [(await one.post("/config/update", **body)).status_code for one in (alice, vera)] == [401, 403]
    for path in ("/config/list", "/config/yaml", "/get/config/callbacks", "/router/settings", "/cache/settings"):
        assert [(await one.get(path)).status_code for one in (alice, vera)] == [401, 200], path
