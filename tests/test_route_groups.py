"""Each switch closes whole groups of routes, and each route is walked with every method to prove it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from werkzeug.routing import Rule

from app.route_groups import ROUTE_GROUPS
from app.settings.config_file import WorkerEntry
from tests.auth.instance import CONSOLE, Instance, bearer, serving
from tests.conftest import MASTER_KEY

METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")

_NO_MANAGEMENT = (403, {"detail": "Management routes are disabled for this instance."})
_NO_LLM = (403, {"detail": "LLM API routes are disabled for this instance."})
_NO_CONSOLE = (404, {"detail": "Not Found"})

# What each instance closes, and what a closed group answers: the promise, written down a second time on purpose.
_WORKERS = (WorkerEntry("eu", "Europe", "http://127.0.0.1:9"),)
VARIANTS: dict[str, tuple[dict[str, Any], dict[str, tuple[int, dict[str, str]]]]] = {
    "worker": ({"control_plane_url": CONSOLE}, {}),
    "DISABLE_ADMIN_UI": ({"disable_admin_ui": True}, {"console": _NO_CONSOLE}),
    "DISABLE_ADMIN_ENDPOINTS": (
        {"disable_admin_endpoints": True},
        {"admin": _NO_MANAGEMENT, "login": _NO_MANAGEMENT},
    ),
    "DISABLE_LLM_API_ENDPOINTS": ({"disable_llm_api_endpoints": True}, {"llm": _NO_LLM}),
    "control plane": ({"workers": _WORKERS}, {"llm": _NO_LLM}),
    "all three": (
        {"disable_admin_ui": True, "disable_admin_endpoints": True, "disable_llm_api_endpoints": True},
        {"console": _NO_CONSOLE, "admin": _NO_MANAGEMENT, "login": _NO_MANAGEMENT, "llm": _NO_LLM},
    ),
}


def group_of(instance: Instance, rule: Rule) -> str:
    return instance.services.route_groups[rule.endpoint.partition(".")[0]]


def calls(instance: Instance) -> Iterator[tuple[str, str, str]]:
    """(group, method, path) of everything that a route of the app answers, parameters filled in."""
    for rule in instance.app.url_map.iter_rules():
        arguments = {name: "eu" if name == "worker_id" else "x" for name in rule.arguments}
        _, path = rule.build(arguments, append_unknown=False) or ("", rule.rule)
        for method in sorted(rule.methods or ()):
            yield group_of(instance, rule), method, path


def is_denial(answer: httpx.Response, denial: tuple[int, dict[str, str]]) -> bool:
    if answer.status_code != denial[0]:
        return False
    if answer.request.method == "HEAD":
        return True
    try:
        return bool(answer.json() == denial[1])
    except json.JSONDecodeError:
        return False


def is_without_means(answer: httpx.Response) -> bool:
    """503 because there is no cache and no provider's credential here, which is no fault of the input."""
    path = answer.request.url.path
    says_so = path.startswith("/cache/") or answer.request.method == "HEAD" or "has no credential for /" in answer.text
    return answer.status_code == 503 and says_so


@pytest.mark.parametrize("variant", VARIANTS)
async def test_every_route_is_open_or_closed_as_the_table_says(
    variant: str, migrated_sqlite_url: str, tmp_path: Path
) -> None:
    settings, closed = VARIANTS[variant]
    wrong: list[str] = []
    async with serving(migrated_sqlite_url, state_dir=tmp_path, **settings) as instance:
        seen = set()
        for group, method, path in calls(instance):
            seen.add(group)
            for headers in ({}, bearer(MASTER_KEY)):
                answer = await instance.http.request(method, path, headers=headers)
                if answer.status_code >= 500 and not is_without_means(answer):
                    wrong.append(f"{method} {path} broke with {answer.status_code}: {answer.text[:200]}")
                if group in closed and not is_denial(answer, closed[group]):
                    wrong.append(f"{method} {path} of {group} is not closed: {answer.status_code} {answer.text[:80]}")
                if group not in closed and method != "HEAD" and any(map(is_denial_of(answer), closed.values())):
                    wrong.append(f"{method} {path} of {group} is not open: {answer.status_code}")
        assert seen == {group.name for group in ROUTE_GROUPS}
    assert not wrong, "\n".join(wrong)


def is_denial_of(answer: httpx.Response) -> Any:
    return lambda denial: is_denial(answer, denial)


@pytest.mark.parametrize("variant", VARIANTS)
async def test_a_method_that_a_path_does_not_know_opens_nothing(
    variant: str, migrated_sqlite_url: str, tmp_path: Path
) -> None:
    async with serving(migrated_sqlite_url, state_dir=tmp_path, **VARIANTS[variant][0]) as instance:
        known: dict[str, set[str]] = {}
        for _, method, path in calls(instance):
            known.setdefault(path, set()).add(method)
        addresses = instance.app.url_map.bind("worker")
        for path, methods in known.items():
            for method in set(METHODS) - methods:
                if addresses.test(path, method):
                    continue  # of a neighbour: PATCH /team/new means the team of that name
                answer = await instance.http.request(method, path, headers=bearer(MASTER_KEY))
                assert answer.status_code in (403, 404, 405), f"{method} {path}"


async def test_a_closed_group_does_not_look_at_key_or_body(migrated_sqlite_url: str, tmp_path: Path) -> None:
    async with serving(
        migrated_sqlite_url, state_dir=tmp_path, disable_admin_endpoints=True, disable_llm_api_endpoints=True
    ) as instance:
        for path, denial in {"/key/generate": _NO_MANAGEMENT, "/v1/chat/completions": _NO_LLM}.items():
            for headers in ({}, bearer("sk-unknown-0123"), bearer(MASTER_KEY)):
                for body in (b"", b"{", b"x" * 1000):
                    answer = await instance.http.post(path, headers=headers, content=body)
                    assert (answer.status_code, answer.json()) == denial


async def test_the_console_away_is_away_under_all_its_addresses(migrated_sqlite_url: str, tmp_path: Path) -> None:
    async with serving(migrated_sqlite_url, state_dir=tmp_path, disable_admin_ui=True) as instance:
        for path in ("/", "/ui", "/ui/", "/ui/login", "/ui/workers/eu/keys", "/ui/anything", "/ui/static/console.css"):
            answer = await instance.http.get(path, follow_redirects=True)
            assert (answer.status_code, answer.json()) == _NO_CONSOLE, path


async def test_an_instance_without_its_console_says_so_in_discovery(migrated_sqlite_url: str, tmp_path: Path) -> None:
    async with serving(migrated_sqlite_url, state_dir=tmp_path, disable_admin_ui=True) as instance:
        answer = await instance.http.get("/.well-known/litellm-ui-config")
        assert answer.json()["admin_ui_disabled"] is True
        assert (await instance.http.post("/v2/login", json={})).status_code == 401


async def test_a_control_plane_lists_its_workers_in_discovery(migrated_sqlite_url: str, tmp_path: Path) -> None:
    async with serving(migrated_sqlite_url, state_dir=tmp_path, workers=_WORKERS) as instance:
        found = (await instance.http.get("/.well-known/litellm-ui-config")).json()
        assert found["is_control_plane"] is True
        assert found["workers"] == [{"worker_id": "eu", "name": "Europe", "url": "http://127.0.0.1:9"}]
        assert (await instance.http.post("/v3/login", json={})).status_code == 404


def test_each_blueprint_belongs_to_one_group() -> None:
    names = [blueprint.name for group in ROUTE_GROUPS for blueprint in group.blueprints]
    assert len(names) == len(set(names))
    assert all(group.denial or group.when.startswith("always") for group in ROUTE_GROUPS)
