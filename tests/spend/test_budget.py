"""Budgets and limits of one call: held before it, settled after it, and refused in the contract's words."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal

import pytest
from structlog.testing import capture_logs

from app.errors import BudgetExceeded, TooManyRequests
from app.spend.budget import Budgets, ModelBudgetExceeded
from app.spend.counters import MemoryCounters
from app.spend.scopes import BudgetScope, RateLimit, counter_name, member_id, team_and_user

KEY = BudgetScope("key", "k1", "Key=alice", Decimal(10))
TEAM = BudgetScope("team", "t1", "Team=t1", Decimal(15))
UNBOUNDED = BudgetScope("user", "u1", "User=u1", None)
NOON = datetime(2026, 11, 22, 12, tzinfo=UTC)  # fixed date: it is handed over wherever a time counts


@pytest.fixture
def budgets() -> Budgets:
    return Budgets(MemoryCounters())


def spent(scope: BudgetScope, amount: str) -> BudgetScope:
    """The scope as the database shows it after some spend."""
    return BudgetScope(scope.kind, scope.id, scope.label, scope.max_budget, Decimal(amount))


async def refusal(budgets: Budgets, *scopes: BudgetScope) -> BudgetExceeded:
    with pytest.raises(BudgetExceeded) as refused:
        await budgets.reserve(scopes)
    return refused.value


async def test_only_the_first_end_of_a_reservation_counts(budgets: Budgets) -> None:
    reservation = await budgets.reserve([KEY], estimate=Decimal(9))
    reservation.settle(Decimal(1))
    reservation.settle(Decimal(1))
    assert (await budgets.reserve([KEY])).spend_of("key") == 1


async def test_the_refusal_names_scope_cost_and_ceiling(budgets: Budgets) -> None:
    error = await refusal(budgets, spent(KEY, "10.5"))
    assert (error.status, error.type, error.param) == (422, "budget_exceeded", None)
    assert error.message == "Budget has been exceeded! Key=alice Current cost: 10.5, Max budget: 10"


async def test_users_windows_and_models_have_words_of_their_own(budgets: Budgets) -> None:
    user = BudgetScope("user", "u1", "User=u1", Decimal(1), Decimal("1.25"))
    assert (await refusal(budgets, user)).message == "ExceededBudget: User=u1 over budget. Spend=1.25, Budget=1"
    hour = BudgetScope("key", "k1", "Key", Decimal(0), Decimal("0.048"), period="1h", starts_at=NOON)
    assert (await refusal(budgets, hour)).message == "ExceededBudget: Key over 1h budget. Spend=$0.0480, Limit=$0.00"
    model = BudgetScope("key", "k1", "Key=a", Decimal(0), model="gpt-4o", period="1d", starts_at=NOON)
    error = await refusal(budgets, model)
    assert isinstance(error, ModelBudgetExceeded)
    assert "over budget for model=gpt-4o" in error.message


async def test_the_status_of_the_refusal_is_a_setting() -> None:
    error = await refusal(Budgets(MemoryCounters(), exceeded_status=429), spent(KEY, "10"))
    assert (error.status, error.code) == (429, "429")


async def test_the_first_scope_that_is_reached_is_the_answer(budgets: Budgets) -> None:
    assert "Key=alice" in (await refusal(budgets, spent(KEY, "10"), spent(TEAM, "15"))).message
    other = BudgetScope("key", "k2", "Key=bob", Decimal(10))
    assert "Team=t1" in (await refusal(budgets, other, spent(TEAM, "15"))).message


async def test_a_scope_without_ceiling_is_never_refused_and_still_counted(budgets: Budgets) -> None:
    (await budgets.reserve([spent(UNBOUNDED, "1000000")])).settle(Decimal(1))
    assert (await budgets.reserve([UNBOUNDED])).spend_of("user") == 1_000_001


async def test_spend_that_was_started_anew_is_kept_under_another_name(budgets: Budgets) -> None:
    (await budgets.reserve([KEY])).settle(Decimal(10))
    await refusal(budgets, KEY)
    await budgets.reserve([BudgetScope("key", "k1", "Key=alice", Decimal(10), epoch=1)])
    tomorrow = BudgetScope("key", "k1", "Key=alice", Decimal(10), resets_at=NOON)
    await budgets.reserve([tomorrow])


async def test_a_soft_budget_is_said_once_and_refuses_nothing(budgets: Budgets) -> None:
    soft = BudgetScope("key", "k1", "Key=alice", Decimal(10), Decimal(6), Decimal(5))
    with capture_logs() as logs:
        await budgets.reserve([soft])
        await budgets.reserve([soft])
    assert [entry["scope"] for entry in logs if entry["event"] == "soft budget reached"] == ["Key=alice"]


async def test_a_full_limit_says_whose_it_is_and_when_it_has_room(budgets: Budgets) -> None:
    limit = RateLimit("api_key", "k1", "sk-...aaaa", 1, None, None)
    await budgets.reserve((), [limit])
    with pytest.raises(TooManyRequests) as refused:
        await budgets.reserve((), [limit])
    error = refused.value
    assert (error.status, error.type, error.headers["rate_limit_type"]) == (429, "throttling_error", "requests")
    assert 59 <= int(error.headers["retry-after"]) <= 60
    assert error.message.startswith(
        "Rate limit exceeded for api_key: sk-...aaaa. Limit type: requests. Current limit: 1, Remaining: 0."
    )


async def test_headers_say_what_is_left(budgets: Budgets) -> None:
    limits = [
        RateLimit("api_key", "k1", "", 10, 1000, None),
        RateLimit("team", "t1", "", None, 500, None),
        RateLimit("user", "u1", "", None, None, 4),
    ]
    assert (await budgets.reserve((), limits, tokens=100)).headers() == {
        "x-ratelimit-api_key-limit-requests": "10",
        "x-ratelimit-api_key-remaining-requests": "9",
        "x-ratelimit-api_key-limit-tokens": "1000",
        "x-ratelimit-api_key-remaining-tokens": "900",
        "x-ratelimit-team-limit-tokens": "500",
        "x-ratelimit-team-remaining-tokens": "400",
    }


def test_the_name_of_a_membership_is_taken_apart_again() -> None:
    assert team_and_user(member_id("team:1", "user 2")) == ("team:1", "user 2")


def test_names_of_counters_fit_their_column_and_stay_apart() -> None:
    assert counter_name("key", "a" * 400, "b" * 400) != counter_name("key", "a" * 400, "b" * 401)
    assert len(counter_name("key", "a" * 4000)) <= 700
    assert counter_name("a", "bc") != counter_name("ab", "c")


async def test_a_listener_hears_of_every_budget_and_of_the_refusal(budgets: Budgets) -> None:
    heard: list[tuple[str, Decimal, bool]] = []
    budgets.listener = lambda scope, spend, is_refused: heard.append((scope.id, spend, is_refused))
    await budgets.reserve([KEY, TEAM], estimate=Decimal(9))
    await refusal(budgets, spent(KEY, "10.5"))
    assert [(id, is_refused) for id, _, is_refused in heard] == [("k1", False), ("t1", False), ("k1", True)]
    assert heard[-1][1] >= Decimal(10)
