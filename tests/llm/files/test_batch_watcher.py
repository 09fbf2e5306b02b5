"""Batches that are looked at until they end, and bills that come about in spite of everything. In one process."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any, cast

import pytest

from app import create_app
from app.llm.files.batch_billing import BatchBilling
from app.llm.files.batch_watcher import BatchWatcher
from app.llm.files.owner import Payer
from app.models import SpendLog, User
from app.services import EXTENSION, Services
from app.settings import Settings
from tests.conftest import MASTER_KEY
from tests.llm.live_worker import deployment
from tests.upstream import Fault, Pieces, Reply, ScriptedUpstream

KEY_HASH = "a" * 64
USAGE = {"prompt_tokens": 9, "completion_tokens": 3}
LINE = json.dumps({"response": {"body": {"model": "gpt-4o-mini", "usage": USAGE}}}).encode() + b"\n"
HALF = (9 * Decimal("0.001") + 3 * Decimal("0.002")) / 2
OUTPUT = "/v1/files/out-1/content"


@dataclass
class Desk:
    """An instance whose meter looks every few milliseconds."""

    services: Services
    upstream: ScriptedUpstream
    payer: Payer

    def meter(self, **billing: Any) -> BatchWatcher:
        """A meter that remembers nothing, as after a restart."""
        services = self.services
        parts = (
            services.settings,
            services.database,
            services.accounts,
            services.deployments,
            services.shared_scopes,
            services.ledger,
        )
        return BatchWatcher(services.accounts, BatchBilling(*parts, **billing), look_seconds=0.05)

    def row(self, status: str, id: str = "batch_1", **facts: Any) -> dict[str, Any]:
        signature = self.services.accounts.signature("0" * 24, self.payer)
        known = {"id": id, "status": status, "metadata": {"quarterdeck_owner": signature}}
        return {**known, "created_at": int(time.time()) - 60, f"{status}_at": int(time.time()) - 10, **facts}

    def see(self, meter: BatchWatcher, status: str, id: str = "batch_1", **facts: Any) -> None:
        account = self.services.deployments.by_id("chat-1")
        assert account is not None
        output = {} if status == "in_progress" else {"output_file_id": "out-1"}
        meter.see(self.row(status, id, **{**output, **facts}), account)

    async def rows(self) -> list[SpendLog]:
        await self.services.ledger.flush()
        with self.services.database.active():
            return await SpendLog.all()

    @property
    def readings(self) -> int:
        return sum(request.path == OUTPUT for request in self.upstream.requests)

    def looks(self, id: str = "batch_1") -> int:
        return sum(request.path == f"/v1/batches/{id}" for request in self.upstream.requests)


@pytest.fixture
async def desk(migrated_sqlite_url: str, tmp_path: Path) -> AsyncIterator[Desk]:
    async with ScriptedUpstream() as upstream:
        prices: dict[str, Any] = {"input_cost_per_token": 0.001, "output_cost_per_token": 0.002}
        app = create_app(
            Settings(
                master_key=MASTER_KEY,
                database_url=migrated_sqlite_url,
                state_dir=tmp_path,
                spend_flush_seconds=3600.0,
                model_list=(deployment("chat", upstream.url, id="chat-1", **prices),),
            )
        )
        async with app.test_app():
            services = cast(Services, app.extensions[EXTENSION])
            upstream.on_path(OUTPUT, Pieces([LINE]))
            yield Desk(services, upstream, Payer(KEY_HASH, "alice", models=("chat",)))


@asynccontextmanager
async def running(meter: BatchWatcher) -> AsyncIterator[BatchWatcher]:
    task = asyncio.create_task(meter.run_forever())
    try:
        yield meter
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def until(reached: Callable[[], bool], seconds: float = 5.0) -> None:
    async with asyncio.timeout(seconds):
        while not reached():
            await asyncio.sleep(0.01)


async def test_a_batch_that_nobody_asks_for_is_looked_at_until_it_ends(desk: Desk) -> None:
    desk.upstream.on_path("/v1/batches/batch_1", Reply(body=desk.row("in_progress")))
    async with running(desk.meter()) as meter:
        desk.see(meter, "in_progress")
        await until(lambda: desk.looks() >= 2)
        assert not desk.readings
        ended = desk.row("completed", output_file_id="out-1")
        desk.upstream.on_path("/v1/batches/batch_1", Reply(body=ended))
        await until(lambda: desk.services.ledger.waiting == 1)
        looks = desk.looks()
        await asyncio.sleep(0.15)
    assert (desk.looks(), desk.readings) == (looks, 1)
    (row,) = await desk.rows()
    assert (row.spend, row.user, row.api_key) == (HALF, "alice", KEY_HASH)


async def test_a_key_that_was_deleted_meanwhile_leaves_the_bill_to_its_user(desk: Desk) -> None:
    with desk.services.database.active():
        await User.create(user_id="alice")
    async with running(desk.meter()) as meter:
        desk.see(meter, "completed")
        await until(lambda: desk.services.ledger.waiting == 1)
    (row,) = await desk.rows()
    with desk.services.database.active():
        assert (row.api_key, (await User.get(user_id="alice")).spend) == (KEY_HASH, HALF)


async def test_a_batch_that_was_billed_is_not_read_again_after_a_restart(desk: Desk) -> None:
    async with running(desk.meter()) as meter:
        desk.see(meter, "completed")
        await until(lambda: desk.services.ledger.waiting == 1)
    assert len(await desk.rows()) == 1
    async with running(desk.meter()) as meter:
        desk.see(meter, "completed")
        await asyncio.sleep(0.1)
    assert (len(await desk.rows()), desk.readings) == (1, 1)


async def test_two_that_bill_at_once_bill_once(desk: Desk) -> None:
    async with running(desk.meter()) as first, running(desk.meter()) as second:
        desk.see(first, "completed")
        desk.see(second, "completed")
        await until(lambda: desk.services.ledger.waiting == 2)
    (row,) = await desk.rows()
    assert (row.spend, desk.readings) == (HALF, 2)


async def test_an_output_that_cannot_be_read_now_is_read_later(desk: Desk) -> None:
    broken = Pieces([LINE * 3, LINE[:20]], cut="reset")
    async with running(desk.meter()) as meter:
        desk.upstream.on_path("/v1/batches/batch_1", Reply(body=desk.row("completed", output_file_id="out-1")))
        for fault in (Fault.status(500), Fault.reset(), broken):
            count = desk.readings
            desk.upstream.on_path(OUTPUT, fault)
            desk.see(meter, "completed")
            await until(lambda count=count: desk.readings > count)  # type: ignore[misc]
            assert desk.services.ledger.waiting == 0
        desk.upstream.on_path(OUTPUT, Pieces([LINE]))
        await until(lambda: desk.services.ledger.waiting == 1)
    assert [row.spend for row in await desk.rows()] == [HALF]


async def test_of_a_file_that_is_too_large_the_beginning_is_billed(desk: Desk) -> None:
    desk.upstream.on_path(OUTPUT, Pieces([LINE] * 50))
    async with running(desk.meter(most_bytes=10 * len(LINE) + 5)) as meter:
        desk.see(meter, "completed")
        await until(lambda: desk.services.ledger.waiting == 1)
    (row,) = await desk.rows()
    assert (row.spend, row.metadata["is_truncated"], row.metadata["batch_requests"]) == (10 * HALF, True, 10)


async def test_a_batch_older_than_the_spend_logs_is_left_alone(desk: Desk) -> None:
    old = int((datetime.now(UTC) - timedelta(hours=2)).timestamp())
    async with running(desk.meter(log_kept=timedelta(hours=1))) as meter:
        desk.see(meter, "completed", "batch_old", completed_at=old)
        desk.see(meter, "completed")
        await until(lambda: desk.services.ledger.waiting == 1)
    assert (len(await desk.rows()), desk.readings) == (1, 1)


async def test_what_a_provider_says_may_be_anything(desk: Desk) -> None:
    account = desk.services.deployments.by_id("chat-1")
    assert account is not None
    async with running(desk.meter()) as meter:
        for id in (None, 7, "", "x" * 600, ["a"]):
            meter.see({**desk.row("completed", output_file_id="out-1"), "id": id}, account)
        for number, moment in enumerate(("soon", -1, 1e300, True, None, float("nan"))):
            desk.see(meter, "completed", f"batch_{number}", completed_at=moment, created_at=moment)
        await until(lambda: desk.services.ledger.waiting == 6)
    now = datetime.now(UTC)
    assert all(now - timedelta(minutes=1) < row.start_time <= now for row in await desk.rows())


async def test_a_batch_without_results_costs_nothing(desk: Desk) -> None:
    async with running(desk.meter()) as meter:
        desk.see(meter, "failed", output_file_id=None)
        desk.see(meter, "cancelled", "batch_2", output_file_id="")
        await asyncio.sleep(0.1)
    assert not desk.upstream.requests


async def test_what_is_remembered_is_bounded(desk: Desk, capsys: pytest.CaptureFixture[str]) -> None:
    meter = desk.meter()
    for number in range(1100):
        desk.see(meter, "in_progress", f"batch_{number}")
    for number in range(1100):
        desk.see(meter, "completed", f"batch_{number}")
    for number in range(11_000):
        desk.see(meter, "completed", f"done_{number}", output_file_id=None)
    sizes = (len(meter._running), meter._waiting.qsize(), len(meter._finished))
    assert sizes == (100, 1000, 10_000)
    # It is said once.
    assert capsys.readouterr().out.count("too many batches run") == 1


async def test_a_batch_that_is_gone_is_looked_at_no_more(desk: Desk) -> None:
    desk.upstream.on_path("/v1/batches/batch_1", Fault.status(404))
    async with running(desk.meter()) as meter:
        desk.see(meter, "in_progress")
        await until(lambda: desk.looks() == 1)
        await asyncio.sleep(0.15)
    assert desk.looks() == 1
