"""Deployments over the management API."""

from __future__ import annotations

from typing import Any

import httpx
from quart import Quart

from app.deployments.catalog import DeploymentCatalog
from app.models import AuditLog, StoredDeployment
from app.services import EXTENSION
from tests.admin.conftest import PROVIDER_SECRET, Caller

SECRET = "sk-provider-secret-of-a-stored-model"
PARAMS = {"model": "openai/sample-chat-2", "api_base": "http://127.0.0.1:9/v1", "api_key": SECRET}


async def test_models_are_shown_without_secrets(admin: Caller, alice: Caller) -> None:
    answer = await admin.get("/model/info")
    row = answer.json()["data"][0]
    assert row["model_name"] == "sample-chat"
    assert row["litellm_params"]["api_base"] == "http://127.0.0.1:9/v1"
    info = row["model_info"]
    assert (info["id"], info["db_model"], info["litellm_provider"], info["mode"]) == (
        "configured-1",
        False,
        "openai",
        "chat",
    )
    assert (info["input_cost_per_token"], info["output_cost_per_token"]) == (0.000001, 0.000002)
    for text in (answer.text, (await admin.get("/v2/model/info")).text, (await alice.get("/v1/model/info")).text):
        assert PROVIDER_SECRET not in text
        assert "hidden" not in text
        assert "word" not in text
    assert "127.0.0.1" not in (await alice.get("/model/info")).text


async def test_one_model_by_id(admin: Caller) -> None:
    assert len((await admin.get("/model/info", litellm_model_id="configured-1")).json()["data"]) == 1
    answer = await admin.get("/model/info", litellm_model_id="zzz")
    assert (answer.status_code, list(answer.json())) == (400, ["detail"])


async def test_a_stored_model_is_there_at_once_and_encrypted(admin: Caller, instance: Quart) -> None:
    answer = await admin.post("/model/new", model_name="more", litellm_params=PARAMS, model_info={"id": "dyn-1"})
    assert answer.status_code == 200, answer.text
    assert (answer.json()["model_id"], answer.json()["litellm_params"]["model"]) == ("dyn-1", "openai/sample-chat-2")
    assert SECRET not in answer.text
    rows = (await admin.get("/v2/model/info", search="MORE")).json()
    assert (rows["total_count"], rows["data"][0]["model_info"]["db_model"]) == (1, True)
    with instance.extensions[EXTENSION].database.active():
        stored = await StoredDeployment.get(model_id="dyn-1")
    assert SECRET not in stored.litellm_params
    assert "sample-chat-2" not in stored.litellm_params
    assert (
        await admin.post("/model/new", model_name="x", litellm_params=PARAMS, model_info={"id": "dyn-1"})
    ).status_code == 409
    assert (await admin.post("/model/delete", id="dyn-1")).json() == {"message": "Model: dyn-1 deleted successfully"}
    assert (await admin.get("/v2/model/info")).json()["total_count"] == 1
    assert (await admin.post("/model/delete", id="dyn-1")).status_code == 400


async def test_the_same_target_can_be_stored_twice(admin: Caller) -> None:
    first = (await admin.post("/model/new", model_name="more", litellm_params=PARAMS)).json()
    second = (await admin.post("/model/new", model_name="more", litellm_params=PARAMS)).json()
    assert first["model_id"] != second["model_id"]


async def test_a_model_of_the_configuration_stays(admin: Caller) -> None:
    assert (await admin.post("/model/delete", id="configured-1")).status_code == 400
    assert (await admin.get("/model/info")).json()["data"]


async def test_a_wrong_model_is_refused(admin: Caller) -> None:
    cases: list[tuple[dict[str, object], int]] = [
        ({}, 422),
        ({"model_name": "m"}, 422),
        ({"model_name": "m", "litellm_params": "openai"}, 422),
        ({"model_name": " ", "litellm_params": PARAMS}, 400),
        ({"model_name": "m", "litellm_params": {}}, 400),
        ({"model_name": "m", "litellm_params": {"model": "openai/x", "api_base": "ftp://x"}}, 400),
        ({"model_name": "m", "litellm_params": {"model": "openai/x", "api_base": "http://user:word@x/v1"}}, 400),
        ({"model_name": "m", "litellm_params": {"model": "openai/x", "api_base": "http://x/v1?key=hidden"}}, 400),
        ({"model_name": "m", "litellm_params": PARAMS, "model_info": {"id": 5}}, 400),
        ({"model_name": "m", "litellm_params": PARAMS, "model_info": {"id": "configured-1"}}, 409),
    ]
    for body, status in cases:
        answer = await admin.post("/model/new", **body)
        assert answer.status_code == status, answer.text
        assert (await admin.get("/v2/model/info")).json()["total_count"] == 1


# ---- changing ------------------------------------------------------------------------------------------------------


def _catalog(instance: Quart) -> DeploymentCatalog:
    catalog: DeploymentCatalog = instance.extensions[EXTENSION].deployments
    return catalog


async def _new(caller: Caller, name: str = "more", id: str = "dyn-1", **fields: Any) -> httpx.Response:
    info = {"id": id, **fields.pop("model_info", {})}
    return await caller.post("/model/new", model_name=name, litellm_params=fields or PARAMS, model_info=info)


async def _patch(caller: Caller, id: str, **body: Any) -> httpx.Response:
    return await caller.client.request("PATCH", f"/model/{id}/update", json=body, headers=caller.headers)


async def test_a_change_merges_and_holds_at_once(admin: Caller, instance: Quart) -> None:
    await _new(admin, model_info={"mode": "chat", "tier": "free"})
    answer = await _patch(admin, "dyn-1", litellm_params={"rpm": 5, "api_key": "sk-next"}, model_info={"tier": None})
    assert answer.status_code == 200, answer.text
    assert "sk-next" not in answer.text
    assert answer.json()["model_info"] == {"id": "dyn-1", "mode": "chat"}
    (deployment,) = _catalog(instance).deployments_of("more")
    assert (deployment.rpm, deployment.headers) == (5, {"Authorization": "Bearer sk-next"})
    assert deployment.api_base == PARAMS["api_base"]
    answer = await admin.post(
        "/model/update", model_name="renamed", litellm_params={"rpm": None}, model_info={"id": "dyn-1"}
    )
    assert (answer.json()["model_name"], answer.json()["version"]) == ("renamed", 3)
    assert (_catalog(instance).deployments_of("more"), _catalog(instance).deployments_of("renamed")[0].rpm) == (
        (),
        None,
    )
    with instance.extensions[EXTENSION].database.active():
        written = str([(row.before_value, row.updated_values) async for row in AuditLog.filter(object_id="dyn-1")])
    assert "sk-next" not in written and SECRET not in written
    assert "'rpm': 5" in written


async def test_what_cannot_be_changed_is_refused(admin: Caller) -> None:
    await _new(admin)
    assert (await _patch(admin, "zz")).status_code == 404
    assert (await admin.post("/model/update", model_info={"id": "zz"})).status_code == 400
    assert (await admin.post("/model/update", model_name="x")).status_code == 400
    for answer in (
        await _patch(admin, "configured-1", model_name="x"),
        await admin.post("/model/update", model_info={"id": "configured-1"}),
    ):
        assert (answer.status_code, "config" in answer.json()["error"]["message"]) == (400, True)
    assert (await _patch(admin, "dyn-1", litellm_params={"model": None})).status_code == 400
    assert (await _patch(admin, "dyn-1", litellm_params={"api_base": "ftp://x"})).status_code == 400
    assert (await _patch(admin, "dyn-1", litellm_params={"api_key": "os.environ/HOME"})).status_code == 400
    assert (await _patch(admin, "dyn-1", litellm_params={"litellm_credential_name": "zz"})).status_code == 400
    assert (await _patch(admin, "dyn-1", litellm_params={"rpm": 1}, version=1)).status_code == 200
    assert (await _patch(admin, "dyn-1", litellm_params={"rpm": 2}, version=1)).status_code == 409


async def test_a_blocked_model_is_listed_and_not_called(admin: Caller, instance: Quart) -> None:
    await _new(admin)
    assert (await admin.post("/model/block", id="dyn-1")).json()["blocked"] is True
    info = (await admin.get("/model/info", litellm_model_id="dyn-1")).json()["data"][0]["model_info"]
    assert info["blocked"] is True
    assert (_catalog(instance).deployments_of("more"), _catalog(instance).names()) == ((), ["sample-chat"])
    assert (await admin.post("/model/unblock", model_id="dyn-1")).json()["blocked"] is False
    assert len(_catalog(instance).deployments_of("more")) == 1
    assert (await admin.post("/model/block", id="configured-1")).status_code == 400
    assert (await admin.post("/model/block")).status_code == 400


async def test_who_may_not(admin: Caller, alice: Caller, vera: Caller, ivan: Caller) -> None:
    await _new(admin)
    for caller in (alice, vera, ivan):
        for answer in (
            await _new(caller, id="dyn-2"),
            await caller.post("/model/update", model_info={"id": "dyn-1"}, model_name="x"),
            await _patch(caller, "dyn-1", model_name="x"),
            await _patch(caller, "zz", model_name="x"),
            await caller.post("/model/delete", id="dyn-1"),
            await caller.post("/model/block", id="dyn-1"),
        ):
            assert answer.status_code == 403, answer.text
    assert (await admin.get("/v2/model/info")).json()["total_count"] == 2


# ---- models of a team ----------------------------------------------------------------------------------------------

OURS = {"model": "openai/x", "api_key": "sk-of-the-team", "api_base": "https://models.acme.example/v1"}
LENT = {"use_in_pass_through": True}


async def _team(admin: Caller, team_id: str, *admins: str, **fields: Any) -> None:
    members = [{"role": "admin", "user_id": user_id} for user_id in admins]
    answer = await admin.post("/team/new", team_id=team_id, members_with_roles=members, **fields)
    assert answer.status_code == 200, answer.text


async def test_a_model_of_a_team_serves_that_team_only(admin: Caller, instance: Quart) -> None:
    await _team(admin, "t1")
    row = (await _new(admin, "sample-chat", **OURS, model_info={"team_id": "t1"})).json()
    assert row["model_name"].startswith("model_name_t1_")
    assert row["model_info"]["team_public_model_name"] == "sample-chat"
    catalog = _catalog(instance)

    def ids(name: str, team_id: str | None = None) -> list[str]:
        return [one.id for one in catalog.deployments_of(name, team_id)]

    assert (ids("sample-chat"), ids("sample-chat", "t2")) == (["configured-1"], ["configured-1"])
    assert (ids("sample-chat", "t1"), ids(row["model_name"], "t1"), ids("dyn-1", "t1")) == (["dyn-1"],) * 3
    assert (ids(row["model_name"]), ids("dyn-1"), ids("dyn-1", "t2")) == ([], [], [])
    assert catalog.belongs_to_team("sample-chat", "t1") and not catalog.belongs_to_team("sample-chat", "t2")
    await admin.post("/model/block", id="dyn-1")
    assert ids("sample-chat", "t1") == []
    assert (await _new(admin, id="x", model_info={"team_id": "zz"})).status_code == 404
    assert (await _new(admin, id="x", model_info={"team_id": 5})).status_code == 400


async def test_an_admin_of_a_team_manages_its_models(admin: Caller, alice: Caller, bob: Caller) -> None:
    await _team(admin, "t1", "alice")
    id = (await _new(alice, **OURS, model_info={"team_id": "t1"})).json()["model_id"]
    assert id != "dyn-1"  # an id is generated for who is no admin of the instance
    assert (await _new(bob, id="x", **OURS, model_info={"team_id": "t1"})).status_code == 403
    renamed = await _patch(alice, id, model_name="better", litellm_params={"rpm": 5})
    assert (renamed.status_code, renamed.json()["model_info"]["team_public_model_name"]) == (200, "better")
    assert (await _patch(bob, id, model_name="x")).status_code == 403
    await _team(admin, "t2")
    assert (await _patch(alice, id, model_info={"team_id": "t2"})).status_code == 403
    assert (await _patch(alice, id, model_info={"team_id": None})).status_code == 403
    assert (await alice.post("/model/block", id=id)).status_code == 403
    assert (await bob.post("/model/delete", id=id)).status_code == 403
    assert (await alice.post("/model/delete", id=id)).status_code == 200


async def test_an_admin_moves_a_model_to_a_team_and_back(admin: Caller, instance: Quart) -> None:
    await _team(admin, "t1")
    await _new(admin)
    assert (await _patch(admin, "dyn-1", model_info={"team_id": "t1"})).status_code == 200
    assert (_catalog(instance).deployments_of("more"), len(_catalog(instance).deployments_of("more", "t1"))) == ((), 1)
    assert (await _patch(admin, "dyn-1", model_info={"team_id": "zz"})).status_code == 404
    assert (await _patch(admin, "dyn-1", model_info={"team_id": None})).json()["model_name"] == "more"
    assert len(_catalog(instance).deployments_of("more")) == 1


async def test_a_team_sends_no_key_of_the_instance_and_reaches_nothing_inside(admin: Caller, alice: Caller) -> None:
    await _team(admin, "t1", "alice")
    await admin.post("/credentials", credential_name="shared", credential_values={"api_key": SECRET})
    team = {"team_id": "t1"}
    refused: list[dict[str, Any]] = [
        {"model": "openai/x"},
        {"model": "openai/x", "litellm_credential_name": "shared", "api_key": "sk-x"},
        *({**OURS, "api_base": base} for base in ("http://acme.example/v1", "https://127.0.0.1/v1", "https://db/v1")),
        {**OURS, "base_url": "https://[::1]/v1"},
        {**OURS, "api_base": "https://2130706433/v1"},
        {**OURS, "api_base": "https://vault.internal./v1"},
        {**OURS, **LENT, "model": "bedrock/x", "aws_bedrock_runtime_endpoint": "http://169.254.169.254"},
        {**OURS, **LENT, "model": "vertex_ai/x", "vertex_credentials": {"token_uri": "https://10.0.0.1/token"}},
        {**OURS, **LENT, "model": "vertex_ai/x", "vertex_credentials": '{"token_uri": "http://a.example/token"}'},
    ]
    for params in refused:
        answer = await _new(alice, id="x", **params, model_info=team)
        assert answer.status_code == 403, answer.text
    id = (await _new(alice, **OURS, model_info=team)).json()["model_id"]
    for params in ({"api_base": "https://evil.example/v1"}, {"model": "groq/x"}, {"api_key": None}):
        assert (await _patch(alice, id, litellm_params=params)).status_code == 403
    assert (await _patch(alice, id, litellm_params={"api_key": "sk-new"})).status_code == 200


async def test_an_admin_of_a_team_reaches_no_provider_on_this_machine(admin: Caller, alice: Caller) -> None:
    """Also not by leaving the address to a provider whose own one is local."""
    await _team(admin, "t1", "alice")
    local = {"model": "ollama/any", "api_key": "sk-of-the-team"}
    team = {"team_id": "t1"}
    refused = await alice.post("/model/new", model_name="m", litellm_params=local, model_info=team)
    assert (refused.status_code, refused.json()["error"]["param"]) == (403, "litellm_params.model"), refused.text
    assert (await admin.post("/model/new", model_name="m", litellm_params=local, model_info=team)).status_code == 200
    mocked = {**local, "mock_response": "hello"}
    assert (await alice.post("/model/new", model_name="m", litellm_params=mocked, model_info=team)).status_code == 200


async def test_secrets_inside_of_parameters_are_masked(admin: Caller, alice: Caller) -> None:
    params = {**PARAMS, "extra_body": {"api_key": SECRET, "top_k": 3}}
    await admin.post("/model/new", model_name="nested", litellm_params=params, model_info={"id": "nested"})
    for caller in (admin, alice):
        (row,) = (await caller.get("/model/info", litellm_model_id="nested")).json()["data"]
        assert row["litellm_params"]["extra_body"] == {"api_key": "****", "top_k": 3}
