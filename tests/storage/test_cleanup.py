"""The clean-up removes what nobody needs, keeps everything else, and does not stumble over a step that fails."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from structlog.testing import capture_logs

from app.models import (
    AuditLog,
    ConsoleSession,
    Counter,
    DeprecatedKey,
    GatewayProcess,
    HealthCheck,
    Invitation,
    LoginCode,
    RateBucket,
    RunningCalls,
    SpendLog,
    User,
    VirtualKey,
)
from app.models.virtual_key import SESSION_TEAM_ID
from app.settings import Settings
from app.spend.counters import BudgetCounter, Claim, Hold, Limit, Refusal
from app.spend.sql_counters import SqlCounters
from app.storage.cleanup import Cleanup, CleanupPlan
from app.storage.database import Database

NOW = datetime(2026, 11, 21, 20, 18, 30, tzinfo=UTC)  # fixed date: each round here is handed this as its time
MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    database = Database(Settings(master_key="sk-test-of-cleanups", database_url=database_url))
    await database.open()
    with database.active():
        yield database
    await database.close()


async def a_call(id: str, at: datetime) -> None:
    await SpendLog.create(request_id=id, call_type="acompletion", start_time=at, end_time=at)


async def test_an_empty_database_has_nothing_to_do(database: Database) -> None:
    assert await Cleanup(database).run_once() == {}


async def test_what_has_expired_goes_and_the_rest_stays(database: Database) -> None:
    async def two(table: Any, column: str, age: timedelta, name: str, **columns: Any) -> None:
        """One row that is old enough to go, and one that is not."""
        for word, moment in (("old", NOW - age - MINUTE), ("new", NOW - age + MINUTE)):
            row = {name: word, column: moment, **columns}
            await table.create(**row)
            await table.filter(**{name: word}).update(**{column: moment})  # over `auto_now_add`

    await two(LoginCode, "expires_at", timedelta(), "code_hash", payload="")
    await two(ConsoleSession, "expires_at", timedelta(), "session_hash", data="")
    await two(VirtualKey, "expires", HOUR, "token", team_id=SESSION_TEAM_ID)
    await two(DeprecatedKey, "revoke_at", DAY, "token", active_token="x")
    await two(Invitation, "expires_at", 30 * DAY, "id", user_id="alice")
    await two(HealthCheck, "checked_at", 30 * DAY, "health_check_id", model_name="m", status="healthy")
    await two(Counter, "touched_at", 2 * DAY, "name")
    for second in (NOW - 3 * MINUTE, NOW - MINUTE):
        await RateBucket.create(name="key", second=int(second.timestamp()))
    await VirtualKey.create(token="expired, and no session", expires=NOW - 90 * DAY)
    done = await Cleanup(database).run_once(NOW)
    tables = (LoginCode, ConsoleSession, VirtualKey, DeprecatedKey, Invitation, HealthCheck, Counter, RateBucket)
    assert done == {table._meta.db_table: 1 for table in tables}
    for table in tables[:-1]:
        assert "old" not in [row.pk async for row in table.all()]
    assert await VirtualKey.all().count() == 2
    assert await RateBucket.all().count() == 1


async def test_a_process_that_is_gone_gives_back_what_it_held(database: Database) -> None:
    for process, seen_at in (("gone", NOW - 2 * HOUR), ("alive", NOW - MINUTE)):
        await GatewayProcess.create(process_id=process, seen_at=seen_at)
        for name in ("key:a", "user:b"):
            await RunningCalls.create(name=name, process_id=process, held=Decimal(1), running=1)
    assert await Cleanup(database).run_once(NOW) == {"running_calls": 2, "gateway_process": 1}
    assert [row.process_id async for row in RunningCalls.all()] == ["alive", "alive"]


@pytest.mark.parametrize("ahead", [365 * DAY, -365 * DAY], ids=["ahead", "behind"])
async def test_a_wrong_clock_of_an_instance_takes_nothing_from_the_others(database: Database, ahead: timedelta) -> None:
    counters = SqlCounters(database)
    claim = Claim([BudgetCounter("key", Decimal(1))], [Limit("key", rpm=1)], amount=Decimal("0.5"))
    held = await counters.admit(claim)
    assert isinstance(held, Hold)
    await GatewayProcess.create(process_id="gone", seen_at=await database.now() - 2 * HOUR)
    cleanup = Cleanup(database, clock=lambda: datetime.now(UTC) + ahead)
    assert await cleanup.run_once() == {"gateway_process": 1}
    assert await Counter.all().count() == 2  # of the budget and of the limit
    refusal = await counters.admit(claim)
    assert isinstance(refusal, Refusal) and refusal.unit == "requests"
    counters.settle(held, Decimal("0.5"), 0)
    await counters.stop()
    assert (await Counter.get(name="key")).spend == Decimal("0.5")


async def test_periods_that_are_over_start_anew(database: Database) -> None:
    await User.create(user_id="alice", spend=Decimal(3), budget_duration="1d", budget_reset_at=NOW - HOUR)
    assert await Cleanup(database, CleanupPlan(resets_budgets=False)).run_once(NOW) == {}
    assert await Cleanup(database).run_once(NOW) == {"user_account": 1}
    assert (await User.get(user_id="alice")).spend == 0


async def test_logs_are_kept_for_as_long_as_the_plan_says(database: Database) -> None:
    for number in range(25):
        await a_call(f"old {number}", NOW - 8 * DAY)
    await a_call("new", NOW - DAY)
    for id, at in (("old", NOW - 91 * DAY), ("new", NOW)):
        await AuditLog.create(id=id, action="updated", table_name="t", object_id="o")
        await AuditLog.filter(id=id).update(updated_at=at)
    assert await Cleanup(database).run_once(NOW) == {}
    plan = CleanupPlan(spend_logs_retention=7 * DAY, audit_retention=90 * DAY, batch=10)
    assert await Cleanup(database, plan).run_once(NOW) == {"spend_log": 25, "audit_log": 1}
    assert [row.request_id async for row in SpendLog.all()] == ["new"]
    assert [row.id async for row in AuditLog.all()] == ["new"]


async def test_much_is_removed_in_batches_and_no_more_than_the_plan_allows(database: Database) -> None:
    await RateBucket.bulk_create([RateBucket(name="key", second=number) for number in range(25)])
    assert await Cleanup(database, CleanupPlan(batch=10, max_batches=2)).run_once(NOW) == {"rate_bucket": 20}
    assert await Cleanup(database, CleanupPlan(batch=10)).run_once(NOW) == {"rate_bucket": 5}


async def test_a_round_without_time_does_nothing(database: Database) -> None:
    await RateBucket.create(name="key", second=1)
    assert await Cleanup(database, CleanupPlan(run_seconds=0)).run_once(NOW) == {}


async def test_two_cleanups_at_once_remove_every_row_once(database: Database) -> None:
    await RateBucket.bulk_create([RateBucket(name="key", second=number) for number in range(200)])
    plan = CleanupPlan(batch=10)
    rounds = await asyncio.gather(*(Cleanup(database, plan).run_once(NOW) for _ in range(4)))
    rounds.append(await Cleanup(database, plan).run_once(NOW))
    assert sum(done.get("rate_bucket", 0) for done in rounds) == 200


async def test_a_key_that_is_due_for_rotation_is_named_once_and_keeps_its_secret(database: Database) -> None:
    columns = {"auto_rotate": True, "rotation_interval": "30d", "key_rotation_at": NOW - HOUR}
    await VirtualKey.create(token="a" * 64, key_alias="billing", **columns)  # type: ignore[arg-type]
    cleanup = Cleanup(database)
    with capture_logs() as logs:
        await cleanup.run_once(NOW)
        await cleanup.run_once(NOW)
    assert [(entry["count"], entry["keys"]) for entry in logs if "rotation" in entry["event"]] == [(1, ["billing"])]
    key = await VirtualKey.get(token="a" * 64)
    assert key.rotation_count == 0
    assert not await DeprecatedKey.exists()


async def test_a_step_that_fails_keeps_no_other_from_its_work(database: Database) -> None:
    await database.fetch("DROP TABLE counter")
    await database.fetch("DROP TABLE gateway_process")
    await LoginCode.create(code_hash="old", payload="", expires_at=NOW - DAY)
    with capture_logs() as logs:
        assert await Cleanup(database).run_once(NOW) == {"login_code": 1}
    assert {entry["step"] for entry in logs if entry["event"] == "cleanup delayed"} == {
        "processes that are gone",
        "short-lived rows",
    }


async def test_a_database_that_is_away_is_no_end_of_the_cleanup(free_port: int) -> None:
    url = f"postgres://postgres@127.0.0.1:{free_port}/none"
    database = Database(Settings(master_key="sk-test-of-cleanups", database_url=url))
    await database.open()
    plan = CleanupPlan(min_seconds=0.01, max_seconds=0.02, audit_retention=DAY, spend_logs_retention=DAY)
    with capture_logs() as logs:
        assert await Cleanup(database, plan).run_once() == {}
    assert {entry["event"] for entry in logs} == {"cleanup delayed"}
    await database.close()


async def test_the_background_task_ends_when_it_is_cancelled(database: Database) -> None:
    task = asyncio.create_task(Cleanup(database).run_forever())
    await asyncio.sleep(0.01)
    task.cancel()
    assert [type(problem) for problem in await asyncio.gather(task, return_exceptions=True)] == [asyncio.CancelledError]
