"""Stored pass-through routes: their credentials stay secret, and with their host."""

from __future__ import annotations

import json
from typing import Any

import httpx
from quart import Quart

from app.models import ConfigEntry
from app.services import EXTENSION
from tests.admin.conftest import Caller

PATH = "/config/pass_through_endpoint"
SECRET = "Bearer secret-of-the-target"
NEW = {"path": "/v9/rerank", "target": "https://a.example/v1", "headers": {"Authorization": SECRET}}


async def post(who: Caller, path: str, body: dict[str, Any]) -> httpx.Response:
    return await who.client.post(path, json=body, headers=who.headers)


async def test_an_endpoint_is_made_listed_and_deleted(admin: Caller, instance: Quart) -> None:
    answer = await post(admin, PATH, {**NEW, "cost_per_request": 0.25})
    assert answer.status_code == 200, answer.text
    row = answer.json()["endpoints"][0]
    assert (row["path"], row["headers"], row["auth"], row["cost_per_request"]) == ("/v9/rerank", "****", True, 0.25)
    assert "x-quarterdeck-no-effect" not in answer.headers
    assert "x-quarterdeck-after-restart" not in answer.headers
    with instance.extensions[EXTENSION].database.active():
        assert SECRET not in json.dumps((await ConfigEntry.get(param_name="general_settings")).param_value)
    assert [one["id"] for one in (await admin.get(PATH)).json()["endpoints"]] == [row["id"]]
    assert (await admin.get(PATH, endpoint_id="zz")).status_code == 404
    gone = await admin.client.delete(PATH, params={"endpoint_id": row["id"]}, headers=admin.headers)
    assert gone.json()["endpoints"][0]["path"] == "/v9/rerank"
    assert SECRET not in gone.text
    assert (await admin.get(PATH)).json() == {"endpoints": []}
    assert (await admin.client.delete(PATH, headers=admin.headers)).status_code == 422


async def test_only_what_was_sent_changes(admin: Caller) -> None:
    row = (await post(admin, PATH, NEW)).json()["endpoints"][0]
    answer = await admin.post(f"{PATH}/{row['id']}", target="https://a.example/v2")
    assert answer.status_code == 200, answer.text
    assert answer.json()["endpoints"][0] == {**row, "target": "https://a.example/v2"}


async def test_a_stored_credential_does_not_move_to_another_host(admin: Caller) -> None:
    row = (await post(admin, PATH, NEW)).json()["endpoints"][0]
    for body in (
        {"target": "https://evil.example"},
        {"target": "https://evil.example", "headers": {"Authorization": "****"}},
        {"target": "http://a.example/v1"},
    ):
        assert (await admin.post(f"{PATH}/{row['id']}", **body)).status_code == 400, body
    listed = {"pass_through_endpoints": [{**row, "target": "https://evil.example"}]}
    assert (await admin.post("/config/update", general_settings=listed)).status_code == 400
    fresh = {"target": "https://b.example", "headers": {"Authorization": "Bearer other"}}
    assert (await admin.post(f"{PATH}/{row['id']}", **fresh)).status_code == 200


async def test_wrong_endpoints_are_refused(admin: Caller, vera: Caller) -> None:
    for body, status in (
        ({"path": "v9/rerank", "target": "https://a.example"}, 400),
        ({"path": "/v9/rerank", "target": "file:///etc/passwd"}, 400),
        ({"path": "/v9/rerank", "target": "https://a.example", "headers": {"a": "os.environ/LITELLM_MASTER_KEY"}}, 400),
        ({"path": "/v9/rerank"}, 422),
        ({"path": "/key/generate", "target": "https://a.example"}, 400),
        ({"path": "/openai/v1/x", "target": "https://a.example"}, 400),
        ({"path": "/v9/../x", "target": "https://a.example"}, 400),
        ({"path": "/v9/rerank", "target": "https://name:word@a.example"}, 400),
        ({"path": "/v9/rerank", "target": "https://a.example", "methods": ["TRACE"]}, 400),
        ({"path": "/v9/rerank", "target": "https://a.example", "headers": {"a": "b\nc"}}, 400),
    ):
        assert (await post(admin, PATH, body)).status_code == status, body
    assert (await post(admin, PATH, NEW)).status_code == 200
    assert (await post(admin, PATH, NEW)).status_code == 400
    assert (await post(vera, PATH, NEW)).status_code == 403
