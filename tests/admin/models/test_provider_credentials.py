"""Credentials that deployments share by name: written, never read back."""

from __future__ import annotations

from typing import Any

import httpx
import pytest
from quart import Quart

from app.models import AuditLog, Credential
from app.services import EXTENSION, Services
from app.settings import Settings
from tests.admin.conftest import Caller
from tests.conftest import MASTER_KEY

SECRET = "sk-shared-provider-secret-0001"
FROM_FILE = "sk-secret-of-the-configuration-file"
VALUES = {"api_key": SECRET, "api_base": "http://127.0.0.1:9/v1"}
MODEL_LIST = (
    {"model_name": "by-file", "litellm_params": {"model": "openai/m", "litellm_credential_name": "of-file"}},
    {"model_name": "by-database", "litellm_params": {"model": "openai/m", "litellm_credential_name": "shared"}},
    {"model_name": "own", "litellm_params": {"model": "openai/m", "api_key": "sk-own"}, "model_info": {"id": "own"}},
)


@pytest.fixture
def settings(settings: Settings) -> Settings:
    entry = {"credential_name": "of-file", "credential_values": {"api_key": FROM_FILE}, "credential_info": {"a": 1}}
    return Settings(
        master_key=MASTER_KEY,
        database_url=settings.database_url,
        state_dir=settings.state_dir,
        model_list=MODEL_LIST,
        credential_list=(entry,),
        permit_weak_master_key=True,
    )


def _services(instance: Quart) -> Services:
    services: Services = instance.extensions[EXTENSION]
    return services


async def _send(caller: Caller, method: str, path: str, **body: Any) -> httpx.Response:
    return await caller.client.request(method, path, json=body, headers=caller.headers)


async def _credential(admin: Caller, name: str = "shared", **fields: Any) -> httpx.Response:
    return await admin.post("/credentials", credential_name=name, **{"credential_values": VALUES, **fields})


async def test_a_credential_is_stored_as_ciphertext_and_shown_with_stars(admin: Caller, instance: Quart) -> None:
    answer = await _credential(admin, credential_info={"provider": "openai"})
    assert answer.json() == {"success": True, "message": "Credential created successfully"}
    with _services(instance).database.active():
        assert SECRET not in (await Credential.get(credential_name="shared")).credential_values
        assert SECRET not in str([row.updated_values async for row in AuditLog.all()])
    listed = (await admin.get("/credentials")).json()
    assert listed["success"] is True
    assert [(row["credential_name"], row["source"]) for row in listed["credentials"]] == [
        ("of-file", "config"),
        ("shared", "db"),
    ]
    row = listed["credentials"][1]
    assert row["credential_values"] == {"api_key": "sk****01", "api_base": "http://127.0.0.1:9/v1"}
    assert row["credential_info"] == {"provider": "openai"}
    shown = (await admin.get("/credentials/by_name/shared")).json()
    assert {name: shown[name] for name in row} == row


@pytest.mark.parametrize("secret", ["short", "sk-fifteen-char", ["a", "b"], {"deep": SECRET}, 12345])
async def test_of_a_short_or_odd_secret_nothing_is_shown(admin: Caller, secret: Any) -> None:
    await _credential(admin, credential_values={"api_key": secret})
    assert (await admin.get("/credentials/by_name/shared")).json()["credential_values"] == {"api_key": "****"}


async def test_deployments_of_file_and_database_use_it_at_once(admin: Caller, instance: Quart) -> None:
    catalog = _services(instance).deployments
    assert catalog.names() == ["by-file", "own"]
    assert catalog.behind("by-file")[0].headers["Authorization"] == f"Bearer {FROM_FILE}"
    await _credential(admin)
    params = {"model": "openai/m", "litellm_credential_name": "shared", "api_base": "http://127.0.0.1:8/v1"}
    await admin.post("/model/new", model_name="stored", litellm_params=params)
    (by_database,), (stored,) = catalog.behind("by-database"), catalog.behind("stored")
    assert (by_database.api_base, stored.api_base) == ("http://127.0.0.1:9/v1", "http://127.0.0.1:8/v1")
    assert by_database.headers == stored.headers == {"Authorization": f"Bearer {SECRET}"}
    assert (await _send(admin, "PATCH", "/credentials/shared", credential_values={"api_key": "sk-next"})).json()[
        "success"
    ]
    assert catalog.behind("stored")[0].headers == {"Authorization": "Bearer sk-next"}
    assert SECRET not in (await admin.get("/model/info")).text
    assert stored.params == params


async def test_a_change_merges_and_null_removes(admin: Caller) -> None:
    await _credential(admin, credential_info={"a": 1, "b": 2})
    change = {"credential_values": {"api_base": None, "api_version": "v1"}, "credential_info": {"a": None}}
    assert (await _send(admin, "PATCH", "/credentials/shared", **change)).status_code == 200
    row = (await admin.get("/credentials/by_name/shared")).json()
    assert row["credential_values"] == {"api_key": "sk****01", "api_version": "v1"}
    assert (row["credential_info"], row["version"]) == ({"b": 2}, 2)
    assert (await _send(admin, "PATCH", "/credentials/shared", credential_info={}, version=1)).status_code == 409


async def test_a_credential_in_use_stays_unless_it_is_forced(admin: Caller, instance: Quart) -> None:
    await _credential(admin)
    refusal = await _send(admin, "DELETE", "/credentials/shared")
    assert (refusal.status_code, "by-database" in refusal.json()["error"]["message"]) == (409, True)
    assert (await _send(admin, "DELETE", "/credentials/shared?force=true")).json()["success"] is True
    assert _services(instance).deployments.behind("by-database") == ()
    assert (await admin.get("/credentials/by_name/shared")).status_code == 404


async def test_the_credential_of_a_model_can_be_given_a_name(admin: Caller, instance: Quart) -> None:
    params = {"model": "openai/m", "api_key": SECRET, "temperature": 1}
    await admin.post("/model/new", model_name="m", litellm_params=params, model_info={"id": "m1"})
    shown = (await admin.get("/credentials/by_model/m1")).json()
    assert (shown["credential_values"], shown["source"]) == ({"api_key": "sk****01"}, "db")
    assert (await _credential(admin, "copied", credential_values=None, model_id="m1")).status_code == 200
    row = (await admin.get("/credentials/by_name/copied")).json()
    assert row["credential_values"] == {"api_key": "sk****01"}
    assert (await admin.get("/credentials/by_model/zz")).status_code == 404
    by_file = next(one.id for one in _services(instance).deployments.all() if one.model_name == "by-file")
    assert (await admin.get(f"/credentials/by_model/{by_file}")).json()["credential_name"] == "of-file"


async def test_what_is_wrong_is_refused(admin: Caller) -> None:
    await _credential(admin)
    cases: list[tuple[dict[str, Any], int]] = [
        ({}, 422),
        ({"credential_name": "x"}, 400),
        ({"credential_name": "shared", "credential_values": {}}, 409),
        ({"credential_name": "of-file", "credential_values": {}}, 409),
        ({"credential_name": "x", "credential_values": "sk-1"}, 422),
        ({"credential_name": "x", "credential_values": {"api_key": "os.environ/HOME"}}, 400),
        ({"credential_name": "x", "credential_values": {"api_base": "http://user:word@host/v1"}}, 400),
        ({"credential_name": "x", "model_id": "zz"}, 404),
        ({"credential_name": "x", "model_id": "own", "credential_values": {"api_key": "x"}}, 400),
    ]
    for body, status in cases:
        assert (await admin.post("/credentials", **body)).status_code == status, body
    assert len((await admin.get("/credentials")).json()["credentials"]) == 2
    for method in ("PATCH", "DELETE"):
        assert (await _send(admin, method, "/credentials/zz")).status_code == 404
        assert (await _send(admin, method, "/credentials/of-file")).status_code == 400
    assert (await _send(admin, "PATCH", "/credentials/shared", credential_name="other")).status_code == 400


async def test_who_may(admin: Caller, alice: Caller, vera: Caller) -> None:
    await _credential(admin)
    assert (await _credential(alice, "x")).status_code == 401
    assert (await _credential(vera, "x")).status_code == 403
    assert (await alice.get("/credentials")).status_code == 401
    for path in ("/credentials", "/credentials/by_name/shared", "/credentials/by_model/own"):
        seen = await vera.get(path)
        assert seen.status_code == 200
        assert SECRET not in seen.text and FROM_FILE not in seen.text
