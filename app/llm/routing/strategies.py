"""Routing strategies: which deployment of a group gets the next call. Pure but for the random numbers."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from decimal import Decimal
from typing import Any

from ...deployments.deployment import Deployment
from ...settings.routing import RoutingSettings
from .load import DeploymentLoad

Strategy = Callable[[Sequence[Deployment], DeploymentLoad, RoutingSettings, random.Random, bool], Deployment]

_UNKNOWN_PRICE = Decimal(10**9)


def choose(
    deployments: Sequence[Deployment],
    load: DeploymentLoad,
    settings: RoutingSettings,
    rng: random.Random,
    *,
    is_stream: bool = False,
) -> Deployment:
    """One of at least one deployment, by the strategy of the settings."""
    if len(deployments) == 1:
        return deployments[0]
    return _STRATEGIES[settings.routing_strategy](deployments, load, settings, rng, is_stream)


def _weighted_random(
    deployments: Sequence[Deployment],
    load: DeploymentLoad,
    settings: RoutingSettings,
    rng: random.Random,
    is_stream: bool,
) -> Deployment:
    """A weighted draw: by `weight`, else by `rpm`, else by `tpm`, else even."""
    weights = _weights(deployments)
    return rng.choices(deployments, weights)[0] if weights is not None else rng.choice(deployments)


def _weights(deployments: Sequence[Deployment]) -> list[float] | None:
    """None when no deployment has a metric above zero.

    A deployment without the metric that others have gets the lowest weight among them, so that it is called at all.
    """
    for metric in ("weight", "rpm", "tpm"):
        values: list[float | None] = [getattr(deployment, metric) for deployment in deployments]
        positive = [value for value in values if value]
        if positive:
            lightest = min(positive)
            return [lightest if value is None else value for value in values]
    return None


def _least_busy(
    deployments: Sequence[Deployment],
    load: DeploymentLoad,
    settings: RoutingSettings,
    rng: random.Random,
    is_stream: bool,
) -> Deployment:
    return _choose_lowest(deployments, lambda deployment: load.of(deployment.id).running, rng)


def _lowest_latency(
    deployments: Sequence[Deployment],
    load: DeploymentLoad,
    settings: RoutingSettings,
    rng: random.Random,
    is_stream: bool,
) -> Deployment:
    """One whose mean latency is within the buffer of the best; those without a measurement go first.

    One that has only failed so far has no measurement either, but goes last.
    """
    unmeasured: list[Deployment] = []
    latencies: list[tuple[Deployment, float]] = []
    for deployment in deployments:
        stats = load.of(deployment.id)
        latency = stats.latency(is_stream=is_stream)
        if latency is not None:
            latencies.append((deployment, latency))
        elif not stats.failures:
            unmeasured.append(deployment)
    if unmeasured or not latencies:
        return rng.choice(unmeasured or deployments)
    buffer = _number(settings.routing_strategy_args.get("lowest_latency_buffer"))
    max_latency = min(latency for _, latency in latencies) * (1 + buffer)
    return rng.choice([deployment for deployment, latency in latencies if latency <= max_latency])


def _lowest_usage(
    deployments: Sequence[Deployment],
    load: DeploymentLoad,
    settings: RoutingSettings,
    rng: random.Random,
    is_stream: bool,
) -> Deployment:
    """The fewest tokens this minute, then the fewest requests."""

    def usage(deployment: Deployment) -> tuple[int, int]:
        stats = load.of(deployment.id)
        return stats.tokens, stats.requests

    return _choose_lowest(_within_limits(deployments, load), usage, rng)


def _lowest_cost(
    deployments: Sequence[Deployment],
    load: DeploymentLoad,
    settings: RoutingSettings,
    rng: random.Random,
    is_stream: bool,
) -> Deployment:
    """The lowest price of a token in and one out; unknown prices last."""

    def price(deployment: Deployment) -> Decimal:
        if deployment.input_cost_per_token is None or deployment.output_cost_per_token is None:
            return _UNKNOWN_PRICE
        return deployment.input_cost_per_token + deployment.output_cost_per_token

    return _choose_lowest(_within_limits(deployments, load), price, rng)


def _choose_lowest(
    deployments: Sequence[Deployment], value: Callable[[Deployment], Any], rng: random.Random
) -> Deployment:
    lowest = min(map(value, deployments))
    return rng.choice([deployment for deployment in deployments if value(deployment) == lowest])


def _within_limits(deployments: Sequence[Deployment], load: DeploymentLoad) -> Sequence[Deployment]:
    """Those within their rpm and tpm, by what this process sent; all of them when none is: admission then decides."""
    return [deployment for deployment in deployments if has_room(deployment, load)] or deployments


def has_room(deployment: Deployment, load: DeploymentLoad, tokens: int = 0) -> bool:
    """Whether a call of so many tokens fits into this minute's rpm and tpm, by what this process sent."""
    if deployment.rpm is None and deployment.tpm is None:
        return True
    stats = load.of(deployment.id)
    if deployment.rpm is not None and stats.requests >= deployment.rpm:
        return False
    return deployment.tpm is None or stats.tokens + tokens <= deployment.tpm


def _number(value: Any) -> float:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) and value >= 0 else 0.0


_STRATEGIES: dict[str, Strategy] = {
    "simple-shuffle": _weighted_random,
    "least-busy": _least_busy,
    "latency-based-routing": _lowest_latency,
    "usage-based-routing": _lowest_usage,
    "usage-based-routing-v2": _lowest_usage,
    "cost-based-routing": _lowest_cost,
}
