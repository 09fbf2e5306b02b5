"""What is old goes, in bounded batches; what is young stays, and so do the totals of days."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from app.models import AuditLog, DailySpend, SpendLog
from app.models.retention import delete_audit_before, delete_spend_logs_before
from app.settings import Settings
from app.storage.database import Database

NOW = datetime.now(UTC)


@pytest.fixture
async def database(database_url: str, tmp_path: Path) -> AsyncIterator[Database]:
    opened = Database(Settings(database_url=database_url, state_dir=tmp_path))
    await opened.open()
    with opened.active():
        yield opened
    await opened.close()


async def _calls(number: int, days_ago: int) -> None:
    start = NOW - timedelta(days=days_ago)
    rows = [
        SpendLog(request_id=f"{days_ago}-{index}", call_type="acompletion", start_time=start, end_time=start)
        for index in range(number)
    ]
    await SpendLog.bulk_create(rows)


async def test_old_calls_go_and_young_ones_stay(database: Database) -> None:
    await _calls(7, days_ago=31)
    await _calls(3, days_ago=1)
    await DailySpend.create(date="2020-01-01")  # fixed date: so old that it would go if days went
    assert await delete_spend_logs_before(NOW - timedelta(days=30), batch=2) == 7
    assert await SpendLog.all().count() == 3
    assert await DailySpend.all().count() == 1
    assert await delete_spend_logs_before(NOW - timedelta(days=30), batch=2) == 0


async def test_a_run_ends_after_its_batches_with_the_oldest_gone(database: Database) -> None:
    await _calls(4, days_ago=31)
    await _calls(4, days_ago=40)
    assert await delete_spend_logs_before(NOW, batch=2, max_batches=2) == 4
    remaining = await SpendLog.all().values_list("request_id", flat=True)
    assert {str(id).partition("-")[0] for id in remaining} == {"31"}


async def test_old_changes_go_the_same_way(database: Database) -> None:
    for number in range(5):
        await AuditLog.create(id=f"a{number}", action="updated", table_name="t", object_id="o")
    await AuditLog.filter(id__in=["a0", "a1", "a2"]).update(updated_at=NOW - timedelta(days=400))
    assert await delete_audit_before(NOW - timedelta(days=365), batch=2) == 3
    assert await AuditLog.all().count() == 2
