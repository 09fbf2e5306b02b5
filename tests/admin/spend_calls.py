"""Finished calls, written as the data plane does: through the ledger."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

from quart import Quart

from app.db import Database
from app.services import EXTENSION
from app.spend.events import SpendEvent

NOW = datetime.now(UTC)
TODAY, YESTERDAY = NOW.date().isoformat(), (NOW - timedelta(days=1)).date().isoformat()
PERIOD = {"start_date": YESTERDAY, "end_date": TODAY}
Spend = Callable[..., Awaitable[None]]


def recorder(instance: Quart) -> Spend:
    """`spend(request_id, cost, days_ago=0, key_hash=…, user_id=…)` writes one call, and its days, at once."""
    ledger, database = instance.extensions[EXTENSION].ledger, instance.extensions[EXTENSION].database

    async def record(request_id: str, cost: str, *, days_ago: int = 0, **facts: Any) -> None:
        start = NOW - timedelta(days=days_ago)
        event = SpendEvent(
            request_id=request_id,
            call_type="acompletion",
            endpoint="/chat/completions",
            start_time=start,
            end_time=start + timedelta(milliseconds=250),
            cost=Decimal(cost),
            prompt_tokens=10,
            completion_tokens=5,
            **{"model": "sample-chat-1", "model_group": "sample-chat", "provider": "openai", **facts},
        )
        with database.active():
            ledger.record(event)
            await ledger.flush()
            await _keep_sums(database)

    return record


async def _keep_sums(database: Database) -> None:
    """The sums of teams, organizations, tags and end users, from the rows of their keys.

    The ledger is to keep these itself, then this goes.
    """
    what = "date, model, model_group, custom_llm_provider, endpoint"
    counts = (
        "prompt_tokens",
        "completion_tokens",
        "cache_read_input_tokens",
        "cache_creation_input_tokens",
        "api_requests",
        "successful_requests",
        "failed_requests",
        "total_response_time_ms",
    )
    columns, summed = ", ".join(counts), ", ".join(f"SUM({name})" for name in counts)
    updates = ", ".join(f"{name} = excluded.{name}" for name in ("spend", *counts))
    conflict = "(kind, entity_id, date, api_key, model, model_group, custom_llm_provider, endpoint)"
    sources = [("daily_spend", "'team'", "team_id", "team_id <> ''")]
    sources += [
        ("daily_entity_spend", f"'{kind}'", "entity_id", f"kind = '{kind}' AND api_key <> ''")
        for kind in ("organization", "tag", "end_user")
    ]
    for table, kind, id, condition in sources:
        for entity in ("''", id):
            by = what if entity == "''" else f"{what}, {entity}"
            await database.fetch(
                f"INSERT INTO daily_entity_spend (kind, entity_id, api_key, {what}, spend, {columns}) "
                f"SELECT {kind}, {entity}, '', {what}, {database.total('spend')}, {summed} FROM {table} "
                f"WHERE {condition} GROUP BY {by} ON CONFLICT {conflict} DO UPDATE SET {updates}"
            )
