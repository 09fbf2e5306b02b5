"""Files and batches that a provider keeps: the official SDK, whose they are, what a batch may name."""

from __future__ import annotations

import json
from typing import Any

import httpx
import openai
import pytest

from app.protocols.multipart import parse_form
from tests.llm.live_worker import FAST, LiveWorker, deployment, error_of
from tests.services.quarterdeck import QuarterdeckFactory, QuarterdeckProcess
from tests.upstream import Fault, Pieces, Reply, ScriptedUpstream

LINES = [
    {"custom_id": str(n), "method": "POST", "url": "/v1/chat/completions", "body": {"model": "chat"}} for n in (1, 2)
]
BATCH_FILE = "\n".join(json.dumps(line) for line in LINES).encode()


@pytest.fixture(scope="module")
def worker_process(factory: QuarterdeckFactory, upstream_port: int) -> QuarterdeckProcess:
    origin = f"http://127.0.0.1:{upstream_port}"
    models = [
        deployment("chat", f"{origin}/v1", id="chat-1"),
        deployment("elsewhere", f"{origin}/other/v1", id="elsewhere-1"),
        deployment("azure-chat", origin, "azure/my-gpt", id="azure-1", api_version="2024-10-21"),
        deployment("mocked", f"{origin}/v1", mock_response="x"),
    ]
    return factory({"model_list": models}, env=FAST)


class Account:
    """What the provider holds, answered by the scripted upstream one request at a time."""

    def __init__(self, upstream: ScriptedUpstream) -> None:
        self.upstream = upstream
        self.files: dict[str, dict[str, Any]] = {}

    def keeps(self, id: str) -> dict[str, Any]:
        """The file of the last upload as the provider shows it from now on."""
        request = self.upstream.requests[-1]
        part = parse_form(request.body, request.headers["content-type"]).files("file")[0]
        self.files[id] = {"id": id, "object": "file", "filename": part.filename, "bytes": len(part.value)}
        return self.files[id]

    def page(self, *extra: dict[str, Any]) -> Reply:
        return Reply(body={"object": "list", "data": [*self.files.values(), *extra], "has_more": False})


async def upload(
    worker: LiveWorker, key: str, account: Account, id: str, *, purpose: str = "user_data", **sent: Any
) -> dict[str, Any]:
    """A file that the provider calls `id`."""
    account.upstream.plan(Reply(body={"id": id, "object": "file", "filename": "echo", "purpose": purpose}))
    answer = await call(worker, key, "POST", "/v1/files", data={"purpose": purpose, **sent}, files={"file": FILE})
    assert answer.status_code == 200, answer.text
    account.keeps(id)
    made: dict[str, Any] = answer.json()
    return made


FILE = ("notes.txt", b"hello", "text/plain")


async def call(worker: LiveWorker, key: str, method: str, path: str, **sent: Any) -> httpx.Response:
    return await worker.http.request(method, f"{worker.url}{path}", headers={"Authorization": f"Bearer {key}"}, **sent)


async def batch_file(worker: LiveWorker, key: str, account: Account, id: str, file: bytes = BATCH_FILE) -> Any:
    account.upstream.plan(Reply(body={"id": id, "object": "file", "filename": "echo"}))
    files = {"file": ("calls.jsonl", file)}
    answer = await call(worker, key, "POST", "/files", data={"purpose": "batch"}, files=files)
    if answer.status_code == 200:
        account.keeps(id)
    return answer


# ---- files ---------------------------------------------------------------------------------------------------------


async def test_the_sdk_keeps_reads_lists_and_deletes_a_file(
    worker: LiveWorker, upstream: ScriptedUpstream, key: str
) -> None:
    account = Account(upstream)
    upstream.plan(Reply(body={"id": "file-abc", "object": "file", "filename": "echo", "purpose": "user_data"}))
    async with worker.sdk(key) as sdk:
        made = await sdk.files.create(file=("notes.txt", b"hello"), purpose="user_data")
        kept = account.keeps("file-abc")
        assert kept["filename"].endswith("..notes.txt") and kept["filename"] != "notes.txt"
        assert made.id.startswith("file-") and "abc" not in made.id
        upstream.plan(Reply(body=kept))
        shown = await sdk.files.retrieve(made.id)
        assert (shown.id, shown.filename) == (made.id, "notes.txt")
        upstream.plan(account.page())
        assert [file.id async for file in sdk.files.list()] == [made.id]
        upstream.plan(Pieces([b"hel", b"lo"], "text/html"))
        content = await sdk.files.content(made.id)
        assert (content.content, content.response.headers["content-type"]) == (b"hello", "application/octet-stream")
        upstream.plan(Reply(body={"id": "file-abc", "object": "file", "deleted": True}))
        deleted = await sdk.files.delete(made.id)
        assert (deleted.id, deleted.deleted) == (made.id, True)
    seen = [(request.method, request.path) for request in upstream.requests]
    assert seen == [
        ("POST", "/v1/files"),
        ("GET", "/v1/files/file-abc"),
        ("GET", "/v1/files"),
        ("GET", "/v1/files/file-abc/content"),
        ("DELETE", "/v1/files/file-abc"),
    ]
    assert upstream.requests[1].headers["authorization"].startswith("Bearer sk-provider")


async def test_files_belong_to_the_team_else_the_user_else_the_key(
    worker: LiveWorker, upstream: ScriptedUpstream, key: str
) -> None:
    account = Account(upstream)
    team_id = (await worker.manage("/team/new", team_alias="files"))["team_id"]
    alice, bob = await worker.new_key(team_id=team_id), await worker.new_key(team_id=team_id)
    outsider = await worker.new_key()
    mine = (await upload(worker, alice, account, "file-team"))["id"]
    theirs = (await upload(worker, outsider, account, "file-other"))["id"]
    stranger = {"id": "file-stranger", "object": "file", "filename": "not by us.txt"}

    async def listed(key: str) -> list[str]:
        upstream.plan(account.page(stranger))
        return [row["id"] for row in (await call(worker, key, "GET", "/v1/files")).json()["data"]]

    assert (await listed(alice), await listed(bob), await listed(outsider)) == ([mine], [mine], [theirs])
    assert len(await listed(worker.process.master_key)) == 3
    count = len(upstream.requests)
    for method, path in (("GET", ""), ("DELETE", ""), ("GET", "/content")):
        error_of(await call(worker, outsider, method, f"/v1/files/{mine}{path}"), 404)
        error_of(await call(worker, alice, method, f"/v1/files/file-team{path}"), 404)
    assert len(upstream.requests) == count


async def test_an_id_that_was_changed_is_no_file(worker: LiveWorker, upstream: ScriptedUpstream, key: str) -> None:
    id = (await upload(worker, key, Account(upstream), "file-1"))["id"]
    changed = id[:-4] + ("AAAA" if not id.endswith("AAAA") else "BBBB")
    for wrong in (changed, f"{id}AA", "batch_" + id[5:], "file-", "x" * 5000, "file-é"):
        error_of(await call(worker, key, "GET", f"/files/{wrong}"), 404)
    assert len(upstream.requests) == 1


async def test_a_file_goes_where_the_client_says(worker: LiveWorker, upstream: ScriptedUpstream, key: str) -> None:
    upstream.plan(*[Reply(body={"id": "f", "object": "file"})] * 5)
    for path, data in (
        ("/v1/files", {"target_model_names": "elsewhere"}),
        ("/azure/v1/files", {}),
        ("/files?target_model_names=elsewhere", {}),
        ("/files", {"custom_llm_provider": "azure"}),
        ("/openai/v1/files", {}),
    ):
        sent = {"purpose": "user_data", **data}
        answer = await call(worker, key, "POST", path, data=sent, files={"file": FILE})
        assert answer.status_code == 200, answer.text
    assert [(request.path, request.query) for request in upstream.requests] == [
        ("/other/v1/files", ""),
        ("/openai/files", "api-version=2024-10-21"),
        ("/other/v1/files", ""),
        ("/openai/files", "api-version=2024-10-21"),
        ("/v1/files", ""),
    ]
    form = parse_form(upstream.requests[0].body, upstream.requests[0].headers["content-type"])
    assert [part.name for part in form.parts] == ["purpose", "file"]


async def test_a_list_looks_through_the_pages_of_the_provider(
    worker: LiveWorker, upstream: ScriptedUpstream, key: str
) -> None:
    account = Account(upstream)
    id = (await upload(worker, key, account, "file-mine"))["id"]
    other = {"id": "file-x", "object": "file", "filename": "x"}
    upstream.plan(Reply(body={"data": [other], "has_more": True}), account.page())
    listed = (await call(worker, key, "GET", "/v1/files?purpose=user_data")).json()
    assert ([row["id"] for row in listed["data"]], listed["has_more"]) == ([id], False)
    assert [request.query for request in upstream.requests[1:]] == [
        "purpose=user_data&limit=1000",
        "purpose=user_data&limit=1000&after=file-x",
    ]


@pytest.mark.parametrize("path", ["/v1/files", "/v1/batches"])
async def test_a_list_counts_as_a_call_and_a_strange_one_is_empty(
    worker: LiveWorker, upstream: ScriptedUpstream, path: str
) -> None:
    key = await worker.new_key(rpm_limit=1)
    upstream.plan(Reply(body={"data": 5, "has_more": True}))
    listed = await call(worker, key, "GET", path)
    assert (listed.status_code, listed.json()["data"]) == (200, [])
    error_of(await call(worker, key, "GET", path), 429)
    assert len(upstream.requests) == 1


async def test_what_cannot_work_is_refused_here(worker: LiveWorker, upstream: ScriptedUpstream, key: str) -> None:
    async def refused(path: str, status: int, **sent: Any) -> None:
        answer = await call(worker, key, "POST", path, **sent)
        assert answer.status_code == status, answer.text

    await refused("/files", 400, json={})
    await refused("/files", 400, data={"purpose": "user_data"}, files={"other": FILE})
    await refused("/files", 400, files={"file": FILE})
    await refused("/files", 400, data={"purpose": "a", "target_model_names": "mocked"}, files={"file": FILE})
    await refused("/files", 400, data={"purpose": "a", "target_model_names": "chat,elsewhere"}, files={"file": FILE})
    await refused("/groq/v1/files", 400, data={"purpose": "a"}, files={"file": FILE})
    await refused("/nobody/v1/files", 400, data={"purpose": "a"}, files={"file": FILE})
    error_of(await call(worker, key, "GET", "/files?limit=0"), 400)
    assert not upstream.requests


async def test_the_provider_s_refusal_reads_as_ever(worker: LiveWorker, upstream: ScriptedUpstream, key: str) -> None:
    upstream.plan(Fault.status(400, "unknown purpose", param="purpose"))
    async with worker.sdk(key) as sdk:
        with pytest.raises(openai.BadRequestError, match="unknown purpose"):
            await sdk.files.create(file=b"x", purpose="user_data")
    upstream.plan(Fault.garbage())
    error_of(await call(worker, key, "POST", "/files", data={"purpose": "user_data"}, files={"file": FILE}), 500)


async def test_a_key_that_may_not_call_does_not_keep_files(worker: LiveWorker, upstream: ScriptedUpstream) -> None:
    limited = await worker.new_key(allowed_routes=["/v1/chat/completions"])
    assert (await call(worker, limited, "GET", "/v1/files")).status_code == 403
    blocked = await worker.new_key()
    await worker.manage("/key/block", key=blocked)
    assert (await call(worker, blocked, "GET", "/v1/files")).status_code == 401
    ungranted = await worker.new_key(models=["elsewhere"])
    error_of(await batch_file(worker, ungranted, Account(upstream), "x"), 403)
    assert not upstream.requests


# ---- batches -------------------------------------------------------------------------------------------------------


async def test_the_sdk_runs_a_batch(worker: LiveWorker, upstream: ScriptedUpstream, key: str) -> None:
    account = Account(upstream)
    file = (await batch_file(worker, key, account, "file-in")).json()
    sent = parse_form(upstream.requests[0].body, upstream.requests[0].headers["content-type"]).files("file")[0]
    assert [json.loads(line)["body"]["model"] for line in sent.value.splitlines()] == ["gpt-4o-mini"] * 2
    batch: dict[str, Any] = {"id": "batch_1", "object": "batch", "input_file_id": "file-in", "status": "validating"}
    upstream.plan(Reply(body=account.files["file-in"]), Reply(body=batch))
    async with worker.sdk(key) as sdk:
        made = await sdk.batches.create(
            input_file_id=file["id"],
            endpoint="/v1/chat/completions",
            completion_window="24h",
            metadata={"a": "b", "quarterdeck_owner": "forged"},
        )
        created = upstream.requests[-1].json
        assert created["input_file_id"] == "file-in" and created["endpoint"] == "/v1/chat/completions"
        assert created["metadata"]["a"] == "b" and "forged" not in created["metadata"]["quarterdeck_owner"]
        done = {**batch, "metadata": created["metadata"], "status": "completed", "output_file_id": "file-out"}
        upstream.on_path("/v1/files/file-out/content", Pieces([b"{}\n"], "application/jsonl"))
        upstream.plan(Reply(body=done))
        shown = await sdk.batches.retrieve(made.id if made.id else "")
        assert (shown.input_file_id, shown.metadata, shown.status) == (file["id"], {"a": "b"}, "completed")
        # It is metered once in the background.
        await upstream.wait_for_requests(5)
        assert (await sdk.files.content(shown.output_file_id or "")).content == b"{}\n"
        assert upstream.requests[-1].path == "/v1/files/file-out/content"
        foreign = {**done, "id": "batch_2", "metadata": {"quarterdeck_owner": "0" * 24}}
        upstream.plan(Reply(body={"data": [foreign, done, {"id": "batch_3"}], "has_more": False}))
        assert [one.id async for one in sdk.batches.list()] == [shown.id]
        upstream.plan(Reply(body={**done, "status": "cancelling"}))
        assert (await sdk.batches.cancel(shown.id)).status == "cancelling"
        assert (upstream.requests[-1].method, upstream.requests[-1].path) == ("POST", "/v1/batches/batch_1/cancel")
    other = await worker.new_key()
    for method, path in (("GET", ""), ("POST", "/cancel")):
        error_of(await call(worker, other, method, f"/v1/batches/{shown.id}{path}"), 404)
    error_of(await call(worker, other, "GET", f"/v1/files/{shown.output_file_id}/content"), 404)


@pytest.mark.parametrize(
    ("file", "words"),
    [
        (b"", "has no calls"),
        (b"not json\n", "Line 1"),
        (b'{"body": {"model": "chat"}}\n[]\n', "Line 2"),
        (b'{"body": {"messages": []}}', "names no model"),
        (b'{"body": {"model": 7}}', "names no model"),
        (b'{"body": {"model": "chat"}}\n{"body": {"model": "elsewhere"}}', "not served by the account"),
        (b'{"body": {"model": "unknown"}}', "model=unknown"),
        (b"".join(b'{"body": {"model": "m%d"}}\n' % n for n in range(6)), "more than 5 models"),
    ],
)
async def test_a_batch_file_that_cannot_run_is_refused_here(
    worker: LiveWorker, upstream: ScriptedUpstream, key: str, file: bytes, words: str
) -> None:
    error = error_of(await batch_file(worker, key, Account(upstream), "x", file), 400)
    assert words in error["message"]
    assert not upstream.requests


async def test_a_batch_needs_a_file_that_was_made_for_it(
    worker: LiveWorker, upstream: ScriptedUpstream, key: str
) -> None:
    account = Account(upstream)
    notes = (await upload(worker, key, account, "file-notes"))["id"]
    body = {"input_file_id": notes, "endpoint": "/v1/chat/completions", "completion_window": "24h"}
    upstream.plan(Reply(body=account.files["file-notes"]))
    error = error_of(await call(worker, key, "POST", "/v1/batches", json=body), 400)
    assert error["param"] == "input_file_id"
    for name in body:
        wrong = {**body, name: None}
        assert error_of(await call(worker, key, "POST", "/batches", json=wrong), 400)["param"] == name
    error_of(await call(worker, key, "POST", "/batches", json={**body, "input_file_id": "file-x"}), 404)
    error_of(await call(worker, key, "POST", "/batches", content=b"[]"), 400)


async def test_a_key_over_its_budget_starts_no_batch(worker: LiveWorker, upstream: ScriptedUpstream) -> None:
    account, key = Account(upstream), await worker.new_key(max_budget=0.000001)
    file = (await batch_file(worker, key, account, "file-in")).json()["id"]
    await worker.chat(key)
    await worker.spend_row(key)
    body = {"input_file_id": file, "endpoint": "/v1/chat/completions", "completion_window": "24h"}
    upstream.plan(Reply(body=account.files["file-in"]))
    assert (await call(worker, key, "POST", "/batches", json=body)).status_code == 422
