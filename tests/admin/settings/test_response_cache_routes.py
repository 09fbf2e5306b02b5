"""The cache of answers as admins see it: off, in memory, in Redis, and with Redis away."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import httpx
import pytest
from quart import Quart

from app import create_app
from app.services import EXTENSION
from app.settings import Settings
from tests.admin.conftest import Caller
from tests.conftest import MASTER_KEY

_CHAT = {"model": "chat", "messages": [{"role": "user", "content": "hi"}]}
_MODEL = {"model_name": "chat", "litellm_params": {"model": "openai/gpt-4o-mini", "mock_response": "Hello"}}


def caching(settings: Settings, **more: Any) -> Quart:
    return create_app(replace(settings, caches_answers=True, model_list=(_MODEL,), **more))


@pytest.fixture
async def in_redis(settings: Settings, redis_url: str) -> AsyncIterator[Quart]:
    app = caching(settings, redis_url=redis_url)
    async with app.test_app():
        yield app


@pytest.fixture
async def in_memory(settings: Settings) -> AsyncIterator[Quart]:
    app = caching(settings)
    async with app.test_app():
        yield app


def admin_of(app: Quart) -> Caller:
    transport = httpx.ASGITransport(app=app)  # type: ignore[arg-type]
    return Caller(httpx.AsyncClient(transport=transport, base_url="http://worker"), MASTER_KEY)


async def cache_key(admin: Caller) -> str | None:
    """The key that a call is answered under, None for one that a provider answered."""
    answer = await admin.post("/v1/chat/completions", **_CHAT)
    assert answer.status_code == 200, answer.text
    key: str | None = answer.headers.get("x-litellm-cache-key")
    return key


async def hit(admin: Caller) -> str:
    """The same once the answer is kept: writes to Redis go out beside the calls."""
    for _ in range(100):
        key = await cache_key(admin)
        if key is not None:
            return key
    raise AssertionError("never a hit")


async def test_without_a_cache_every_route_says_so(admin: Caller) -> None:
    answer = await admin.get("/cache/ping")
    error = answer.json()["error"]
    assert (answer.status_code, error["type"]) == (503, "cache_ping_error")
    assert "litellm_settings.cache" in json.loads(error["message"])["message"]
    for answer in (
        await admin.post("/cache/flushall"),
        await admin.post("/cache/delete", keys=["a"]),
        await admin.get("/cache/redis/info"),
    ):
        assert answer.status_code == 503
        assert answer.json()["detail"].startswith("Service Unhealthy (")
    assert (await admin.post("/cache/delete")).status_code == 422


async def test_in_memory_answers_are_dropped_by_key_and_all_at_once(in_memory: Quart) -> None:
    admin = admin_of(in_memory)
    body = (await admin.get("/cache/ping")).json()
    assert (body["status"], body["cache_type"], body["litellm_cache_params"]["scope"]) == ("healthy", "local", "team")
    assert await cache_key(admin) is None
    key = await cache_key(admin)
    assert key is not None
    assert (await admin.post("/cache/delete", keys=[key, "unknown"])).json() == {"status": "success", "deleted": 1}
    assert await cache_key(admin) is None
    assert await cache_key(admin) == key
    assert (await admin.post("/cache/flushall")).json() == {"status": "success", "deleted": 1}
    assert await cache_key(admin) is None
    assert (await admin.get("/cache/redis/info")).status_code == 503
    await admin.client.aclose()


async def test_in_redis_nothing_but_answers_is_dropped(in_redis: Quart) -> None:
    admin, cache = admin_of(in_redis), in_redis.extensions[EXTENSION].cache
    assert (await admin.get("/cache/ping")).json()["cache_type"] == "redis"
    assert (await admin.get("/cache/redis/info")).status_code == 200
    for name in ("x", "y"):
        await cache.set(f"login-code:{name}", "code", 60)
    key = await hit(admin)
    assert (await admin.post("/cache/delete", keys=[key, "login-code:x", "../login-code:x"])).json()["deleted"] == 1
    assert await cache_key(admin) is None
    await hit(admin)
    assert (await admin.post("/cache/flushall")).json()["deleted"] >= 1
    assert await cache_key(admin) is None
    assert [await cache.take(f"login-code:{name}") for name in ("x", "y")] == ["code", "code"]
    await admin.client.aclose()


async def test_with_redis_away_the_answer_is_503_and_calls_go_on(settings: Settings) -> None:
    app = caching(settings, redis_url="redis://127.0.0.1:1/0")
    async with app.test_app():
        admin = admin_of(app)
        assert (await admin.get("/cache/ping")).json()["error"]["type"] == "cache_ping_error"
        for path in ("/cache/flushall", "/cache/delete"):
            assert (await admin.post(path, keys=["a"])).status_code == 503
        assert (await admin.get("/cache/redis/info")).status_code == 503
        assert await cache_key(admin) is None
        await admin.client.aclose()


async def test_the_cache_is_for_admins(vera: Caller, alice: Caller) -> None:
    for path in ("/cache/flushall", "/cache/delete", "/cache/settings", "/cache/settings/test"):
        assert [(await one.post(path, keys=[])).status_code for one in (alice, vera)] == [401, 403], path
