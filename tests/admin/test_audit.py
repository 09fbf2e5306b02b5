"""Every change leaves one audit row: who, for whom, before and after, and never a secret."""

from __future__ import annotations

from typing import Any

from quart import Quart

from app.admin.audit_trail import masked
from app.models import AuditLog
from app.services import EXTENSION
from tests.admin.conftest import Caller
from tests.admin.test_models import PARAMS, SECRET


async def _rows(instance: Quart) -> list[AuditLog]:
    with instance.extensions[EXTENSION].database.active():
        return await AuditLog.all().order_by("updated_at", "id")


async def test_the_life_of_a_key_is_written_down(admin: Caller, instance: Quart) -> None:
    key = await admin.new_key(key_alias="k", max_budget=1)
    await admin.post("/key/update", key=key["key"], max_budget=2)
    await admin.post("/key/block", key=key["key"])
    await admin.post("/key/unblock", key=key["key"])
    await admin.post("/key/delete", keys=[key["key"]])
    rows = await _rows(instance)
    assert [row.action for row in rows] == ["created", "updated", "blocked", "unblocked", "deleted"]
    assert {row.object_id for row in rows} == {key["token"]}
    assert {(row.changed_by, row.changed_by_api_key) for row in rows} == {
        ("default_user_id", "litellm_proxy_master_key")
    }
    update: dict[str, Any] = {"before": rows[1].before_value, "after": rows[1].updated_values}
    assert (update["before"]["max_budget"], update["after"]["max_budget"]) == (1, 2)
    assert "key_alias" not in update["after"]
    assert all(key["key"] not in str((row.before_value, row.updated_values)) for row in rows)


async def test_a_change_on_behalf_of_somebody_names_them(admin: Caller, instance: Quart) -> None:
    await admin.send("/key/generate", "{}", **{"litellm-changed-by": "grace"})
    assert (await _rows(instance))[0].changed_by == "grace"


async def test_a_refused_change_leaves_no_row(admin: Caller, alice: Caller, instance: Quart) -> None:
    before = len(await _rows(instance))
    await alice.post("/key/generate", user_id="bob")
    await admin.post("/key/generate", max_budget=-1)
    await admin.post("/model/new", model_name="m", litellm_params={})
    assert len(await _rows(instance)) == before


async def test_secrets_are_starred_out(admin: Caller, instance: Quart) -> None:
    await admin.post("/model/new", model_name="m", litellm_params=PARAMS)
    await admin.post("/user/new", user_id="u1", auto_create_key=False)
    await admin.post("/user/update", user_id="u1", password="correct horse battery")
    text = str([(row.before_value, row.updated_values) for row in await _rows(instance)])
    assert SECRET not in text
    assert "horse" not in text
    assert "'api_key': '****'" in text
    assert masked({"a": [{"client_secret": "x"}], "max_tokens": 5}) == {
        "a": [{"client_secret": "****"}],
        "max_tokens": 5,
    }


def test_tokens_and_headers_are_secrets_and_prices_are_not() -> None:
    params = {"aws_session_token": "s", "azure_ad_token": "s", "extra_headers": {"x-gate": "s"}, "api_key": "s"}
    assert set(masked(params).values()) == {"****"}
    prices = {"input_cost_per_token": 1, "cache_read_input_token_cost": 2, "max_tokens": 3, "token": "hash"}
    assert masked(prices) == prices
