"""Notifications of one instance: they observe only while there is a receiver, and follow the settings."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from decimal import Decimal
from typing import Any

from structlog.testing import capture_logs

from app.llm.observers import Observers
from app.observability.notifications import Notifications
from app.settings import Settings
from app.spend.budget import Budgets
from app.spend.counters import MemoryCounters
from app.spend.scopes import BudgetScope
from tests.observability.calls import deployment, ended_call, settings
from tests.observability.receivers import HttpReceiver

SCOPE = BudgetScope("key", "k1", "Key=alice", Decimal(10), Decimal(9))


class House:
    """Notifications with what they observe."""

    def __init__(self, configured: Settings) -> None:
        self.observers = Observers()
        self.budgets = Budgets(MemoryCounters())
        self.notifications = Notifications(configured, self.observers, self.budgets)


@asynccontextmanager
async def services_with(**fields: Any) -> AsyncIterator[House]:
    services = House(settings(**fields))
    await services.notifications.start()
    yield services
    await services.notifications.stop()


async def test_nobody_observes_where_nobody_is_told() -> None:
    async with services_with() as services:
        assert vars(services.observers) == {"_observers": (), "wants_answers": False}
        assert services.budgets.listener is None
        assert (
            services.notifications.callback_names["success"],
            services.notifications.alert_names,
            services.notifications.alert_types,
        ) == ([], [], [])


async def test_calls_go_to_callbacks_and_trouble_to_alerts() -> None:
    async with HttpReceiver() as receiver:
        places = {"generic_logger_endpoint": f"{receiver.url}/calls", "slack_webhook_url": f"{receiver.url}/slack"}
        async with services_with(callbacks=("generic_api",), alerting=("slack",), **places) as services:
            services.observers.call_ended(ended_call())
            services.observers.deployment_cooled(deployment(), 503, 5)
            await services.budgets.reserve([SCOPE])
            assert services.notifications.queues.keys() == {
                "alerts by slack",
                "generic_api",
                "callbacks of keys and teams",
            }
        posts = {post.path: post.json for post in receiver.posts}
    assert [event["id"] for event in posts["/calls"]] == ["call-1"]
    assert "is cooling down for 5 s after status 503" in posts["/slack"]["text"]
    assert "80 % of the budget of $10" in posts["/slack"]["text"]


async def test_what_nobody_answers_to_is_said_once_at_the_start() -> None:
    with capture_logs() as logs:
        async with services_with(
            callbacks=("datadog", "langfuse"), alerting=("slack", "fax"), alert_types=("spend_reports",)
        ):
            pass
    ignored = [(line["event"].partition(":")[0], line.get("callbacks") or line.get("alerting")) for line in logs]
    assert ignored == [
        ("unknown callbacks ignored", ["datadog"]),
        ("incomplete callbacks ignored", ["langfuse"]),
        ("alert channel ignored", "slack"),
        ("alert channel ignored", "fax"),
    ]


async def test_settings_that_change_make_a_new_watch_and_nothing_is_lost() -> None:
    async with HttpReceiver() as receiver, services_with() as services:
        await services.notifications.reconfigure(settings(callbacks=("webhook",), webhook_url=f"{receiver.url}/one"))
        services.observers.call_ended(ended_call(id="first"))
        assert services.notifications.callback_names["success_and_failure"] == ["webhook"]
        await services.notifications.reconfigure(settings(callbacks=("webhook",), webhook_url=f"{receiver.url}/two"))
        services.observers.call_ended(ended_call(id="second"))
        await services.notifications.reconfigure(settings())
        services.observers.call_ended(ended_call(id="third"))
        await receiver.wait_for(2)
        received = {post.path: [event["id"] for event in post.json] for post in receiver.posts}
    assert received == {"/one": ["first"], "/two": ["second"]}


async def test_settings_of_others_leave_it_alone() -> None:
    async with services_with(alerting=("webhook",), webhook_url="http://127.0.0.1:9") as services:
        before = services.budgets.listener
        await services.notifications.reconfigure(
            settings(alerting=("webhook",), webhook_url="http://127.0.0.1:9", num_retries=1)
        )
        assert services.budgets.listener == before
        assert services.notifications.alert_names == ["webhook"]


async def test_stopping_takes_two_seconds_at_most() -> None:
    async with HttpReceiver(delay=30) as receiver:
        services = House(settings(callbacks=("webhook",), alerting=("webhook",), webhook_url=receiver.url))
        await services.notifications.start()
        services.observers.call_ended(ended_call())
        services.observers.deployment_cooled(deployment(), 503, 5)
        begun = time.monotonic()
        await services.notifications.stop()
        assert time.monotonic() - begun < 3


async def test_receivers_can_be_tried_one_by_one() -> None:
    async with HttpReceiver() as receiver:
        keys = {"langfuse_public_key": "pk", "langfuse_secret_key": "sk", "langfuse_host": receiver.url}
        places = {"slack_webhook_url": f"{receiver.url}/slack", "webhook_url": f"{receiver.url}/hook"}
        async with services_with(callbacks=("langfuse",), **keys, **places) as services:
            assert [await services.notifications.test(name) for name in ("slack", "webhook", "langfuse")] == [None] * 3
            assert [await services.notifications.test(name) for name in ("email", "datadog")] == ["", ""]
            receiver.statuses = [500]
            assert await services.notifications.test("slack") == "status 500"
        paths = [post.path for post in receiver.posts]
    assert paths == ["/slack", "/hook", "/api/public/otel/v1/traces", "/slack"]


async def test_a_bug_in_an_alert_fails_no_call() -> None:
    async with services_with(alerting=("webhook",), webhook_url="http://127.0.0.1:9") as services:
        huge = BudgetScope("key", "k1", "Key", Decimal("1e40"), Decimal("1e40"))
        assert services.budgets.listener is not None
        with capture_logs() as logs:
            services.budgets.listener(huge, Decimal("1e40"), False)
    assert [line["event"] for line in logs] == ["budget alert failed"]
