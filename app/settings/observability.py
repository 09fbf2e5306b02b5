"""Settings of metrics, health checks, traces and logs: what an operator sees of an instance. Part of `Settings`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any
from urllib.parse import unquote

from .declaration import boolean, positive, setting, text, whole
from .header_rules import check_written

# Few, since each is a line per model on every scrape: from a fast first answer to a slow reasoning model.
LATENCY_BUCKETS = (0.25, 0.5, 1.0, 2.5, 5.0, 15.0, 60.0)
_MAX_BUCKETS = 40
_LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")


def _names(value: Any) -> tuple[str, ...]:
    if isinstance(value, str):
        value = value.split(",")
    if not isinstance(value, list | tuple) or not all(isinstance(name, str) for name in value):
        raise ValueError("is not a list of names")
    return tuple(name.strip() for name in value if name.strip())


def _buckets(value: Any) -> tuple[float, ...]:
    """Upper bounds in seconds, made ascending; the infinite one is always there."""
    if not isinstance(value, list | tuple) or not 1 <= len(value) <= _MAX_BUCKETS:
        raise ValueError(f"is not a list of 1 to {_MAX_BUCKETS} numbers of seconds")
    return tuple(sorted({positive(bound) for bound in value if str(bound).lower() not in ("inf", "+inf", ".inf")}))


def _metrics_config(value: Any) -> Mapping[str, tuple[str, ...] | None]:
    """Metric -> the labels that it carries, None for its own. From a list of `{group, metrics, include_labels}`."""
    if not isinstance(value, list) or not all(isinstance(entry, Mapping) for entry in value):
        raise ValueError("is not a list; write `- {group: …, metrics: […], include_labels: […]}`")
    labels_of: dict[str, tuple[str, ...] | None] = {}
    for entry in value:
        labels = entry.get("include_labels")
        for name in _names(entry.get("metrics") or ()):
            labels_of[name] = None if labels is None else _names(labels)
    return MappingProxyType(labels_of)


def _collector_headers(value: Any) -> str:
    """`name=value,name=value` with percent-encoded values, as the variable is defined."""
    pairs = (entry.partition("=") for entry in text(value).split(",") if "=" in entry)
    check_written({name.strip(): unquote(content.strip()) for name, _, content in pairs})
    return text(value)


def _level(value: Any) -> str:
    word = text(value).strip().upper()
    word = {"WARN": "WARNING"}.get(word, word)
    if word not in _LEVELS:
        raise ValueError(f"is no level of logs; use {', '.join(_LEVELS)}")
    return word


@dataclass(frozen=True, kw_only=True)
class ObservabilitySettings:
    """Seconds for times."""

    requires_auth_for_metrics: bool = setting(
        "Answer /metrics to callers with a key only.",
        boolean,
        True,
        yaml="litellm_settings.require_auth_for_metrics_endpoint",
    )
    prometheus_latency_buckets: tuple[float, ...] = setting(
        "Upper bounds of the latency histograms in seconds.",
        _buckets,
        LATENCY_BUCKETS,
        yaml="litellm_settings.prometheus_latency_buckets",
    )
    prometheus_metrics_config: Mapping[str, tuple[str, ...] | None] | None = setting(
        "Which metrics /metrics shows and which labels they carry, as `[{group: g, metrics: [litellm_spend_metric], "
        "include_labels: [requested_model, team]}]`. Labels of callers multiply the series.",
        _metrics_config,
        yaml="litellm_settings.prometheus_metrics_config",
    )
    prometheus_exclude_metrics: tuple[str, ...] = setting(
        "Metrics that /metrics leaves out.", _names, (), yaml="litellm_settings.prometheus_exclude_metrics"
    )
    prometheus_exclude_labels: tuple[str, ...] = setting(
        "Labels that no metric carries.", _names, (), yaml="litellm_settings.prometheus_exclude_labels"
    )
    prometheus_initialize_budget_metrics: bool = setting(
        "Show the budget of everybody who called lately, not of the ten nearest to their ceiling only.",
        boolean,
        False,
        yaml="litellm_settings.prometheus_initialize_budget_metrics",
    )
    background_health_checks: bool = setting(
        "Call every deployment once per `health_check_interval`, with a small paid call.",
        boolean,
        False,
        yaml="general_settings.background_health_checks",
    )
    health_check_interval: float = setting(
        "Seconds between two rounds of these checks.",
        positive,
        300.0,
        yaml="general_settings.health_check_interval",
    )
    health_check_concurrency: int = setting(
        "Checks that run at the same time.", whole, 4, yaml="general_settings.health_check_concurrency"
    )
    shows_health_details: bool = setting(
        "Say on /health why a deployment is unhealthy; otherwise its name and id only.",
        boolean,
        True,
        yaml="general_settings.health_check_details",
    )
    allow_public_readiness_details: bool = setting(
        "Answer /health/readiness/details without a key.",
        boolean,
        False,
        yaml="general_settings.allow_public_health_readiness_details",
    )
    drain_seconds: int = setting(
        "Seconds between the signal that ends an instance and its end: it serves, but is not ready. One process "
        "on hypercorn only.",
        whole,
        0,
        env="QUARTERDECK_DRAIN_SECONDS",
    )
    json_logs: bool = setting(
        "Write each log line as one JSON object.", boolean, False, env="JSON_LOGS", yaml="litellm_settings.json_logs"
    )
    log_level: str = setting(
        "Lowest level that is logged; `DEBUG` gives one line per call.", _level, "INFO", env="LITELLM_LOG"
    )
    set_verbose: bool = setting("The same as `LITELLM_LOG=DEBUG`.", boolean, False, yaml="litellm_settings.set_verbose")
    otlp_endpoint: str | None = setting(
        "Collector that gets a trace of each call; needs `pip install quarterdeck[otel]`.",
        text,
        env="OTEL_EXPORTER_OTLP_ENDPOINT",
    )
    otlp_headers: str | None = setting(
        "Headers for the collector, as `name=value,name=value`.",
        _collector_headers,
        env="OTEL_EXPORTER_OTLP_HEADERS",
        is_secret=True,
    )
    trace_service_name: str = setting("Name of this instance in traces.", text, "quarterdeck", env="OTEL_SERVICE_NAME")

    @property
    def lowest_log_level(self) -> str:
        """`DEBUG`, `INFO`, `WARNING`, `ERROR` or `CRITICAL`."""
        return "DEBUG" if self.set_verbose else self.log_level
