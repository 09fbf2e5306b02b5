"""Settings of the cache of answers over the API: checked, stored with secrets encrypted, and in effect at once."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import httpx
import pytest
from quart import Quart

from app import create_app
from app.models import ConfigEntry
from app.services import EXTENSION
from app.settings import Settings
from tests.admin.conftest import Caller
from tests.conftest import MASTER_KEY
from tests.services.ports import free_port

NO_EFFECT = "x-quarterdeck-no-effect"


async def save(admin: Caller, **values: Any) -> dict[str, Any]:
    answer = await admin.post("/cache/settings", cache_settings=values)
    assert answer.status_code == 200, answer.text
    saved: dict[str, Any] = answer.json()
    assert saved["status"] == "success"
    return saved


async def refused(admin: Caller, **values: Any) -> str:
    answer = await admin.post("/cache/settings", cache_settings=values)
    assert answer.status_code == 400, answer.text
    return str(answer.json()["error"]["message"])


async def running(admin: Caller, **expected: Any) -> dict[str, Any]:
    """What the cache goes by, once that is as expected; nothing expected: once there is none."""
    shown: dict[str, Any] = {}
    for _ in range(100):
        answer = await admin.get("/cache/ping")
        body = answer.json() if answer.status_code == 200 else {}
        shown = {"type": body["cache_type"], **body["litellm_cache_params"]} if body else {}
        if (not shown and not expected) or (expected and expected.items() <= shown.items()):
            return shown
        await asyncio.sleep(0.02)
    raise AssertionError(f"{shown} instead of {expected}")


async def current(admin: Caller) -> dict[str, Any]:
    body = (await admin.get("/cache/settings")).json()
    values: dict[str, Any] = body["current_values"]
    assert {row["field_name"]: row["field_value"] for row in body["fields"]}["ttl"] == values.get("ttl")
    return values


async def test_saving_turns_the_cache_on_and_every_rule_counts_at_once(admin: Caller) -> None:
    assert await current(admin) == {"cache": False}
    await save(admin, type="local", ttl=60)
    await running(admin, type="local", ttl=60, mode="default_on", namespace=None)
    await save(admin, ttl="5", mode="default_off", namespace="night", supported_call_types=["aembedding"], scope="key")
    await running(admin, ttl=5, mode="default_off", namespace="night", supported_call_types=["aembedding"], scope="key")
    await save(admin, ttl=None, mode="", supported_call_types=None)
    await running(admin, ttl=600, mode="default_on", namespace="night", supported_call_types=None)
    assert await current(admin) == {"cache": True, "type": "local", "namespace": "night", "scope": "key"}


async def test_the_cache_is_turned_off_by_name_and_stays_off(admin: Caller) -> None:
    await save(admin, type="local")
    await running(admin, type="local")
    assert (await save(admin, cache=False))["settings"] == {"cache": False, "type": "local"}
    await running(admin)
    await save(admin, ttl=5)
    await admin.get("/cache/settings")
    assert (await current(admin))["cache"] is False
    await save(admin, cache="true")
    await running(admin, ttl=5)
    await save(admin, cache=None)
    await running(admin)  # as the file says


async def test_answers_move_to_redis_and_back(admin: Caller, redis_url: str) -> None:
    await save(admin, type="local")
    await running(admin, type="local")
    await save(admin, type="redis", url=redis_url)
    await running(admin, type="redis")
    assert (await admin.get("/cache/redis/info")).status_code == 200
    await save(admin, type="local")
    await running(admin, type="local")


async def test_secrets_are_encrypted_starred_out_and_stay_with_their_address(admin: Caller, instance: Quart) -> None:
    saved = await save(admin, host="a.example", password="hunter22", ttl=60)
    assert saved["settings"] == {"cache": True, "host": "a.example", "password": "****", "ttl": 60}
    assert "send the secrets" in await refused(admin, host="evil.example")
    assert "send the secrets" in await refused(admin, url="redis://evil.example:6379/0")
    await save(admin, ttl=5, password="****")
    assert await current(admin) == {"cache": True, "host": "a.example", "password": "****", "ttl": 5}
    await save(admin, host=None, password=None, url="redis://:hunter33@b.example:6379/0")
    assert (await current(admin))["url"] == "****"
    with instance.extensions[EXTENSION].database.active():
        stored = json.dumps((await ConfigEntry.get(param_name="litellm_settings")).param_value)
    assert "hunter" not in stored
    assert "hunter" not in (await admin.get("/config/yaml")).text + (await admin.get("/audit")).text


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"ttl": "soon"}, "ttl"),
        ({"ttl": 0}, "ttl"),
        ({"mode": "sometimes"}, "mode"),
        ({"type": "s3"}, "not supported"),
        ({"type": "disc"}, "type"),
        ({"type": "redis"}, "no address"),
        ({"host": "a", "port": 99999}, "port"),
        ({"url": "http://a.example"}, "url"),
        ({"namespace": "a b"}, "namespace"),
        ({"supported_call_types": ["everything"]}, "supported_call_types"),
        ({"cache": "perhaps"}, "cache"),
        ({"password": "os.environ/LITELLM_MASTER_KEY"}, "os.environ"),
    ],
    ids=str,
)
async def test_what_cannot_be_meant_is_refused_and_not_stored(
    admin: Caller, values: dict[str, Any], words: str
) -> None:
    assert words in await refused(admin, **values)
    assert (await admin.post("/cache/settings/test", cache_settings=values)).status_code == 400
    assert await current(admin) == {"cache": False}


async def test_names_that_nobody_knows_are_stored_and_named(admin: Caller) -> None:
    answer = await admin.post("/cache/settings", cache_settings={"type": "local", "similarity_threshold": 0.8})
    assert answer.headers[NO_EFFECT] == "cache_settings.similarity_threshold"
    assert (await current(admin))["similarity_threshold"] == 0.8


async def test_of_two_who_change_one_version_the_second_is_told(admin: Caller) -> None:
    saved = await save(admin, type="local")
    again = {"cache_settings": {"ttl": 5}, "version": saved["version"]}
    assert (await admin.post("/cache/settings", **again)).status_code == 200
    assert (await admin.post("/cache/settings", **again)).status_code == 409
    assert (await admin.get("/cache/settings")).json()["version"] == saved["version"] + 1


async def test_a_test_says_whether_redis_takes_values_and_stores_nothing(admin: Caller, redis_url: str) -> None:
    async def tested(**values: Any) -> tuple[str, str]:
        answer = await admin.post("/cache/settings/test", cache_settings=values)
        assert answer.status_code == 200, answer.text
        body = answer.json()
        return body["status"], body["message"]

    assert await tested(url=redis_url) == ("success", "Redis takes values")
    assert (await tested(type="local"))[0] == "success"
    status, text = await tested(host="127.0.0.1", port=free_port(), password="hunter22")
    assert status == "failed" and "ConnectionError" in text and "hunter22" not in text
    assert await current(admin) == {"cache": False}


@pytest.fixture
async def configured(settings: Settings, redis_url: str) -> AsyncIterator[Caller]:
    """An instance whose file has a cache in Redis, with a password in the address."""
    address = redis_url.replace("redis://", "redis://default:@")
    params = {"type": "redis", "url": address, "ttl": 30}
    app = create_app(replace(settings, caches_answers=True, cache_params=params))
    transport = httpx.ASGITransport(app=app)  # type: ignore[arg-type]
    async with app.test_app(), httpx.AsyncClient(transport=transport, base_url="http://worker") as http:
        yield Caller(http, MASTER_KEY)


async def test_a_change_is_laid_over_the_file_s_parameters(configured: Caller) -> None:
    assert await current(configured) == {"cache": True, "type": "redis", "url": "****", "ttl": 30}
    assert "send the secrets" in await refused(configured, host="evil.example")
    await save(configured, ttl=7)
    assert (await running(configured, ttl=7))["type"] == "redis"
    await configured.post("/config/update", litellm_settings={"cache_params": None})
    await running(configured, ttl=30)
