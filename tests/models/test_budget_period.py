"""A budget whose period is over starts anew when its row is read, once, whoever reads."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

import asyncpg
import pytest

from app.durations import BudgetCalendar, next_reset
from app.models import (
    Budget,
    EndUser,
    ModelAccessGroupBudget,
    Organization,
    Tag,
    Team,
    TeamMembership,
    User,
    VirtualKey,
)
from app.models.budget_period import BudgetedRow, start_due_periods, start_new_period
from app.settings import Settings
from app.storage.database import Database

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


async def test_a_period_without_an_end_gets_one_and_wipes_nothing(database: Database) -> None:
    await Team.create(team_id="red", spend=Decimal(3), budget_duration="7d")
    team = await Team.get(team_id="red")
    await start_new_period(team)
    assert team.spend == Decimal(3)
    assert team.budget_reset_at == next_reset("7d", datetime.now(UTC))
    assert (await Team.get(team_id="red")).budget_reset_at == team.budget_reset_at


async def test_a_period_ends_in_the_time_zone_of_the_budgets(database: Database) -> None:
    honolulu = BudgetCalendar(ZoneInfo("Pacific/Honolulu"))
    key = await a_key(period="1d", due_in=-YESTERDAY)
    await start_new_period(key, calendar=honolulu)
    assert key.budget_reset_at is not None
    assert key.budget_reset_at.astimezone(ZoneInfo("Pacific/Honolulu")).time().isoformat() == "00:00:00"


async def test_a_reset_counts_the_epoch_up_and_leaves_the_version(database: Database) -> None:
    key = await a_key(period="1d", due_in=-YESTERDAY)
    await start_new_period(key)
    fresh = await VirtualKey.get(token=key.token)
    assert (fresh.spend_epoch, key.spend_epoch, fresh.version) == (1, 1, 1)


async def test_a_row_that_was_deleted_meanwhile_does_no_harm(database: Database) -> None:
    key = await a_key(period="1d", due_in=-YESTERDAY)
    await VirtualKey.filter(token=key.token).delete()
    await start_new_period(key)
    assert key.spend == Decimal("7.25")


# ---- a budget that is a row ------------------------------------------------------------------------------------------


async def sharers(*, due_in: timedelta | None) -> list[BudgetedRow]:
    """One row of every kind, below the budget `shared`, each with 2 USD spent."""
    due = None if due_in is None else datetime.now(UTC) + due_in
    common: dict[str, Any] = {"budget_id": "shared", "spend": Decimal(2), "budget_reset_at": due}
    return [
        await TeamMembership.create(team_id="red", user_id="alice", **common),
        await EndUser.create(user_id="customer", **common),
        await Tag.create(tag_name="night", **common),
        await ModelAccessGroupBudget.create(access_group="big", **common),
        await VirtualKey.create(token="b" * 64, **common),
    ]


async def test_who_shares_a_budget_has_a_period_of_its_own(database: Database) -> None:
    budget = await Budget.create(budget_id="shared", budget_duration="1d")
    over, not_over = (
        await sharers(due_in=-YESTERDAY),
        await EndUser.create(
            user_id="later",
            budget_id="shared",
            spend=Decimal(2),
            budget_reset_at=datetime.now(UTC) + timedelta(seconds=60),
        ),
    )
    for row in [*over, not_over]:
        await start_new_period(row, budget)
    assert [row.spend for row in over] == [0] * len(over)
    assert {row.budget_reset_at for row in over if not isinstance(row, Organization)} == {
        next_reset("1d", datetime.now(UTC))
    }
    assert not_over.spend == 2


async def test_a_shared_budget_is_looked_up_when_it_is_not_passed(database: Database) -> None:
    await Budget.create(budget_id="shared", budget_duration="1d")
    for row in await sharers(due_in=-YESTERDAY):
        await start_new_period(row)
        assert row.spend == 0


async def test_below_a_shared_budget_the_first_look_wipes_nothing(database: Database) -> None:
    in_two_days = datetime.now(UTC) + timedelta(days=2)
    budget = await Budget.create(budget_id="shared", budget_duration="14d", budget_reset_at=in_two_days)
    for row in await sharers(due_in=None):
        await start_new_period(row, budget)
        assert row.spend == 2
        assert not isinstance(row, Organization)
        assert row.budget_reset_at == in_two_days


async def test_a_budget_without_a_period_resets_nobody(database: Database) -> None:
    await Budget.create(budget_id="shared", max_budget=Decimal(1))
    for row in await sharers(due_in=-YESTERDAY):
        await start_new_period(row)
        assert row.spend == 2


async def test_a_shorter_period_of_the_budget_holds_at_once_and_wipes_nothing(database: Database) -> None:
    budget = await Budget.create(budget_id="shared", budget_duration="1d")
    for row in await sharers(due_in=timedelta(days=20)):
        await start_new_period(row, budget)
        assert row.spend == 2
        assert not isinstance(row, Organization)
        assert row.budget_reset_at == next_reset("1d", datetime.now(UTC))


async def test_a_keys_own_period_wins_over_that_of_its_budget(database: Database) -> None:
    await Budget.create(budget_id="shared", budget_duration="1d")
    key = await VirtualKey.create(
        token="c" * 64,
        budget_id="shared",
        spend=Decimal(2),
        budget_duration="30d",
        budget_reset_at=datetime.now(UTC) + timedelta(days=20),
    )
    due = key.budget_reset_at
    await start_new_period(key)
    assert (key.spend, key.budget_reset_at) == (2, due)


async def test_a_member_below_the_default_of_its_team_is_reset_too(database: Database) -> None:
    default = await Budget.create(budget_id="default", budget_duration="1d")
    member = await TeamMembership.create(
        team_id="red", user_id="alice", spend=Decimal(2), budget_reset_at=datetime.now(UTC) - YESTERDAY
    )
    assert await start_due_periods(datetime.now(UTC)) == {}
    await start_new_period(member, default)
    assert member.spend == 0


async def an_organization(*, due_in: timedelta | None) -> Organization:
    due = None if due_in is None else datetime.now(UTC) + due_in
    await Budget.create(budget_id="of acme", budget_duration="30d", budget_reset_at=due)
    return await Organization.create(organization_id="acme", budget_id="of acme", spend=Decimal(9))


async def test_an_organization_follows_the_period_of_its_budget(database: Database) -> None:
    acme = await an_organization(due_in=-YESTERDAY)
    await start_new_period(acme)
    assert (acme.spend, acme.spend_epoch) == (0, 1)
    assert (await Budget.get(budget_id="of acme")).budget_reset_at == next_reset("30d", datetime.now(UTC))
    await Organization.filter(organization_id="acme").update(spend=Decimal(1))
    await start_new_period(acme)
    assert (await Organization.get(organization_id="acme")).spend == 1


async def test_an_organization_at_first_look_loses_nothing(database: Database) -> None:
    acme = await an_organization(due_in=None)
    await start_new_period(acme)
    assert acme.spend == 9
    assert (await Budget.get(budget_id="of acme")).budget_reset_at == next_reset("30d", datetime.now(UTC))


async def test_of_two_readers_of_an_organization_one_resets(database: Database) -> None:
    first = await an_organization(due_in=-YESTERDAY)
    second, stale = await Organization.get(organization_id="acme"), await Budget.get(budget_id="of acme")
    await start_new_period(first)
    await Organization.filter(organization_id="acme").update(spend=Decimal("0.5"))
    await start_new_period(second, stale)
    assert (second.spend, second.spend_epoch) == (Decimal("0.5"), 1)
    assert stale.budget_reset_at == next_reset("30d", datetime.now(UTC))


# ---- the rows that nobody reads ------------------------------------------------------------------------------------


async def test_due_rows_of_all_tables_are_reset_without_being_read(database: Database) -> None:
    past = datetime.now(UTC) - YESTERDAY
    await Budget.create(budget_id="shared", budget_duration="1d", budget_reset_at=past)
    await sharers(due_in=-YESTERDAY)
    await an_organization(due_in=-YESTERDAY)
    await a_key(period="7d", due_in=-YESTERDAY)
    await User.create(user_id="alice", spend=Decimal(3), budget_duration="1h", budget_reset_at=past)
    await User.create(user_id="bob", spend=Decimal(3), budget_duration="1h", budget_reset_at=past + 2 * YESTERDAY)
    await Team.create(team_id="red", spend=Decimal(3), budget_duration="1mo", budget_reset_at=past)
    now = datetime.now(UTC)
    assert await start_due_periods(now) == {
        "organization": 1,
        "virtual_key": 2,
        "user_account": 1,
        "team": 1,
        "team_membership": 1,
        "end_user": 1,
        "tag": 1,
        "model_access_group_budget": 1,
    }
    assert await start_due_periods(now) == {}
    assert (await User.get(user_id="bob")).spend == 3
    alice, key = await User.get(user_id="alice"), await VirtualKey.get(token="b" * 64)
    assert (alice.spend, alice.spend_epoch, alice.budget_reset_at) == (0, 1, next_reset("1h", now))
    assert (key.spend, key.spend_epoch, key.budget_reset_at) == (0, 1, next_reset("1d", now))
    assert (await Organization.get(organization_id="acme")).spend == 0
    assert (await Budget.get(budget_id="shared")).budget_reset_at == next_reset("1d", now)


async def test_many_due_rows_are_reset_in_batches(database: Database) -> None:
    past = datetime.now(UTC) - YESTERDAY
    await EndUser.bulk_create(
        [EndUser(user_id=f"{number}", budget_id="b", spend=Decimal(1), budget_reset_at=past) for number in range(25)]
    )
    await Budget.create(budget_id="b", budget_duration="1d")
    assert await start_due_periods(datetime.now(UTC), batch=10) == {"end_user": 25}
    assert await EndUser.filter(spend=0).count() == 25


async def test_the_time_of_a_run_is_bounded(database: Database) -> None:
    await a_key(period="1d", due_in=-YESTERDAY)
    assert await start_due_periods(datetime.now(UTC), run_seconds=0) == {}


async def test_rows_without_a_period_any_more_are_looked_at_once(database: Database) -> None:
    await a_key(period=None, due_in=-YESTERDAY)
    await Budget.create(budget_id="shared", max_budget=Decimal(1))
    await EndUser.create(
        user_id="customer", budget_id="shared", spend=Decimal(2), budget_reset_at=datetime.now(UTC) - YESTERDAY
    )
    assert await start_due_periods(datetime.now(UTC)) == {}
    key, customer = await VirtualKey.get(token="a" * 64), await EndUser.get(user_id="customer")
    assert (key.spend, key.budget_reset_at) == (Decimal("7.25"), None)
    assert (customer.spend, customer.budget_reset_at) == (2, None)


async def test_two_rounds_at_once_reset_every_row_once(database: Database) -> None:
    past = datetime.now(UTC) - YESTERDAY
    await Team.bulk_create(
        [
            Team(team_id=f"{number}", spend=Decimal(1), budget_duration="1d", budget_reset_at=past)
            for number in range(60)
        ]
    )
    now = datetime.now(UTC)
    rounds = await asyncio.gather(*(start_due_periods(now, batch=7) for _ in range(4)))
    while left := await start_due_periods(now):
        rounds.append(left)
    assert sum(done.get("team", 0) for done in rounds) == 60
    assert await Team.filter(spend=0, spend_epoch=1).count() == 60


async def test_a_row_that_a_ledger_is_writing_to_is_left_to_the_next_round(migrated_postgres_url: str) -> None:
    database = Database(Settings(master_key="sk-test-of-periods", database_url=migrated_postgres_url))
    await database.open()
    ledger = await asyncpg.connect(migrated_postgres_url)
    with database.active():
        key = await a_key(period="1d", due_in=-YESTERDAY)
        async with ledger.transaction():
            await ledger.execute("UPDATE virtual_key SET spend = spend + 1 WHERE token = $1", key.token)
            assert await asyncio.wait_for(start_due_periods(datetime.now(UTC)), 5) == {}
        assert await start_due_periods(datetime.now(UTC)) == {"virtual_key": 1}
        assert (await VirtualKey.get(token=key.token)).spend == 0
    await ledger.close()
    await database.close()
