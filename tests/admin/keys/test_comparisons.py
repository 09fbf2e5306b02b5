"""What was stored in a key's metadata may have any shape: it is compared, and lifts nothing."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.admin.keys.comparisons import (
    allows_no_more,
    demands_no_less,
    has_each_budget,
    has_each_number,
    is_at_most,
    is_same,
    resets_no_sooner,
    routes_no_more,
)

ODD = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=6,
)


@pytest.mark.parametrize(
    "compare", [allows_no_more, demands_no_less, has_each_budget, has_each_number, is_at_most, is_same, routes_no_more]
)
@given(before=ODD, after=ODD)
def test_no_shape_breaks_a_comparison(compare: Any, before: Any, after: Any) -> None:
    assert compare({"x": before}, {"x": after}, "x") in (True, False)


@pytest.mark.parametrize("compare", [has_each_budget, has_each_number])
@given(limit=st.integers(min_value=0), after=ODD)
def test_only_a_number_that_is_not_higher_stands_for_a_number(compare: Any, limit: int, after: Any) -> None:
    is_within = compare({"x": {"m": limit}}, {"x": {"m": after}}, "x")
    is_number = isinstance(after, int | float) and not isinstance(after, bool)
    assert is_within is (is_number and after <= limit)


@pytest.mark.parametrize(("old", "new", "is_within"), [("1mo", "31d", True), ("30d", "1mo", False), ("1d", "1w", True)])
def test_a_month_is_as_short_as_it_gets(old: str, new: str, is_within: bool) -> None:
    before, after = ({"p": period, "max_budget": 5, "budget_reset_at": None} for period in (old, new))
    assert resets_no_sooner(before, after, "p") is is_within


def test_true_is_not_one() -> None:
    assert not is_same({"x": {"m": 1}}, {"x": {"m": True}}, "x")
