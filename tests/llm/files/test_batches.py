"""What batches cost: billed once to whoever made them, over real sockets, by two workers on one PostgreSQL."""

from __future__ import annotations

import asyncio
import json
import time
import uuid
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import httpx
import pytest

from tests.llm.live_worker import FAST, LiveWorker, deployment, error_of, hash_of
from tests.services.postgres import PostgresServer
from tests.services.quarterdeck import QuarterdeckFactory, QuarterdeckProcess
from tests.upstream import Fault, Pieces, Reply, ScriptedUpstream

ENDED_AT = 1_790_000_000  # fixed date: long ago, whatever today is
# One answer at the price of a single call: nine tokens in, three out.
SINGLE = 9 * Decimal("0.001") + 3 * Decimal("0.002")
USAGE = {"prompt_tokens": 9, "completion_tokens": 3, "total_tokens": 12}


@pytest.fixture(scope="module")
def two_processes(
    factory: QuarterdeckFactory, upstream_port: int, postgres_server: PostgresServer
) -> Iterator[list[QuarterdeckProcess]]:
    origin = f"http://127.0.0.1:{upstream_port}"
    prices = {"input_cost_per_token": 0.001, "output_cost_per_token": 0.002}
    models = [
        deployment("chat", f"{origin}/v1", "openai/gpt-4o-mini", id="chat-1", **prices),
        deployment("large", f"{origin}/v1", "openai/gpt-4o", id="large-1"),
        deployment("azure-chat", origin, "azure/my-gpt", id="azure-1", api_version="2024-10-21", **prices),
    ]
    config = {"model_list": models, "general_settings": {"user_api_key_cache_ttl": 0.3}}
    with postgres_server.new_database() as url:
        yield [factory(config, database_url=url, env=FAST) for _ in range(2)]


@pytest.fixture
def workers(two_processes: list[QuarterdeckProcess], http: httpx.AsyncClient) -> list[LiveWorker]:
    return [LiveWorker(process, http) for process in two_processes]


@pytest.fixture
def worker(workers: list[LiveWorker]) -> LiveWorker:
    return workers[0]


class BatchRun:
    """One batch, at the provider and as its owner sees it."""

    def __init__(self, upstream: ScriptedUpstream, worker: LiveWorker, key: str, root: str = "/v1") -> None:
        self.upstream = upstream
        self.worker = worker
        self.key = key
        self.root = root
        self.number = uuid.uuid4().hex
        self.metadata: dict[str, str] = {}
        self.id = ""

    async def start(self, *models: str, **sent: Any) -> BatchRun:
        """Upload a file that names these models, and run it."""
        lines = [{"custom_id": name, "url": "/v1/chat/completions", "body": {"model": name}} for name in models]
        file = "\n".join(json.dumps(line) for line in lines).encode()
        self.upstream.on_path(f"{self.root}/files", Reply(body={"id": "file-in", "object": "file", "filename": "x"}))
        answer = await self.call("POST", "/v1/files", data={"purpose": "batch"}, files={"file": ("calls.jsonl", file)})
        assert answer.status_code == 200, answer.text
        tagged = self.upstream.requests[-1].body.partition(b'filename="')[2].partition(b'"')[0].decode()
        self.upstream.on_path(f"{self.root}/files/file-in", Reply(body={"id": "file-in", "filename": tagged}))
        self.upstream.on_path(f"{self.root}/batches", Reply(body=self.row("validating")))
        body = {"input_file_id": answer.json()["id"], "endpoint": "/v1/chat/completions", "completion_window": "24h"}
        answer = await self.call("POST", "/v1/batches", json={**body, **sent})
        assert answer.status_code == 200, answer.text
        self.id, self.metadata = answer.json()["id"], self.upstream.requests[-1].json["metadata"]
        return self

    def row(self, status: str, **facts: Any) -> dict[str, Any]:
        fields = {"id": f"batch_{self.number}", "object": "batch", "input_file_id": "file-in", "status": status}
        return {**fields, "metadata": self.metadata, "created_at": ENDED_AT - 60, f"{status}_at": ENDED_AT, **facts}

    def ends(self, status: str, *lines: bytes) -> None:
        """From now on the provider returns this status, and this output."""
        row = self.row(status, output_file_id=f"out-{self.number}")
        self.upstream.on_path(f"{self.root}/batches/batch_{self.number}", Reply(body=row))
        self.upstream.on_path(f"{self.root}/batches", Reply(body={"data": [row], "has_more": False}))
        self.upstream.on_path(self.output_path, Pieces(lines, "application/jsonl"))

    @property
    def output_path(self) -> str:
        return f"{self.root}/files/out-{self.number}/content"

    @property
    def downloads(self) -> int:
        return sum(request.path == self.output_path for request in self.upstream.requests)

    async def show(self, worker: LiveWorker | None = None) -> dict[str, Any]:
        answer = await self.call("GET", f"/v1/batches/{self.id}", worker=worker)
        assert answer.status_code == 200, answer.text
        shown: dict[str, Any] = answer.json()
        return shown

    async def call(self, method: str, path: str, worker: LiveWorker | None = None, **sent: Any) -> httpx.Response:
        headers = {"Authorization": f"Bearer {self.key}"}
        return await self.worker.http.request(method, f"{(worker or self.worker).url}{path}", headers=headers, **sent)


def output_lines(model: str, usage: Any = USAGE, number: int = 1) -> bytes:
    """Lines of an output file."""
    body = {"id": "chatcmpl-1", "model": model, "choices": [], "usage": usage}
    line = {"custom_id": "1", "response": {"status_code": 200, "request_id": "r", "body": body}, "error": None}
    return (json.dumps(line) + "\n").encode() * number


async def spent(worker: LiveWorker, key: str) -> Decimal:
    return Decimal(str((await worker.key_info(key))["spend"]))


async def test_a_completed_batch_is_billed_once_whoever_asks_how_often(
    workers: list[LiveWorker], upstream: ScriptedUpstream, key: str
) -> None:
    run = await BatchRun(upstream, workers[0], key).start("chat")
    whole = output_lines("gpt-4o-mini-2024-07-18", number=1000)
    run.ends("completed", whole[:70_001], whole[70_001:])
    await asyncio.gather(*(run.show(worker) for worker in workers for _ in range(5)))
    row = await workers[0].spend_row(key)
    for worker in workers:
        await run.show(worker)
        admin = await worker.http.get(f"{worker.url}/v1/batches", headers=worker.admin)
        assert [batch["id"] for batch in admin.json()["data"]] == [run.id]
    await asyncio.sleep(0.4)
    assert await workers[1].spend_row(key) == row
    assert 1 <= run.downloads <= 2
    assert await spent(workers[1], key) == 1000 * SINGLE / 2
    assert (row["call_type"], row["model"], row["model_group"], row["model_id"]) == (
        "aretrieve_batch",
        "gpt-4o-mini",
        "chat",
        "chat-1",
    )
    assert (row["prompt_tokens"], row["completion_tokens"], row["status"]) == (9000, 3000, "success")
    assert row["request_id"].startswith("batch-") and row["api_key"] == hash_of(key)
    assert (row["metadata"]["batch_id"], row["metadata"]["batch_requests"]) == (run.id, 1000)
    assert row["startTime"].startswith("2026-09-21")  # fixed date: the day of ENDED_AT


async def test_an_expired_batch_bills_what_it_did_for_each_model(
    worker: LiveWorker, upstream: ScriptedUpstream, key: str
) -> None:
    run = await BatchRun(upstream, worker, key).start("chat", "large")
    responses = {"input_tokens": 9, "output_tokens": 3, "input_tokens_details": {"cached_tokens": 4}}
    run.ends("expired", output_lines("gpt-4o-mini", number=3), output_lines("gpt-4o-2024-08-06", responses))
    assert (await run.show())["status"] == "expired"
    rows = {row["model"]: row for row in await worker.spend_rows(key, 2)}
    assert Decimal(str(rows["gpt-4o-mini"]["spend"])) == 3 * SINGLE / 2
    # Of the bundled prices, in millionths: 2.5 in, 1.25 cached, 10 out.
    assert Decimal(str(rows["gpt-4o"]["spend"])) == Decimal("0.0000475") / 2
    assert rows["gpt-4o"]["model_group"] == "large"
    assert len({row["request_id"] for row in rows.values()}) == 2
    assert all(row["metadata"]["batch_status"] == "expired" for row in rows.values())


async def test_invalid_lines_are_left_out_and_counted(worker: LiveWorker, upstream: ScriptedUpstream, key: str) -> None:
    run = await BatchRun(upstream, worker, key).start("chat")
    failed = b'{"custom_id": "9", "response": {"status_code": 400, "body": {"error": {}}}, "error": null}\n'
    errors = [b"garbage\n", b"\xff\xfe\n", b"[]\n", b"{}\n", b"\n", b'{"response": {"body": {"usage": 7}}}\n']
    odd = [output_lines("gpt-4o-mini", {"prompt_tokens": -5, "completion_tokens": "many"})]
    run.ends("completed", *errors, failed, *odd, output_lines("gpt-4o-mini").rstrip())
    await run.show()
    row = await worker.spend_row(key)
    assert Decimal(str(row["spend"])) == SINGLE / 2
    assert (row["metadata"]["unreadable_lines"], row["metadata"]["failed_requests"]) == (5, 1)


async def test_a_cancelled_batch_is_billed_when_the_cancellation_returns_results(
    worker: LiveWorker, upstream: ScriptedUpstream, key: str
) -> None:
    run = await BatchRun(upstream, worker, key).start("chat")
    run.ends("cancelled", output_lines("gpt-4o-mini"))
    cancelled = Reply(body=run.row("cancelled", output_file_id=f"out-{run.number}"))
    upstream.on_path(f"/v1/batches/batch_{run.number}/cancel", cancelled)
    assert (await run.call("POST", f"/v1/batches/{run.id}/cancel")).json()["status"] == "cancelled"
    assert Decimal(str((await worker.spend_row(key))["spend"])) == SINGLE / 2


async def test_a_batch_counts_for_the_budgets_of_its_creator_in_every_process(
    workers: list[LiveWorker], upstream: ScriptedUpstream
) -> None:
    worker = workers[0]
    team = (await worker.manage("/team/new", team_alias="batches", max_budget=1.0))["team_id"]
    maker, colleague = await worker.new_key(team_id=team, user_id="bea"), await worker.new_key(team_id=team)
    for other in workers:
        assert (await other.chat(colleague, max_tokens=1)).status_code == 200
    run = await BatchRun(upstream, worker, maker).start("chat")
    run.ends("completed", output_lines("gpt-4o-mini", number=200))
    await run.show()
    row = await worker.spend_row(maker)
    assert (row["team_id"], row["user"], Decimal(str(row["spend"]))) == (team, "bea", 100 * SINGLE)
    for other in workers:
        deadline = time.monotonic() + 5
        while (answer := await other.chat(colleague, max_tokens=1)).status_code == 200 and time.monotonic() < deadline:
            await asyncio.sleep(0.05)
        assert "Budget has been exceeded" in error_of(answer, 422)["message"]


async def test_a_window_of_a_key_counts_its_batches(worker: LiveWorker, upstream: ScriptedUpstream) -> None:
    windows = [{"budget_duration": "1d", "max_budget": 1.0}]
    key = await worker.new_key(budget_limits=windows)
    run = await BatchRun(upstream, worker, key).start("chat")
    run.ends("completed", output_lines("gpt-4o-mini", number=200))
    assert (await worker.chat(key, max_tokens=1)).status_code == 200
    await run.show()
    await worker.spend_rows(key, 2)
    deadline = time.monotonic() + 5
    while (answer := await worker.chat(key, max_tokens=1)).status_code == 200 and time.monotonic() < deadline:
        await asyncio.sleep(0.05)
    error_of(answer, 422)


async def test_azure_names_the_base_model_in_its_output(
    worker: LiveWorker, upstream: ScriptedUpstream, key: str
) -> None:
    run = await BatchRun(upstream, worker, key, "/openai").start("azure-chat")
    run.ends("completed", output_lines("gpt-4o-mini-2024-07-18"))
    await run.show()
    row = await worker.spend_row(key)
    assert (Decimal(str(row["spend"])), row["model"], row["custom_llm_provider"]) == (SINGLE / 2, "my-gpt", "azure")


async def test_batches_without_a_known_payer_are_not_billed(worker: LiveWorker, upstream: ScriptedUpstream) -> None:
    rows = [
        {"id": f"batch_{number}", "status": "completed", "output_file_id": "out-foreign", "metadata": metadata}
        for number, metadata in enumerate((None, {"quarterdeck_owner": "0" * 24}, {"quarterdeck_owner": "0.forged"}))
    ]
    upstream.on_path("/v1/batches", Reply(body={"data": rows, "has_more": False}))
    for _ in range(2):
        assert len((await worker.http.get(f"{worker.url}/v1/batches", headers=worker.admin)).json()["data"]) == 3
    await asyncio.sleep(0.2)
    assert {request.path for request in upstream.requests} == {"/v1/batches"}
    assert worker.process.log_text().count("payer unknown") == 1


async def test_the_signature_at_the_provider_reveals_no_key(worker: LiveWorker, upstream: ScriptedUpstream) -> None:
    key = await worker.new_key(user_id="u" * 200, metadata={})
    entries = {f"name-{number}": "x" for number in range(15)}
    run = await BatchRun(upstream, worker, key).start("chat", metadata=entries)
    signature = run.metadata["quarterdeck_owner"]
    assert len(run.metadata) == 16 and len(signature) <= 512
    assert hash_of(key) not in signature and "uuuu" not in signature
    run.ends("completed", output_lines("gpt-4o-mini"))
    shown = await run.show()
    assert shown["metadata"] == entries and signature not in json.dumps(shown)
    row = await worker.spend_row(key)
    assert (row["user"], row["metadata"]["batch_id"]) == ("u" * 200, run.id)


async def test_an_output_that_is_gone_is_not_billed(worker: LiveWorker, upstream: ScriptedUpstream, key: str) -> None:
    run = await BatchRun(upstream, worker, key).start("chat")
    run.ends("completed")
    upstream.on_path(run.output_path, Fault.status(404))
    count = len(upstream.requests)
    for _ in range(3):
        await run.show()
    await upstream.wait_for_requests(count + 4)
    await asyncio.sleep(0.1)
    assert run.downloads == 1
    assert await worker.spend_rows(key, 0) == []
