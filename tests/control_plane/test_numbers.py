"""Numbers as the console writes and draws them."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as some

from app.control_plane import formatting
from app.control_plane.activity import daily_chart
from app.control_plane.chart import nice_ticks, spark, stacked
from app.control_plane.key_form import try_it


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (1049.1, "$1,049.10"),
        (0, "$0.00"),
        ("0.000403", "$0.000403"),
        (0.0145, "$0.0145"),
        (1, "$1.00"),
        ("0.00000013", "<$0.000001"),
        (-3, "−$3.00"),
        (None, "—"),
        ("?", "$0.00"),
    ],
)
def test_money(value: Any, text: str) -> None:
    assert formatting.money(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0"), (9999, "9,999"), (12900, "12.9k"), (400000, "400k"), (38600000, "38.6M"), (7.94e9, "7.94B")],
)
def test_large_counts(value: Any, text: str) -> None:
    assert formatting.large(value) == text


def test_axis_words_share_their_decimals() -> None:
    assert formatting.axis(nice_ticks(Decimal("0.0145"))) == ["$0.000", "$0.005", "$0.010", "$0.015"]
    assert formatting.axis(nice_ticks(Decimal("1.7"))) == ["$0.00", "$0.50", "$1.00", "$1.50", "$2.00"]
    assert formatting.axis(nice_ticks(Decimal(2300)))[-1] == "$3,000"


def test_other_words() -> None:
    assert formatting.budget(500) == "$500" and formatting.budget("12.5") == "$12.50"
    assert formatting.per_million("0.00000025") == "$0.25" and formatting.per_million("0.0000000025") == "$0.0025"
    assert formatting.milliseconds(412) == "412 ms" and formatting.milliseconds(4810) == "4.81 s"
    # fixed date: only shown
    assert formatting.day("2027-02-19T00:00:00Z") == "19 Feb 2027" and formatting.day(None) == "—"
    assert formatting.clock("2027-02-19T20:28:11+01:00") == "19:28:11 UTC"  # fixed date: only shown
    assert formatting.lasting(datetime.now(UTC) - timedelta(minutes=14, seconds=5)) == "14 min"
    assert "14 min ago" in formatting.ago(datetime.now(UTC) - timedelta(minutes=14, seconds=5))
    assert "in 5 d" in formatting.ago(datetime.now(UTC) + timedelta(days=5, hours=3))


@pytest.mark.parametrize(
    ("spend", "ceiling", "percent", "level"),
    [
        (0, 10, 0, "ok"),
        (8, 10, 80, "warn"),
        (9.99, 10, 99, "warn"),
        (10, 10, 100, "over"),
        (0, 0, 100, "over"),
        (5, None, None, "ok"),
    ],
)
def test_budget_levels(spend: Any, ceiling: Any, percent: int | None, level: str) -> None:
    row = formatting.metered({"spend": spend, "max_budget": ceiling})
    assert (row["percent"], row["level"]) == (percent, level)


@given(some.decimals(min_value="0.000001", max_value="1000000000", places=6))
def test_axis_reaches_the_top_in_few_even_steps(top: Decimal) -> None:
    ticks = nice_ticks(top)
    assert ticks[0] == 0 and ticks[-1] >= top and ticks[-2] < top and 3 <= len(ticks) <= 6


@given(
    some.lists(some.lists(some.decimals(min_value=0, max_value=10**6, places=4), min_size=3, max_size=3), max_size=30)
)
def test_bars_stay_inside_the_chart(rows: list[list[Decimal]]) -> None:
    first = date(2026, 11, 1)  # fixed date: it is handed over as today, too
    days = [(first + timedelta(days=index), values) for index, values in enumerate(rows)]
    chart = stacked(days, ["a", "b", "c"], today=first)
    for column in chart.columns:
        for bar in column.bars:
            assert -0.5 <= bar.y <= 240 and bar.x >= 0 and bar.x + bar.width <= 600.01


def test_spark_is_newest_at_the_right() -> None:
    bars = spark([0, 5, 10])
    assert [round(bar.height) for bar in bars] == [0, 18, 36] and bars[-1].x + bars[-1].width <= 240
    assert spark([]) == []


def test_the_fifth_group_and_beyond_are_other() -> None:
    models = {f"m{number}": {"metrics": {"spend": Decimal(10 - number), "api_requests": 1}} for number in range(7)}
    metrics = {"spend": Decimal(49), "api_requests": 7}
    # fixed date: the day handed over as today
    rows = [{"date": "2026-11-21", "metrics": metrics, "breakdown": {"models": models}}]
    activity = daily_chart(rows, days=7, group="model", today=date(2026, 11, 21))  # fixed date: handed over as today
    assert [one.name for one in activity.series] == ["m0", "m1", "m2", "m3", "Other"]
    assert sum((one.spend for one in activity.series), Decimal(0)) == activity.total.spend == 49
    assert len(activity.groups) == 7 and len(activity.chart.columns) == 7


def test_the_command_fits_the_models_of_the_key() -> None:
    known = [{"name": "emb", "mode": "embedding"}, {"name": "chat", "mode": "chat"}]
    assert "/v1/chat/completions" in try_it("http://w", "sk-1", [], known)
    assert "/v1/embeddings" in try_it("http://w", "sk-1", ["emb"], known)
    assert '"chat"' in try_it("http://w", "sk-1", ["all-team-models"], known)
    assert "it'" not in try_it("http://w", "sk-1", ["it's"], known)
