"""Reports of spend by schedule: what they say, and who is fields."""

from __future__ import annotations

import asyncio
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from app import create_app
from app.llm.observers import Observers
from app.models import ConfigEntry
from app.observability.alerts import Alert
from app.observability.notifications import Notifications
from app.observability.spend_reports import alert_of, report_forever
from app.spend.budget import Budgets
from app.spend.counters import MemoryCounters
from app.spend.periodic_report import SpendReport
from app.storage.database import Database
from app.tasks import ended
from tests.observability.calls import settings
from tests.observability.receivers import HttpReceiver

# fixed dates: reports are told of, or asked for with their day, or long due
WEEK = SpendReport(
    first=date(2026, 11, 1),
    last=date(2026, 11, 7),
    total=Decimal("12.3456"),
    requests=42,
    models=(("chat", Decimal(10)), ("embedding", Decimal("2.3456"))),
    teams=(("research", Decimal(3)),),
)


class Source:
    """Answers with these, in turn; an exception is raised."""

    def __init__(self, *answers: SpendReport | Exception | None) -> None:
        self.answers = list(answers)
        self.checks: list[tuple[int, date]] = []

    async def due(self, days: int, today: date) -> SpendReport | None:
        self.checks.append((days, today))
        answer = self.answers.pop(0) if self.answers else None
        if isinstance(answer, Exception):
            raise answer
        return answer


def test_a_report_is_a_sentence_and_json() -> None:
    alert = alert_of(WEEK)
    assert alert.message == (
        "Spend of 2026-11-01 to 2026-11-07 (UTC): $12.35 for 42 calls; models: chat $10.00, embedding $2.35; "
        "teams: research $3.00"
    )
    assert alert.fields == {
        "event": "spend_reports",
        "event_group": "proxy",
        "event_message": alert.message,
        "start_date": "2026-11-01",
        "end_date": "2026-11-07",
        "spend": 12.3456,
        "requests": 42,
        "models": [{"model": "chat", "spend": 10.0}, {"model": "embedding", "spend": 2.3456}],
        "teams": [{"team": "research", "spend": 3.0}],
    }


async def test_what_fails_is_looked_at_again() -> None:
    sent: list[Alert] = []
    source = Source(OSError("away"), ValueError("a bug"), None, WEEK)
    with capture_logs() as logs:
        task = asyncio.create_task(
            report_forever(source, 7, sent.append, today=lambda: date(2026, 11, 8), interval=0.001)
        )
        while not sent:
            await asyncio.sleep(0.001)
        await ended(task)
    assert source.checks[:4] == [(7, date(2026, 11, 8))] * 4
    assert [alert.type for alert in sent] == ["spend_reports"]
    assert [line["log_level"] for line in logs] == ["warning", "error"]


@pytest.mark.parametrize(
    "fields",
    [
        {"spend_report_days": None},
        {"alert_types": ("budget_alerts",)},
        {"alerting": ()},
    ],
    ids=str,
)
async def test_nobody_looks_where_no_report_is_wanted(fields: dict[str, Any]) -> None:
    source = Source(WEEK)
    usual = {"alerting": ("webhook",), "webhook_url": "http://127.0.0.1:9", "spend_report_days": 7}
    notifications = Notifications(settings(**{**usual, **fields}), Observers(), Budgets(MemoryCounters()), source)
    await notifications.start()
    await asyncio.sleep(0)
    await notifications.stop()
    assert source.checks == []
    assert "spend_reports" not in notifications.alert_types


async def test_a_report_goes_where_alerts_go() -> None:
    async with HttpReceiver() as receiver:
        fields = settings(alerting=("webhook",), webhook_url=receiver.url, spend_report_days=7)
        notifications = Notifications(fields, Observers(), Budgets(MemoryCounters()), Source(WEEK))
        await notifications.start()
        assert "spend_reports" in notifications.alert_types
        await receiver.wait_for(1)
        await notifications.stop()
    assert receiver.posts[0].json["spend"] == 12.3456


async def test_an_instance_reports_when_it_starts_and_a_report_is_due(migrated_sqlite_url: str, tmp_path: Path) -> None:
    async with HttpReceiver() as receiver:
        fields = settings(
            database_url=migrated_sqlite_url,
            state_dir=tmp_path / "state",
            alerting=("webhook",),
            webhook_url=receiver.url,
            spend_report_days=1,
        )
        database = Database(fields)
        await database.open()
        with database.active():
            await ConfigEntry.create(param_name="spend_report", param_value={"told_until": "2026-01-01"})
        await database.close()
        for _ in range(2):
            async with create_app(fields).test_app():
                await receiver.wait_for(1)
        (post,) = receiver.posts
    assert (post.json["event"], post.json["spend"]) == ("spend_reports", 0.0)
