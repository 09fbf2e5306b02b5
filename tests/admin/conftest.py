"""One instance in this process, called by HTTP without sockets, by a small cast.

The admin holds the master key. Alice and Bob are internal users, Vera is an admin viewer, Ivan an internal viewer.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from quart import Quart

from app import create_app
from app.settings import Settings
from tests.conftest import MASTER_KEY

PROVIDER_SECRET = "sk-provider-secret-of-the-configuration"
MODEL_LIST = (
    {
        "model_name": "sample-chat",
        "litellm_params": {
            "model": "openai/sample-chat-1",
            "api_base": "http://127.0.0.1:9/v1",
            "api_key": PROVIDER_SECRET,
            "input_cost_per_token": 0.000001,
            "output_cost_per_token": 0.000002,
        },
        "model_info": {"id": "configured-1"},
    },
)


class Caller:
    """The API as one caller sees it. `get` and `post` answer the response."""

    def __init__(self, client: httpx.AsyncClient, key: str) -> None:
        self.client = client
        self.key = key
        self.headers = {"Authorization": f"Bearer {key}"}

    async def get(self, path: str, **query: Any) -> httpx.Response:
        return await self.client.get(path, params=query, headers=self.headers)

    async def post(self, path: str, **body: Any) -> httpx.Response:
        return await self.client.post(path, json=body, headers=self.headers)

    async def send(self, path: str, raw: str | bytes, **headers: str) -> httpx.Response:
        """A body exactly as written."""
        return await self.client.post(path, content=raw, headers={**self.headers, **headers})

    async def new_key(self, **body: Any) -> dict[str, Any]:
        answer = await self.post("/key/generate", **body)
        assert answer.status_code == 200, answer.text
        key: dict[str, Any] = answer.json()
        return key

    async def info(self, key: str) -> dict[str, Any]:
        answer = await self.get("/key/info", key=key)
        assert answer.status_code == 200, answer.text
        info: dict[str, Any] = answer.json()["info"]
        return info


@pytest.fixture
def settings(database_url: str, tmp_path: Path) -> Settings:
    return Settings(
        master_key=MASTER_KEY,
        database_url=database_url,
        state_dir=tmp_path / "state",
        model_list=MODEL_LIST,
        spend_flush_seconds=3600.0,
        permit_weak_master_key=True,
    )


@pytest.fixture
async def instance(settings: Settings) -> AsyncIterator[Quart]:
    app = create_app(settings)
    async with app.test_app():
        yield app


@pytest.fixture
async def client(instance: Quart) -> AsyncIterator[httpx.AsyncClient]:
    transport = httpx.ASGITransport(app=instance)  # type: ignore[arg-type]
    async with httpx.AsyncClient(transport=transport, base_url="http://worker") as http:
        yield http


@pytest.fixture
def admin(client: httpx.AsyncClient) -> Caller:
    return Caller(client, MASTER_KEY)


async def _user(admin: Caller, name: str, role: str) -> Caller:
    answer = await admin.post("/user/new", user_id=name, user_email=f"{name}@acme.example", user_role=role)
    assert answer.status_code == 200, answer.text
    return Caller(admin.client, answer.json()["key"])


@pytest.fixture
async def alice(admin: Caller) -> Caller:
    return await _user(admin, "alice", "internal_user")


@pytest.fixture
async def bob(admin: Caller) -> Caller:
    return await _user(admin, "bob", "internal_user")


@pytest.fixture
async def vera(admin: Caller) -> Caller:
    return await _user(admin, "vera", "proxy_admin_viewer")


@pytest.fixture
async def ivan(admin: Caller) -> Caller:
    return await _user(admin, "ivan", "internal_user_viewer")
