"""Alerts: budgets that are nearly or wholly used up, failing or slow upstreams. At most one an hour per subject."""

from __future__ import annotations

import time
from collections import OrderedDict, deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from ..deployments.deployment import Deployment
from ..llm.observers import EndedCall, Observer
from ..settings import Settings
from ..spend.scopes import BudgetScope, team_and_user

BUDGET, SLOW, FAILING = "budget_alerts", "llm_too_slow", "llm_exceptions"
COOLDOWN, OUTAGE = "cooldown_deployment", "outage_alerts"
# By schedule: spend_reports.py.
REPORT = "spend_reports"
# What an admin asks for; goes to every receiver.
TEST = "test"
ALERT_TYPES = (BUDGET, SLOW, FAILING, COOLDOWN, OUTAGE, REPORT)

_MAX_SUBJECTS = 10_000
_MAX_COUNTED = 1000
_REPEAT_SECONDS = 3600.0
_MINUTE = 60.0
# This many failures within a minute are an outage of a deployment, or trouble of a model.
_BURST = 10
_WORST_STATUSES = frozenset({408, 429})
_GROUPS = {"end_user": "customer", "global": "proxy", "member": "team_member"}


@dataclass(frozen=True, slots=True)
class Alert:
    """One message. `fields` is the JSON of a webhook: event, event_group, event_message, and what it is about."""

    type: str
    message: str
    fields: Mapping[str, Any] = field(default_factory=dict)


class AlertObserver(Observer):
    """Observes calls and budgets and hands alerts to `send`, which must not wait. `clock` counts seconds."""

    def __init__(
        self, settings: Settings, send: Callable[[Alert], None], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._settings = settings
        self._send = send
        self._clock = clock
        self._types = frozenset(settings.alert_types if settings.alert_types is not None else ALERT_TYPES)
        self._alerted_at: OrderedDict[tuple[str, str], float] = OrderedDict()
        self._failures: OrderedDict[tuple[str, str], deque[float]] = OrderedDict()

    # ---- observed --------------------------------------------------------------------------------------------------

    def call_ended(self, ended: EndedCall) -> None:
        if ended.upstream_seconds > self._settings.alerting_threshold:
            self._slow(ended)
        for attempt in ended.failed:
            if _is_upstream_failure(attempt.status) and self._is_burst(OUTAGE, attempt.deployment.id):
                self._outage(attempt.deployment, attempt.status)
        if not ended.is_success and _is_upstream_failure(ended.status) and self._is_burst(FAILING, ended.model):
            self._failing(ended)

    def deployment_cooled(self, deployment: Deployment, status: int, seconds: float) -> None:
        reason = f" after status {status}" if status else ""
        self._alert(
            COOLDOWN,
            deployment.id,
            f"{_description_of(deployment)} is cooling down for {seconds:g} s{reason}",
            _ids_of(deployment),
        )

    def budget_checked(self, scope: BudgetScope, spend: Decimal, is_refused: bool) -> None:
        """The budget of a caller: what was spent of it, and whether a call was refused for it."""
        ceiling, soft = scope.max_budget, scope.soft_budget
        if ceiling is not None and (is_refused or spend >= ceiling):
            self._budget(scope, spend, "budget_crossed", f"Budget of ${_usd_text(ceiling)} is used up")
        elif ceiling is not None and spend * 5 >= ceiling * 4:
            self._budget(scope, spend, "threshold_crossed", f"80 % of the budget of ${_usd_text(ceiling)} are used")
        if soft is not None and spend >= soft:
            self._budget(scope, spend, "soft_budget_crossed", f"Soft budget of ${_usd_text(soft)} is reached")

    # ---- the alerts ------------------------------------------------------------------------------------------------

    def _slow(self, ended: EndedCall) -> None:
        deployment = ended.deployment
        subject = deployment.id if deployment is not None else ended.model
        description = _description_of(deployment) if deployment is not None else ended.model
        message = (
            f"{description} took {ended.upstream_seconds:.1f} s, more than {self._settings.alerting_threshold:g} s"
        )
        self._alert(SLOW, subject, message, {"model_group": ended.model, "seconds": round(ended.upstream_seconds, 1)})

    def _outage(self, deployment: Deployment, status: int) -> None:
        message = f"{_description_of(deployment)} failed {_BURST} times within a minute, last with status {status}"
        self._alert(OUTAGE, deployment.id, message, _ids_of(deployment))

    def _failing(self, ended: EndedCall) -> None:
        message = (
            f"{_BURST} calls of {ended.model[:200]} failed within a minute, "
            f"last with {ended.status} {ended.error_class}"
        )
        self._alert(FAILING, ended.model, message, {"model_group": ended.model, "status": ended.status})

    def _budget(self, scope: BudgetScope, spend: Decimal, event: str, description: str) -> None:
        window = f" per {scope.period}" if scope.period else ""
        model = f" for {scope.model}" if scope.model else ""
        message = f"{description}{window}{model}: {scope.label}, spend ${_usd_text(spend)}"
        fields = {
            "event": event,
            "event_group": _GROUPS.get(scope.kind, scope.kind),
            "spend": float(spend),
            "max_budget": float(scope.max_budget) if scope.max_budget is not None else None,
            "soft_budget": float(scope.soft_budget) if scope.soft_budget is not None else None,
            **_holder(scope),
        }
        self._alert(BUDGET, f"{event} {scope.counter.name}", message, fields)

    # ---- at most once an hour --------------------------------------------------------------------------------------

    def _alert(self, type: str, subject: str, message: str, fields: Mapping[str, Any]) -> None:
        if type not in self._types:
            return
        now, alerted_at, key = self._clock(), self._alerted_at, (type, subject)
        if key in alerted_at and now - alerted_at[key] < self._repeat_seconds(type):
            return
        alerted_at[key] = now
        alerted_at.move_to_end(key)
        while len(alerted_at) > _MAX_SUBJECTS:
            alerted_at.popitem(last=False)
        self._send(Alert(type, message, {"event": type, "event_group": type, **fields, "event_message": message}))

    def _repeat_seconds(self, type: str) -> float:
        name = {BUDGET: "budget_alert_ttl", OUTAGE: "outage_alert_ttl"}.get(type)
        configured = (self._settings.alerting_args or {}).get(name) if name else None
        is_number = isinstance(configured, int | float) and not isinstance(configured, bool)
        return float(configured) if is_number and configured is not None and configured > 0 else _REPEAT_SECONDS

    def _is_burst(self, type: str, subject: str) -> bool:
        """Count a failure; whether it is the one that makes a burst of them within a minute."""
        if type not in self._types:
            return False
        now, counted, key = self._clock(), self._failures, (type, subject)
        moments = counted.get(key)
        if moments is None:
            moments = counted[key] = deque(maxlen=_BURST)
            while len(counted) > _MAX_COUNTED:
                counted.popitem(last=False)
        moments.append(now)
        return len(moments) == _BURST and now - moments[0] <= _MINUTE


def _is_upstream_failure(status: int) -> bool:
    return status >= 500 or status in _WORST_STATUSES


def _description_of(deployment: Deployment) -> str:
    name = f"{deployment.provider.name}/{deployment.upstream_model}"
    return f"Deployment {deployment.id[:80]} ({name[:200]}) of {deployment.public_name[:200]}"


def _ids_of(deployment: Deployment) -> dict[str, Any]:
    return {"model_group": deployment.public_name, "model_id": deployment.id}


def _holder(scope: BudgetScope) -> dict[str, Any]:
    """Whose budget it is, in the field's names; a key by its hash."""
    if scope.kind == "member":
        team_id, user_id = team_and_user(scope.id)
        return {"team_id": team_id, "user_id": user_id}
    names = {"key": "token", "user": "user_id", "team": "team_id", "end_user": "customer_id"}
    return {names.get(scope.kind, f"{scope.kind}_id"): scope.id}


def _usd_text(amount: Decimal) -> str:
    return format(amount.quantize(Decimal("0.0001")).normalize(), "f")
