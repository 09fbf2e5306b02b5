"""Browsers that look for single sign-on find a form of name and password."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.auth.instance import Instance, serving
from tests.conftest import MASTER_KEY


@pytest.fixture
async def instance(migrated_sqlite_url: str, tmp_path: Path) -> AsyncIterator[Instance]:
    async with serving(migrated_sqlite_url, state_dir=tmp_path / "state") as running:
        yield running


@pytest.mark.parametrize("path", ["/fallback/login", "/sso/key/generate"])
async def test_the_form_signs_in(instance: Instance, path: str) -> None:
    page = await instance.http.get(path)
    assert page.status_code == 200
    assert 'action="/login"' in page.text and 'name="password"' in page.text
    assert "default-src 'none'" in page.headers["Content-Security-Policy"]
    answer = await instance.http.post("/login", data={"username": "admin", "password": MASTER_KEY})
    assert answer.status_code == 303


async def test_a_callback_that_nobody_asked_for_is_refused(instance: Instance) -> None:
    refused = await instance.http.get("/sso/callback", params={"code": "x"})
    assert (refused.status_code, refused.json()["error"]["type"]) == (400, "auth_error")
    failed = await instance.http.get("/sso/callback", params={"error": "denied", "error_description": "no"})
    assert (failed.status_code, failed.json()) == (401, {"detail": "OAuth error: denied, error_description: no"})


async def test_an_instance_without_console_says_so(migrated_sqlite_url: str, tmp_path: Path) -> None:
    async with serving(migrated_sqlite_url, state_dir=tmp_path, disable_admin_ui=True) as instance:
        page = await instance.http.get("/sso/key/generate")
        assert (page.status_code, "console is disabled" in page.text) == (200, True)
