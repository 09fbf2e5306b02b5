"""Numbers, money and times as the console writes them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

from app.control_plane import formatting
from app.control_plane.chart import nice_ticks


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
