"""A budget whose period is over starts anew when its row is read, once, whoever reads."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest

from app.db import Database
from app.models import User, VirtualKey
from app.models.budget_period import start_new_period
from app.settings import Settings

YESTERDAY = timedelta(days=1)


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    database = Database(Settings(master_key="sk-test-of-periods", database_url=database_url))
    await database.open()
    with database.active():
        yield database
    await database.close()


async def a_key(*, period: str | None, due_in: timedelta) -> VirtualKey:
    return await VirtualKey.create(
        token="a" * 64,
        spend=Decimal("7.25"),
        total_spend=Decimal("7.25"),
        budget_duration=period,
        budget_reset_at=datetime.now(UTC) + due_in,
    )


async def test_spend_starts_at_zero_after_the_period(database: Database) -> None:
    key = await a_key(period="1d", due_in=-YESTERDAY)
    await start_new_period(key)
    assert key.spend == 0
    assert key.total_spend == Decimal("7.25")
    assert key.budget_reset_at is not None
    assert key.budget_reset_at > datetime.now(UTC)


async def test_spend_stays_before_the_period_is_over(database: Database) -> None:
    key = await a_key(period="1d", due_in=YESTERDAY)
    await start_new_period(key)
    assert key.spend == Decimal("7.25")


async def test_a_budget_without_a_period_never_starts_anew(database: Database) -> None:
    key = await a_key(period=None, due_in=-YESTERDAY)
    await start_new_period(key)
    assert key.spend == Decimal("7.25")


async def test_of_two_readers_one_resets_and_later_spend_survives_the_other(database: Database) -> None:
    await User.create(
        user_id="alice", spend=Decimal(3), budget_duration="7d", budget_reset_at=datetime.now(UTC) - YESTERDAY
    )
    first, second = await User.get(user_id="alice"), await User.get(user_id="alice")
    await start_new_period(first)
    await User.filter(user_id="alice").update(spend=Decimal("0.5"))
    await start_new_period(second)
    assert second.spend == Decimal("0.5")
