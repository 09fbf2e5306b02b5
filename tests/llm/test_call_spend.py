"""The money of a call: held in one place at a time, settled once, and told to the ledger by one builder."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from app.auth.principal import Principal
from app.auth.roles import Role
from app.llm.call_spend import CallSpend, spend_event
from app.protocols.base import Usage
from app.spend.budget import Budgets, Reservation
from app.spend.counters import MemoryCounters
from app.spend.pricing import custom_prices
from app.spend.scopes import BudgetScope

_PRICES = custom_prices({"input_cost_per_token": "0.5", "output_cost_per_token": "0.25"})
_USED = Usage(prompt_tokens=2, completion_tokens=4)


async def reserved(counters: MemoryCounters, name: str) -> Reservation:
    scope = BudgetScope("key", name, name, max_budget=Decimal(10))
    return await Budgets(counters).reserve([scope], estimate=Decimal(3))


async def spent(counters: MemoryCounters, name: str) -> Decimal:
    """What has been settled below a name: nothing is held any more."""
    held = await reserved(counters, name)
    amount = held.spend_of("key")
    held.settle(Decimal(0))
    assert amount is not None
    return amount


async def test_what_was_used_takes_the_place_of_what_was_held() -> None:
    counters = MemoryCounters()
    spend = CallSpend(await reserved(counters, "k"))
    assert spend.settle(_USED, _PRICES, is_cached=False) == Decimal(2)
    assert (spend.cost is not None and spend.cost.input, await spent(counters, "k")) == (Decimal(1), Decimal(2))


async def test_a_cached_answer_costs_nothing() -> None:
    counters = MemoryCounters()
    spend = CallSpend(await reserved(counters, "k"))
    assert spend.settle(_USED, _PRICES, is_cached=True) == Decimal(0)
    assert await spent(counters, "k") == Decimal(0)


async def test_a_price_that_nobody_knows_is_none_and_not_zero() -> None:
    spend = CallSpend(await reserved(MemoryCounters(), "k"))
    assert (spend.settle(_USED, None, is_cached=False), spend.cost) == (Decimal(0), None)


async def test_a_fallback_pays_where_it_is_served() -> None:
    counters = MemoryCounters()
    spend = CallSpend(await reserved(counters, "first"))
    spend.move(await reserved(counters, "second"))
    spend.settle(_USED, _PRICES, is_cached=False)
    assert (await spent(counters, "first"), await spent(counters, "second")) == (Decimal(0), Decimal(2))


async def test_a_failed_attempt_gives_back_what_it_held_and_the_last_one_pays() -> None:
    counters = MemoryCounters()
    spend = CallSpend(await reserved(counters, "call"))
    spend.hold_attempt(await reserved(counters, "provider one"))
    spend.release_attempt()
    spend.hold_attempt(await reserved(counters, "provider two"))
    spend.settle(_USED, _PRICES, is_cached=False)
    assert (await spent(counters, "provider one"), await spent(counters, "provider two")) == (Decimal(0), Decimal(2))


def test_an_event_says_who_paid_and_cuts_names_to_their_columns() -> None:
    payer = Principal(role=Role.KEY_ONLY, key_hash="h", user_id="u", team_id="t", tags=("a",))
    now = datetime.now(UTC)
    facts: dict[str, Any] = {"request_id": "r", "call_type": "c", "endpoint": "/e", "start_time": now, "end_time": now}
    event = spend_event(_USED, payer=payer, tags=["b", "a"], model="m" * 300, provider="p" * 100, **facts)
    assert (event.key_hash, event.user_id, event.team_id, event.tags) == ("h", "u", "t", ["a", "b"])
    assert (len(event.model), len(event.provider), event.prompt_tokens) == (255, 64, 2)
    assert spend_event(_USED, **facts).key_hash == ""
