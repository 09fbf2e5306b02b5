"""Money is held before a call and settled after it, exactly once, however many calls run."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.auth.principal import BudgetScope
from app.errors import BudgetExceeded
from app.spend.budget import BudgetBook, member_id, team_and_user

KEY = BudgetScope("key", "k1", "Key=alice", Decimal(10))
TEAM = BudgetScope("team", "t1", "Team=t1", Decimal(15))
UNBOUNDED = BudgetScope("user", "u1", "User=u1", None)
NAME = ("key", "k1")
CENTS = st.decimals(min_value=0, max_value=100, places=12, allow_nan=False)


def seen(scope: BudgetScope, spend: str) -> BudgetBook:
    book = BudgetBook()
    book.observe(scope, Decimal(spend), book.start_reading())
    return book


def test_a_settled_call_is_spend() -> None:
    book = BudgetBook()
    book.reserve([KEY], Decimal(3)).settle(Decimal(2))
    assert book.spend_of(*NAME) == book.account(NAME).unwritten == 2


def test_only_the_first_end_of_a_reservation_counts() -> None:
    book = BudgetBook()
    reservation = book.reserve([KEY], Decimal(9))
    reservation.settle(Decimal(1))
    reservation.settle(Decimal(1))
    reservation.release()
    assert book.spend_of(*NAME) == 1
    released = book.reserve([KEY], Decimal(8))
    released.release()
    released.settle(Decimal(5))
    assert book.spend_of(*NAME) == 1
    book.reserve([KEY], Decimal(1)).release()  # nothing is held any more: this one is admitted


def test_calls_that_run_at_the_same_time_see_each_other() -> None:
    book = BudgetBook()
    running = [book.reserve([KEY], Decimal(4)) for _ in range(3)]
    with pytest.raises(BudgetExceeded):
        book.reserve([KEY], Decimal(4))
    running[0].release()
    book.reserve([KEY], Decimal(4))


def test_a_refused_call_holds_nothing() -> None:
    book = seen(TEAM, "15")
    for _ in range(5):
        with pytest.raises(BudgetExceeded, match="Team=t1"):
            book.reserve([KEY, TEAM], Decimal(9))
    book.reserve([KEY], Decimal(9))


def test_the_refusal_names_scope_cost_and_ceiling() -> None:
    with pytest.raises(BudgetExceeded) as refused:
        seen(KEY, "10.5").reserve([KEY], Decimal(0))
    error = refused.value
    assert (error.status, error.type, error.param) == (422, "budget_exceeded", None)
    assert error.message == "Budget has been exceeded! Key=alice Current cost: 10.5, Max budget: 10"


def test_the_status_of_the_refusal_is_a_setting() -> None:
    book = BudgetBook(exceeded_status=429)
    with pytest.raises(BudgetExceeded) as refused:
        book.reserve([BudgetScope("key", "k1", "Key=x", Decimal(0))], Decimal(0))
    assert (refused.value.status, refused.value.code) == (429, "429")


def test_the_first_scope_that_is_reached_is_the_answer() -> None:
    book = seen(KEY, "10")
    book.observe(TEAM, Decimal(15), book.start_reading())
    with pytest.raises(BudgetExceeded, match="Key=alice"):
        book.reserve([KEY, TEAM], Decimal(0))


def test_a_scope_without_ceiling_is_never_refused_and_still_counted() -> None:
    book = seen(UNBOUNDED, "1000000")
    book.reserve([UNBOUNDED], Decimal(1)).settle(Decimal(1))
    assert book.spend_of("user", "u1") == 1_000_001


def test_what_was_flushed_moves_from_unwritten_to_known() -> None:
    book = BudgetBook()
    book.reserve([KEY], Decimal(0)).settle(Decimal(3))
    book.written({NAME: Decimal(3)})
    assert book.spend_of(*NAME) == 3
    assert book.account(NAME).unwritten == 0


def test_a_flush_between_look_and_answer_is_not_counted_twice_nor_lost() -> None:
    book = BudgetBook()
    book.reserve([KEY], Decimal(0)).settle(Decimal(3))
    reading = book.start_reading()
    book.written({NAME: Decimal(3)})
    book.observe(KEY, Decimal(0), reading)  # read before the flush, heard after it
    assert book.spend_of(*NAME) == 3
    book.observe(KEY, Decimal(3), book.start_reading())
    assert book.spend_of(*NAME) == 3


def test_spend_of_other_processes_arrives_with_the_next_look() -> None:
    book = BudgetBook()
    book.reserve([KEY], Decimal(0)).settle(Decimal(1))
    book.observe(KEY, Decimal("9.5"), book.start_reading())
    assert book.spend_of(*NAME) == Decimal("10.5")
    with pytest.raises(BudgetExceeded):
        book.reserve([KEY], Decimal(0))


@given(st.lists(st.tuples(CENTS, CENTS, st.booleans()), max_size=20))
def test_after_all_calls_ended_spend_is_the_sum_of_their_costs(calls: list[tuple[Decimal, Decimal, bool]]) -> None:
    book = BudgetBook()
    reservations = [book.reserve([UNBOUNDED], estimate) for estimate, _, _ in calls]
    for reservation, (_, cost, is_billed) in zip(reservations, calls, strict=True):
        if is_billed:
            reservation.settle(cost)
        reservation.release()
    assert book.spend_of("user", "u1") == sum((cost for _, cost, is_billed in calls if is_billed), Decimal(0))
    barely = BudgetScope("user", "u1", "User", book.spend_of("user", "u1") + Decimal("0.000000000001"))
    book.reserve([barely], Decimal(0))  # nothing of the estimates is still held


def test_the_name_of_a_membership_is_taken_apart_again() -> None:
    assert team_and_user(member_id("team:1", "user 2")) == ("team:1", "user 2")
