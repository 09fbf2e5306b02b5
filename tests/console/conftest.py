"""The console on a port of this machine, with two filled workers, for a real browser."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import pytest
from hypercorn.asyncio import serve
from hypercorn.config import Config

from tests.control_plane.console_app import Console
from tests.control_plane.contract_worker import ContractWorker
from tests.services.ports import free_port


@dataclass
class RunningConsole:
    url: str
    console: Console
    eu: ContractWorker


def _filled() -> ContractWorker:
    worker, now = ContractWorker(), datetime.now(UTC)
    worker.add_model("smart-stored", mode="chat", stored=True)
    worker.teams.append(
        {
            "team_id": "payments-0001",
            "team_alias": "Payments",
            "spend": 830.0,
            "max_budget": 1000,
            "models": ["chat-small", "embed-small"],
            "members_with_roles": [{}],
            "created_at": now.isoformat(),
        }
    )
    user = {"user_id": "u-1", "user_email": "ada@acme.example", "user_role": "internal_user", "spend": 3.2}
    worker.users.append({**user, "max_budget": None, "teams": [], "key_count": 2, "created_at": now.isoformat()})
    for number in range(30):
        created = (now - timedelta(hours=number)).isoformat()
        worker.add_key(
            f"batch-{number:02}", spend=number * 2.0, max_budget=40 if number % 2 else None, created_at=created
        )
    soon = (now + timedelta(days=2)).isoformat()
    worker.add_key(
        "triage", spend=1049.1, max_budget=1000, team_id="payments-0001", models=["chat-small", "embed-small"]
    )
    worker.add_key("nightly", expires=soon, rpm_limit=600, tpm_limit=400_000)
    for age in range(20):
        models = {"chat-small": 3.0 + age, "embed-small": 1.0, "smart-stored": 5.0}
        worker.add_day((now - timedelta(days=age)).date().isoformat(), models, requests=300, failed=2)
    row = {
        "model": "chat-small",
        "prompt_tokens": 12,
        "completion_tokens": 3,
        "request_duration_ms": 412,
        "spend": 0.00001,
    }
    worker.logs = [{**row, "startTime": now.isoformat(), "status": status} for status in ("success", "failure")]
    return worker


@pytest.fixture
async def running_console() -> AsyncIterator[RunningConsole]:
    eu = _filled()
    console = Console({"eu": eu, "us": ContractWorker()})
    del console.network.hosts["down"]
    console.network.hosts.update({"down": None, "silent": None})
    port, stop = free_port(), asyncio.Event()
    config = Config()
    config.bind = [f"127.0.0.1:{port}"]
    serving = asyncio.create_task(serve(console.app, config, shutdown_trigger=stop.wait))
    await asyncio.sleep(0.2)
    yield RunningConsole(f"http://127.0.0.1:{port}", console, eu)
    stop.set()
    await serving
    await console.registry.aclose()
