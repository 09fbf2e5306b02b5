"""Bars and axes as they are drawn."""

from __future__ import annotations

from datetime import date, timedelta
from decimal import Decimal

from hypothesis import given
from hypothesis import strategies as some

from app.control_plane.chart import nice_ticks, spark, stacked


@given(some.decimals(min_value="0.000001", max_value="1000000000", places=6))
def test_axis_reaches_the_top_in_few_even_steps(top: Decimal) -> None:
    ticks = nice_ticks(top)
    assert ticks[0] == 0 and ticks[-1] >= top and ticks[-2] < top and 3 <= len(ticks) <= 6


@given(
    some.lists(some.lists(some.decimals(min_value=0, max_value=10**6, places=4), min_size=3, max_size=3), max_size=30)
)
def test_bars_stay_inside_the_chart(rows: list[list[Decimal]]) -> None:
    first = date(2026, 11, 1)
    days = [(first + timedelta(days=index), values) for index, values in enumerate(rows)]
    chart = stacked(days, ["a", "b", "c"], today=first)
    for column in chart.columns:
        for bar in column.bars:
            assert -0.5 <= bar.y <= 240 and bar.x >= 0 and bar.x + bar.width <= 600.01


def test_spark_is_newest_at_the_right() -> None:
    bars = spark([0, 5, 10])
    assert [round(bar.height) for bar in bars] == [0, 18, 36] and bars[-1].x + bars[-1].width <= 240
    assert spark([]) == []
