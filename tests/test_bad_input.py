"""Bad input over a real socket: a clear 4xx of the contract's shape, nothing written, nothing told.

One worker serves the whole file, once on SQLite and once on PostgreSQL. No provider stands behind it: a bad call that
got as far as that would be a 500 and not what it should be. In the end the tables and the log are looked at.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import httpx
import pytest

from app.settings import Settings
from app.storage.database import Database
from tests.conftest import MASTER_KEY
from tests.llm.live_worker import FAST, MESSAGES, PROVIDER_KEY, LiveWorker, deployment
from tests.services.ports import free_port
from tests.services.quarterdeck import QuarterdeckFactory, QuarterdeckProcess
from tests.services.run_directory import RunDirectory
from tests.services.templates import MigratedPostgres, copy_migrated_sqlite

CHAT = "/v1/chat/completions"
LLM = {CHAT: "messages", "/v1/completions": "prompt", "/v1/embeddings": "input"}
ADMIN = "/key/generate /key/update /key/delete /key/block /user/new /team/new /team/member_add /model/new".split()
UNTOUCHED = "spend_log daily_spend virtual_key user_account team team_membership deployment audit_log".split()
NESTED = b"[" * 100_000 + b"]" * 100_000
NO_OBJECTS = {
    "malformed": b'{"model": "chat", ',
    "words": b"model=chat",
    "array": b'[{"model": "chat"}]',
    "text": b'"chat"',
    "number": b"7",
    "null": b"null",
    "not UTF-8": b'{"model": "\xff\xfe"}',
    "nested without end": b'{"model": ' + NESTED + b"}",
    "two documents": b"{}{}",
}


@dataclass
class Bench:
    """The worker, its database, and keys in every state that a key should not be in."""

    worker: LiveWorker
    database: Database
    keys: dict[str, str]
    rows: dict[str, int]

    async def counted(self) -> dict[str, int]:
        found = {table: await self.database.fetch(f"SELECT COUNT(*) AS n FROM {table}") for table in UNTOUCHED}
        return {table: int(rows[0]["n"]) for table, rows in found.items()}

    def clear(self, answer: httpx.Response, status: int) -> str:
        """The message of a refusal in one of the contract's shapes; AssertionError for anything else."""
        assert answer.status_code == status, f"{answer.status_code}: {answer.text[:500]}"
        assert answer.headers["content-type"].startswith("application/json")
        body = answer.json()
        if "error" in body:
            assert set(body) == {"error"} and set(body["error"]) == {"message", "type", "param", "code"}, body
            assert body["error"]["code"] == str(status) and body["error"]["message"] and body["error"]["type"]
        else:
            assert set(body) == {"detail"} and body["detail"], body
        for word in ("Traceback", 'File "', ".py", "msgspec", "asyncpg", "sqlite", PROVIDER_KEY, MASTER_KEY):
            assert word not in answer.text, word
        assert not [name for name, key in self.keys.items() if key in answer.text]
        return json.dumps(body)


@pytest.fixture(scope="module", params=["sqlite", "postgres"])
def process(
    request: pytest.FixtureRequest,
    run_directory: RunDirectory,
    migrated_postgres: MigratedPostgres,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[tuple[QuarterdeckProcess, str]]:
    directory = tmp_path_factory.mktemp("bad-input")
    models = [deployment("chat", f"http://127.0.0.1:{free_port()}/v1")]
    config = {"model_list": models, "general_settings": {"max_request_size_mb": 1}}
    with ExitStack() as stack:
        if request.param == "postgres":
            url = stack.enter_context(migrated_postgres.lent())
        else:
            url = f"sqlite:///{directory}/bad.db"
            copy_migrated_sqlite(run_directory, directory / "bad.db")
        factory = QuarterdeckFactory(run_directory, directory, MASTER_KEY)
        stack.callback(factory.close)
        yield factory(config, database_url=url, env=FAST), url


@pytest.fixture(scope="module")
async def bench(process: tuple[QuarterdeckProcess, str]) -> AsyncIterator[Bench]:
    instance, url = process
    database = Database(Settings(database_url=url))
    await database.open()
    async with httpx.AsyncClient(trust_env=False, timeout=20) as http:
        worker = LiveWorker(instance, http)
        keys = {
            "good": await worker.new_key(),
            "other models": await worker.new_key(models=["other"]),
            "blocked": await worker.new_key(),
            "expired": await worker.new_key(duration="1s"),
            "without money": await worker.new_key(max_budget=0),
            "deleted": await worker.new_key(),
        }
        await worker.manage("/key/block", key=keys["blocked"])
        await worker.manage("/key/delete", keys=[keys["deleted"]])
        await asyncio.sleep(1.1)
        bench = Bench(worker, database, keys, {})
        bench.rows = await bench.counted()
        yield bench
        await asyncio.sleep(0.5)  # several flushes of the ledger
        assert await bench.counted() == bench.rows
    await database.close()
    log = instance.log_text()
    assert "Traceback" not in log and "unexpected error" not in log, log
    assert not [secret for secret in (*keys.values(), MASTER_KEY, PROVIDER_KEY) if secret in log]


@pytest.fixture(autouse=True)
async def nothing_is_written(bench: Bench) -> AsyncIterator[None]:
    yield
    assert await bench.counted() == bench.rows


# ---- bodies --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", LLM)
@pytest.mark.parametrize("name", NO_OBJECTS)
async def test_a_call_s_body_that_is_no_json_object(bench: Bench, path: str, name: str) -> None:
    answer = await bench.worker.send(bench.keys["good"], NO_OBJECTS[name], path)
    message = bench.clear(answer, 400)
    assert "invalid_request_error" in message


@pytest.mark.parametrize("path", ADMIN)
@pytest.mark.parametrize("name", NO_OBJECTS)
async def test_a_management_body_that_is_no_json_object(bench: Bench, path: str, name: str) -> None:
    bench.clear(await bench.worker.send(MASTER_KEY, NO_OBJECTS[name], path), 422)


@pytest.mark.parametrize("path", LLM)
@pytest.mark.parametrize("body", [b"", b"{}", b'{"model": "chat"}'])
async def test_a_call_without_what_it_is_about(bench: Bench, path: str, body: bytes) -> None:
    message = bench.clear(await bench.worker.send(bench.keys["good"], body, path), 400)
    assert f"Missing required parameter: '{LLM[path]}'" in message


@pytest.mark.parametrize("path", [path for path in ADMIN if path not in ("/key/generate", "/user/new", "/team/new")])
async def test_a_management_call_without_its_fields(bench: Bench, path: str) -> None:
    bench.clear(await bench.worker.send(MASTER_KEY, b"{}", path), 422)


@pytest.mark.parametrize(
    "wrong",
    [
        {"model": 7},
        {"model": ["chat"]},
        {"messages": "hi"},
        {"messages": {}},
        {"messages": []},
        {"messages": ["hi"]},
        {"messages": [None]},
        {"stream": "yes"},
        {"stream_options": [1]},
        {"max_tokens": "many"},
        {"max_tokens": -1},
        {"max_completion_tokens": 1.5},
        {"metadata": "text"},
        {"user": {"id": 7}},
        {"tags": "one"},
        {"api_key": "sk-mine"},
        {"api_base": "http://169.254.169.254/"},
    ],
    ids=str,
)
async def test_a_call_with_a_wrong_type(bench: Bench, wrong: dict[str, Any]) -> None:
    answer = await bench.worker.chat(bench.keys["good"], **{"model": "chat", **wrong})
    bench.clear(answer, 400)
    assert answer.json()["error"]["param"] == next(iter(wrong))


@pytest.mark.parametrize(
    ("path", "wrong"),
    [
        ("/key/generate", {"models": "chat"}),
        ("/key/generate", {"max_budget": "much"}),
        ("/key/generate", {"metadata": [1]}),
        ("/key/generate", {"aliases": 7}),
        ("/key/generate", {"tpm_limit": "x"}),
        ("/key/generate", {"key_type": "root"}),
        ("/key/generate", {"budget_duration": "soon"}),
        ("/key/generate", {"duration": "-1d"}),
        ("/key/generate", {"max_budget": -1}),
        ("/key/generate", {"key": "no-prefix"}),
        ("/key/generate", {"key_alias": "zero\0character"}),
        ("/key/delete", {"keys": "sk-one"}),
        ("/key/delete", {"keys": [7]}),
        ("/user/new", {"user_role": "emperor"}),
        ("/user/new", {"user_id": "x" * 300}),
        ("/team/new", {"models": {"a": 1}}),
        ("/team/member_add", {"team_id": "no-such-team", "member": "alice"}),
        ("/model/new", {"model_name": "x", "litellm_params": "openai/x"}),
        ("/model/new", {"model_name": "x", "litellm_params": {"model": "nobody/x"}}),
    ],
    ids=str,
)
async def test_a_management_call_with_a_wrong_value(bench: Bench, path: str, wrong: dict[str, Any]) -> None:
    answer = await bench.worker.http.post(f"{bench.worker.url}{path}", json=wrong, headers=bench.worker.admin)
    assert answer.status_code in (400, 422), answer.text
    bench.clear(answer, answer.status_code)


# ---- models and keys -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("model", ["nope", "gpt-4o", "chat ", "CHAT", "\0", "../chat", "'; DROP TABLE virtual_key; --"])
async def test_an_unknown_model(bench: Bench, model: str) -> None:
    message = bench.clear(await bench.worker.chat(bench.keys["good"], model), 400)
    assert "There are no healthy deployments for this model" in message


@pytest.mark.parametrize("key", ["", "sk-", "sk-unknown", "unknown", "sk-\u00e9", "sk-" + "x" * 5000, "sk-' OR '1'='1"])
@pytest.mark.parametrize("path", [CHAT, "/key/generate"])
async def test_a_bad_key(bench: Bench, path: str, key: str) -> None:
    headers = [(b"authorization", f"Bearer {key}".strip().encode())]
    body = {"model": "chat", "messages": MESSAGES}
    message = bench.clear(await bench.worker.http.post(f"{bench.worker.url}{path}", json=body, headers=headers), 401)
    assert len(key) < 9 or key not in message


@pytest.mark.parametrize(
    ("state", "status", "words"),
    [
        ("blocked", 401, "Key is blocked"),
        ("expired", 401, "Expired Key"),
        ("deleted", 401, "Invalid proxy server token"),
        ("other models", 403, "is not available for this API key"),
        ("without money", 422, "Budget has been exceeded!"),
    ],
)
async def test_a_key_that_may_not_call(bench: Bench, state: str, status: int, words: str) -> None:
    for _ in range(2):  # from the table, then from memory
        assert words in bench.clear(await bench.worker.chat(bench.keys[state]), status)
        async with bench.worker.stream(bench.keys[state]) as answer:
            await answer.aread()
        assert words in bench.clear(answer, status)


@pytest.mark.parametrize("state", ["blocked", "expired", "deleted"])
async def test_a_key_that_may_not_manage(bench: Bench, state: str) -> None:
    headers = {"Authorization": f"Bearer {bench.keys[state]}"}
    bench.clear(await bench.worker.http.get(f"{bench.worker.url}/key/info", headers=headers), 401)
    bench.clear(await bench.worker.http.post(f"{bench.worker.url}/key/generate", json={}, headers=headers), 401)


@pytest.mark.parametrize("path", ["/key/generate", "/user/new", "/team/new", "/model/new", "/key/block"])
async def test_a_key_of_a_client_does_not_manage(bench: Bench, path: str) -> None:
    headers = {"Authorization": f"Bearer {bench.keys['good']}"}
    answer = await bench.worker.http.post(f"{bench.worker.url}{path}", json={"key": "sk-x"}, headers=headers)
    assert answer.status_code in (401, 403)
    bench.clear(answer, answer.status_code)


# ---- size, paths, methods ------------------------------------------------------------------------------------------


async def in_pieces(size: int) -> AsyncIterator[bytes]:
    for _ in range(size // 65_536):
        yield b" " * 65_536


@pytest.mark.parametrize("path", [CHAT, "/v1/embeddings", "/key/generate", "/model/new"])
@pytest.mark.parametrize("is_chunked", [False, True], ids=["announced", "chunked"])
async def test_a_body_over_the_limit(bench: Bench, path: str, is_chunked: bool) -> None:
    key = MASTER_KEY if path not in LLM else bench.keys["good"]
    content: Any = in_pieces(1_600_000) if is_chunked else b'{"model": "chat", "x": "' + b"x" * 1_600_000 + b'"}'
    headers = {"Authorization": f"Bearer {key}"}
    answer = await bench.worker.http.post(f"{bench.worker.url}{path}", content=content, headers=headers)
    assert "larger than this gateway accepts" in bench.clear(answer, 413)


async def test_who_is_refused_while_sending_still_hears_why(bench: Bench) -> None:
    body = b'{"model": "chat", "x": "' + b"x" * 1_000_000 + b'"}'
    for _ in range(10):
        bench.clear(await bench.worker.send("sk-unknown", body), 401)
        bench.clear(await bench.worker.send(bench.keys["good"], body * 5), 413)


async def test_a_client_that_never_finishes_is_cut_off(bench: Bench) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", bench.worker.process.port)
    writer.write(f"POST {CHAT} HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999\r\n\r\n".encode())
    async with asyncio.timeout(8):
        assert (await reader.read()).startswith(b"HTTP/1.1 401 ")
    writer.close()


async def test_a_body_just_below_the_limit_is_read(bench: Bench) -> None:
    body = json.dumps({"model": "nope", "messages": MESSAGES, "x": "x" * 1_000_000}).encode()
    assert "model=nope" in bench.clear(await bench.worker.send(bench.keys["good"], body), 400)


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", CHAT, 405),
        ("DELETE", "/key/generate", 405),
        ("POST", "/v1/models", 405),
        ("GET", "/no/such/route", 404),
        ("GET", "/v1/models/nope", 404),
        ("GET", "/key/info?key=sk-nobody", 404),
    ],
)
async def test_a_path_or_method_that_is_not_there(bench: Bench, method: str, path: str, status: int) -> None:
    answer = await bench.worker.http.request(method, f"{bench.worker.url}{path}", headers=bench.worker.admin)
    bench.clear(answer, status)
    assert status != 405 or answer.headers["allow"]


@pytest.mark.parametrize(
    "request_bytes",
    [
        b"GARBAGE\r\n\r\n",
        b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Length: ten\r\n\r\n",
        b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nContent-Length: 7\r\n\r\n{}",
        b"GET /" + b"x" * 100_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nbad header\r\n\r\n",
    ],
    ids=["no HTTP", "length in words", "two lengths", "endless path", "no header"],
)
async def test_what_is_no_http_is_400_and_the_end(bench: Bench, request_bytes: bytes) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", bench.worker.process.port)
    writer.write(request_bytes)
    async with asyncio.timeout(5):
        answer = await reader.read()
    assert answer.startswith((b"HTTP/1.1 4", b"HTTP/1.0 4")), answer[:100]
    assert b"Traceback" not in answer
    writer.close()
    assert (await bench.worker.http.get(f"{bench.worker.url}/health/liveliness")).status_code == 200
