"""The callbacks and alerts of one instance, from start to stop. Without any it observes nothing."""

from __future__ import annotations

import asyncio
import time
import uuid
from dataclasses import fields
from decimal import Decimal
from typing import Any

import httpx
import structlog

from ..llm.observers import Observers
from ..settings import Settings
from ..settings.callbacks import CallbackSettings
from ..spend.budget import Budgets
from ..spend.scopes import BudgetScope
from ..tasks import ended
from .alert_channels import DESTINATIONS, destination
from .alerts import ALERT_TYPES, REPORT, TEST, Alert, AlertObserver
from .callback_targets import ELSEWHERE, Target, configured_targets
from .callbacks import CallbackObserver, body_of, encoded
from .delivery_queue import DeliveryFailed, DeliveryQueue
from .http_post import open_client, post_json
from .spend_reports import SpendSource, report_forever

log = structlog.get_logger(__name__)


class Notifications:
    """Registers its observers with `observers` and `budgets` while there is a receiver."""

    def __init__(
        self, settings: Settings, observers: Observers, budgets: Budgets, reports: SpendSource | None = None
    ) -> None:
        self._settings = settings
        self._reports = reports
        self._reporting: asyncio.Task[None] | None = None
        self._observers = observers
        self._budgets = budgets
        self._callbacks: CallbackObserver | None = None
        self._alerts: AlertObserver | None = None
        self._alert_queues: dict[str, DeliveryQueue[Alert]] = {}
        self._http: httpx.AsyncClient | None = None
        self._ending: set[asyncio.Task[None]] = set()

    # ---- life ------------------------------------------------------------------------------------------------------

    async def start(self) -> None:
        settings = self._settings
        plan = configured_targets(settings)
        if plan.unknown:
            log.warning("unknown callbacks ignored", callbacks=list(plan.unknown))
        if plan.incomplete:
            log.warning("incomplete callbacks ignored", callbacks=list(plan.incomplete))
        if plan.targets or settings.callback_origins:
            self._callbacks = CallbackObserver(settings, plan.targets, self._client())
            self._callbacks.start()
            self._observers.join(self._callbacks)
        self._start_alerts()

    def _client(self) -> httpx.AsyncClient:
        """Opened when it is needed: it takes time and memory."""
        if self._http is None:
            self._http = open_client()
        return self._http

    def _start_alerts(self) -> None:
        settings = self._settings
        for name in settings.alerting:
            deliver = destination(name, settings, self._client())
            if deliver is None:
                log.warning("alert channel ignored", alerting=name)
                continue
            self._alert_queues[name] = DeliveryQueue[Alert](f"alerts by {name}", deliver, batch=20, max_items=1000)
            self._alert_queues[name].start()
        unknown = [name for name in settings.alert_types or () if name not in ALERT_TYPES]
        if unknown and self._alert_queues:
            log.warning("unknown alert types ignored", alert_types=unknown)
        if self._alert_queues:
            self._alerts = AlertObserver(settings, self._put_alert)
            self._observers.join(self._alerts)
            self._budgets.listener = self._check_budget
        if self._reports is not None and REPORT in self.alert_types:
            reporting = report_forever(self._reports, settings.spend_report_days or 1, self._put_alert)
            self._reporting = asyncio.create_task(reporting, name="reports of spend")

    def _check_budget(self, scope: BudgetScope, spend: Decimal, is_refused: bool) -> None:
        if self._alerts is None:
            return
        try:
            self._alerts.budget_checked(scope, spend, is_refused)
        except Exception as problem:  # noqa: BLE001 - a bug of ours must not fail the call
            log.error("budget alert failed", reason=type(problem).__name__)

    def _put_alert(self, alert: Alert) -> None:
        for queue in self._alert_queues.values():
            queue.put(alert)

    async def stop(self) -> None:
        """End within about two seconds; what is queued is sent in that time."""
        await self._stop_current()
        if self._ending:
            await asyncio.wait(self._ending, timeout=2.0)

    async def _stop_current(self) -> None:
        callbacks, alerts, queues, http = self._callbacks, self._alerts, self._alert_queues, self._http
        self._callbacks, self._alerts, self._alert_queues, self._http = None, None, {}, None
        reporting, self._reporting = self._reporting, None
        if callbacks is not None:
            self._observers.leave(callbacks)
        if alerts is not None:
            self._observers.leave(alerts)
            self._budgets.listener = None
        parts = [queue.stop() for queue in queues.values()]
        parts += [ended(reporting)] if reporting is not None else []
        await asyncio.gather(*parts, *([callbacks.stop()] if callbacks is not None else []))
        if http is not None:
            await http.aclose()

    async def reconfigure(self, settings: Settings) -> None:
        """Take settings that changed while running. What is queued is still sent to the receivers of before."""
        if not self._differs(settings):
            self._settings = settings
            return
        old = asyncio.create_task(self._stop_current(), name="stop of earlier notifications")
        await asyncio.sleep(0)  # by then it has detached from everything
        self._ending.add(old)
        old.add_done_callback(self._ending.discard)
        self._settings = settings
        await self.start()

    def _differs(self, settings: Settings) -> bool:
        return any(getattr(settings, name) != getattr(self._settings, name) for name in NOTIFICATION_SETTINGS)

    # ---- for admins -------------------------------------------------------------------------------------------------

    @property
    def callback_names(self) -> dict[str, list[str]]:
        """`success`, `failure` or `success_and_failure` -> the callbacks that run then."""
        if self._callbacks is None:
            return {"success": [], "failure": [], "success_and_failure": []}
        return self._callbacks.names

    @property
    def all_callback_names(self) -> list[str]:
        """Each callback that runs, once."""
        return list(dict.fromkeys(name for names in self.callback_names.values() for name in names))

    @property
    def effective_names(self) -> frozenset[str]:
        """The names that do something: here, or in another part of the product."""
        return ELSEWHERE.union(self.all_callback_names)

    @property
    def alert_names(self) -> list[str]:
        return list(self._alert_queues)

    @property
    def alert_types(self) -> list[str]:
        """The alerts that are sent; none without somebody to send them to."""
        wanted = self._settings.alert_types
        has_reports = self._settings.spend_report_days is not None
        known = [name for name in ALERT_TYPES if has_reports or name != REPORT]
        return [name for name in known if wanted is None or name in wanted] if self._alert_queues else []

    @property
    def queues(self) -> dict[str, tuple[int, int]]:
        """Receiver -> (waiting, dropped since the start), for metrics."""
        queues: list[DeliveryQueue[Any]] = [
            *self._alert_queues.values(),
            *(self._callbacks.queues if self._callbacks else ()),
        ]
        return {queue.name: (len(queue), queue.dropped) for queue in queues}

    @property
    def receivers(self) -> tuple[str, ...]:
        """Every channel and callback that can be tested, by name."""
        targets = configured_targets(self._settings).targets
        return (*DESTINATIONS, *(target.name for target in targets))

    async def test(self, name: str) -> str | None:
        """Send a message to one receiver: None when it arrived, "" for one that is not configured, else the reason."""
        http = self._client()
        deliver = destination(name, self._settings, http)
        target = next((target for target in configured_targets(self._settings).targets if target.name == name), None)
        try:
            if deliver is not None:
                await deliver([_test_alert()])
            elif target is not None:
                body = body_of(target, [encoded(target, _test_event(target))])
                await post_json(http, target.url, body, target.headers)
            else:
                return ""
        except DeliveryFailed as problem:
            return str(problem)
        return None


def _test_alert() -> Alert:
    message = "This is a test. Alerts of this instance arrive here."
    return Alert(TEST, message, {"event": TEST, "event_group": "proxy", "event_message": message})


def _test_event(target: Target) -> dict[str, Any]:
    """An event of a call that never was: free, and named as a test."""
    now, name = time.time(), str(uuid.uuid4())
    texts: dict[str, Any] = {"messages": "test", "response": "test", "error_str": None, "error_information": None}
    ids = {"id": name, "trace_id": name, "litellm_call_id": name, "model_id": "", "api_base": "", "cache_key": None}
    counts = {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0, "response_cost": 0.0}
    times = {"startTime": now, "endTime": now, "completionStartTime": now, "response_time": 0.0}
    names = {"model": "quarterdeck-test", "model_group": "quarterdeck-test", "custom_llm_provider": "", "end_user": ""}
    flags = {"call_type": "test", "status": "success", "stream": False, "cache_hit": False, "request_tags": []}
    caller = {"metadata": {"callback": target.name}, "model_parameters": {}, "requester_ip_address": None}
    return {**ids, **flags, **counts, **times, **names, **caller, **texts}


# The settings whose change starts the notifications anew.
NOTIFICATION_SETTINGS = frozenset(item.name for item in fields(CallbackSettings))
