"""Callbacks and alerting: what is stored is listed, what runs is listed apart, no secret in either."""

from __future__ import annotations

import asyncio

from tests.admin.conftest import Caller


async def test_stored_callbacks_are_listed_with_their_variables_starred_out(admin: Caller) -> None:
    await admin.post(
        "/config/update",
        litellm_settings={"success_callback": ["langfuse"], "callbacks": ["prometheus"]},
        environment_variables={"LANGFUSE_SECRET_KEY": "sk-lf-1", "SLACK_WEBHOOK_URL": "https://hooks.example/x"},
        general_settings={"alert_to_webhook_url": {"budget_alerts": "https://hooks.example/y"}},
    )
    answer = await admin.get("/get/config/callbacks")
    body = answer.json()
    assert body["status"] == "success"
    assert body["callbacks"] == [
        {"name": "langfuse", "variables": {"LANGFUSE_SECRET_KEY": "****"}, "type": "success"},
        {"name": "prometheus", "variables": {}, "type": "success_and_failure"},
    ]
    slack = body["alerts"][0]
    assert (slack["name"], slack["variables"]) == ("slack", {"SLACK_WEBHOOK_URL": "****"})
    assert slack["alerts_to_webhook"] == {"budget_alerts": "****"}
    assert "sk-lf-1" not in answer.text
    assert "hooks.example" not in answer.text
    assert "litellm_settings.success_callback" in answer.headers["x-quarterdeck-no-effect"]
    listed = (await admin.get("/callbacks/list")).json()
    assert listed == {"success": ["langfuse"], "failure": [], "success_and_failure": ["prometheus"]}


async def test_a_callback_is_deleted_from_every_list(admin: Caller) -> None:
    lists = {"success_callback": ["langfuse", "s3"], "failure_callback": ["langfuse"]}
    await admin.post("/config/update", litellm_settings=lists)
    answer = await admin.post("/config/callback/delete", callback_name="langfuse")
    assert answer.status_code == 200, answer.text
    assert (answer.json()["removed_callback"], answer.json()["remaining_callbacks"]) == ("langfuse", ["s3"])
    assert (await admin.post("/config/callback/delete", callback_name="langfuse")).status_code == 404
    assert (await admin.post("/config/callback/delete")).status_code == 422


async def test_what_really_runs_is_told_without_internals(admin: Caller, vera: Caller, alice: Caller) -> None:
    await admin.post("/config/update", litellm_settings={"success_callback": ["langfuse"]})
    for path in ("/settings", "/active/callbacks"):
        body = (await vera.get(path)).json()
        assert (body["litellm.success_callback"], body["num_callbacks"], body["alerting"]) == ([], 0, [])
        assert body["litellm.request_timeout"] == 6000.0
        assert (await alice.get(path)).status_code == 401


async def test_alerting_is_a_form_with_the_stored_values(admin: Caller) -> None:
    await admin.post("/config/update", general_settings={"alerting_args": {"outage_alert_ttl": 5}})
    rows = {row["field_name"]: row for row in (await admin.get("/alerting/settings")).json()}
    assert (rows["outage_alert_ttl"]["field_value"], rows["outage_alert_ttl"]["stored_in_db"]) == (5, True)
    assert rows["report_check_interval"]["stored_in_db"] is False
    assert (await admin.get("/callbacks/configs")).json() == []


async def test_stored_callbacks_run_while_the_instance_does(admin: Caller) -> None:
    variables = {"LANGFUSE_PUBLIC_KEY": "pk", "LANGFUSE_SECRET_KEY": "sk", "WEBHOOK_URL": "http://127.0.0.1:9"}
    await admin.post(
        "/config/update",
        litellm_settings={"success_callback": ["langfuse"]},
        general_settings={"alerting": ["webhook"]},
        environment_variables={**variables, "LANGFUSE_HOST": "http://127.0.0.1:9"},
    )
    async with asyncio.timeout(10):
        while not (active := (await admin.get("/active/callbacks")).json())["num_callbacks"]:
            await asyncio.sleep(0.02)
    assert (active["litellm.success_callback"], active["num_callbacks"]) == (["langfuse"], 1)
    assert (active["alerting"], active["num_alerting"]) == (["webhook"], 1)
    for path in ("/get/config/callbacks", "/callbacks/list"):
        assert "x-quarterdeck-no-effect" not in (await admin.get(path)).headers
    configured = (await admin.get("/get/config/callbacks")).json()
    assert configured["active_alerting_destinations"] == ["webhook"]
    assert "budget_alerts" in configured["alerts"][0]["active_alerts"]


async def test_only_admins_send_test_messages(admin: Caller, vera: Caller) -> None:
    assert (await vera.get("/health/services", service="slack")).status_code in (401, 403)
    assert (await admin.get("/health/services", service="slack")).status_code == 422
