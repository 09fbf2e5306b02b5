"""Metrics of what is, beside those of calls: deployments, budgets, queues. Pure."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ...deployments.deployment import Deployment
from .counts import BudgetFact, DeploymentCell, Totals, target_name
from .exposition import Sample, lines
from .families import Plan

# More deployments than these are counted, but not each shown.
_MAX_SHOWN = 200
_NEAREST = 10
# Limits of providers are by the minute, mostly: what was said longer ago says nothing of now.
_STALE_SECONDS = 600.0
_HEALTHY, _PARTIAL, _OUTAGE = 0, 1, 2

# Kind of budget -> the contract's word for it, and its labels: the holder's id and, for some, its name.
_HOLDERS: Mapping[str, tuple[str, tuple[str, ...]]] = {
    "key": ("api_key", ("hashed_api_key", "api_key_alias")),
    "team": ("team", ("team", "team_alias")),
    "user": ("user", ("user",)),
    "organization": ("org", ("org_id",)),
}
BUDGET_KINDS = tuple(_HOLDERS)

_GAUGES = {
    "litellm_in_flight_requests": "Calls that providers are working on",
    "litellm_in_memory_spend_update_queue_size": "Spend events that are not in the database yet",
    "quarterdeck_callback_queue_size": "Messages that receivers of logs and alerts did not get yet",
}


@dataclass(frozen=True, slots=True)
class _DeploymentFamily:
    name: str
    kind: str
    doc: str
    labels: tuple[str, ...]
    read: Callable[[DeploymentCell], Mapping[str, int]]


# `read` answers counts by `status class`, by status, or under "".
_DEPLOYMENT_FAMILIES = (
    _DeploymentFamily(
        "litellm_deployment_total_requests",
        "counter",
        "Attempts",
        ("model_id",),
        lambda cell: {"": cell.successes + sum(cell.failures.values())},
    ),
    _DeploymentFamily(
        "litellm_deployment_success_responses",
        "counter",
        "Attempts that were answered",
        ("model_id",),
        lambda cell: {"": cell.successes},
    ),
    _DeploymentFamily(
        "litellm_deployment_failure_responses",
        "counter",
        "Attempts that failed",
        ("model_id", "exception_status"),
        lambda cell: cell.failures,
    ),
    _DeploymentFamily(
        "litellm_deployment_cooled_down",
        "counter",
        "Times that it was given a rest",
        ("model_id", "exception_status"),
        lambda cell: cell.cooldowns,
    ),
)
_STATE_LABELS = ("litellm_model_name", "model_id", "api_provider")


def state_families(
    plan: Plan,
    totals: Totals,
    deployments: Sequence[Deployment],
    cooling_down: Collection[str],
    now: float,
    *,
    shows_callers: bool,
) -> Iterator[str]:
    """Deployments, fallbacks, queues, and the budgets of callers for who may see them. `now`: seconds since 1970."""
    shown = deployments[:_MAX_SHOWN]
    for text in (
        _deployment_counters(plan, totals, shown),
        _deployment_gauges(plan, totals, shown, cooling_down),
        _remaining(plan, totals, shown, now),
        _fallbacks(plan, totals),
        _of_instance(plan, totals),
    ):
        yield from text
    if shows_callers:
        for kind in BUDGET_KINDS:
            yield from _budgets(plan, kind, totals, now)


def _labels_of(plan: Plan, name: str, own: tuple[str, ...]) -> list[str]:
    config = plan.labels_of.get(name)
    return [label for label in (own if config is None else config) if label not in plan.hidden_labels]


def _facts(id: str, deployment: Deployment | None) -> dict[str, str]:
    if deployment is None:
        return {"model_id": id}
    return {
        "model_id": id,
        "litellm_model_name": target_name(deployment),
        "api_provider": deployment.provider.name,
        "api_base": deployment.api_base,
        "model_group": deployment.public_name,
        "requested_model": deployment.public_name,
    }


def _deployment_counters(plan: Plan, totals: Totals, shown: Sequence[Deployment]) -> Iterator[str]:
    known = {one.id: one for one in shown}
    for family in _DEPLOYMENT_FAMILIES:
        if not plan.shows(family.name):
            continue
        labels = _labels_of(plan, family.name, family.labels)
        sums: dict[tuple[str, ...], int] = {}
        for id, cell in totals.deployments.items():
            facts = _facts(id, known.get(id))
            for cause, count in family.read(cell).items():
                status, _, name = cause.partition(" ")
                facts |= {"exception_status": status, "exception_class": name}
                place = tuple(facts.get(label, "") for label in labels)
                sums[place] = sums.get(place, 0) + count
        samples = ((dict(zip(labels, place, strict=True)), count) for place, count in sums.items() if count)
        yield from lines(family.name, family.kind, family.doc, samples)


def _deployment_gauges(
    plan: Plan, totals: Totals, shown: Sequence[Deployment], cooling_down: Collection[str]
) -> Iterator[str]:
    if plan.shows("litellm_deployment_state"):
        states: list[Sample] = [
            (_picked(plan, "litellm_deployment_state", _STATE_LABELS, one), _state(totals, one.id, cooling_down))
            for one in shown
        ]
        yield from lines("litellm_deployment_state", "gauge", "0 healthy, 1 failed last, 2 rests", states)
    for unit in ("tpm", "rpm"):
        name = f"litellm_deployment_{unit}_limit"
        if plan.shows(name):
            limits = [(_picked(plan, name, ("model_id",), one), getattr(one, unit)) for one in shown]
            doc = f"Configured {unit} of a deployment"
            yield from lines(name, "gauge", doc, ((labels, limit) for labels, limit in limits if limit is not None))


def _remaining(plan: Plan, totals: Totals, shown: Sequence[Deployment], now: float) -> Iterator[str]:
    """What providers said of their own limits, as long as it can still be true."""
    cells = [(one, totals.deployments.get(one.id)) for one in shown]
    fresh = [(one, cell) for one, cell in cells if cell is not None and now - cell.remaining_at < _STALE_SECONDS]
    for unit in ("requests", "tokens"):
        name = f"litellm_remaining_{unit}_metric"
        if plan.shows(name):
            left = [(one, getattr(cell, f"remaining_{unit}")) for one, cell in fresh]
            samples = ((_picked(plan, name, ("model_id",), one), count) for one, count in left if count >= 0)
            yield from lines(name, "gauge", f"The provider's own limit: {unit} left, as it said last", samples)


def _picked(plan: Plan, name: str, own: tuple[str, ...], deployment: Deployment) -> dict[str, str]:
    facts = _facts(deployment.id, deployment)
    return {label: facts.get(label, "") for label in _labels_of(plan, name, own)}


def _state(totals: Totals, id: str, cooling_down: Collection[str]) -> int:
    if id in cooling_down:
        return _OUTAGE
    cell = totals.deployments.get(id)
    return _PARTIAL if cell is not None and cell.failed_at > cell.succeeded_at else _HEALTHY


def _fallbacks(plan: Plan, totals: Totals) -> Iterator[str]:
    for name, doc, is_failure in (
        ("litellm_deployment_successful_fallbacks", "Calls that another group answered", False),
        ("litellm_deployment_failed_fallbacks", "Calls that no other group could answer either", True),
    ):
        if not plan.shows(name):
            continue
        samples: list[Sample] = [
            ({"requested_model": requested, "fallback_model": fallback, "exception_class": error}, count)
            for (requested, fallback, error), count in totals.fallbacks.items()
            if bool(error) is is_failure
        ]
        yield from lines(name, "counter", doc, samples)


def _of_instance(plan: Plan, totals: Totals) -> Iterator[str]:
    for name, doc in _GAUGES.items():
        if plan.shows(name) and name in totals.gauges:
            yield from lines(name, "gauge", doc, [({}, totals.gauges[name])])
    if plan.shows("litellm_callback_logging_failures_metric"):
        failures: list[Sample] = [({"callback_name": name}, n) for name, n in totals.callback_failures.items()]
        doc = "Messages that a receiver of logs or alerts could not be given"
        yield from lines("litellm_callback_logging_failures_metric", "counter", doc, failures)
    if plan.shows("quarterdeck_metrics_folded"):
        doc = "Times that too many label values became `other`"
        yield from lines("quarterdeck_metrics_folded", "counter", doc, [({}, totals.folded)])


def _budgets(plan: Plan, kind: str, totals: Totals, now: float) -> Iterator[str]:
    """Those nearest to their ceiling, since that is what somebody has to act on."""
    word, labels = _HOLDERS[kind]
    facts = [(id, fact) for (holder, id), fact in totals.budgets.items() if holder == kind]
    facts.sort(key=lambda item: item[1].remaining / item[1].max_budget if item[1].max_budget else 0)
    if not plan.shows_every_budget:
        facts = facts[:_NEAREST]
    metrics: tuple[tuple[str, str, Callable[[BudgetFact], Any]], ...] = (
        (f"litellm_remaining_{word}_budget_metric", "USD left", lambda fact: fact.remaining),
        (f"litellm_{word}_max_budget_metric", "USD per period", lambda fact: fact.max_budget),
        (
            f"litellm_{word}_budget_remaining_hours_metric",
            "Hours until a budget starts anew",
            lambda fact: round(max(0.0, fact.resets_at - now) / 3600, 2) if fact.resets_at else None,
        ),
    )
    for name, doc, read in metrics:
        if not plan.shows(name):
            continue
        names = _labels_of(plan, name, labels)
        samples: list[Sample] = []
        for id, fact in facts:
            value = read(fact)
            if value is not None:
                known = dict(zip(labels, (id, fact.alias), strict=False))
                samples.append(({label: known.get(label, "") for label in names}, value))
        yield from lines(name, "gauge", doc, samples)
