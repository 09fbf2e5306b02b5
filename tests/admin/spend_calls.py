"""Finished calls, written as the data plane does: through the ledger."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

from quart import Quart

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

    return record
