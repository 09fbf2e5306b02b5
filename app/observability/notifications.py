"""The watch of one instance: who is told, from start to stop. Without callbacks and alerts it observes nothing."""

from __future__ import annotations

import asyncio
import time
import uuid
from decimal import Decimal
from typing import Any

import httpx
import structlog

from ..llm.observers import Observers
from ..settings import Settings
from ..spend.budget import Budgets
from ..spend.scopes import BudgetScope
from ..tasks import ended
from .alert_channels import DESTINATIONS, destination
from .alerts import ALERT_TYPES, REPORT, TEST, Alert, AlertObserver
from .callback_targets import ELSEWHERE, Target, configured_targets
from .callbacks import CallbackObserver, body_of, encoded
from .delivery_queue import DeliveryQueue, Undelivered
from .http_post import open_client, post_json
from .spend_reports import SpendSource, report_forever

log = structlog.get_logger(__name__)


class Notifications:
    """Registers its observers with `observers` and `budgets` while there is somebody to tell."""

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
        self._alert_boxes: dict[str, DeliveryQueue[Alert]] = {}
        self._http: httpx.AsyncClient | None = None
        self._ending: set[asyncio.Task[None]] = set()

    # ---- life ------------------------------------------------------------------------------------------------------

    async def start(self) -> None:
        settings = self._settings
        plan = configured_targets(settings)
        if plan.unknown:
            log.warning("callbacks without effect: nobody knows these names", callbacks=list(plan.unknown))
        if plan.incomplete:
            log.warning("callbacks without effect: address or keys are missing", callbacks=list(plan.incomplete))
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
                log.warning("alerts cannot go there: it is unknown, or its address is not set", alerting=name)
                continue
            self._alert_boxes[name] = DeliveryQueue[Alert](f"alerts by {name}", deliver, batch=20, most_items=1000)
            self._alert_boxes[name].start()
        unknown = [name for name in settings.alert_types or () if name not in ALERT_TYPES]
        if unknown and self._alert_boxes:
            log.warning("alert types without effect", alert_types=unknown)
        if self._alert_boxes:
            self._alerts = AlertObserver(settings, self._put_alert)
            self._observers.join(self._alerts)
            self._budgets.listener = self._look_at_budget
        if self._reports is not None and REPORT in self.alert_types:
            reporting = report_forever(self._reports, settings.spend_report_days or 1, self._put_alert)
            self._reporting = asyncio.create_task(reporting, name="reports of spend")

    def _look_at_budget(self, scope: BudgetScope, spend: Decimal, is_refused: bool) -> None:
        if self._alerts is None:
            return
        try:
            self._alerts.budget_looked_at(scope, spend, is_refused)
        except Exception as problem:  # noqa: BLE001 - a bug of ours must not fail the call
            log.error("a budget could not be looked at", reason=type(problem).__name__)

    def _put_alert(self, alert: Alert) -> None:
        for outbox in self._alert_boxes.values():
            outbox.put(alert)

    async def stop(self) -> None:
        """End within about two seconds; what waits is sent in that time."""
        await self._stop_part()
        if self._ending:
            await asyncio.wait(self._ending, timeout=2.0)

    async def _stop_part(self) -> None:
        callbacks, alerts, boxes, http = self._callbacks, self._alerts, self._alert_boxes, self._http
        self._callbacks, self._alerts, self._alert_boxes, self._http = None, None, {}, None
        reporting, self._reporting = self._reporting, None
        if callbacks is not None:
            self._observers.leave(callbacks)
        if alerts is not None:
            self._observers.leave(alerts)
            self._budgets.listener = None
        parts = [outbox.stop() for outbox in boxes.values()]
        parts += [ended(reporting)] if reporting is not None else []
        await asyncio.gather(*parts, *([callbacks.stop()] if callbacks is not None else []))
        if http is not None:
            await http.aclose()

    async def reconfigure(self, settings: Settings) -> None:
        """Take settings that changed while running. What waits is still sent to whom it was meant for."""
        if not self._differs(settings):
            self._settings = settings
            return
        old = asyncio.create_task(self._stop_part(), name="end of an earlier watch")
        await asyncio.sleep(0)  # by then it has let go of everything
        self._ending.add(old)
        old.add_done_callback(self._ending.discard)
        self._settings = settings
        await self.start()

    def _differs(self, settings: Settings) -> bool:
        return any(getattr(settings, name) != getattr(self._settings, name) for name in WATCH_SETTINGS)

    # ---- what admins ask -------------------------------------------------------------------------------------------

    @property
    def callback_names(self) -> dict[str, list[str]]:
        """The contract's occasion (`success`, `failure`, `success_and_failure`) -> who is told then."""
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
        return list(self._alert_boxes)

    @property
    def alert_types(self) -> list[str]:
        """The alerts that are sent; none without somebody to send them to."""
        wanted = self._settings.alert_types
        has_reports = self._settings.spend_report_days is not None
        known = [name for name in ALERT_TYPES if has_reports or name != REPORT]
        return [name for name in known if wanted is None or name in wanted] if self._alert_boxes else []

    @property
    def queues(self) -> dict[str, tuple[int, int]]:
        """Receiver -> (waiting, dropped since the start), for metrics."""
        boxes: list[DeliveryQueue[Any]] = [
            *self._alert_boxes.values(),
            *(self._callbacks.outboxes if self._callbacks else ()),
        ]
        return {outbox.name: (len(outbox), outbox.dropped) for outbox in boxes}

    @property
    def receivers(self) -> tuple[str, ...]:
        """Everybody who can be told something, by name."""
        targets = configured_targets(self._settings).targets
        return (*DESTINATIONS, *(target.name for target in targets))

    async def test(self, name: str) -> str | None:
        """Send a message to one receiver: None when it arrived, "" for one that is not configured, else the reason."""
        http = self._client()
        deliver = destination(name, self._settings, http)
        target = next((one for one in configured_targets(self._settings).targets if one.name == name), None)
        try:
            if deliver is not None:
                await deliver([_test_alert()])
            elif target is not None:
                body = body_of(target, [encoded(target, _test_event(target))])
                await post_json(http, target.url, body, target.headers)
            else:
                return ""
        except Undelivered as problem:
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
    rest = {"call_type": "test", "status": "success", "stream": False, "cache_hit": False, "request_tags": []}
    caller = {"metadata": {"callback": target.name}, "model_parameters": {}, "requester_ip_address": None}
    return {**ids, **rest, **counts, **times, **names, **caller, **texts}


# The settings whose change makes a new watch.
WATCH_SETTINGS = frozenset(
    "callbacks success_callback failure_callback callback_settings turn_off_message_logging redact_user_api_key_info "
    "langfuse_host langfuse_public_key langfuse_secret_key generic_logger_endpoint generic_logger_headers "
    "callback_hosts alerting alerting_threshold alert_types alert_to_webhook_url alerting_args slack_webhook_url "
    "webhook_url smtp_host smtp_port smtp_username smtp_password smtp_sender_email smtp_tls alert_emails "
    "spend_report_days".split()
)
