"""Every route says who may call it, and every error has one of the contract's shapes."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from quart import Quart

from app.auth.guard import access_of_routes
from app.auth.policy import ROUTES, Access
from tests.auth.instance import CONSOLE, Instance, bearer, serving
from tests.conftest import MASTER_KEY
from tests.test_route_groups import calls, group_of, is_without_means

_BODIES = (
    b"",
    b"{",
    b"[]",
    b"null",
    b"7",
    b"\xff\xfe",
    b'{"key": [], "keys": 3, "user_id": {"a": 1}, "team_id": false, "models": 5, "max_budget": "x", "model": 1}',
    b'{"key": "\\u0000", "user_id": "\\u0000", "team_id": "\\u0000", "model_name": "\\u0000", "id": "\\u0000"}',
    b'{"messages": "x", "model": "", "stream": "yes", "litellm_params": [], "members": 7, "code": {}}',
)
_QUERIES = (
    "",
    "?page=-1&size=many&page_size=-5&start_date=never&end_date=2020-99-99&key=%00&user_id=%00&team_id=%00",
    "?page=999999999999999999999&size=1&sort_by=nothing&key=" + "k" * 3000 + "&user_id=" + "u" * 3000,
)


@pytest.fixture
async def worker(migrated_sqlite_url: str, tmp_path: Path) -> AsyncIterator[Instance]:
    async with serving(migrated_sqlite_url, state_dir=tmp_path / "state", control_plane_url=CONSOLE) as instance:
        yield instance


def test_every_row_of_the_policy_table_is_a_route(worker: Instance) -> None:
    known = {
        f"{method} {rule.rule}" for rule in worker.app.url_map.iter_rules() for method in sorted(rule.methods or set())
    }
    assert not set(ROUTES) - known


def test_the_console_and_the_api_keep_to_their_own_marks(worker: Instance) -> None:
    wrong = [
        rule.endpoint
        for rule in worker.app.url_map.iter_rules()
        if (getattr(worker.app.view_functions[rule.endpoint], "access", None) == "console")
        and group_of(worker, rule) != "console"
    ]
    assert not wrong


def test_every_route_belongs_to_a_group(worker: Instance) -> None:
    known = worker.services.route_groups
    wrong = [rule.rule for rule in worker.app.url_map.iter_rules() if rule.endpoint.partition(".")[0] not in known]
    assert not wrong


async def test_a_route_that_is_not_public_refuses_strangers(worker: Instance) -> None:
    wrong = []
    for (method, route), access in access_of_routes(worker.app, worker.services.route_groups).items():
        if not isinstance(access, Access) or access.is_public:
            continue
        path = re.sub(r"<[^>]+>", "x", route)
        for headers in ({}, bearer("sk-unknown-0123456789"), {"Authorization": "sk-no-scheme"}):
            answer = await worker.http.request(method, path, headers=headers)
            if answer.status_code != 401 or not is_error_of_contract(answer):
                wrong.append(f"{method} {path} answers {answer.status_code} to {headers}: {answer.text[:100]}")
    assert not wrong, "\n".join(wrong)


async def test_a_console_page_sends_strangers_to_the_sign_in(worker: Instance) -> None:
    for rule in worker.app.url_map.iter_rules():
        if getattr(worker.app.view_functions[rule.endpoint], "access", None) != "console" or "GET" not in (
            rule.methods or ()
        ):
            continue
        _, path = rule.build(dict.fromkeys(rule.arguments, "x"), append_unknown=False) or ("", "")
        answer = await worker.http.get(path)
        assert answer.status_code == 303, path
        assert answer.headers["Location"].startswith("/ui/login?")


async def test_bad_input_has_one_of_the_shapes_of_the_contract(database_url: str, tmp_path: Path) -> None:
    settings = {"control_plane_url": CONSOLE, "failed_login_limit": 1000}
    async with serving(database_url, state_dir=tmp_path, **settings) as instance:
        wrong = [
            f"{method} {target[:60]} {body[:60]!r}: {answer.status_code} {answer.text[:160]}"
            for method, target, body in _bad_calls(instance)
            if _is_wrong(
                answer := await instance.http.request(method, target, content=body, headers=bearer(MASTER_KEY))
            )
        ]
    assert not wrong, "\n".join(wrong)


def _bad_calls(instance: Instance) -> Iterator[tuple[str, str, bytes]]:
    """(method, address, body) that no route outside the console can take as it is."""
    for group, method, path in calls(instance):
        if group == "console" or method in ("HEAD", "OPTIONS"):
            continue
        if method == "GET":
            yield from ((method, path + query, b"") for query in _QUERIES)
        else:
            yield from ((method, path, body) for body in _BODIES)


def _is_wrong(answer: httpx.Response) -> bool:
    if is_without_means(answer):
        return not is_error_of_contract(answer)
    return answer.status_code >= 500 or (answer.status_code >= 400 and not is_error_of_contract(answer))


def is_error_of_contract(answer: httpx.Response) -> bool:
    """E1, E2 or E3 of app/errors.py, as JSON, without a trace of the code."""
    try:
        body: Any = json.loads(answer.content)
    except json.JSONDecodeError:
        return False
    if not isinstance(body, dict) or "Traceback" in answer.text or "/app/" in answer.text:
        return False
    if set(body) == {"error"}:
        return _is_envelope(body["error"], answer.status_code)
    return set(body) == {"detail"} and _is_detail(body["detail"])


def _is_envelope(error: Any, status: int) -> bool:
    if not isinstance(error, dict) or not {"message", "type", "param", "code"} <= set(error):
        return False
    texts = (error["message"], error["type"], error["code"])
    return all(isinstance(text, str) and text for text in texts) and error["code"] == str(status)


def _is_detail(detail: Any) -> bool:
    if isinstance(detail, list):
        return bool(detail) and all(isinstance(item, dict) and {"type", "loc", "msg"} <= set(item) for item in detail)
    if isinstance(detail, dict):
        return set(detail) == {"error"} and isinstance(detail["error"], str)
    return isinstance(detail, str) and bool(detail)


def test_an_app_with_a_route_that_the_policy_table_does_not_name_does_not_start() -> None:
    app = Quart("forgetful", static_folder=None)

    @app.get("/forgotten")
    async def forgotten() -> str:
        return "open to everyone"

    with pytest.raises(RuntimeError, match="GET /forgotten"):
        access_of_routes(app, {})
