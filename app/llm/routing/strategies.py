"""Which deployment of a group gets the next call (contract llm.md §2.3). Pure, but for chance."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from decimal import Decimal
from typing import Any

from ...deployments.deployment import Deployment
from ...settings.routing import RoutingSettings
from .load import DeploymentLoad

Strategy = Callable[[Sequence[Deployment], DeploymentLoad, RoutingSettings, random.Random, bool], Deployment]

_DEAREST = Decimal(10**9)


def choose(
    deployments: Sequence[Deployment],
    load: DeploymentLoad,
    settings: RoutingSettings,
    chance: random.Random,
    *,
    is_stream: bool = False,
) -> Deployment:
    """One of at least one deployment, by the strategy of the settings."""
    if len(deployments) == 1:
        return deployments[0]
    return _STRATEGIES[settings.routing_strategy](deployments, load, settings, chance, is_stream)


def _shuffled(
    deployments: Sequence[Deployment],
    load: DeploymentLoad,
    settings: RoutingSettings,
    chance: random.Random,
    is_stream: bool,
) -> Deployment:
    """A weighted draw: by `weight`, else by `rpm`, else by `tpm`, else even."""
    weights = _weights(deployments)
    return chance.choices(deployments, weights)[0] if weights is not None else chance.choice(deployments)


def _weights(deployments: Sequence[Deployment]) -> list[float] | None:
    """None where nothing is said, or zero of all.

    A deployment without the metric that others have counts as the lightest of them, so that it is not forgotten.
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
    chance: random.Random,
    is_stream: bool,
) -> Deployment:
    return _least(deployments, lambda one: load.of(one.id).running, chance)


def _fastest(
    deployments: Sequence[Deployment],
    load: DeploymentLoad,
    settings: RoutingSettings,
    chance: random.Random,
    is_stream: bool,
) -> Deployment:
    """One whose mean is within the buffer of the best; those that nobody has asked yet go first.

    One that only failed so far goes last: it has no mean either, and is no better for it.
    """
    unasked: list[Deployment] = []
    latencies: list[tuple[Deployment, float]] = []
    for one in deployments:
        known = load.of(one.id)
        latency = known.latency(is_stream=is_stream)
        if latency is not None:
            latencies.append((one, latency))
        elif not known.failures:
            unasked.append(one)
    if unasked or not latencies:
        return chance.choice(unasked or deployments)
    buffer = _number(settings.routing_strategy_args.get("lowest_latency_buffer"))
    most = min(latency for _, latency in latencies) * (1 + buffer)
    return chance.choice([one for one, latency in latencies if latency <= most])


def _least_used(
    deployments: Sequence[Deployment],
    load: DeploymentLoad,
    settings: RoutingSettings,
    chance: random.Random,
    is_stream: bool,
) -> Deployment:
    """The fewest tokens this minute, then the fewest requests."""
    return _least(
        _within_limits(deployments, load), lambda one: (load.of(one.id).tokens, load.of(one.id).requests), chance
    )


def _cheapest(
    deployments: Sequence[Deployment],
    load: DeploymentLoad,
    settings: RoutingSettings,
    chance: random.Random,
    is_stream: bool,
) -> Deployment:
    """The lowest price of a token in and one out; unknown prices last."""

    def price(one: Deployment) -> Decimal:
        if one.input_cost_per_token is None or one.output_cost_per_token is None:
            return _DEAREST
        return one.input_cost_per_token + one.output_cost_per_token

    return _least(_within_limits(deployments, load), price, chance)


def _least(deployments: Sequence[Deployment], value: Callable[[Deployment], Any], chance: random.Random) -> Deployment:
    least = min(map(value, deployments))
    return chance.choice([one for one in deployments if value(one) == least])


def _within_limits(deployments: Sequence[Deployment], load: DeploymentLoad) -> Sequence[Deployment]:
    """Those that have room by what this process sent; all of them when none has, and the limits decide."""
    return [one for one in deployments if has_room(one, load)] or deployments


def has_room(deployment: Deployment, load: DeploymentLoad, tokens: int = 0) -> bool:
    """Whether a call of so many tokens fits into this minute's rpm and tpm, by what this process knows."""
    if deployment.rpm is None and deployment.tpm is None:
        return True
    known = load.of(deployment.id)
    if deployment.rpm is not None and known.requests >= deployment.rpm:
        return False
    return deployment.tpm is None or known.tokens + tokens <= deployment.tpm


def _number(value: Any) -> float:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) and value >= 0 else 0.0


_STRATEGIES: dict[str, Strategy] = {
    "simple-shuffle": _shuffled,
    "least-busy": _least_busy,
    "latency-based-routing": _fastest,
    "usage-based-routing": _least_used,
    "usage-based-routing-v2": _least_used,
    "cost-based-routing": _cheapest,
}
