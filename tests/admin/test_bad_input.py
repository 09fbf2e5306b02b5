"""Whatever is sent to whichever route: a 4xx of the contract's shape, and never a 500."""

from __future__ import annotations

import asyncio
import json
from typing import Any

from quart import Quart

from app.admin import admin_blueprints
from tests.admin.conftest import Caller

_ODD_VALUES: tuple[Any, ...] = (
    None,
    " ",
    "x" * 300,
    "a\x00b",
    "'; DROP TABLE virtual_key; --",
    -1,
    2**63,
    10**30,
    0.1,
    [None],
    ["x" * 300],
    [{"team_id": "x" * 300, "user_id": "x" * 300}],
    {"a": {"b": [1, None, "c"]}},
)
_FIELDS = (
    "key keys key_alias key_aliases user_id user_ids user_email user_role team_id team_ids teams member models "
    "metadata max_budget max_budget_in_team budget_duration duration budget_limits budget_id tpm_limit blocked "
    "key_type id model_name litellm_params model_info members_with_roles password auto_create_key spend "
    "temp_budget_expiry"
).split()
_QUERY = (
    "page size page_size key user_id team_id key_alias search status sort_by sort_order key_hash api_key request_id "
    "role start_date end_date summarize limit min_spend model user_ids team_ids status_filter "
    "litellm_model_id key_limit"
).split()


def _paths(instance: Quart, method: str) -> list[str]:
    names = {blueprint.name for blueprint in admin_blueprints}
    rules = instance.url_map.iter_rules()
    return sorted(
        {rule.rule for rule in rules if rule.endpoint.split(".")[0] in names and method in (rule.methods or ())}
    )


def _is_clear(answer: Any) -> bool:
    body = answer.json()
    return answer.status_code < 500 and (answer.status_code < 400 or "error" in body or "detail" in body)


async def test_odd_bodies(admin: Caller, instance: Quart) -> None:
    paths = _paths(instance, "POST")
    assert len(paths) > 15
    for path in paths:
        for value in _ODD_VALUES:
            for field in _FIELDS:
                body = {"team_id": "t", "user_id": "u", "key": "sk-odd", field: value}
                answer = await admin.send(path, json.dumps(body))
                assert _is_clear(answer), (path, body, answer.text)


async def test_odd_queries(admin: Caller, instance: Quart) -> None:
    paths = _paths(instance, "GET")
    assert len(paths) > 20
    period = {"start_date": "2026-11-20", "end_date": "2026-11-21", "key": "sk-odd"}
    for path in paths:
        for value in ("x" * 300, "a\x00b", "-1", "0", str(10**30), "0.5", "%", "2026-13-01", "9999-12-31", "ß"):
            for name in _QUERY:
                answer = await admin.get(path, **{**period, name: value})
                is_clear = _is_clear(answer) or (path == "/health" and answer.status_code == 503)
                assert is_clear, (path, name, value, answer.text)


async def test_every_route_needs_a_key(admin: Caller, instance: Quart) -> None:
    for method in ("GET", "POST"):
        for path in _paths(instance, method):
            answer = await admin.client.request(method, path, content="{")
            assert (answer.status_code, answer.json()["error"]["type"]) == (401, "auth_error"), path


async def test_of_many_that_want_one_alias_one_gets_it(admin: Caller) -> None:
    answers = await asyncio.gather(*(admin.post("/key/generate", key_alias="wanted") for _ in range(8)))
    assert sorted(answer.status_code for answer in answers) == [200] + [400] * 7
    assert (await admin.get("/key/list")).json()["total_count"] == 1


async def test_of_many_that_send_one_custom_key_one_gets_it(admin: Caller) -> None:
    answers = await asyncio.gather(*(admin.post("/key/generate", key="sk-custom-0123456789") for _ in range(6)))
    statuses = sorted(answer.status_code for answer in answers)
    assert statuses[0] == 200
    assert set(statuses[1:]) <= {400, 409}
