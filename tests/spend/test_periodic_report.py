"""Reports of spend: whole days, each once, by one process of all."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import date
from decimal import Decimal
from pathlib import Path

import pytest

from app.models import ConfigEntry, DailyEntitySpend, Team
from app.settings import Settings
from app.spend.periodic_report import SpendReports
from app.storage.database import Database
from tests.conftest import MASTER_KEY

# fixed dates: every report here is asked for with its day
START = date(2026, 11, 1)


@pytest.fixture
async def database(database_url: str, tmp_path: Path) -> AsyncIterator[Database]:
    opened = Database(Settings(master_key=MASTER_KEY, database_url=database_url, state_dir=tmp_path))
    await opened.open()
    yield opened
    await opened.close()


async def spent(
    database: Database, day: int, usd: str, *, kind: str = "all", entity: str = "", model: str = "m"
) -> None:
    with database.active():
        await DailyEntitySpend.create(
            kind=kind,
            entity_id=entity,
            date=f"2026-11-{day:02}",
            model=model,
            spend=Decimal(usd),
            api_requests=2,
        )


async def test_the_first_question_starts_the_count(database: Database) -> None:
    reports = SpendReports(database)
    await spent(database, 1, "5")
    assert await reports.due(7, START) is None
    for day in range(2, 8):
        assert await reports.due(7, date(2026, 11, day)) is None
    report = await reports.due(7, date(2026, 11, 8))
    assert report is not None
    assert (report.first, report.last, report.total) == (START, date(2026, 11, 7), Decimal(5))
    assert await reports.due(7, date(2026, 11, 8)) is None


async def test_a_report_sums_whole_days_exactly_and_names_the_largest(database: Database) -> None:
    reports = SpendReports(database)
    await reports.due(1, date(2026, 11, 3))
    with database.active():
        await Team.create(team_id="t1", team_alias="research")
    await spent(database, 2, "100", model="before")
    await spent(database, 3, "0.1", model="small")
    await spent(database, 3, "0.2", model="large")
    await spent(database, 3, "0.000000001", model="")
    await spent(database, 4, "100", model="today")
    await spent(database, 3, "0.15", kind="team", entity="t1")
    await spent(database, 3, "0.05", kind="team", entity="t2")
    await spent(database, 3, "0.2", kind="team")
    report = await reports.due(1, date(2026, 11, 4))
    assert report is not None
    assert (report.first, report.last) == (date(2026, 11, 3), date(2026, 11, 3))
    assert (report.total, report.requests) == (Decimal("0.300000001"), 6)
    assert report.models == (("large", Decimal("0.2")), ("small", Decimal("0.1")))
    assert report.teams == (("research", Decimal("0.15")), ("t2", Decimal("0.05")))


async def test_after_an_outage_no_day_is_left_out(database: Database) -> None:
    reports = SpendReports(database)
    await reports.due(1, START)
    report = await reports.due(1, date(2026, 11, 20))
    assert report is not None
    assert (report.first, report.last, report.total, report.models) == (START, date(2026, 11, 19), Decimal(0), ())


async def test_of_many_processes_one_has_the_report(database: Database) -> None:
    everybody = [SpendReports(database) for _ in range(5)]
    assert await asyncio.gather(*(one.due(1, START) for one in everybody)) == [None] * 5
    found = await asyncio.gather(*(one.due(1, date(2026, 11, 2)) for one in everybody))
    assert sum(report is not None for report in found) == 1


async def test_a_row_that_says_nothing_starts_the_count_anew(database: Database) -> None:
    with database.active():
        await ConfigEntry.create(param_name="spend_report", param_value={"told_until": "soon"})
    assert await SpendReports(database).due(1, START) is None
    with database.active():
        await ConfigEntry.filter(param_name="spend_report").update(param_value={"told_until": "2026-10-30"})
    assert await SpendReports(database).due(1, START) is not None
