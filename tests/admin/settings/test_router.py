"""The router's settings as a form."""

from __future__ import annotations

from tests.admin.conftest import Caller


async def test_the_form_shows_what_counts_now(admin: Caller) -> None:
    await admin.post("/config/update", router_settings={"timeout": 30, "cooldown_time": 5})
    answer = await admin.get("/router/settings")
    body = answer.json()
    values = body["current_values"]
    assert (values["routing_strategy"], values["num_retries"]) == ("simple-shuffle", 2)
    assert (values["timeout"], values["cooldown_time"]) == (30, 5)
    assert (values["fallbacks"], values["retry_policy"]) == ([], {})
    fields = {row["field_name"]: row for row in body["fields"]}
    assert (fields["timeout"]["field_value"], fields["timeout"]["field_type"]) == (30, "Float")
    assert fields["num_retries"]["field_default"] == 2
    assert "x-quarterdeck-no-effect" not in answer.headers


async def test_what_is_stored_is_shown_as_it_was_written(admin: Caller) -> None:
    written = {
        "fallbacks": [{"sample-chat": ["other", {"model": "third", "temperature": 0.1}]}],
        "model_group_alias": {"fast": "sample-chat", "quiet": {"model": "sample-chat", "hidden": True}},
        "retry_policy": {"RateLimitErrorRetries": 3},
        "routing_strategy": "least-busy",
    }
    await admin.post("/config/update", router_settings=written)
    values = (await admin.get("/router/settings")).json()["current_values"]
    assert {name: values[name] for name in written} == written


async def test_what_cannot_be_meant_is_refused(admin: Caller) -> None:
    for wrong in ({"routing_strategy": "best"}, {"fallbacks": "chat"}, {"retry_policy": {"OddErrorRetries": 1}}):
        answer = await admin.post("/config/update", router_settings=wrong)
        assert answer.status_code == 400, answer.text


async def test_the_empty_form(admin: Caller) -> None:
    body = (await admin.get("/router/fields")).json()
    assert {row["field_value"] for row in body["fields"]} == {None}
    assert "simple-shuffle" in body["routing_strategy_descriptions"]
