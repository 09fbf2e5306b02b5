"""Fallbacks of single models: what one call makes, the others find."""

from __future__ import annotations

import pytest

from tests.admin.conftest import Caller

PARAMS = {"model": "openai/other", "api_base": "http://127.0.0.1:9/v1", "api_key": "sk-1234567890"}


@pytest.fixture
async def spare(admin: Caller) -> str:
    """The name of a second model."""
    answer = await admin.post("/model/new", model_name="team/spare", litellm_params=PARAMS)
    assert answer.status_code == 200, answer.text
    return "team/spare"


async def test_a_fallback_is_made_shown_and_deleted(admin: Caller, spare: str) -> None:
    made = await admin.post("/fallback", model="sample-chat", fallback_models=[spare])
    assert made.status_code == 200, made.text
    expected = {"model": "sample-chat", "fallback_models": [spare], "fallback_type": "general"}
    assert made.json() == {**expected, "message": "Fallback configuration set for sample-chat"}
    assert "x-quarterdeck-no-effect" not in made.headers
    assert (await admin.get("/fallback/sample-chat")).json() == expected
    stored = (await admin.get("/router/settings")).json()["current_values"]
    assert stored["fallbacks"] == [{"sample-chat": [spare]}]
    gone = await admin.client.delete("/fallback/sample-chat", headers=admin.headers)
    assert (gone.status_code, gone.json()["model"]) == (200, "sample-chat")
    for method in ("GET", "DELETE"):
        answer = await admin.client.request(method, "/fallback/sample-chat", headers=admin.headers)
        assert (answer.status_code, list(answer.json())) == (404, ["detail"])


async def test_each_type_has_fallbacks_of_its_own_and_setting_replaces(admin: Caller, spare: str) -> None:
    await admin.post("/fallback", model=spare, fallback_models=["sample-chat"], fallback_type="context_window")
    assert (await admin.get(f"/fallback/{spare}")).status_code == 404
    answer = await admin.get(f"/fallback/{spare}", fallback_type="context_window")
    assert answer.json()["fallback_models"] == ["sample-chat"]
    for _ in range(2):
        await admin.post("/fallback", model="sample-chat", fallback_models=[spare])
    stored = (await admin.get("/router/settings")).json()["current_values"]
    assert stored["fallbacks"] == [{"sample-chat": [spare]}]


@pytest.mark.parametrize(
    ("model", "names", "status"),
    [
        ("nobody", ["sample-chat"], 400),
        ("sample-chat", ["nobody"], 400),
        ("sample-chat", ["sample-chat"], 400),
        ("sample-chat", [], 400),
        ("sample-chat", "team/spare", 422),
    ],
)
async def test_fallbacks_that_cannot_be_meant_are_refused(
    admin: Caller, model: str, names: object, status: int
) -> None:
    assert (await admin.post("/fallback", model=model, fallback_models=names)).status_code == status


async def test_fallbacks_are_for_admins(admin: Caller, vera: Caller, alice: Caller, spare: str) -> None:
    body = {"model": "sample-chat", "fallback_models": [spare]}
    assert [(await one.post("/fallback", **body)).status_code for one in (alice, vera)] == [401, 403]
    await admin.post("/fallback", **body)
    assert [(await one.get("/fallback/sample-chat")).status_code for one in (alice, vera)] == [401, 200]
