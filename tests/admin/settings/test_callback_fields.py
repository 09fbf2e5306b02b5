"""Callbacks that keys and teams bring along: encrypted at rest, masked in answers, sent to the operator's hosts."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from quart import Quart

from app.models import AuditLog, Team, VirtualKey
from app.security.callback_credentials import decrypted_variables
from app.services import EXTENSION
from app.settings import Settings
from tests.admin.conftest import Caller
from tests.admin.organization_cast import database_of, new_team

SECRET = "sk-lf-very-secret"
HOST = "https://logs.example"
VARIABLES = {"langfuse_secret_key": SECRET, "langfuse_host": HOST}


@pytest.fixture
def settings(settings: Settings) -> Settings:
    return replace(settings, callback_hosts=("https://logs.example", "https://other.example"))


def logging(**variables: str) -> list[dict[str, Any]]:
    return [{"callback_name": "langfuse", "callback_type": "success", "callback_vars": {**VARIABLES, **variables}}]


async def stored(instance: Quart, key_hash: str) -> VirtualKey:
    with database_of(instance).active():
        return await VirtualKey.get(token=key_hash)


def opened(instance: Quart, row: VirtualKey | Team) -> dict[str, str]:
    return decrypted_variables(row.metadata["logging"][0], instance.extensions[EXTENSION].settings.salt_key)


async def test_variables_of_a_key_are_encrypted_and_answered_with_stars(admin: Caller, instance: Quart) -> None:
    made = await admin.new_key(metadata={"logging": logging(), "team": "x"})
    row = await stored(instance, made["token"])
    info = (await admin.info(made["key"]))["metadata"]
    assert info["logging"][0]["callback_vars"] == dict.fromkeys(VARIABLES, "****")
    assert info["team"] == "x"
    with database_of(instance).active():
        audit = await AuditLog.all().values("before_value", "updated_values")
    for text in (json.dumps(made), json.dumps(info), json.dumps(row.metadata), json.dumps(audit)):
        assert SECRET not in text
    assert row.metadata["logging"][0]["sealed_credentials"] not in json.dumps([made, info, audit])
    assert opened(instance, row) == VARIABLES


async def test_stars_that_come_back_keep_what_was_there(admin: Caller, alice: Caller, instance: Quart) -> None:
    made = await alice.new_key(metadata={"logging": logging()})
    metadata = (await alice.info(made["key"]))["metadata"]
    metadata["logging"][0]["callback_vars"]["langfuse_public_key"] = "pk-new"
    assert (await alice.post("/key/update", key=made["key"], metadata=metadata)).status_code == 200
    assert opened(instance, await stored(instance, made["token"])) == {**VARIABLES, "langfuse_public_key": "pk-new"}
    whole = {"logging": [{**metadata["logging"][0], "callback_vars": "****"}]}
    assert (await alice.post("/key/update", key=made["key"], metadata=whole)).status_code == 200
    assert opened(instance, await stored(instance, made["token"]))["langfuse_public_key"] == "pk-new"


async def test_other_fields_in_the_metadata_leave_them_encrypted(admin: Caller, instance: Quart) -> None:
    made = await admin.new_key(metadata={"logging": logging()})
    assert (await admin.post("/key/update", key=made["key"], tags=["blue"])).status_code == 200
    row = await stored(instance, made["token"])
    assert (opened(instance, row), row.metadata["tags"]) == (VARIABLES, ["blue"])


@pytest.mark.parametrize(
    "address",
    [
        "https://evil.example",
        "http://logs.example",
        "https://logs.example:8443",
        "http://169.254.169.254",
        "evil.example",
    ],
)
async def test_hosts_that_the_operator_did_not_name_are_refused(admin: Caller, alice: Caller, address: str) -> None:
    wrong = logging(langfuse_host=address)
    for caller in (admin, alice):
        refused = await caller.post("/key/generate", metadata={"logging": wrong})
        assert (refused.status_code, SECRET in refused.text) == (400, False)
    assert "QUARTERDECK_CALLBACK_HOSTS" in refused.text
    made = await alice.new_key()
    assert (await alice.post("/key/update", key=made["key"], metadata={"logging": wrong})).status_code == 400
    team_id = await new_team(admin)
    for path, body in (
        ("/team/update", {"team_id": team_id, "metadata": {"logging": wrong}}),
        (f"/team/{team_id}/callback", {"callback_name": "webhook", "callback_vars": {"endpoint": address}}),
    ):
        assert (await admin.post(path, **body)).status_code == 400


async def test_an_address_under_any_name_is_an_address(admin: Caller) -> None:
    for variables in ({"odd": "https://evil.example"}, {"endpoint": "evil.example"}, {"base_url": "//evil.example"}):
        wrong = [{"callback_name": "datadog", "callback_vars": variables}]
        assert (await admin.post("/key/generate", metadata={"logging": wrong})).status_code == 400, variables
    fine = [{"callback_name": "webhook", "callback_vars": {"endpoint": f"{HOST}/in?x=1"}}]
    assert (await admin.post("/key/generate", metadata={"logging": fine})).status_code == 200


async def test_what_is_no_callback_is_refused(admin: Caller) -> None:
    host = [{"callback_name": "webhook", "callback_vars": {"headers": "Host=other"}}]
    many = [{"callback_name": "l"}] * 21
    cases: list[Any] = [host, "x", [1], [{}], [{"callback_name": "l", "callback_vars": [1]}], many]
    for wrong in cases:
        assert (await admin.post("/key/generate", metadata={"logging": wrong})).status_code == 400, wrong


async def test_the_older_form_of_a_team_becomes_the_newer_one(
    admin: Caller, alice: Caller, bob: Caller, instance: Quart
) -> None:
    old = {"success_callback": ["langfuse"], "failure_callback": ["langfuse", "s3"], "callback_vars": VARIABLES}
    answer = await admin.post("/team/new", metadata={"callback_settings": old, "a": 1})
    assert answer.status_code == 200, answer.text
    metadata = answer.json()["metadata"]
    assert SECRET not in answer.text
    assert [(one["callback_name"], one["callback_type"]) for one in metadata["logging"]] == [
        ("langfuse", "success_and_failure"),
        ("s3", "failure"),
    ]
    assert (metadata["a"], "callback_settings" in metadata) == (1, False)
    with database_of(instance).active():
        team = await Team.get(team_id=answer.json()["team_id"])
    assert opened(instance, team) == VARIABLES
    for wrong in ("x", {"success_callback": "langfuse"}, {"success_callback": [1]}):
        assert (await admin.post("/team/new", metadata={"callback_settings": wrong})).status_code == 400


async def test_rows_from_before_are_masked_and_keep_their_address(admin: Caller, instance: Quart) -> None:
    made = await admin.new_key()
    plain = [{"callback_name": "langfuse", "callback_vars": {**VARIABLES, "langfuse_host": "https://older.example"}}]
    old = {"success_callback": ["langfuse"], "callback_vars": {"secret": SECRET}}
    with database_of(instance).active():
        await VirtualKey.filter(token=made["token"]).update(metadata={"logging": plain, "callback_settings": old})
    instance.extensions[EXTENSION].keys.forget(f"key:{made['token']}")
    answer = await admin.get("/key/info", key=made["key"])
    metadata = answer.json()["info"]["metadata"]
    assert SECRET not in answer.text
    del metadata["callback_settings"]
    assert (await admin.post("/key/update", key=made["key"], metadata=metadata)).status_code == 200
    row = await stored(instance, made["token"])
    assert SECRET not in json.dumps(row.metadata)
    assert opened(instance, row)["langfuse_host"] == "https://older.example"
