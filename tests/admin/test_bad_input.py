"""Whatever is sent to whichever route: a 4xx of the contract's shape, and never a 500."""

from __future__ import annotations

import asyncio
import json
from typing import Any

from quart import Quart

from app.admin import admin_blueprints
from app.auth.policy import ROUTES
from tests.admin.conftest import Caller
from tests.admin.spend_calls import PERIOD

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
# Without a cache their honest answer is 503, whatever is sent.
_MAY_BE_AWAY = ("/health", "/cache/ping", "/cache/flushall", "/cache/delete", "/cache/redis/info")


def _tables(instance: Quart, method: str, kind: str) -> dict[str, list[str]]:
    """Path -> the fields that its view declares to read (`body_table` or `query_table`)."""
    tables: dict[str, list[str]] = {}
    for path, endpoint in _routes(instance, method):
        tables[path] = sorted(getattr(instance.view_functions[endpoint], kind, None) or ())
    return tables


def _routes(instance: Quart, method: str) -> list[tuple[str, str]]:
    """(path, endpoint) of the management API, without addresses that need a parameter."""
    names = {blueprint.name for blueprint in admin_blueprints}
    return sorted(
        (rule.rule, rule.endpoint)
        for rule in instance.url_map.iter_rules()
        if rule.endpoint.split(".")[0] in names and method in (rule.methods or ()) and not rule.arguments
    )


def _is_clear(path: str, answer: Any) -> bool:
    if answer.status_code == 503 and path in _MAY_BE_AWAY:
        return True
    body = answer.json()
    return answer.status_code < 500 and (answer.status_code < 400 or "error" in body or "detail" in body)


async def test_odd_bodies(admin: Caller, instance: Quart) -> None:
    tables = {path: fields for path, fields in _tables(instance, "POST", "body_table").items() if fields}
    assert len(tables) > 60
    usual = {"team_id": "t", "user_id": "u", "key": "sk-odd"}
    for path, fields in tables.items():
        for number, field in enumerate(fields):
            # Every kind of value meets every kind of field, each field a third of the values.
            for value in _ODD_VALUES[number % 3 :: 3]:
                body = {**usual, field: value}
                answer = await admin.send(path, json.dumps(body))
                assert _is_clear(path, answer), (path, body, answer.text)


async def test_odd_queries(admin: Caller, instance: Quart) -> None:
    tables = _tables(instance, "GET", "query_table")
    assert sum(map(bool, tables.values())) > 40
    usual = {**PERIOD, "key": "sk-odd"}
    for path, names in tables.items():
        for value in ("x" * 300, "a\x00b", "-1", "0", str(10**30), "0.5", "%", "2026-13-01", "9999-12-31", "ß"):
            for name in names:
                answer = await admin.get(path, **{**usual, name: value})
                assert _is_clear(path, answer), (path, name, value, answer.text)


async def test_every_route_needs_a_key(admin: Caller, instance: Quart) -> None:
    for method in ("GET", "POST"):
        for path, _ in _routes(instance, method):
            if not ROUTES[f"{method} {path}"].is_public:
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
