"""What a flush adds besides the log: every entity, its days, and its windows. On SQLite and on PostgreSQL."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import pytest

from app.models import (
    BudgetWindow,
    DailyEntitySpend,
    EndUser,
    ModelAccessGroupBudget,
    Organization,
    OrganizationMembership,
    SpendLog,
    Tag,
    VirtualKey,
)
from app.spend.events import SpendWindow
from app.spend.scopes import member_id
from tests.spend.ledgers import KEY_HASH, NOON, PRICE, SpendInstance, add_alice, event, instance_of


@pytest.fixture
async def instance(database_url: str, tmp_path: Path) -> AsyncIterator[SpendInstance]:
    async with instance_of(database_url, tmp_path / "state") as opened:
        await add_alice(opened.database)
        yield opened


async def days_of(instance: SpendInstance) -> dict[tuple[str, str, str], tuple[Decimal, int]]:
    """(kind, entity, key) -> spend and calls."""
    with instance.database.active():
        return {
            (day.kind, day.entity_id, day.api_key): (day.spend, day.api_requests)
            for day in await DailyEntitySpend.all()
        }


def window(starts_at: datetime, period: str = "1d", model: str = "") -> SpendWindow:
    return SpendWindow("member", member_id("research", "alice"), model, period, starts_at)


async def test_an_organization_and_its_member_add_up(instance: SpendInstance) -> None:
    with instance.database.active():
        await Organization.create(organization_id="acme")
        await OrganizationMembership.create(organization_id="acme", user_id="alice")
        await OrganizationMembership.create(organization_id="acme", user_id="bob")
    for number in range(3):
        instance.ledger.record(event(number, organization_id="acme"))
    await instance.ledger.flush()
    with instance.database.active():
        assert (await Organization.get(organization_id="acme")).spend == 3 * PRICE
        members = {row.user_id: row.spend for row in await OrganizationMembership.all()}
        assert {row.organization_id for row in await SpendLog.all()} == {"acme"}
    assert members == {"alice": 3 * PRICE, "bob": 0}
    assert (await days_of(instance))["organization", "acme", KEY_HASH] == (3 * PRICE, 3)


async def test_what_a_team_prices_adds_nothing_to_its_organization(instance: SpendInstance) -> None:
    with instance.database.active():
        await Organization.create(organization_id="acme")
        await OrganizationMembership.create(organization_id="acme", user_id="alice")
    instance.ledger.record(event(organization_id="acme", is_team_priced=True))
    await instance.ledger.flush()
    with instance.database.active():
        assert (await Organization.get(organization_id="acme")).spend == 0
        assert (await OrganizationMembership.get(organization_id="acme")).spend == 0
    assert "organization" not in {kind for kind, *_ in await days_of(instance)}


async def test_an_end_user_is_made_with_the_first_spend_that_names_it(instance: SpendInstance) -> None:
    for number in range(2):
        instance.ledger.record(event(number, end_user="customer"))
        await instance.ledger.flush()
    with instance.database.active():
        row = await EndUser.get(user_id="customer")
    assert (row.spend, row.models, row.blocked, row.version) == (2 * PRICE, [], False, 1)
    assert abs(row.created_at - datetime.now(UTC)) < timedelta(minutes=5)
    assert (await days_of(instance))["end_user", "customer", KEY_HASH] == (2 * PRICE, 2)


async def test_an_end_user_keeps_what_an_admin_said(instance: SpendInstance) -> None:
    with instance.database.active():
        await EndUser.create(user_id="customer", alias="Big", models=["gpt-4o"], spend=PRICE, blocked=True)
    instance.ledger.record(event(end_user="customer"))
    await instance.ledger.flush()
    with instance.database.active():
        row = await EndUser.get(user_id="customer")
    assert (row.alias, row.models, row.blocked, row.spend) == ("Big", ["gpt-4o"], True, 2 * PRICE)


async def test_end_users_are_not_tracked_where_that_is_off(database_url: str, tmp_path: Path) -> None:
    async with instance_of(database_url, tmp_path / "off", disable_end_user_cost_tracking=True) as instance:
        instance.ledger.record(event(end_user="customer"))
        await instance.ledger.flush()
        with instance.database.active():
            assert not await EndUser.all().exists()
        assert {kind for kind, _, _ in await days_of(instance)} == {"all", "team"}
        assert await instance.log_count() == 1


async def test_only_declared_tags_have_a_row_and_all_have_days(instance: SpendInstance) -> None:
    with instance.database.active():
        await Tag.create(tag_name="declared")
    instance.ledger.record(event(tags=["declared", "passing", "declared"]))
    await instance.ledger.flush()
    with instance.database.active():
        assert {row.tag_name: row.spend for row in await Tag.all()} == {"declared": PRICE}
    days = await days_of(instance)
    assert days["tag", "declared", KEY_HASH] == days["tag", "passing", KEY_HASH] == (PRICE, 1)


async def test_an_access_group_with_a_budget_adds_up(instance: SpendInstance) -> None:
    with instance.database.active():
        await ModelAccessGroupBudget.create(access_group="fast")
    instance.ledger.record(event(access_groups=["fast", "no such group"]))
    await instance.ledger.flush()
    with instance.database.active():
        assert {row.access_group: row.spend for row in await ModelAccessGroupBudget.all()} == {"fast": PRICE}


async def test_the_days_of_the_instance_stay_few_however_many_keys_there_are(instance: SpendInstance) -> None:
    for number in range(40):
        instance.ledger.record(event(0, key_hash=f"{number:064x}", status="failure" if number % 4 == 0 else "success"))
    await instance.ledger.flush()
    with instance.database.active():
        day = await DailyEntitySpend.get(kind="all")
    # fixed date: the day of NOON
    assert (day.entity_id, day.api_key, day.date, day.spend) == ("", "", "2026-11-21", 40 * PRICE)
    assert (day.api_requests, day.successful_requests, day.failed_requests) == (40, 30, 10)
    assert (day.prompt_tokens, day.completion_tokens, day.total_response_time_ms) == (360, 80, 10_000)


async def test_a_window_adds_up_within_its_period(instance: SpendInstance) -> None:
    for number in range(3):
        instance.ledger.record(event(number, windows=[window(NOON), window(NOON, model="gpt-4o-mini")]))
        await instance.ledger.flush()
    with instance.database.active():
        rows = {(row.kind, row.id, row.model, row.period): row for row in await BudgetWindow.all()}
    one, other = (rows["member", member_id("research", "alice"), model, "1d"] for model in ("", "gpt-4o-mini"))
    assert (one.spend, one.starts_at, other.spend) == (3 * PRICE, NOON, 3 * PRICE)


@pytest.mark.parametrize("is_one_flush", [True, False], ids=["in one flush", "in a flush each"])
async def test_a_newer_period_replaces_and_an_older_one_is_passed_over(
    instance: SpendInstance, is_one_flush: bool
) -> None:
    tomorrow = NOON + timedelta(days=1)
    for starts_at in (NOON, tomorrow, NOON, tomorrow):
        instance.ledger.record(event(windows=[window(starts_at)]))
        if not is_one_flush:
            await instance.ledger.flush()
    await instance.ledger.flush()
    with instance.database.active():
        row = await BudgetWindow.get()
    assert (row.starts_at, row.spend) == (tomorrow, 2 * PRICE)


async def test_a_key_was_active_when_its_last_call_ended(instance: SpendInstance) -> None:
    other = "b" * 64
    with instance.database.active():
        await VirtualKey.create(token=other)
    instance.ledger.record(event(5))
    instance.ledger.record(event(2, key_hash=other))
    await instance.ledger.flush()
    instance.ledger.record(event(1))  # written late, as after an outage
    await instance.ledger.flush()
    with instance.database.active():
        rows = {row.token: row.last_active for row in await VirtualKey.all()}
    assert rows == {KEY_HASH: event(5).end_time, other: event(2).end_time}


async def test_a_hit_of_the_cache_is_logged_as_one(instance: SpendInstance) -> None:
    instance.ledger.record(event(is_cache_hit=True, cache_key="k1"))
    await instance.ledger.flush()
    with instance.database.active():
        row = await SpendLog.get()
    assert (row.cache_hit, row.cache_key) == ("True", "k1")
