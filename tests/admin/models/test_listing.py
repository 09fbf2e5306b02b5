"""Which models a caller sees, as rows and as groups."""

from __future__ import annotations

from typing import Any

from tests.admin.conftest import Caller

PARAMS = {"model": "openai/m", "api_base": "http://127.0.0.1:9/v1", "api_key": "sk-secret-of-the-model"}


async def _model(admin: Caller, name: str, params: dict[str, Any] | None = None, **info: Any) -> None:
    answer = await admin.post(
        "/model/new", model_name=name, litellm_params={**PARAMS, **(params or {})}, model_info=info
    )
    assert answer.status_code == 200, answer.text


async def _names(caller: Caller, path: str = "/model/info", **query: Any) -> list[str]:
    return [row["model_name"] for row in (await caller.get(path, **query)).json()["data"]]


async def _limited(admin: Caller, *models: str, **fields: Any) -> Caller:
    key = await admin.new_key(user_id="alice", models=list(models), **fields)
    return Caller(admin.client, key["key"])


async def test_a_caller_sees_the_models_that_it_may_call(admin: Caller, alice: Caller, vera: Caller) -> None:
    await _model(admin, "other", access_groups=["beta"])
    everything = ["sample-chat", "other"]
    assert await _names(admin) == await _names(vera) == await _names(alice) == everything
    assert await _names(await _limited(admin, "other")) == ["other"]
    assert await _names(await _limited(admin, "beta"), "/v2/model/info") == ["other"]
    key = await _limited(admin, "nothing-*")
    for path in ("/model/info", "/v1/model/info", "/v2/model/info", "/model_group/info"):
        assert (await key.get(path)).json()["data"] == []
    assert (await key.get("/model/info", litellm_model_id="configured-1")).status_code == 400


async def test_models_of_a_team_are_seen_by_its_members(admin: Caller, alice: Caller, bob: Caller) -> None:
    await admin.post("/team/new", team_id="t1", members_with_roles=[{"role": "user", "user_id": "alice"}])
    await _model(admin, "ours", id="t-1", team_id="t1")
    row = (await alice.get("/model/info", litellm_model_id="t-1")).json()["data"][0]
    assert (row["model_name"], row["model_info"]["team_id"]) == ("ours", "t1")
    assert await _names(alice) == ["sample-chat", "ours"]
    assert await _names(bob) == ["sample-chat"]
    assert await _names(admin, teamId="t1") == ["sample-chat", "ours"]
    assert await _names(admin, "/v2/model/info", teamId="t2") == ["sample-chat"]


async def test_pages_are_filtered_and_sorted(admin: Caller) -> None:
    await _model(admin, "cheap", {"input_cost_per_token": 0.0000001}, access_groups=["beta"])
    await _model(admin, "wild-*", {"input_cost_per_token": 0.1})
    path = "/v2/model/info"
    assert await _names(admin, path, sortBy="input_cost", sortOrder="asc") == ["cheap", "sample-chat", "wild-*"]
    assert await _names(admin, path, sortBy="model_name", sortOrder="desc", size=1, page=3) == ["cheap"]
    assert await _names(admin, path, access_group="beta") == ["cheap"]
    assert await _names(admin, path, wildcard_only="true") == ["wild-*"]
    assert await _names(admin, path, user_models_only="true") == ["cheap", "wild-*"]
    assert await _names(admin, path, search="CHEA") == ["cheap"]
    assert (await admin.get(path, size=100_000)).status_code == 422


async def test_a_group_sums_up_its_deployments(admin: Caller) -> None:
    info = {"max_input_tokens": 100, "max_output_tokens": 10, "supports_vision": True}
    await _model(admin, "many", {"input_cost_per_token": 1, "output_cost_per_token": 2, "rpm": 5}, **info)
    await _model(admin, "many", {"model": "groq/x", "input_cost_per_token": 3, "rpm": 7}, max_input_tokens=50)
    (group,) = (await admin.get("/model_group/info", model_group="many")).json()["data"]
    assert (group["model_group"], group["providers"], group["mode"]) == ("many", ["openai", "groq"], "chat")
    assert (group["max_input_tokens"], group["max_output_tokens"]) == (100, 10)
    assert (group["input_cost_per_token"], group["output_cost_per_token"]) == (3, 2)
    assert (group["rpm"], group["tpm"], group["supports_vision"], group["supports_reasoning"]) == (
        12,
        None,
        True,
        False,
    )
    assert (await admin.get("/model_group/info", model_group="zz")).json() == {"data": []}
    assert len((await admin.get("/model_group/info")).json()["data"]) == 2


async def test_a_form_learns_what_a_provider_needs(alice: Caller) -> None:
    rows = {row["name"]: row["fields"] for row in (await alice.get("/model/settings")).json()}
    assert [field["field_name"] for field in rows["azure"]] == ["api_key", "api_base", "api_version"]


async def test_health_shows_no_more_than_the_list(admin: Caller) -> None:
    key = await _limited(admin, "nothing")
    assert (await key.get("/health")).json()["healthy_endpoints"] == []
    assert (await admin.get("/health")).json()["healthy_count"] == 1
