"""Budgets of tags, end users and the instance: read once for all who wait, and never forgotten in an outage."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from decimal import Decimal

import pytest

from app.models import Budget, EndUser, Tag
from app.settings import Settings
from app.spend.shared_scopes import SharedScopes
from app.storage.database import Database


@pytest.fixture
async def settings(database_url: str) -> Settings:
    return Settings(database_url=database_url, max_budget=Decimal(7), budget_duration="30d")


@pytest.fixture
async def database(settings: Settings) -> AsyncIterator[Database]:
    opened = Database(settings)
    await opened.open()
    yield opened
    await opened.close()


async def test_calls_that_come_during_the_first_reading_wait_for_it(settings: Settings, database: Database) -> None:
    shared = SharedScopes(settings, database)

    async def bounds() -> list[str]:
        await shared.refresh()
        return [scope.kind for scope in shared.of_call((), ())]

    assert await asyncio.gather(*(bounds() for _ in range(5))) == [["proxy"]] * 5


async def test_a_reading_goes_on_when_the_call_that_began_it_leaves(settings: Settings, database: Database) -> None:
    shared = SharedScopes(settings, database)
    first = asyncio.create_task(shared.refresh())
    await asyncio.sleep(0)
    first.cancel()
    await asyncio.gather(first, return_exceptions=True)
    await shared.refresh()
    assert [scope.max_budget for scope in shared.of_call((), ())] == [Decimal(7)]


async def test_a_change_during_a_reading_is_read_by_the_next_call(settings: Settings, database: Database) -> None:
    shared = SharedScopes(settings, database)
    with database.active():
        budget = await Budget.create(budget_id="small", max_budget=Decimal(1))
        await Tag.create(tag_name="campaign", budget_id=budget.budget_id)
    await shared.refresh()
    shared.forget()
    reading = asyncio.create_task(shared.refresh())
    for _ in range(2):
        await asyncio.sleep(0)
    shared.forget()
    await reading
    shared.forget()
    with database.active():
        await Budget.filter(budget_id=budget.budget_id).update(max_budget=Decimal(2))
    await shared.refresh()
    assert [scope.max_budget for scope in shared.of_call(["campaign"], ())] == [Decimal(2), Decimal(7)]


async def test_a_period_that_cannot_be_read_stops_no_calls(settings: Settings, database: Database) -> None:
    with database.active():
        odd = await Budget.create(budget_id="odd", max_budget=Decimal(1), budget_duration="999999999d")
        await Tag.create(tag_name="campaign", budget_id=odd.budget_id)
    shared = SharedScopes(settings, database)
    await shared.refresh()
    assert [scope.kind for scope in shared.of_call(["campaign"], ())] == ["tag", "proxy"]


async def test_an_end_user_stays_blocked_while_the_database_is_away(settings: Settings, database: Database) -> None:
    shared = SharedScopes(settings, database)
    with database.active():
        await EndUser.create(user_id="carla", blocked=True)
    assert (await shared.end_user("carla", None)).is_blocked
    shared.forget()  # as counters that are lost in the same outage claim
    away = SharedScopes(replace(settings, database_url="postgresql://127.0.0.1:9/none"), _unreachable())
    away._end_users = shared._end_users
    assert (await away.end_user("carla", None)).is_blocked


def _unreachable() -> Database:
    return Database(Settings(database_url="postgresql://127.0.0.1:9/none"))
