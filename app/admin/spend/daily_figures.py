"""Sums of daily totals as the contract's days: metrics, and breakdowns with the keys in them. No I/O."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

import msgspec

Answer = dict[str, Any]
_NOTHING = Decimal(0)
# Breakdown -> the column that it goes by.
BREAKDOWNS = {
    "models": "model",
    "model_groups": "model_group",
    "providers": "custom_llm_provider",
    "endpoints": "endpoint",
}


class JsonMetrics(msgspec.Struct, gc=False):
    """Metrics as the contract's JSON object, USD as a number."""

    spend: float
    prompt_tokens: int
    completion_tokens: int
    cache_read_input_tokens: int
    cache_creation_input_tokens: int
    successful_requests: int
    failed_requests: int
    api_requests: int
    total_response_time_ms: int
    total_tokens: int
    timed_requests: int
    # Part of the contract, about features that this gateway does not have.
    flat_cost: int = 0
    compression_saved_tokens: int = 0
    compression_savings_spend: int = 0
    prompt_caching_savings_spend: int = 0
    gateway_injected_caching_savings_spend: int = 0
    autorouter_savings_spend: int = 0


class Metrics(msgspec.Struct, frozen=True, gc=False):
    """Sums of one group, USD exact. Not changed once made, so that groups of one row share it."""

    spend: Decimal = _NOTHING
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cache_read_input_tokens: int = 0
    cache_creation_input_tokens: int = 0
    successful_requests: int = 0
    failed_requests: int = 0
    api_requests: int = 0
    total_response_time_ms: int = 0

    def plus(self, other: Metrics) -> Metrics:
        """The sum of both. Spelled out: an answer adds thousands of them."""
        return Metrics(
            self.spend + other.spend,
            self.prompt_tokens + other.prompt_tokens,
            self.completion_tokens + other.completion_tokens,
            self.cache_read_input_tokens + other.cache_read_input_tokens,
            self.cache_creation_input_tokens + other.cache_creation_input_tokens,
            self.successful_requests + other.successful_requests,
            self.failed_requests + other.failed_requests,
            self.api_requests + other.api_requests,
            self.total_response_time_ms + other.total_response_time_ms,
        )

    def to_json(self) -> JsonMetrics:
        """As the contract writes them."""
        return JsonMetrics(
            float(self.spend),
            self.prompt_tokens,
            self.completion_tokens,
            self.cache_read_input_tokens,
            self.cache_creation_input_tokens,
            self.successful_requests,
            self.failed_requests,
            self.api_requests,
            self.total_response_time_ms,
            self.prompt_tokens + self.completion_tokens,
            self.api_requests,
        )


# The columns of daily totals behind Metrics, in its order and after `spend`.
COUNTS = Metrics.__struct_fields__[1:]
# What a group goes by, and its sums.
Sums = tuple[Sequence[Any], Metrics]


def add_to(groups: dict[str, Metrics], name: str, sums: Metrics) -> None:
    """Add to one group's sum."""
    known = groups.get(name)
    groups[name] = sums if known is None else known.plus(sums)


def totals_of(total: Metrics) -> Answer:
    """Metrics under the names of an answer's `metadata`: total_spend, total_tokens, …"""
    figures = msgspec.structs.asdict(total.to_json())
    del figures["timed_requests"]
    return {name if name.startswith("total_") else f"total_{name}": value for name, value in figures.items()}


@dataclass(slots=True)
class Figures:
    """What one answer is made of: sums, each list by its own columns.

    totals              date, and the columns of BREAKDOWNS
    keys                date, key: the keys that are shown and in no group
    keys_in_groups      date, key, and the columns of BREAKDOWNS: keys that are named inside of every group too
    keys_in_entities    date, key, entity: the same keys
    entities            date, entity: the entities that are shown

    `key_names` and `entity_names` are their `metadata`.
    """

    totals: Sequence[Sums] = ()
    keys: Sequence[Sums] = ()
    keys_in_groups: Sequence[Sums] = ()
    keys_in_entities: Sequence[Sums] = ()
    entities: Sequence[Sums] = ()
    key_names: Mapping[str, Answer] = field(default_factory=dict)
    entity_names: Mapping[str, Answer] = field(default_factory=dict)


def keys_to_json(keys: Mapping[str, Metrics], names: Mapping[str, Answer | msgspec.Raw]) -> Answer:
    """Keys by hash, each with its metrics and what is known of it."""
    return {key: {"metrics": metrics.to_json(), "metadata": names.get(key) or {}} for key, metrics in keys.items()}


def days_to_json(days: Sequence[str], figures: Figures) -> tuple[list[Answer], Metrics]:
    """One object per day, in the order of `days`, and the sum of all of them."""
    total = Metrics()
    key_names = {key: msgspec.Raw(msgspec.json.encode(names)) for key, names in figures.key_names.items()}
    lists = (figures.totals, figures.keys, figures.keys_in_groups, figures.keys_in_entities, figures.entities)
    parts = [_by_date(sums) for sums in lists]
    results = []
    for date in days:
        totals, others, in_groups, in_entities, entities = (part[date] for part in parts)
        metrics = _sum(sums for _, sums in totals)
        total = total.plus(metrics)
        breakdown: Answer = {"mcp_servers": {}}
        for place, name in enumerate(BREAKDOWNS, start=1):
            breakdown[name] = _breakdown(totals, in_groups, place, key_names, {})
        keys: dict[str, Metrics] = {}
        for row, sums in (*in_entities, *others):
            add_to(keys, row[1], sums)
        breakdown["api_keys"] = keys_to_json(keys, key_names)
        breakdown["entities"] = _breakdown(entities, in_entities, 1, key_names, figures.entity_names)
        results.append({"date": date, "metrics": metrics.to_json(), "breakdown": breakdown})
    return results, total


def _by_date(groups: Iterable[Sums]) -> defaultdict[str, list[Sums]]:
    found: defaultdict[str, list[Sums]] = defaultdict(list)
    for group in groups:
        found[group[0][0]].append(group)
    return found


def _sum(parts: Iterable[Metrics]) -> Metrics:
    total = Metrics()
    for part in parts:
        total = total.plus(part)
    return total


def _breakdown(
    groups: Iterable[Sums],
    groups_of_keys: Iterable[Sums],
    place: int,
    key_names: Mapping[str, Answer | msgspec.Raw],
    names: Mapping[str, Answer],
) -> Answer:
    """An entry for each value in a place (one further where a key comes before it), with the keys in it."""
    found: dict[str, Metrics] = {}
    for row, sums in groups:
        if row[place]:
            add_to(found, row[place], sums)
    keys: dict[str, dict[str, Metrics]] = {value: {} for value in found}
    for row, sums in groups_of_keys:
        entry = keys.get(row[place + 1])
        if entry is not None:
            add_to(entry, row[1], sums)
    return {
        value: {
            "metrics": sums.to_json(),
            "metadata": names.get(value) or {},
            "api_key_breakdown": keys_to_json(keys[value], key_names),
        }
        for value, sums in found.items()
    }
