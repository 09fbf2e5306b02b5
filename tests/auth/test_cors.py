"""Browsers on the control plane's origin may call a worker with credentials; those on no other origin may."""

from __future__ import annotations

from pathlib import Path

import httpx
import pytest

from tests.auth.instance import ADMIN, CONSOLE, Instance, bearer, serving
from tests.conftest import MASTER_KEY


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
