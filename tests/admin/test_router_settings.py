"""The router's settings as a form."""

from __future__ import annotations

from tests.admin.conftest import Caller


async def test_the_form_shows_what_counts_now(admin: Caller) -> None:
    await admin.post("/config/update", router_settings={"timeout": 30, "cooldown_time": 5})
    answer = await admin.get("/router/settings")
    body = answer.json()
    assert body["current_values"] == {
        "routing_strategy": "simple-shuffle",
        "num_retries": 2,
        "timeout": 30,
        "cooldown_time": 5,
    }
    fields = {row["field_name"]: row for row in body["fields"]}
    assert (fields["timeout"]["field_value"], fields["timeout"]["field_type"]) == (30, "Float")
    assert fields["num_retries"]["field_default"] == 2
    assert "effect" in fields["cooldown_time"]["field_description"]
    assert answer.headers["x-quarterdeck-no-effect"] == "router_settings.cooldown_time"


async def test_the_empty_form(admin: Caller) -> None:
    body = (await admin.get("/router/fields")).json()
    assert {row["field_value"] for row in body["fields"]} == {None}
    assert "simple-shuffle" in body["routing_strategy_descriptions"]
