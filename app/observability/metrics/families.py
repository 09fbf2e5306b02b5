"""Which metrics there are (names and labels of contract llm.md §8), and which of them and of their labels are shown.

By default labels are few: what multiplies series (keys, teams, users) is for `prometheus_metrics_config` to ask for.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal

import structlog

from ...settings.observability import ObservabilitySettings
from .counts import READERS, Cell

log = structlog.get_logger(__name__)

# The gateway's own time is milliseconds; the buckets of model latencies would hold all of it in the first.
OVERHEAD_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.1, 1.0)


@dataclass(frozen=True, slots=True)
class Family:
    """One metric of calls. `kind` is counter or histogram; `read` takes its value out of a cell; zero is left out."""

    name: str
    kind: str
    doc: str
    labels: tuple[str, ...]
    read: Callable[[Cell], int | Decimal | Sequence[float]]


_MODEL = ("requested_model",)
_FAILURE = ("exception_status", "exception_class")

FAMILIES = (
    Family(
        "litellm_proxy_total_requests_metric",
        "counter",
        "Calls, refused ones included",
        ("requested_model", "route", "status_code"),
        lambda cell: cell.requests,
    ),
    Family(
        "litellm_proxy_failed_requests_metric", "counter", "Calls that failed", _FAILURE, lambda cell: cell.failures
    ),
    Family("litellm_requests_metric", "counter", "Calls answered", _MODEL, lambda cell: cell.requests - cell.failures),
    Family("litellm_spend_metric", "counter", "USD spent", _MODEL, lambda cell: cell.spend),
    Family(
        "litellm_total_tokens_metric",
        "counter",
        "Tokens in and out",
        _MODEL,
        lambda cell: cell.prompt_tokens + cell.completion_tokens,
    ),
    Family("litellm_input_tokens_metric", "counter", "Prompt tokens", _MODEL, lambda cell: cell.prompt_tokens),
    Family("litellm_output_tokens_metric", "counter", "Answer tokens", _MODEL, lambda cell: cell.completion_tokens),
    Family(
        "litellm_input_cached_tokens_metric",
        "counter",
        "Prompt tokens read from the provider's cache",
        _MODEL,
        lambda cell: cell.cache_read_tokens,
    ),
    Family(
        "litellm_input_cache_creation_tokens_metric",
        "counter",
        "Prompt tokens written to the provider's cache",
        _MODEL,
        lambda cell: cell.cache_write_tokens,
    ),
    Family(
        "litellm_output_reasoning_tokens_metric",
        "counter",
        "Reasoning tokens, part of the answer's",
        _MODEL,
        lambda cell: cell.reasoning_tokens,
    ),
    Family("litellm_cache_hits_metric", "counter", "Answers from our cache", _MODEL, lambda cell: cell.cache_hits),
    Family(
        "litellm_cache_misses_metric",
        "counter",
        "Calls that our cache could not answer",
        _MODEL,
        lambda cell: cell.cache_misses,
    ),
    Family(
        "litellm_cached_tokens_metric",
        "counter",
        "Tokens of answers from our cache",
        _MODEL,
        lambda cell: cell.cached_tokens,
    ),
    Family(
        "litellm_request_total_latency_metric",
        "histogram",
        "Seconds of answered calls",
        _MODEL,
        lambda cell: cell.latency,
    ),
    Family(
        "litellm_llm_api_latency_metric",
        "histogram",
        "Seconds that providers took, all attempts",
        ("api_provider",),
        lambda cell: cell.upstream_latency,
    ),
    Family(
        "litellm_llm_api_time_to_first_token_metric",
        "histogram",
        "Seconds to a stream's first chunk",
        ("api_provider",),
        lambda cell: cell.first_token,
    ),
    Family(
        "litellm_overhead_latency_metric",
        "histogram",
        "Seconds that the gateway itself took",
        (),
        lambda cell: cell.overhead,
    ),
)


@dataclass(frozen=True, slots=True)
class Plan:
    """What is shown. `labels`: every label that some family of calls carries, in the order of a cell's key.

    `labels_of`: what is configured for a metric, None or nothing for its own.
    """

    families: tuple[Family, ...]
    labels: tuple[str, ...]
    shows: Callable[[str], bool]
    labels_of: Mapping[str, tuple[str, ...] | None]
    hidden_labels: frozenset[str]
    bounds: tuple[float, ...]
    shows_every_budget: bool


def plan_of(settings: ObservabilitySettings) -> Plan:
    """The metrics and labels that an instance shows. Names that mean nothing here are logged and ignored."""
    config, hidden = settings.prometheus_metrics_config, frozenset(settings.prometheus_exclude_labels)
    left_out = frozenset(settings.prometheus_exclude_metrics)

    def shows(name: str) -> bool:
        return name not in left_out and (config is None or name in config)

    families: list[Family] = []
    for family in FAMILIES:
        if not shows(family.name):
            continue
        labels = (config or {}).get(family.name)
        wanted = family.labels if labels is None else _known(family.name, labels)
        families.append(replace(family, labels=tuple(name for name in wanted if name not in hidden)))
    return Plan(
        families=tuple(families),
        labels=tuple(dict.fromkeys(name for family in families for name in family.labels)),
        shows=shows,
        labels_of=config or {},
        hidden_labels=hidden,
        bounds=settings.prometheus_latency_buckets,
        shows_every_budget=settings.prometheus_initialize_budget_metrics,
    )


def _known(metric: str, labels: Sequence[str]) -> tuple[str, ...]:
    unknown = [name for name in labels if name not in READERS]
    if unknown:
        log.warning("labels that no metric carries are ignored", metric=metric, labels=unknown)
    return tuple(dict.fromkeys(name for name in labels if name in READERS))
