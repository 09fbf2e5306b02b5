"""Deployments over the management API."""

from __future__ import annotations

from quart import Quart

from app.models import StoredDeployment
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
