"""The cache as admins see it, with Redis, without it, and with Redis away."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from dataclasses import replace

import httpx
import pytest
from quart import Quart

from app import create_app
from app.services import EXTENSION
from app.settings import Settings
from tests.admin.conftest import Caller
from tests.conftest import MASTER_KEY


@pytest.fixture
async def beside_redis(settings: Settings, redis_url: str) -> AsyncIterator[Quart]:
    app = create_app(replace(settings, redis_url=redis_url))
    async with app.test_app():
        yield app


def admin_of(app: Quart) -> Caller:
    transport = httpx.ASGITransport(app=app)  # type: ignore[arg-type]
    return Caller(httpx.AsyncClient(transport=transport, base_url="http://worker"), MASTER_KEY)


async def test_without_redis_there_is_no_cache(admin: Caller) -> None:
    answer = await admin.get("/cache/ping")
    error = answer.json()["error"]
    assert (answer.status_code, error["type"]) == (503, "cache_ping_error")
    assert "REDIS_URL" in json.loads(error["message"])["message"]
    for answer in (
        await admin.post("/cache/flushall"),
        await admin.post("/cache/delete", keys=["a"]),
        await admin.get("/cache/redis/info"),
    ):
        assert answer.status_code == 503
        assert answer.json()["detail"].startswith("Service Unhealthy (")
    assert (await admin.post("/cache/delete")).status_code == 422


async def test_redis_answers_and_nothing_but_responses_is_dropped(beside_redis: Quart) -> None:
    admin, cache = admin_of(beside_redis), beside_redis.extensions[EXTENSION].cache
    body = (await admin.get("/cache/ping")).json()
    assert (body["status"], body["cache_type"], body["ping_response"]) == ("healthy", "redis", True)
    await cache.set("login-code:x", "code", 60)
    await cache.set("response:x", "cached", 60)
    assert (await admin.post("/cache/flushall")).json()["status"] == "success"
    assert (await admin.post("/cache/delete", keys=["x", "login-code:x", "../login-code:x"])).status_code == 200
    assert await cache.take("response:x") is None
    assert await cache.take("login-code:x") == "code"
    assert (await admin.get("/cache/redis/info")).status_code == 200
    await admin.client.aclose()


async def test_with_redis_away_the_answer_is_503(settings: Settings) -> None:
    app = create_app(replace(settings, redis_url="redis://127.0.0.1:1/0"))
    async with app.test_app():
        admin = admin_of(app)
        assert (await admin.get("/cache/ping")).json()["error"]["type"] == "cache_ping_error"
        for path in ("/cache/flushall", "/cache/delete"):
            assert (await admin.post(path, keys=["a"])).status_code == 503
        assert (await admin.get("/cache/redis/info")).status_code == 503
        await admin.client.aclose()


async def test_cache_settings_are_stored_without_effect(admin: Caller) -> None:
    first = {"host": "a.example", "password": "hunter22", "ttl": 60}
    answer = await admin.post("/cache/settings", cache_settings=first)
    assert answer.json()["settings"] == {**first, "password": "****"}
    assert "cache_settings.host" in answer.headers["x-quarterdeck-no-effect"]
    assert (await admin.post("/cache/settings", cache_settings={"host": "evil.example"})).status_code == 400
    await admin.post("/cache/settings", cache_settings={"ttl": 5, "password": "****"})
    body = (await admin.get("/cache/settings")).json()
    assert body["current_values"] == {"host": "a.example", "password": "****", "ttl": 5}
    assert {row["field_name"] for row in body["fields"]} >= {"host", "port", "ttl"}
    assert (await admin.post("/cache/settings/test", cache_settings=first)).json()["status"] == "failed"


async def test_the_cache_is_for_admins(vera: Caller, alice: Caller) -> None:
    for path in ("/cache/flushall", "/cache/delete", "/cache/settings", "/cache/settings/test"):
        assert [(await one.post(path, keys=[])).status_code for one in (alice, vera)] == [401, 403], path
