"""Every change leaves one audit row: who, for whom, before and after, and never a secret."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from quart import Quart

from app.models import AuditLog
from app.services import EXTENSION
from tests.admin.conftest import Caller
from tests.admin.models.test_routes import PARAMS, SECRET


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


async def test_only_an_admin_may_name_somebody_else(admin: Caller, alice: Caller, instance: Quart) -> None:
    before = len(await _rows(instance))
    await alice.send("/key/generate", "{}", **{"litellm-changed-by": "grace"})
    assert [row.changed_by for row in (await _rows(instance))[before:]] == ["alice"]


async def test_a_refused_change_leaves_no_row(admin: Caller, alice: Caller, instance: Quart) -> None:
    before = len(await _rows(instance))
    await alice.post("/key/generate", user_id="bob")
    await admin.post("/key/generate", max_budget=-1)
    await admin.post("/model/new", model_name="m", litellm_params={})
    assert len(await _rows(instance)) == before


async def test_secrets_are_masked(admin: Caller, instance: Quart) -> None:
    await admin.post("/model/new", model_name="m", litellm_params=PARAMS)
    await admin.post("/user/new", user_id="u1", auto_create_key=False)
    await admin.post("/user/update", user_id="u1", password="correct horse battery")
    text = str([(row.before_value, row.updated_values) for row in await _rows(instance)])
    assert SECRET not in text
    assert "horse" not in text
    assert "'api_key': '****'" in text


async def test_the_log_is_filtered_sorted_and_paged(admin: Caller, vera: Caller) -> None:
    key = await admin.new_key(key_alias="k")
    await admin.post("/key/block", key=key["key"])
    await admin.send("/team/new", '{"team_alias": "t", "team_id": "team-one"}', **{"litellm-changed-by": "grace"})
    today = datetime.now(UTC).date()
    cases: list[tuple[dict[str, object], set[str]]] = [
        ({"table_name": "LiteLLM_VerificationToken"}, {"created", "blocked"}),
        ({"object_id": key["token"], "action": "blocked"}, {"blocked"}),
        ({"changed_by": "grace", "table_name": "LiteLLM_TeamTable"}, {"created"}),
        ({"search": "M-ON"}, {"created"}),
        ({"search": "GRA", "action": "blocked"}, set()),
        ({"action": "blocked", "start_date": today.isoformat(), "end_date": today.isoformat()}, {"blocked"}),
        ({"start_date": f"{today + timedelta(days=1)}T00:00:00Z"}, set()),
        ({"end_date": str(today - timedelta(days=1))}, set()),
    ]
    for query, expected in cases:
        answer = (await vera.get("/audit", **query)).json()
        assert {row["action"] for row in answer["audit_logs"]} == expected, query
    newest = (await vera.get("/audit", page_size=1)).json()
    assert (newest["page"], newest["page_size"], newest["total_pages"]) == (1, 1, newest["total"])
    oldest = (await vera.get("/audit", page_size=1, sort_order="asc")).json()["audit_logs"][0]
    assert oldest["updated_at"] < newest["audit_logs"][0]["updated_at"]
    assert set(oldest) == {
        *("id", "updated_at", "changed_by", "changed_by_api_key", "action", "table_name", "object_id"),
        *("before_value", "updated_values"),
    }


async def test_one_change_is_read_by_its_id(admin: Caller, vera: Caller) -> None:
    await admin.new_key(key_alias="k")
    row = (await vera.get("/audit", table_name="LiteLLM_VerificationToken")).json()["audit_logs"][0]
    assert (await vera.get(f"/audit/{row['id']}")).json() == row
    assert (await vera.get("/audit/unknown")).status_code == 404


async def test_the_log_is_for_admins_and_viewers(admin: Caller, alice: Caller, ivan: Caller) -> None:
    for caller in (alice, ivan):
        assert (await caller.get("/audit")).status_code == 401
        assert (await caller.get("/audit/any")).status_code == 401
    cases: list[tuple[dict[str, object], int]] = [
        ({"start_date": "yesterday"}, 422),
        ({"end_date": "9999-12-31"}, 200),
        ({"page_size": 101}, 422),
        ({"sort_by": "before_value"}, 400),
        ({"sort_order": "sideways"}, 400),
    ]
    for query, status in cases:
        assert (await admin.get("/audit", **query)).status_code == status, query
