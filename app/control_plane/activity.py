"""Daily activity of a worker, arranged for the spend page and for one key: totals, a chart, and rows per group."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, timedelta
from decimal import Decimal
from typing import Any

from .chart import Chart, stacked
from .formatting import decimal
from .worker_client import Row

TOP = 4
# By the name that clients requested; a worker that does not report it is grouped by the provider's names.
GROUPS = {"model": ("model_groups", "models"), "key": ("api_keys",)}


@dataclass
class Figures:
    """Sums of one group or day. Tokens and requests are counts, spend is USD."""

    name: str
    detail: str = ""
    identity: str = ""
    spend: Decimal = Decimal(0)
    requests: int = 0
    failed: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    by_day: dict[str, Decimal] = field(default_factory=dict)

    def add(self, day: str, metrics: Mapping[str, Any]) -> None:
        spend = decimal(metrics.get("spend"))
        self.spend += spend
        self.by_day[day] = self.by_day.get(day, Decimal(0)) + spend
        self.requests += int(metrics.get("api_requests") or 0)
        self.failed += int(metrics.get("failed_requests") or 0)
        self.input_tokens += int(metrics.get("prompt_tokens") or 0)
        self.output_tokens += int(metrics.get("completion_tokens") or 0)


@dataclass
class Activity:
    """`groups` and `days` are largest and newest first; `chart` stacks the four largest groups and "Other"."""

    total: Figures
    groups: list[Figures]
    days: list[Figures]
    series: list[Figures]
    chart: Chart
    first: date
    last: date


def daily_chart(rows: Sequence[Row], *, days: int, group: str, today: date, height: float = 240.0) -> Activity:
    """`rows` are results of /user/daily/activity; `group` is `model`, `key`, or empty for one series."""
    total, groups, per_day = Figures("Spend"), dict[str, Figures](), dict[str, Figures]()
    for row in rows:
        day = str(row["date"])
        total.add(day, row["metrics"])
        per_day.setdefault(day, Figures(day)).add(day, row["metrics"])
        breakdown = row.get("breakdown") or {}
        entries: Mapping[str, Any] = next(
            (breakdown[name] for name in GROUPS.get(group, ()) if breakdown.get(name)), {}
        )
        for name, entry in entries.items():
            title, detail = _key_title(name, entry.get("metadata") or {}) if group == "key" else (name, "")
            groups.setdefault(name, Figures(title, detail, name)).add(day, entry["metrics"])
    ordered = sorted(groups.values(), key=lambda figures: (-figures.spend, -figures.requests, figures.name))
    series = _series(ordered, total) if group else [total]
    dates = [today - timedelta(days=age) for age in range(days - 1, -1, -1)]
    values = [(day, [figures.by_day.get(day.isoformat(), Decimal(0)) for figures in series]) for day in dates]
    chart = stacked(values, [figures.name for figures in series], height=height, today=today)
    newest = sorted(per_day.values(), key=lambda figures: figures.name, reverse=True)
    return Activity(total, ordered, newest, series, chart, dates[0], dates[-1])


def _key_title(key_hash: str, metadata: Mapping[str, Any]) -> tuple[str, str]:
    """How a key is called, and the few digits that tell two of the same name apart."""
    short = key_hash if len(key_hash) < 13 else f"{key_hash[:4]}…{key_hash[-4:]}"
    alias = metadata.get("key_alias")
    return (str(alias), short) if alias else (short, "")


def _series(ordered: list[Figures], total: Figures) -> list[Figures]:
    """The largest groups, and one "Other" for the rest."""
    if len(ordered) <= TOP + 1:
        return ordered or [total]
    other = Figures("Other")
    for figures in ordered[TOP:]:
        other.spend += figures.spend
        for day, spend in figures.by_day.items():
            other.by_day[day] = other.by_day.get(day, Decimal(0)) + spend
    return [*ordered[:TOP], other]
