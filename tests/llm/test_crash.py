"""A worker that is killed loses no spend and counts none of it twice. On SQLite and on PostgreSQL."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path

import httpx
import pytest

from tests.llm.live_worker import LiveWorker, content_of, deployment
from tests.services.quarterdeck import QuarterdeckFactory, QuarterdeckProcess
from tests.upstream import Answer, Reply, ScriptedUpstream, Stream, Usage

PRICE = Decimal("0.00000225")  # gpt-4o-mini: 9 tokens in, 4 of them cached, 2 out
CALLS = 200
SLOW, FAST = "3600", "0.05"  # seconds between two flushes: never by itself, nearly always


@pytest.fixture(params=[SLOW, FAST], ids=["nothing flushed", "in the middle of flushing"])
def process(
    request: pytest.FixtureRequest, database_url: str, upstream_port: int, quarterdeck_process: QuarterdeckFactory
) -> Iterator[QuarterdeckProcess]:
    models = [deployment("chat", f"http://127.0.0.1:{upstream_port}/v1")]
    yield quarterdeck_process(
        {"model_list": models}, database_url=database_url, env={"PROXY_BATCH_WRITE_AT": str(request.param)}
    )


def journals(process: QuarterdeckProcess, directory: Path) -> list[Path]:
    return list(directory.rglob("*.jsonl")) + list(directory.rglob("*.rejected"))


async def all_of(worker: LiveWorker, key: str, count: int) -> None:
    """The log and every total say the same, exactly."""
    rows = await worker.spend_rows(key, count)
    assert len({row["request_id"] for row in rows}) == count
    assert len({row["litellm_call_id"] for row in rows}) == count
    assert sum(Decimal(str(row["spend"])) for row in rows) == count * PRICE
    info = await worker.key_info(key)
    assert Decimal(str(info["spend"])) == Decimal(str(info["total_spend"])) == count * PRICE
    day = rows[0]["startTime"][:10]
    query = {"api_key": key, "start_date": day, "end_date": rows[-1]["startTime"][:10]}
    days = await worker.http.get(f"{worker.url}/spend/logs", params=query, headers=worker.admin)
    assert sum(Decimal(str(one["spend"])) for one in days.json()) == count * PRICE


async def test_two_hundred_calls_survive_kill_9(
    process: QuarterdeckProcess, upstream: ScriptedUpstream, http: httpx.AsyncClient, tmp_path: Path
) -> None:
    worker = LiveWorker(process, http)
    key = await worker.new_key()
    upstream.on_model("gpt-4o-mini", Answer(usage=Usage(9, 2, cached=4)))
    whole = [worker.chat(key) for _ in range(CALLS // 2)]
    streams = [worker.frames(key) for _ in range(CALLS // 2)]
    answers, frames = await asyncio.gather(asyncio.gather(*whole), asyncio.gather(*streams))
    process.kill(signal.SIGKILL)
    assert {answer.status_code for answer in answers} == {200}
    assert {stream[-1] for stream in frames} == {"[DONE]"}
    process.restart()
    await all_of(worker, key, CALLS)
    process.restart(signal.SIGKILL)  # nothing is replayed a second time
    await all_of(worker, key, CALLS)
    process.kill(signal.SIGTERM)
    assert journals(process, tmp_path) == []


async def test_a_worker_that_is_asked_to_stop_writes_everything(
    process: QuarterdeckProcess, upstream: ScriptedUpstream, http: httpx.AsyncClient, tmp_path: Path
) -> None:
    worker = LiveWorker(process, http)
    key = await worker.new_key()
    upstream.on_model("gpt-4o-mini", Reply(usage=Usage(9, 2, cached=4)))
    await asyncio.gather(*(worker.chat(key) for _ in range(20)))
    process.kill(signal.SIGTERM)
    assert journals(process, tmp_path) == []
    process.start()
    await all_of(worker, key, 20)


async def test_streams_that_were_running_are_no_spend_and_the_worker_is_back(
    process: QuarterdeckProcess, upstream: ScriptedUpstream, http: httpx.AsyncClient
) -> None:
    worker = LiveWorker(process, http)
    key = await worker.new_key(max_budget=1)
    upstream.plan(Stream(("a", "b"), hang_after=1))
    with pytest.raises(httpx.TransportError):
        async with worker.stream(key) as answer:
            async for _ in answer.aiter_bytes():
                process.kill(signal.SIGKILL)
    process.restart()
    assert content_of(await worker.frames(key)) == "Hello world "
    process.restart()
    assert (await worker.spend_row(key))["status"] == "success"
