"""One instance in this process, called by HTTP without sockets; its database is real."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, cast

import httpx
import jwt
from quart import Quart

from app import create_app
from app.services import EXTENSION, Services
from app.settings import Settings
from tests.conftest import MASTER_KEY

CONSOLE = "https://deck.example.com"
ADMIN = {"username": "admin", "password": MASTER_KEY}


@dataclass(frozen=True)
class Instance:
    """`http` calls it from 127.0.0.1. `services` are its long-lived objects."""

    app: Quart
    http: httpx.AsyncClient

    @property
    def services(self) -> Services:
        return cast(Services, self.app.extensions[EXTENSION])

    async def token(self, **fields: str) -> str:
        """The session token of a sign-in that works."""
        answer = await self.http.post("/v2/login", json={**ADMIN, **fields})
        assert answer.status_code == 200, answer.text
        token: str = answer.json()["token"]
        return token

    async def code(self, **fields: str) -> str:
        """A fresh one-time code of /v3/login."""
        answer = await self.http.post("/v3/login", json={**ADMIN, **fields})
        assert answer.status_code == 200, answer.text
        code: str = answer.json()["code"]
        return code

    async def exchange(self, code: Any, **fields: str) -> httpx.Response:
        return await self.http.post("/v3/login/exchange", json={"code": code, **fields})


@asynccontextmanager
async def client_of(app: Quart, address: str, base_url: str = "http://worker") -> AsyncIterator[httpx.AsyncClient]:
    """A caller at this address; nothing is sent over a socket."""
    transport = httpx.ASGITransport(app=cast(Any, app), client=(address, 1234))
    async with httpx.AsyncClient(transport=transport, base_url=base_url) as http:
        yield http


@asynccontextmanager
async def serving(database_url: str, **settings: Any) -> AsyncIterator[Instance]:
    """An instance on a migrated database; `settings` are fields of `Settings`."""
    given = {"master_key": MASTER_KEY, "database_url": database_url, "spend_flush_seconds": 3600.0, **settings}
    app = create_app(Settings(**given))
    async with app.test_app(), client_of(app, "127.0.0.1") as http:
        yield Instance(app, http)


def claims_of(token: str) -> dict[str, Any]:
    """What a client reads from a session token; it has no way to check the signature."""
    claims: dict[str, Any] = jwt.decode(token, options={"verify_signature": False})
    return claims


def bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}
