"""Spend reaches the database once and exactly, whatever happens in between. On SQLite and on PostgreSQL."""

from __future__ import annotations

import asyncio
import shutil
import sqlite3
from collections.abc import AsyncIterator
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from app.models import DailySpend, DeprecatedKey, SpendLog, VirtualKey
from tests.spend.ledgers import KEY_HASH, NOON, PRICE, SpendInstance, add_alice, event, instance_of


@pytest.fixture
async def instance(database_url: str, tmp_path: Path) -> AsyncIterator[SpendInstance]:
    async with instance_of(database_url, tmp_path / "state") as opened:
        await add_alice(opened.database)
        yield opened


def all_are(amount: Decimal, totals: dict[str, Decimal]) -> bool:
    return set(totals.values()) == {amount}


async def test_every_total_is_exact(instance: SpendInstance) -> None:
    costs = [PRICE, Decimal("0.1"), Decimal("0.2"), Decimal("123456789.000000000003")]
    for number, cost in enumerate(costs):
        instance.ledger.record(event(number, cost=cost))
    await instance.ledger.flush()
    assert all_are(sum(costs, Decimal(0)), await instance.totals())
    assert instance.ledger.waiting == 0
    assert instance.files("*") == [] or not instance.files("*.jsonl")


async def test_a_row_says_what_happened(instance: SpendInstance) -> None:
    instance.ledger.record(
        event(
            first_chunk_time=NOON + timedelta(milliseconds=100),
            cache_read_tokens=4,
            model_id="d1",
            api_base="http://provider/v1",
            end_user="customer",
            session_id="s1",
            call_id="c1",
            ip_address="10.0.0.7",
            tags=["a", "b"],
            metadata={"usage_object": {"prompt_tokens": 9}},
            status="failure",
        )
    )
    await instance.ledger.flush()
    with instance.database.active():
        row = await SpendLog.get()
        day = await DailySpend.get()
    assert (row.api_key, row.user, row.team_id, row.end_user) == (KEY_HASH, "alice", "research", "customer")
    assert (row.model, row.model_id, row.model_group, row.custom_llm_provider) == (
        "gpt-4o-mini",
        "d1",
        "chat",
        "openai",
    )
    assert (row.prompt_tokens, row.completion_tokens, row.total_tokens, row.spend) == (9, 2, 11, PRICE)
    assert (row.start_time, row.request_duration_ms) == (NOON, 250)
    assert (row.request_tags, row.metadata) == (["a", "b"], {"usage_object": {"prompt_tokens": 9}})
    assert (row.session_id, row.litellm_call_id, row.requester_ip_address) == ("s1", "c1", "10.0.0.7")
    assert (row.status, row.cache_hit) == ("failure", "False")
    # fixed date: the day of NOON
    assert (day.date, day.api_requests, day.successful_requests, day.failed_requests) == ("2026-11-21", 1, 0, 1)
    assert (day.cache_read_input_tokens, day.total_response_time_ms) == (4, 250)


async def test_days_add_up_and_are_kept_apart(instance: SpendInstance) -> None:
    for number in range(3):
        instance.ledger.record(event(number))
    await instance.ledger.flush()
    instance.ledger.record(event(4))
    instance.ledger.record(event(5, start_time=NOON + timedelta(days=1)))
    instance.ledger.record(event(6, model="other"))
    await instance.ledger.flush()
    with instance.database.active():
        days = {(day.date, day.model): day for day in await DailySpend.all()}
    # fixed date: the days of NOON and after
    assert {name: (day.api_requests, day.spend, day.prompt_tokens) for name, day in days.items()} == {
        ("2026-11-21", "gpt-4o-mini"): (4, 4 * PRICE, 36),
        ("2026-11-22", "gpt-4o-mini"): (1, PRICE, 9),
        ("2026-11-21", "other"): (1, PRICE, 9),
    }


async def test_a_session_of_the_console_does_not_add_to_a_team(instance: SpendInstance) -> None:
    instance.ledger.record(event(is_session=True))
    await instance.ledger.flush()
    totals = await instance.totals()
    assert (totals["user"], totals["key"]) == (PRICE, PRICE)
    assert totals["team"] == totals["member"] == 0


async def test_a_segment_that_comes_again_changes_nothing(instance: SpendInstance, database_url: str) -> None:
    """A crash between the commit and the deletion of the file."""
    for number in range(700):  # more than one look-up of known ids
        instance.ledger.record(event(number))
    (segment,) = instance.files("*.jsonl")
    shutil.copy(segment, segment.with_name("copy.kept"))
    await instance.ledger.flush()
    segment.with_name("copy.kept").rename(segment.with_name("again.jsonl"))
    async with instance_of(database_url, instance.state_dir) as heir:
        await heir.ledger.start()
        await heir.ledger.stop()
    assert instance.files("*.jsonl") == []
    assert await instance.log_count() == 700
    assert all_are(700 * PRICE, await instance.totals())


async def test_one_event_twice_in_one_segment_counts_once(instance: SpendInstance) -> None:
    same = event()
    instance.ledger.record(same)
    instance.ledger.record(same)
    await instance.ledger.flush()
    assert all_are(PRICE, await instance.totals())


async def test_a_torn_last_line_is_passed_over(instance: SpendInstance, database_url: str) -> None:
    instance.ledger.record(event())
    await instance.ledger.flush()
    folder = instance.state_dir / "journal"
    (own,) = folder.iterdir()
    instance.ledger.record(event(1))
    (segment,) = instance.files("*.jsonl")
    whole = segment.read_bytes()
    await instance.ledger.flush()
    (own / "torn.jsonl").write_bytes(whole.replace(b"chat", b"torn") + whole[:70])
    async with instance_of(database_url, instance.state_dir) as heir:
        await heir.ledger.start()
        await heir.ledger.stop()
    assert instance.files("*.jsonl") == []
    assert await instance.log_count() == 2  # the whole line was there already, the torn one never became an event


async def test_spend_of_a_deleted_key_is_still_logged(instance: SpendInstance) -> None:
    with instance.database.active():
        await VirtualKey.filter(token=KEY_HASH).delete()
    instance.ledger.record(event())
    await instance.ledger.flush()
    assert await instance.log_count() == 1


@pytest.mark.parametrize(
    "poison",
    [
        {"prompt_tokens": 2**70},
        {"cost": Decimal(10) ** 40},
        {"model": "x" * 300},
        {"call_id": "x" * 256},
    ],
    ids=["number beyond 64 bits", "cost beyond the column", "name beyond the column", "call id beyond the column"],
)
async def test_an_event_that_no_column_takes_is_set_aside_alone(
    instance: SpendInstance, poison: dict[str, Any]
) -> None:
    instance.ledger.record(event(0))
    instance.ledger.record(event(1, **poison))
    instance.ledger.record(event(2))
    await instance.ledger.flush()
    await instance.ledger.flush()
    await asyncio.sleep(0)
    written = await instance.log_count()
    rejected = instance.files("*.rejected")
    lines = rejected[0].read_bytes().splitlines() if rejected else []
    assert written + len(lines) == 3
    assert written >= 2
    assert instance.files("*.jsonl") == []
    instance.ledger.record(event(3))
    await instance.ledger.flush()
    assert await instance.log_count() == written + 1


async def test_a_zero_character_of_a_client_or_provider_is_written_as_a_replacement(instance: SpendInstance) -> None:
    instance.ledger.record(event(end_user="a\0b", tags=["\0"], metadata={"error_message": "x\0", "\0": ["\0"]}))
    await instance.ledger.flush()
    with instance.database.active():
        row = await SpendLog.get()
    assert (row.end_user, row.request_tags) == ("a\ufffdb", ["\ufffd"])
    assert row.metadata == {"error_message": "x\ufffd", "\ufffd": ["\ufffd"]}


async def test_two_instances_on_one_database_lose_nothing_and_double_nothing(
    instance: SpendInstance, database_url: str, tmp_path: Path
) -> None:
    async with instance_of(database_url, tmp_path / "other") as other:
        both = (instance, other)
        for one in both:
            await one.ledger.start()
        for number in range(200):
            for one in both:
                one.ledger.record(event(number))
            await asyncio.sleep(0.002)
        await asyncio.gather(*(one.ledger.stop() for one in both))
        assert other.files("*.jsonl") == other.files("*.rejected") == []
    assert instance.files("*.jsonl") == instance.files("*.rejected") == []
    assert await instance.log_count() == 400
    assert all_are(400 * PRICE, await instance.totals())


async def test_two_heirs_of_one_dead_process_write_its_spend_once(instance: SpendInstance, database_url: str) -> None:
    for number in range(50):
        instance.ledger.record(event(number))
    lines = instance.files("*.jsonl")[0].read_bytes()
    await instance.ledger.flush()
    fresh = lines.replace(b'"request_id":"', b'"request_id":"x')
    folder = next((instance.state_dir / "journal").iterdir())
    (folder / "orphan.jsonl").write_bytes(fresh)
    async with (
        instance_of(database_url, instance.state_dir) as one,
        instance_of(database_url, instance.state_dir) as two,
    ):
        await asyncio.gather(one.ledger.start(), two.ledger.start())
        await asyncio.gather(one.ledger.stop(), two.ledger.stop())
    assert await instance.log_count() == 100
    assert all_are(100 * PRICE, await instance.totals())


async def test_a_file_that_another_process_holds_is_waited_for(migrated_sqlite_url: str, tmp_path: Path) -> None:
    other = sqlite3.connect(migrated_sqlite_url.removeprefix("sqlite:///"), isolation_level=None)
    async with instance_of(migrated_sqlite_url, tmp_path / "state") as instance:
        await add_alice(instance.database)
        await instance.database.fetch("PRAGMA busy_timeout = 20")
        other.execute("BEGIN IMMEDIATE")
        for number in range(4):
            instance.ledger.record(event(number))
            await instance.ledger.flush()
        assert instance.ledger.waiting == 4
        other.execute("ROLLBACK")
        other.close()
        async with asyncio.timeout(5):
            await instance.ledger.flush()
        assert all_are(4 * PRICE, await instance.totals())
        assert instance.files("*.rejected") == []


async def test_a_call_that_began_before_its_key_was_regenerated_counts_for_the_new_one(instance: SpendInstance) -> None:
    with instance.database.active():
        await DeprecatedKey.create(token="b" * 64, active_token=KEY_HASH, revoke_at=NOON)
    instance.ledger.record(event(key_hash="b" * 64, cost=Decimal(3)))
    await instance.ledger.flush()
    assert (await instance.totals())["key"] == 3
