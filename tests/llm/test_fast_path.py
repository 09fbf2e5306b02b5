"""Two doors, one behaviour: the hottest routes answer alike around the framework and through it.

Here every case is sent to two workers, one per door. Below, tests of the neighbouring files run again through the
framework; there they run around it, as a worker does unless told otherwise.
"""

from __future__ import annotations

import asyncio
import json
from typing import Any
from uuid import uuid4

import httpx
import pytest

from tests.llm.live_worker import FAST, MESSAGES, LiveWorker, error_of
from tests.llm.test_access import (  # noqa: F401 - collected here again, for the other door
    test_a_blocked_key_is_refused_from_the_next_call_on,
    test_an_expired_key,
    test_rate_limits_are_the_contract_s_429,
)
from tests.llm.test_calls import (  # noqa: F401 - the same
    test_a_refusal_names_its_call_as_well,
    test_each_header_of_the_contract_carries_the_key,
    test_every_alias_of_an_operation_answers,
    test_the_answer_says_who_served_it_and_what_it_cost,
    test_the_sdk_gets_embeddings_and_text,
)
from tests.llm.test_streaming import (  # noqa: F401 - the same
    test_a_client_that_leaves_before_the_answer_stops_the_provider,
    test_a_client_that_leaves_stops_the_provider_and_pays_for_what_it_got,
    test_a_hundred_streams_at_once_all_finish,
    test_a_stream_that_breaks_says_so,
    test_an_event_is_out_before_the_next_one_exists,
    test_clients_that_leave_at_any_moment_leave_nothing_held,
)
from tests.services.quarterdeck import QuarterdeckFactory, QuarterdeckProcess
from tests.upstream import Fault, Reply, ScriptedUpstream, Step, Stream

# What differs from one call to the next, or from one second to the next.
VOLATILE = {"date", "x-litellm-call-id", "x-litellm-response-duration-ms", "x-litellm-overhead-duration-ms"}
CHAT: dict[str, Any] = {"model": "chat", "messages": MESSAGES}
HOT = ["/v1/chat/completions", "/chat/completions", "/v1/completions", "/completions", "/v1/embeddings", "/embeddings"]


def _config(model_list: list[dict[str, Any]]) -> dict[str, Any]:
    general = {"max_request_size_mb": 1, "user_header_name": "X-End-User", "litellm_key_header_name": "X-Own-Key"}
    return {"model_list": model_list, "general_settings": general}


@pytest.fixture(scope="module")
def worker_process(factory: QuarterdeckFactory, model_list: list[dict[str, Any]]) -> QuarterdeckProcess:
    """The worker of this module's tests: calls go through the framework."""
    return factory(_config(model_list), env={**FAST, "QUARTERDECK_DIRECT_CALLS": "false"})


@pytest.fixture(scope="module", params=["hypercorn", "granian"])
def direct_process(
    request: pytest.FixtureRequest, factory: QuarterdeckFactory, model_list: list[dict[str, Any]]
) -> QuarterdeckProcess:
    """A worker whose calls go around it, under each server."""
    return factory(_config(model_list), env=FAST, arguments=["--server", request.param])


@pytest.fixture
async def direct(direct_process: QuarterdeckProcess, http: httpx.AsyncClient) -> LiveWorker:
    return LiveWorker(direct_process, http)


class Doors:
    """Two workers with the same key."""

    def __init__(self, framework: LiveWorker, direct: LiveWorker, key: str, upstream: ScriptedUpstream) -> None:
        self.both = (framework, direct)
        self.key = key
        self.upstream = upstream

    async def same(self, path: str, *steps: Step, key: str | None = None, **sent: Any) -> httpx.Response:
        """Send one request to both and compare what comes back. Answers with the direct one."""
        headers = {"Authorization": f"Bearer {key or self.key}", **sent.pop("headers", {})}
        answers = []
        for worker in self.both:
            self.upstream.plan(*steps)
            answers.append(await worker.http.post(f"{worker.url}{path}", headers=headers, **sent))
        assert [shown(answer) for answer in answers[:1]] == [shown(answer) for answer in answers[1:]]
        return answers[1]


def shown(answer: httpx.Response) -> tuple[int, dict[str, str], bytes]:
    """What may not differ of what a client sees. How a server frames a body, and its name, are its own."""
    own = VOLATILE | {"transfer-encoding", "server", "connection"}
    headers = {name: value for name, value in answer.headers.items() if name not in own}
    return answer.status_code, headers, answer.content


@pytest.fixture
async def doors(worker: LiveWorker, direct: LiveWorker, upstream: ScriptedUpstream) -> Doors:
    key = f"sk-{uuid4().hex}"
    for one in (worker, direct):
        await one.new_key(key=key, max_budget=50, rpm_limit=1000)
    return Doors(worker, direct, key, upstream)


# ---- the same answers ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", HOT)
async def test_an_answer_is_the_same(doors: Doors, path: str) -> None:
    model = "embedding" if "embeddings" in path else "chat" if "chat" in path else "text"
    answer = await doors.same(path, json={"model": model, "messages": MESSAGES, "prompt": "hi", "input": "hi"})
    assert answer.status_code == 200
    assert answer.headers["x-frame-options"] == "DENY" and "x-litellm-key-spend" in answer.headers


@pytest.mark.parametrize("step", [Stream(("a", "b")), Stream(("a",), done=False), Fault.error_in_stream(after=1)])
async def test_a_stream_is_the_same(doors: Doors, step: Step) -> None:
    answer = await doors.same("/v1/chat/completions", step, json={**CHAT, "stream": True})
    assert answer.headers["content-type"] == "text/event-stream; charset=utf-8"
    assert answer.content.endswith(b"data: [DONE]\n\n")


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"", 400),
        (b"{", 400),
        (b"[]", 400),
        (b'{"model": "chat"}', 400),
        (b'{"model": "chat", "messages": "hi"}', 400),
        (b'{"model": "nope", "messages": [{}]}', 400),
        (b'{"model": "chat", "messages": [{}], "api_base": "http://elsewhere"}', 400),
        (b"\xff\xfe", 400),
        (b'{"model": "sch\xc3\xb6n", "messages": [{}]}', 400),
        (b"x" * (1024 * 1024 + 1), 413),
    ],
    ids=["empty", "torn", "list", "no messages", "text", "model", "address", "bytes", "letters", "too large"],
)
async def test_a_refused_body_is_the_same(doors: Doors, body: bytes, status: int) -> None:
    answer = await doors.same("/v1/chat/completions", content=body, headers={"Content-Type": "application/json"})
    assert answer.status_code == status
    assert set(error_of(answer, status)) == {"message", "type", "param", "code"}


async def test_a_body_in_pieces_without_a_length_is_the_same(doors: Doors) -> None:
    async def pieces(count: int) -> Any:
        yield json.dumps(CHAT).encode()
        for _ in range(count):
            yield b" " * 65_536

    for count, status in ((2, 200), (20, 413)):
        for worker in doors.both:
            headers = {"Authorization": f"Bearer {doors.key}"}
            answer = await worker.http.post(f"{worker.url}/v1/chat/completions", content=pieces(count), headers=headers)
            assert answer.status_code == status


@pytest.mark.parametrize(
    "headers",
    [
        {"Authorization": ""},
        {"Authorization": "sk-without-scheme"},
        {"Authorization": "Bearer sk-unknown-of-both"},
        {"Authorization": "Bearer pk-of-something-else"},
        {"X-Own-Key": "Bearer sk-unknown-of-both"},
        {"X-Own-Key": "no scheme"},
        {"x-litellm-timeout": "soon"},
        {"x-litellm-stream-timeout": "-1"},
        {"x-litellm-num-retries": "21"},
    ],
)
async def test_a_refused_header_is_the_same(doors: Doors, headers: dict[str, str]) -> None:
    answer = await doors.same("/v1/chat/completions", json=CHAT, headers=headers)
    assert answer.status_code in (400, 401)


async def test_a_key_is_asked_for_before_the_body_is_judged(doors: Doors) -> None:
    answer = await doors.same("/v1/chat/completions", content=b"x" * 2_000_000, key="sk-unknown-of-both")
    assert answer.status_code == 401


@pytest.mark.parametrize("step", [Fault.status(400), Fault.status(401), Fault.status(404), Fault.garbage()])
async def test_a_failure_of_the_provider_is_the_same(doors: Doors, step: Step) -> None:
    answer = await doors.same("/v1/chat/completions", step, json={**CHAT, "num_retries": 0})
    assert answer.status_code >= 400 and "x-litellm-attempted-retries" in answer.headers


async def test_what_the_headers_say_of_a_call_is_the_same(doors: Doors) -> None:
    headers = {"X-End-User": "ada", "x-litellm-tags": "a, b ,,a", "x-litellm-session-id": "s-1"}
    call_id = f"call-{uuid4().hex}"
    answer = await doors.same(
        "/v1/chat/completions", Reply("Fine"), json=CHAT, headers={**headers, "x-litellm-call-id": call_id}
    )
    assert answer.headers["x-litellm-call-id"] == call_id
    rows = [await worker.spend_row(doors.key) for worker in doors.both]
    said = [
        {name: row[name] for name in ("end_user", "request_tags", "session_id", "requester_ip_address")} for row in rows
    ]
    assert said[0] == said[1]
    assert (said[0]["end_user"], said[0]["request_tags"], said[0]["session_id"]) == ("ada", ["a", "b"], "s-1")


async def test_what_is_not_for_the_fast_path_is_the_framework_s(doors: Doors) -> None:
    assert (await doors.same("/v1/chat/completions/", json=CHAT)).status_code == 200
    assert (await doors.same("/v1/chat/completions/more", json=CHAT)).status_code == 404
    for worker in doors.both:
        assert (await worker.http.get(f"{worker.url}/v1/chat/completions")).status_code == 405


async def test_a_closed_group_is_closed_at_both_doors(
    factory: QuarterdeckFactory, model_list: list[dict[str, Any]], http: httpx.AsyncClient
) -> None:
    process = factory({"model_list": model_list}, env={"DISABLE_LLM_API_ENDPOINTS": "true"})
    answer = await http.post(f"{process.url}/v1/chat/completions", json=CHAT)
    assert (answer.status_code, answer.json()) == (403, {"detail": "LLM API routes are disabled for this instance."})


# ---- clients that leave, at the direct door under each server -------------------------------------------------------


async def test_a_client_that_leaves_a_stream_stops_the_provider(direct: LiveWorker, upstream: ScriptedUpstream) -> None:
    key = await direct.new_key()
    upstream.plan(Stream(tuple("abcdefghij"), hang_after=10))
    async with direct.stream(key) as answer:
        async for line in answer.aiter_lines():
            if '"j' in line:
                break
    await upstream.wait_for_disconnects(1, seconds=3)
    row = await direct.spend_row(key)
    assert row["metadata"]["error_information"]["error_code"] == "499"
    assert row["completion_tokens"] >= 8


async def test_a_client_that_leaves_before_the_answer_is_billed_nothing(
    direct: LiveWorker, upstream: ScriptedUpstream
) -> None:
    key = await direct.new_key()
    upstream.plan(Fault.hang())
    with pytest.raises(httpx.ReadTimeout):
        await direct.http.post(
            f"{direct.url}/v1/chat/completions", json=CHAT, headers={"Authorization": f"Bearer {key}"}, timeout=0.3
        )
    await upstream.wait_for_disconnects(1, seconds=3)
    row = await direct.spend_row(key)
    assert (row["spend"], row["metadata"]["error_information"]["error_code"]) == (0, "499")


async def test_a_client_that_leaves_inside_its_body_leaves_nothing_behind(direct: LiveWorker) -> None:
    key = await direct.new_key()
    for _ in range(5):
        _, writer = await asyncio.open_connection("127.0.0.1", direct.process.port)
        head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: worker\r\nAuthorization: Bearer {key}\r\n"
        writer.write(f"{head}Content-Length: 1000\r\n\r\nhalf".encode())
        await writer.drain()
        writer.transport.abort()
    await asyncio.sleep(0.1)
    assert (await direct.http.get(f"{direct.url}/health/liveliness")).status_code == 200
    assert "unexpected error" not in direct.process.log_text() and "Traceback" not in direct.process.log_text()
