"""Access groups: words on deployments with a budget, and rows that teams and keys are given."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx
import pytest
from quart import Quart

from app.services import EXTENSION
from tests.admin.conftest import Caller

PARAMS = {"model": "openai/m", "api_base": "http://127.0.0.1:9/v1", "api_key": "sk-a"}
UNIFIED = ("/v1/access_group", "/v1/unified_access_group")


async def _send(caller: Caller, method: str, path: str, **body: Any) -> httpx.Response:
    return await caller.client.request(method, path, json=body, headers=caller.headers)


async def _model(admin: Caller, name: str, id: str, **info: Any) -> None:
    answer = await admin.post("/model/new", model_name=name, litellm_params=PARAMS, model_info={"id": id, **info})
    assert answer.status_code == 200, answer.text


async def _groups(admin: Caller) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = (await admin.get("/access_group/list")).json()["access_groups"]
    return rows


async def test_a_word_is_put_on_models_changed_and_taken_off(admin: Caller, instance: Quart) -> None:
    await _model(admin, "a", "a1")
    await _model(admin, "a", "a2", mode="chat")
    await _model(admin, "b", "b1")
    answer = (await admin.post("/access_group/new", access_group="beta", model_names=["a"])).json()
    assert answer == {"access_group": "beta", "model_names": ["a"], "deployment_count": 2, "models_updated": 2}
    catalog = instance.extensions[EXTENSION].deployments
    assert (catalog.access_groups_of("a"), catalog.access_groups_of("b")) == ({"beta"}, frozenset())
    answer = (await _send(admin, "PUT", "/access_group/beta/update", model_ids=["a2", "b1"])).json()
    assert (answer["model_names"], answer["models_updated"]) == (["a", "b"], 2)
    assert (await admin.get("/access_group/beta/info")).json()["deployment_count"] == 2
    info = (await admin.get("/model/info", litellm_model_id="a2")).json()["data"][0]["model_info"]
    assert (info["mode"], info["access_groups"]) == ("chat", ["beta"])
    assert [row["access_group"] for row in await _groups(admin)] == ["beta"]
    assert (await _send(admin, "DELETE", "/access_group/beta/delete")).json()["models_updated"] == 2
    assert (await _groups(admin), catalog.access_groups_of("a")) == ([], frozenset())


async def test_wrong_groups_are_refused(admin: Caller) -> None:
    await _model(admin, "a", "a1", access_groups=["beta"])
    cases: list[tuple[dict[str, Any], int]] = [
        ({}, 422),
        ({"access_group": "x"}, 400),
        ({"access_group": "beta", "model_names": ["a"]}, 409),
        ({"access_group": "x", "model_names": ["sample-chat"]}, 400),
        ({"access_group": "x", "model_ids": ["configured-1"]}, 400),
        ({"access_group": "x", "model_names": ["zz"]}, 400),
    ]
    for body, status in cases:
        assert (await admin.post("/access_group/new", **body)).status_code == status, body
    for method, action in (("GET", "info"), ("PUT", "update"), ("DELETE", "delete"), ("PUT", "budget")):
        assert (await _send(admin, method, f"/access_group/zz/{action}")).status_code == 404
    assert (await _send(admin, "GET", "/access_group/beta/budget")).status_code == 404
    assert (
        await admin.post("/model/new", model_name="m", litellm_params=PARAMS, model_info={"access_groups": "x"})
    ).status_code == 400


async def test_a_word_may_have_a_budget(admin: Caller) -> None:
    await _model(admin, "a", "a1", access_groups=["beta"])
    path = "/access_group/beta/budget"
    row = (await _send(admin, "PUT", path, max_budget=5, budget_duration="1d")).json()
    assert (row["litellm_budget_table"]["max_budget"], row["spend"]) == (5, 0)
    assert row["budget_reset_at"] is not None
    assert (await _send(admin, "PUT", path, rpm_limit=2)).json()["litellm_budget_table"]["max_budget"] == 5
    assert (await admin.get(path)).json()["budget_id"] == row["budget_id"]
    assert (await _send(admin, "PUT", path, budget_id="zz")).status_code == 404
    assert (await _send(admin, "DELETE", path)).status_code == 200
    assert (await admin.get(path)).status_code == 404
    assert (await admin.get("/budget/list")).json() == []


# ---- groups that are rows ------------------------------------------------------------------------------------------


async def _group(admin: Caller, **fields: Any) -> dict[str, Any]:
    answer = await admin.post("/v1/access_group", **{"access_group_name": "Beta", **fields})
    assert answer.status_code == 201, answer.text
    row: dict[str, Any] = answer.json()
    return row


@pytest.mark.parametrize("path", UNIFIED)
async def test_a_group_is_made_read_changed_and_deleted(admin: Caller, path: str) -> None:
    answer = await admin.post(path, access_group_name="Beta", access_model_names=["a", "a"], description="early")
    assert answer.status_code == 201
    row = answer.json()
    assert (row["access_group_name"], row["access_model_names"], row["version"]) == ("Beta", ["a"], 1)
    group_path = f"{path}/{row['access_group_id']}"
    assert (await admin.get(group_path)).json() == row
    changed = (await _send(admin, "PUT", group_path, access_model_names=["b"], version=1)).json()
    assert (changed["access_model_names"], changed["description"], changed["version"]) == (["b"], "early", 2)
    assert (await _send(admin, "PUT", group_path, description="x", version=1)).status_code == 409
    assert (await admin.get(path, search="bet")).json() == [changed]
    gone = await _send(admin, "DELETE", group_path)
    assert (gone.status_code, gone.content) == (204, b"")
    assert (await admin.get(group_path)).status_code == 404
    assert (await _send(admin, "DELETE", group_path)).status_code == 404


async def test_a_name_is_there_once(admin: Caller) -> None:
    await _group(admin)
    other = await _group(admin, access_group_name="Other")
    assert (await admin.post("/v1/access_group", access_group_name="Beta")).status_code == 409
    one = f"/v1/access_group/{other['access_group_id']}"
    assert (await _send(admin, "PUT", one, access_group_name="Beta")).status_code == 409
    assert (await _send(admin, "PUT", one, access_group_name=None)).status_code == 400
    assert (await admin.post("/v1/access_group")).status_code == 422


async def test_teams_and_keys_know_the_groups_that_they_were_given(admin: Caller) -> None:
    team = (await admin.post("/team/new", team_id="t1")).json()["team_id"]
    key = await admin.new_key()
    group = await _group(admin, assigned_team_ids=[team], assigned_key_ids=[key["key"]])
    id = group["access_group_id"]
    assert group["assigned_key_ids"] == [key["token_id"]]
    assert (await admin.info(key["key"]))["access_group_ids"] == [id]
    assert (await admin.get("/team/info", team_id=team)).json()["team_info"]["access_group_ids"] == [id]
    await _send(admin, "PUT", f"/v1/access_group/{id}", assigned_key_ids=[])
    assert (await admin.info(key["key"]))["access_group_ids"] == []
    await _send(admin, "DELETE", f"/v1/access_group/{id}")
    assert (await admin.get("/team/info", team_id=team)).json()["team_info"]["access_group_ids"] == []
    assert (await admin.post("/v1/access_group", access_group_name="X", assigned_team_ids=["zz"])).status_code == 400
    assert (await admin.get("/v1/access_group")).json() == []


@pytest.mark.parametrize("taken_by", ["PUT", "DELETE"])
async def test_losing_the_last_group_does_not_grant_every_model(admin: Caller, taken_by: str) -> None:
    await admin.post("/team/new", team_id="t1", models=[])
    bare, listed = await admin.new_key(models=[]), await admin.new_key(models=["b"])
    keys = [bare["key"], listed["key"]]
    group = await _group(admin, access_model_names=["a"], assigned_team_ids=["t1"], assigned_key_ids=keys)
    body: dict[str, Any] = {"assigned_key_ids": [], "assigned_team_ids": []} if taken_by == "PUT" else {}
    answer = await _send(admin, taken_by, f"/v1/access_group/{group['access_group_id']}", **body)
    assert answer.is_success, answer.text
    assert [(await admin.info(key))["models"] for key in keys] == [["no-default-models"], ["b"]]
    assert (await admin.get("/team/info", team_id="t1")).json()["team_info"]["models"] == ["no-default-models"]


async def test_who_may(admin: Caller, alice: Caller, vera: Caller) -> None:
    await _model(admin, "a", "a1", access_groups=["beta"])
    group = await _group(admin)
    assert (await alice.post("/access_group/new", access_group="x", model_names=["a"])).status_code == 401
    assert (await _send(vera, "DELETE", "/access_group/beta/delete")).status_code == 403
    assert (await alice.post("/v1/access_group", access_group_name="x")).status_code == 401
    assert (await _send(vera, "DELETE", f"/v1/access_group/{group['access_group_id']}")).status_code == 403
    assert (await alice.get("/access_group/list")).status_code == 401
    assert (await vera.get("/access_group/list")).status_code == 200


async def test_two_groups_at_once_lose_no_assignment(admin: Caller) -> None:
    await admin.post("/team/new", team_id="t1")
    answers = await asyncio.gather(
        *(
            admin.post("/v1/access_group", access_group_name=f"g{number}", assigned_team_ids=["t1"])
            for number in range(6)
        )
    )
    made = [answer.json()["access_group_id"] for answer in answers if answer.status_code == 201]
    assert made and {answer.status_code for answer in answers} <= {201, 409}
    ids = (await admin.get("/team/info", team_id="t1")).json()["team_info"]["access_group_ids"]
    assert sorted(ids) == sorted(made)
    assert len((await admin.get("/v1/access_group")).json()) == len(made)
