"""One instance's spend on a real database: the ledger, its journal directory, and the totals that it writes."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from uuid import uuid4

from app.models import DailySpend, SpendLog, Team, TeamMembership, User, VirtualKey
from app.settings import Settings
from app.spend.events import SpendEvent
from app.spend.ledger import SpendLedger
from app.storage.database import Database
from tests.services.postgres import PostgresServer

KEY_HASH = "a" * 64
PRICE = Decimal("0.000000000001")  # the smallest amount that the database keeps
NOON = datetime(2026, 11, 21, 12, tzinfo=UTC)  # fixed date: when calls began; nothing here is of today


@dataclass
class SpendInstance:
    ledger: SpendLedger
    database: Database
    state_dir: Path

    async def totals(self) -> dict[str, Decimal]:
        """What each total of Alice, who calls with one key in one team, says."""
        with self.database.active():
            key = await VirtualKey.get(token=KEY_HASH)
            user = await User.get(user_id="alice")
            team = await Team.get(team_id="research")
            member = await TeamMembership.get(team_id="research", user_id="alice")
            days = await DailySpend.all()
            logs = await SpendLog.all()
        return {
            "key": key.spend,
            "key in total": key.total_spend,
            "user": user.spend,
            "team": team.spend,
            "member": member.spend,
            "member in total": member.total_spend,
            "days": sum((day.spend for day in days), Decimal(0)),
            "logs": sum((row.spend for row in logs), Decimal(0)),
        }

    async def log_count(self) -> int:
        with self.database.active():
            return await SpendLog.all().count()

    def files(self, pattern: str) -> list[Path]:
        return sorted((self.state_dir / "journal").rglob(pattern))


@asynccontextmanager
async def instance_of(url: str, state_dir: Path, **settings_of_test: Any) -> AsyncIterator[SpendInstance]:
    """An instance whose ledger flushes on `flush()`, or with `start` every tenth of a second."""
    settings = Settings(database_url=url, state_dir=state_dir, spend_flush_seconds=0.1, **settings_of_test)
    database = Database(settings)
    await database.open()
    try:
        yield SpendInstance(SpendLedger(settings, database), database, state_dir)
    finally:
        await database.close()


async def add_alice(database: Database) -> None:
    with database.active():
        await VirtualKey.create(token=KEY_HASH, key_name="sk-...aaaa", user_id="alice", team_id="research")
        await User.create(user_id="alice")
        await Team.create(team_id="research")
        await TeamMembership.create(team_id="research", user_id="alice")


def event(number: int = 0, **fields: Any) -> SpendEvent:
    """A call of Alice that cost PRICE, one second later for each number."""
    started = NOON + timedelta(seconds=number)
    known: dict[str, Any] = {
        "request_id": str(uuid4()),
        "call_type": "acompletion",
        "endpoint": "/chat/completions",
        "start_time": started,
        "end_time": started + timedelta(milliseconds=250),
        "cost": PRICE,
        "prompt_tokens": 9,
        "completion_tokens": 2,
        "key_hash": KEY_HASH,
        "user_id": "alice",
        "team_id": "research",
        "model": "gpt-4o-mini",
        "model_group": "chat",
        "provider": "openai",
    }
    return SpendEvent(**{**known, **fields})


def deadlocks(server: PostgresServer, url: str) -> int:
    """How often the server ended a transaction that stood in a circle with another one."""
    name = urlsplit(url).path.lstrip("/")
    return int(server.execute(f"SELECT deadlocks FROM pg_stat_database WHERE datname = '{name}'"))
