"""The rows of a chart from the days that a worker reports."""

from __future__ import annotations

from datetime import date
from decimal import Decimal

from app.control_plane.activity import daily_chart


def test_the_fifth_group_and_beyond_are_other() -> None:
    models = {f"m{number}": {"metrics": {"spend": Decimal(10 - number), "api_requests": 1}} for number in range(7)}
    metrics = {"spend": Decimal(49), "api_requests": 7}
    rows = [
        # fixed date: handed over as today
        {"date": "2026-11-21", "metrics": metrics, "breakdown": {"models": models}}
    ]
    # fixed date: handed over as today
    activity = daily_chart(rows, days=7, group="model", today=date(2026, 11, 21))
    assert [figures.name for figures in activity.series] == ["m0", "m1", "m2", "m3", "Other"]
    assert sum((figures.spend for figures in activity.series), Decimal(0)) == activity.total.spend == 49
    assert len(activity.groups) == 7 and len(activity.chart.columns) == 7
