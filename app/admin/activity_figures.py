"""Rows of daily totals as the contract's days: metrics, and breakdowns with the keys in them. No I/O."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

import msgspec

Answer = dict[str, Any]
COUNTS = (
    "prompt_tokens",
    "completion_tokens",
    "cache_read_input_tokens",
    "cache_creation_input_tokens",
    "successful_requests",
    "failed_requests",
    "api_requests",
    "total_response_time_ms",
)
# Part of the contract, about features that this gateway does not have.
_ALWAYS_ZERO = (
    "flat_cost",
    "compression_saved_tokens",
    "compression_savings_spend",
    "prompt_caching_savings_spend",
    "gateway_injected_caching_savings_spend",
    "autorouter_savings_spend",
)
_NOTHING = Decimal(0)
_ZEROS = dict.fromkeys(_ALWAYS_ZERO, 0)
# Breakdown -> the column that it goes by.
BREAKDOWNS = {
    "models": "model",
    "model_groups": "model_group",
    "providers": "custom_llm_provider",
    "endpoints": "endpoint",
}


class Metrics:
    """Sums of one group, USD exact. Not changed once made, so that groups of one row share it and its JSON."""

    __slots__ = ("_json", "counts", "spend")

    def __init__(self, spend: Decimal = _NOTHING, counts: Sequence[int] = (0,) * len(COUNTS)) -> None:
        self.spend = spend
        self.counts = counts
        self._json: msgspec.Raw | None = None

    def plus(self, other: Metrics) -> Metrics:
        """The sum of both."""
        return Metrics(self.spend + other.spend, [a + b for a, b in zip(self.counts, other.counts, strict=True)])

    def as_wire(self) -> Answer:
        """As the contract's JSON object."""
        wire = {"spend": float(self.spend), **_ZEROS, **dict(zip(COUNTS, self.counts, strict=True))}
        wire["total_tokens"] = self.counts[0] + self.counts[1]
        wire["timed_requests"] = wire["api_requests"]
        return wire

    def as_json(self) -> msgspec.Raw:
        """The same, encoded once however often it appears in an answer."""
        if self._json is None:
            self._json = msgspec.Raw(msgspec.json.encode(self.as_wire()))
        return self._json


def add_to(groups: dict[str, Metrics], name: str, sums: Metrics) -> None:
    """Add to one group's sum."""
    known = groups.get(name)
    groups[name] = sums if known is None else known.plus(sums)


def metrics_of(row: Mapping[str, Any]) -> Metrics:
    """The sums of one row of SQL."""
    spend = row["spend"] or _NOTHING
    counts = [int(row[name] or 0) for name in COUNTS]
    return Metrics(spend if isinstance(spend, Decimal) else Decimal(str(spend)), counts)


def totals_of(total: Metrics) -> Answer:
    """Metrics under the names of an answer's `metadata`: total_spend, total_tokens, …"""
    figures = total.as_wire()
    names = ["spend", "total_tokens", *_ALWAYS_ZERO, *COUNTS]
    return {name if name.startswith("total_") else f"total_{name}": figures[name] for name in names}


@dataclass(slots=True)
class Figures:
    """What one answer is made of. Rows have `date`, the columns of BREAKDOWNS, and sums.

    `rows` are the totals, `rows_of_keys` those of the keys that are shown (with `api_key` and `entity`),
    `rows_of_entities` those of the entities that are shown. `key_names` and `entity_names` are their `metadata`.
    """

    rows: Sequence[Answer] = ()
    rows_of_keys: Sequence[Answer] = ()
    rows_of_entities: Sequence[Answer] = ()
    key_names: Mapping[str, Answer] = field(default_factory=dict)
    entity_names: Mapping[str, Answer] = field(default_factory=dict)
    # Keys that are named inside of every group too; each of them is in the answer a dozen times a day.
    keys_in_groups: Collection[str] = ()


class _Group:
    """One entry of a breakdown: its sums, and the sums of each key in it."""

    __slots__ = ("keys", "metrics")

    def __init__(self, metrics: Metrics) -> None:
        self.metrics = metrics
        self.keys: dict[str, Metrics] = {}

    def as_wire(self, key_names: Mapping[str, Answer | msgspec.Raw], metadata: Answer | None) -> Answer:
        return {
            "metrics": self.metrics.as_json(),
            "metadata": metadata or {},
            "api_key_breakdown": keys_as_wire(self.keys, key_names),
        }


def keys_as_wire(keys: Mapping[str, Metrics], names: Mapping[str, Answer | msgspec.Raw]) -> Answer:
    """Keys by hash, each with its metrics and what is known of it."""
    return {key: {"metrics": metrics.as_json(), "metadata": names.get(key) or {}} for key, metrics in keys.items()}


def days_as_wire(days: Sequence[str], figures: Figures) -> tuple[list[Answer], Metrics]:
    """One object per day, in the order of `days`, and the sum of all of them."""
    total = Metrics()
    key_names = {key: msgspec.Raw(msgspec.json.encode(names)) for key, names in figures.key_names.items()}
    parts = [_by_date(rows) for rows in (figures.rows, figures.rows_of_keys, figures.rows_of_entities)]
    results = []
    for date in days:
        rows, rows_of_keys, rows_of_entities = (part[date] for part in parts)
        metrics = _sum(pair[1] for pair in rows)
        total = total.plus(metrics)
        rows_in_groups = [pair for pair in rows_of_keys if pair[0]["api_key"] in figures.keys_in_groups]
        breakdown: Answer = {"mcp_servers": {}}
        for name, column in BREAKDOWNS.items():
            breakdown[name] = _breakdown(rows, rows_in_groups, column, key_names, {})
        keys: dict[str, Metrics] = {}
        for row, sums in rows_of_keys:
            add_to(keys, row["api_key"], sums)
        breakdown["api_keys"] = keys_as_wire(keys, key_names)
        names = figures.entity_names
        breakdown["entities"] = _breakdown(rows_of_entities, rows_in_groups, "entity", key_names, names)
        results.append({"date": date, "metrics": metrics.as_json(), "breakdown": breakdown})
    return results, total


def _by_date(rows: Iterable[Answer]) -> defaultdict[str, list[tuple[Answer, Metrics]]]:
    found: defaultdict[str, list[tuple[Answer, Metrics]]] = defaultdict(list)
    for row in rows:
        found[row["date"]].append((row, metrics_of(row)))
    return found


def _sum(parts: Iterable[Metrics]) -> Metrics:
    total = Metrics()
    for part in parts:
        total = total.plus(part)
    return total


def _breakdown(
    rows: Iterable[tuple[Answer, Metrics]],
    rows_of_keys: Iterable[tuple[Answer, Metrics]],
    column: str,
    key_names: Mapping[str, Answer | msgspec.Raw],
    names: Mapping[str, Answer],
) -> Answer:
    """A group for each value of a column; keys appear in the groups that are shown."""
    groups: dict[str, _Group] = {}
    for row, sums in rows:
        value = row[column]
        if value:
            group = groups.get(value)
            if group is None:
                groups[value] = _Group(sums)
            else:
                group.metrics = group.metrics.plus(sums)
    for row, sums in rows_of_keys:
        group = groups.get(row[column])
        if group is not None:
            add_to(group.keys, row["api_key"], sums)
    return {value: group.as_wire(key_names, names.get(value)) for value, group in groups.items()}
