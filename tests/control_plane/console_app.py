"""The console on its own: workers of tests/control_plane/contract_worker.py behind it instead of the network."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from types import SimpleNamespace
from typing import Any, cast

import httpx
from quart import Quart
from quart.typing import TestClientProtocol

from app.auth.login_throttle import LoginThrottle
from app.control_plane import console_blueprint
from app.control_plane.registry import WorkerRegistry
from app.services import EXTENSION
from app.settings import Settings
from app.settings.config_file import WorkerEntry
from app.storage.cache import MemoryCache

from .contract_worker import ContractWorker


def in_memory(worker: ContractWorker) -> httpx.ASGITransport:
    """Requests to this worker without a socket."""
    return httpx.ASGITransport(cast(Any, worker.app))


class Network(httpx.AsyncBaseTransport):
    """Hosts by name: a worker answers, None refuses the connection, a name that is not there never answers."""

    def __init__(self, hosts: Mapping[str, ContractWorker | None]) -> None:
        self.hosts = dict(hosts)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        host = request.url.host
        if host not in self.hosts:
            await asyncio.sleep(60)
        worker = self.hosts[host]
        if worker is None:
            raise httpx.ConnectError("connection refused", request=request)
        return await in_memory(worker).handle_async_request(request)


class SessionStore:
    """What the instance's session store does, in a dict."""

    def __init__(self) -> None:
        self.rows: dict[str, dict[str, Any]] = {}

    async def load(self, session_id: str) -> dict[str, Any] | None:
        return self.rows.get(session_id)

    async def save(self, session_id: str, data: dict[str, Any], expires_at: datetime) -> None:
        self.rows[session_id] = data

    async def delete(self, session_id: str) -> None:
        self.rows.pop(session_id, None)


@dataclass
class Console:
    """`alice` works at EU, `bob` at US; `down` refuses connections, `silent` never answers."""

    workers: dict[str, ContractWorker]
    own: ContractWorker = field(default_factory=ContractWorker)
    store: SessionStore = field(default_factory=SessionStore)
    is_control_plane: bool = True

    def __post_init__(self) -> None:
        entries = [
            WorkerEntry("eu", "EU Production", "http://eu", {"region": "eu-west-1"}, "production"),
            WorkerEntry("us", "US Staging", "http://us", {}, "staging"),
            WorkerEntry("down", "Frankfurt", "http://down"),
            WorkerEntry("silent", "Silent", "http://silent"),
        ]
        settings = SimpleNamespace(
            workers=tuple(entries) if self.is_control_plane else (),
            proxy_base_url=None,
            port=4000,
            master_key="sk-master-of-the-console",
            salt_key=None,
            session_duration=timedelta(hours=8),
        )
        self.network = Network({**self.workers, "down": None})
        self.registry = WorkerRegistry.from_settings(settings, transport=self.network)
        self.app = Quart("console_under_test")
        self.app.extensions[EXTENSION] = SimpleNamespace(
            settings=settings,
            registry=self.registry,
            console_sessions=self.store,
            console_throttle=LoginThrottle(Settings(), MemoryCache(), is_console=True),
            self_transport=in_memory(self.own),
        )
        self.app.register_blueprint(console_blueprint)

    def browser(self) -> TestClientProtocol:
        """A client with a cookie jar of its own."""
        return self.app.test_client()

    async def signed_in(self, worker_id: str = "eu") -> TestClientProtocol:
        client = self.browser()
        response = await sign_in(client, worker_id)
        assert response.status_code == 303, await response.get_data(as_text=True)
        return client


async def sign_in(client: TestClientProtocol, worker_id: str, password: str = "correct horse", **fields: str) -> Any:
    form = {"worker_id": worker_id, "username": "alice", "password": password, **fields}
    return await client.post("/ui/login", form=form)


async def text_of(client: TestClientProtocol, address: str, **headers: str) -> str:
    response = await client.get(address, headers=headers)
    assert response.status_code == 200, (address, response.status_code)
    text: str = await response.get_data(as_text=True)
    return text


async def post(client: TestClientProtocol, address: str, page: str = "/ui/workers/eu/keys/new", **fields: Any) -> Any:
    """Submit a form with the token that `page` carries."""
    found = re.search(r'name="csrf_token" value="([0-9a-f]+)"', await text_of(client, page))
    assert found
    return await client.post(address, form={"csrf_token": found[1], **fields})
