"""Batches that are polled until they end, and billing in spite of failures. In one process."""

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
class Instance:
    """An instance whose watcher polls every few milliseconds."""

    services: Services
    upstream: ScriptedUpstream
    payer: Payer

    def watcher(self, **billing: Any) -> BatchWatcher:
        """A watcher that holds nothing, as after a restart."""
        services = self.services
        parts = (
            services.settings,
            services.database,
            services.accounts,
            services.deployments,
            services.shared_scopes,
            services.ledger,
        )
        return BatchWatcher(services.accounts, BatchBilling(*parts, **billing), poll_seconds=0.05)

    def row(self, status: str, id: str = "batch_1", **facts: Any) -> dict[str, Any]:
        signature = self.services.accounts.signature("0" * 24, self.payer)
        fields = {"id": id, "status": status, "metadata": {"quarterdeck_owner": signature}}
        return {**fields, "created_at": int(time.time()) - 60, f"{status}_at": int(time.time()) - 10, **facts}

    def observe(
        self, watcher: BatchWatcher, status: str, id: str = "batch_1", account_id: str = "chat-1", **facts: Any
    ) -> None:
        account = self.services.deployments.by_id(account_id)
        assert account is not None
        output = {} if status == "in_progress" else {"output_file_id": "out-1"}
        watcher.observe(self.row(status, id, **{**output, **facts}), account)

    async def rows(self) -> list[SpendLog]:
        await self.services.ledger.flush()
        with self.services.database.active():
            return await SpendLog.all()

    @property
    def downloads(self) -> int:
        return sum(request.path == OUTPUT for request in self.upstream.requests)

    def polls(self, id: str = "batch_1") -> int:
        return sum(request.path == f"/v1/batches/{id}" for request in self.upstream.requests)


@pytest.fixture
async def instance(migrated_sqlite_url: str, tmp_path: Path) -> AsyncIterator[Instance]:
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
            yield Instance(services, upstream, Payer(KEY_HASH, "alice", models=("chat",)))


@asynccontextmanager
async def running(watcher: BatchWatcher) -> AsyncIterator[BatchWatcher]:
    task = asyncio.create_task(watcher.run_forever())
    try:
        yield watcher
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def until(reached: Callable[[], bool], seconds: float = 5.0) -> None:
    async with asyncio.timeout(seconds):
        while not reached():
            await asyncio.sleep(0.01)


async def test_a_batch_that_no_client_asks_for_is_polled_until_it_ends(instance: Instance) -> None:
    instance.upstream.on_path("/v1/batches/batch_1", Reply(body=instance.row("in_progress")))
    async with running(instance.watcher()) as watcher:
        instance.observe(watcher, "in_progress")
        await until(lambda: instance.polls() >= 2)
        assert not instance.downloads
        ended = instance.row("completed", output_file_id="out-1")
        instance.upstream.on_path("/v1/batches/batch_1", Reply(body=ended))
        await until(lambda: instance.services.ledger.waiting == 1)
        polls_at_end = instance.polls()
        await asyncio.sleep(0.15)
    assert (instance.polls(), instance.downloads) == (polls_at_end, 1)
    (row,) = await instance.rows()
    assert (row.spend, row.user, row.api_key) == (HALF, "alice", KEY_HASH)


async def test_a_key_that_was_deleted_meanwhile_leaves_the_bill_to_its_user(instance: Instance) -> None:
    with instance.services.database.active():
        await User.create(user_id="alice")
    async with running(instance.watcher()) as watcher:
        instance.observe(watcher, "completed")
        await until(lambda: instance.services.ledger.waiting == 1)
    (row,) = await instance.rows()
    with instance.services.database.active():
        assert (row.api_key, (await User.get(user_id="alice")).spend) == (KEY_HASH, HALF)


async def test_a_batch_that_was_billed_is_not_read_again_after_a_restart(instance: Instance) -> None:
    async with running(instance.watcher()) as watcher:
        instance.observe(watcher, "completed")
        await until(lambda: instance.services.ledger.waiting == 1)
    assert len(await instance.rows()) == 1
    async with running(instance.watcher()) as watcher:
        instance.observe(watcher, "completed")
        await asyncio.sleep(0.1)
    assert (len(await instance.rows()), instance.downloads) == (1, 1)


async def test_two_watchers_at_once_bill_once(instance: Instance) -> None:
    async with running(instance.watcher()) as first, running(instance.watcher()) as second:
        instance.observe(first, "completed")
        instance.observe(second, "completed")
        await until(lambda: instance.services.ledger.waiting == 2)
    (row,) = await instance.rows()
    assert (row.spend, instance.downloads) == (HALF, 2)


async def test_an_output_that_cannot_be_read_now_is_read_later(instance: Instance) -> None:
    broken = Pieces([LINE * 3, LINE[:20]], cut="reset")
    async with running(instance.watcher()) as watcher:
        instance.upstream.on_path("/v1/batches/batch_1", Reply(body=instance.row("completed", output_file_id="out-1")))
        for fault in (Fault.status(500), Fault.reset(), broken):
            count = instance.downloads
            instance.upstream.on_path(OUTPUT, fault)
            instance.observe(watcher, "completed")
            await until(lambda count=count: instance.downloads > count)  # type: ignore[misc]
            assert instance.services.ledger.waiting == 0
        instance.upstream.on_path(OUTPUT, Pieces([LINE]))
        await until(lambda: instance.services.ledger.waiting == 1)
    assert [row.spend for row in await instance.rows()] == [HALF]


async def test_the_beginning_of_an_output_that_is_too_large_is_billed(instance: Instance) -> None:
    instance.upstream.on_path(OUTPUT, Pieces([LINE] * 50))
    async with running(instance.watcher(max_bytes=10 * len(LINE) + 5)) as watcher:
        instance.observe(watcher, "completed")
        await until(lambda: instance.services.ledger.waiting == 1)
    (row,) = await instance.rows()
    assert (row.spend, row.metadata["is_truncated"], row.metadata["batch_requests"]) == (10 * HALF, True, 10)


async def test_a_batch_older_than_the_spend_logs_is_not_billed(instance: Instance) -> None:
    old = int((datetime.now(UTC) - timedelta(hours=2)).timestamp())
    async with running(instance.watcher(log_retention=timedelta(hours=1))) as watcher:
        instance.observe(watcher, "completed", "batch_old", completed_at=old)
        instance.observe(watcher, "completed")
        await until(lambda: instance.services.ledger.waiting == 1)
    assert (len(await instance.rows()), instance.downloads) == (1, 1)


async def test_any_row_of_a_provider_is_taken(instance: Instance) -> None:
    account = instance.services.deployments.by_id("chat-1")
    assert account is not None
    async with running(instance.watcher()) as watcher:
        for id in (None, 7, "", "x" * 600, ["a"]):
            watcher.observe({**instance.row("completed", output_file_id="out-1"), "id": id}, account)
        for number, timestamp in enumerate(("soon", -1, 1e300, True, None, float("nan"))):
            instance.observe(watcher, "completed", f"batch_{number}", completed_at=timestamp, created_at=timestamp)
        await until(lambda: instance.services.ledger.waiting == 6)
    now = datetime.now(UTC)
    assert all(now - timedelta(minutes=1) < row.start_time <= now for row in await instance.rows())


async def test_a_batch_without_results_costs_nothing(instance: Instance) -> None:
    async with running(instance.watcher()) as watcher:
        instance.observe(watcher, "failed", output_file_id=None)
        instance.observe(watcher, "cancelled", "batch_2", output_file_id="")
        await asyncio.sleep(0.1)
    assert not instance.upstream.requests


async def test_what_is_held_is_bounded(instance: Instance, capsys: pytest.CaptureFixture[str]) -> None:
    watcher = instance.watcher()
    for number in range(1100):
        instance.observe(watcher, "in_progress", f"batch_{number}")
    for number in range(1100):
        instance.observe(watcher, "completed", f"batch_{number}")
    for number in range(11_000):
        instance.observe(watcher, "completed", f"done_{number}", output_file_id=None)
    sizes = (len(watcher._pending), watcher._queue.qsize(), len(watcher._finished))
    assert sizes == (100, 1000, 10_000)
    # It is logged once.
    assert capsys.readouterr().out.count("too many batches pending") == 1


async def test_a_batch_that_is_gone_is_polled_no_more(instance: Instance) -> None:
    instance.upstream.on_path("/v1/batches/batch_1", Fault.status(404))
    async with running(instance.watcher()) as watcher:
        instance.observe(watcher, "in_progress")
        await until(lambda: instance.polls() == 1)
        await asyncio.sleep(0.15)
    assert instance.polls() == 1
