"""Browsers on the control plane's origin may call a worker with credentials; those on no other origin may."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from app.route_groups import ROUTE_GROUPS
from tests.auth.instance import ADMIN, CONSOLE, Instance, bearer, serving
from tests.conftest import MASTER_KEY
from tests.test_route_groups import calls

# Which groups answer the control plane's origin: the promise, written down a second time on purpose.
ANSWERING = {"health", "deployments", "discovery", "login", "models", "llm", "admin"}
SAME_ORIGIN = {"metrics", "console"}

_ALL_CLOSED = {"disable_admin_ui": True, "disable_admin_endpoints": True, "disable_llm_api_endpoints": True}


@pytest.fixture
async def worker(migrated_sqlite_url: str, tmp_path: Path) -> AsyncIterator[Instance]:
    async with serving(migrated_sqlite_url, state_dir=tmp_path / "state", control_plane_url=CONSOLE) as instance:
        yield instance


def cors_headers(answer: httpx.Response) -> dict[str, str]:
    return {name: value for name, value in answer.headers.items() if name.startswith("access-control-")}


async def preflight(instance: Instance, origin: str, path: str = "/v3/login", method: str = "POST") -> httpx.Response:
    asked = {
        "Origin": origin,
        "Access-Control-Request-Method": method,
        "Access-Control-Request-Headers": "authorization,content-type",
    }
    return await instance.http.options(path, headers=asked)


async def test_the_console_may_ask_with_credentials(worker: Instance) -> None:
    answer = await preflight(worker, CONSOLE)
    assert answer.status_code == 200
    headers = cors_headers(answer)
    assert headers["access-control-allow-origin"] == CONSOLE
    assert headers["access-control-allow-credentials"] == "true"
    assert "POST" in headers["access-control-allow-methods"]
    assert {"authorization", "content-type"} <= set(headers["access-control-allow-headers"].lower().split(", "))
    assert headers["access-control-max-age"] == "600"


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "PATCH", "DELETE"])
async def test_the_console_may_use_every_method_of_the_management_api(worker: Instance, method: str) -> None:
    answer = await preflight(worker, CONSOLE, "/key/list", method)
    assert method in cors_headers(answer)["access-control-allow-methods"]


@pytest.mark.parametrize("body", [ADMIN, {"username": "admin", "password": "wrong"}, {}])
async def test_answers_and_refusals_can_be_read_by_the_console(worker: Instance, body: dict[str, str]) -> None:
    answer = await worker.http.post("/v3/login", json=body, headers={"Origin": CONSOLE})
    assert cors_headers(answer)["access-control-allow-origin"] == CONSOLE
    assert cors_headers(answer)["access-control-allow-credentials"] == "true"
    assert "origin" in answer.headers["Vary"].lower()


async def test_refusals_of_keys_and_paths_can_be_read_by_the_console(worker: Instance) -> None:
    for path in ("/key/list", "/no/such/path"):
        answer = await worker.http.get(path, headers={"Origin": CONSOLE})
        assert answer.status_code in (401, 404)
        assert cors_headers(answer)["access-control-allow-origin"] == CONSOLE


def test_every_group_is_one_or_the_other() -> None:
    assert {group.name: group.answers_control_plane for group in ROUTE_GROUPS} == {
        **dict.fromkeys(ANSWERING, True),
        **dict.fromkeys(SAME_ORIGIN, False),
    }


@pytest.mark.parametrize("settings", [{}, _ALL_CLOSED], ids=["open", "closed"])
async def test_every_route_answers_the_console_or_keeps_to_its_own_pages(
    settings: dict[str, Any], migrated_sqlite_url: str, tmp_path: Path
) -> None:
    wrong: list[str] = []
    async with serving(migrated_sqlite_url, state_dir=tmp_path, control_plane_url=CONSOLE, **settings) as instance:
        for group, method, path in calls(instance):
            asked = await preflight(instance, CONSOLE, path, method)
            headers = {"Origin": CONSOLE, **bearer(MASTER_KEY)}
            answers = [asked, await instance.http.request(method, path, headers=headers)]
            if group in SAME_ORIGIN:
                wrong += [f"{method} {path} of {group} is open" for answer in answers if cors_headers(answer)]
                continue
            wrong += [f"{method} {path} of {group}: {answer.status_code}" for answer in answers if not _shares(answer)]
            if asked.status_code != 200:
                wrong.append(f"the preflight of {method} {path} is answered {asked.status_code}")
    assert not wrong, "\n".join(wrong)


def _shares(answer: httpx.Response) -> bool:
    headers = cors_headers(answer)
    return (
        headers.get("access-control-allow-origin") == CONSOLE
        and headers.get("access-control-allow-credentials") == "true"
        and "origin" in answer.headers.get("Vary", "").lower()
    )


async def test_the_console_can_read_why_a_closed_group_refuses(migrated_sqlite_url: str, tmp_path: Path) -> None:
    async with serving(
        migrated_sqlite_url, state_dir=tmp_path, control_plane_url=CONSOLE, disable_admin_endpoints=True
    ) as instance:
        assert (await preflight(instance, CONSOLE, "/key/generate")).status_code == 200
        answer = await instance.http.post("/key/generate", json={}, headers={"Origin": CONSOLE})
        assert answer.json() == {"detail": "Management routes are disabled for this instance."}
        assert _shares(answer)
        # Whoever else asks for the methods of a closed route is refused as before.
        stranger = await preflight(instance, "https://evil.example.com", "/key/generate")
        assert (stranger.status_code, cors_headers(stranger)) == (403, {})


async def test_the_console_can_read_that_a_path_or_a_method_is_unknown(worker: Instance) -> None:
    for method, path, status in (("GET", "/no/such/path", 404), ("DELETE", "/key/list", 405)):
        assert (await preflight(worker, CONSOLE, path, method)).status_code == 200
        answer = await worker.http.request(method, path, headers={"Origin": CONSOLE, **bearer(MASTER_KEY)})
        assert answer.status_code == status
        assert _shares(answer)


async def test_the_console_can_read_that_a_body_is_too_large(migrated_sqlite_url: str, tmp_path: Path) -> None:
    async with serving(
        migrated_sqlite_url, state_dir=tmp_path, control_plane_url=CONSOLE, max_request_size_mb=0.001
    ) as instance:
        for path in ("/key/generate", "/v1/chat/completions"):
            headers = {"Origin": CONSOLE, **bearer(MASTER_KEY)}
            answer = await instance.http.post(path, content=b"x" * 5000, headers=headers)
            assert answer.status_code == 413, path
            assert _shares(answer), path


async def test_caches_are_told_that_an_answer_without_an_origin_is_not_one_for_the_console(worker: Instance) -> None:
    for method, path in (("POST", "/v1/chat/completions"), ("GET", "/key/list")):
        answer = await worker.http.request(method, path)
        assert answer.status_code == 401
        assert "origin" in answer.headers["Vary"].lower(), path
        assert cors_headers(answer) == {}


@pytest.mark.parametrize("settings", [{"control_plane_url": CONSOLE}, {}], ids=["worker", "alone"])
async def test_no_route_tells_a_stranger_anything(
    settings: dict[str, Any], migrated_sqlite_url: str, tmp_path: Path
) -> None:
    """Nor does an instance without a control plane tell anybody, whoever asks."""
    origin = "https://evil.example.com" if settings else CONSOLE
    async with serving(migrated_sqlite_url, state_dir=tmp_path, **settings) as instance:
        wrong = [
            f"{method} {path} tells {origin}: {headers}"
            for _, method, path in calls(instance)
            for answer in (
                await preflight(instance, origin, path, method),
                await instance.http.request(method, path, headers={"Origin": origin, **bearer(MASTER_KEY)}),
            )
            if (headers := cors_headers(answer))
        ]
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize(
    "origin",
    [
        "https://evil.example.com",
        "http://deck.example.com",
        "https://deck.example.com:8443",
        "https://deck.example.com.evil.example",
        "https://xdeck.example.com",
        "https://DECK.example.com",
        "null",
        "*",
    ],
)
async def test_no_other_origin_is_told_anything(worker: Instance, origin: str) -> None:
    assert "access-control-allow-origin" not in cors_headers(await preflight(worker, origin))
    for answer in (
        await worker.http.post("/v3/login", json=ADMIN, headers={"Origin": origin}),
        await worker.http.get("/v1/models", headers={"Origin": origin, **bearer(MASTER_KEY)}),
    ):
        assert answer.status_code == 200
        assert "access-control-allow-origin" not in cors_headers(answer)
        assert "access-control-allow-credentials" not in cors_headers(answer)


async def test_without_a_control_plane_no_origin_is_told_anything(migrated_sqlite_url: str, tmp_path: Path) -> None:
    async with serving(migrated_sqlite_url, state_dir=tmp_path) as instance:
        assert cors_headers(await preflight(instance, CONSOLE)) == {}
        answer = await instance.http.get("/health/liveliness", headers={"Origin": CONSOLE})
        assert cors_headers(answer) == {}
