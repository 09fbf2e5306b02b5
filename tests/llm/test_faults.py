"""What a provider can do wrong: the contract's status, type and words for it, and an honest row in the spend log."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any

import pytest

from tests.llm.live_worker import ONCE, LiveWorker, deployment, error_of
from tests.upstream import Fault, Reply, ScriptedUpstream, Step


@dataclass(frozen=True)
class Expected:
    """What the contract says about one fault."""

    step: Step
    status: int
    type: str
    name: str
    is_retried: bool


def of_status(upstream: int, status: int, type: str, name: str, *, is_retried: bool) -> Expected:
    return Expected(Fault.status(upstream, "no such luck"), status, type, name, is_retried)


SERVER = "internal_server_error"
FAULTS = {
    "400": of_status(400, 400, "invalid_request_error", "BadRequestError", is_retried=False),
    "401": of_status(401, 401, "authentication_error", "AuthenticationError", is_retried=True),
    "403": of_status(403, 403, "permission_error", "PermissionDeniedError", is_retried=True),
    "404": of_status(404, 404, "invalid_request_error", "NotFoundError", is_retried=False),
    "408": of_status(408, 408, "invalid_request_error", "Timeout", is_retried=True),
    "409": of_status(409, 409, SERVER, "APIError", is_retried=True),
    "422": of_status(422, 422, "invalid_request_error", "UnprocessableEntityError", is_retried=False),
    "429": of_status(429, 429, "throttling_error", "RateLimitError", is_retried=True),
    "500": of_status(500, 500, SERVER, "InternalServerError", is_retried=True),
    "502": of_status(502, 502, SERVER, "BadGatewayError", is_retried=True),
    "503": of_status(503, 503, SERVER, "ServiceUnavailableError", is_retried=True),
    "504": of_status(504, 408, "invalid_request_error", "Timeout", is_retried=True),
    "529": of_status(529, 500, SERVER, "InternalServerError", is_retried=True),
    "418": of_status(418, 418, SERVER, "APIError", is_retried=False),
    "redirect": Expected(Reply(status=302, headers={"location": "http://elsewhere/"}), 502, SERVER, "APIError", True),
    "reset": Expected(Fault.reset(), 500, SERVER, "APIConnectionError", True),
    "closed": Expected(Fault.closed(), 500, SERVER, "APIConnectionError", True),
    "not HTTP": Expected(Fault.not_http(), 500, SERVER, "APIConnectionError", True),
    "cut body": Expected(Fault.cut_mid_body(), 500, SERVER, "APIConnectionError", True),
    "reset body": Expected(Reply(cut_body="reset"), 500, SERVER, "APIConnectionError", True),
    "html": Expected(Fault.garbage(), 500, SERVER, "InternalServerError", True),
    "html with 503": Expected(Fault.garbage(503), 503, SERVER, "ServiceUnavailableError", True),
    "a list": Expected(Fault.wrong_json(), 500, SERVER, "InternalServerError", True),
    "empty": Expected(Reply(raw=b""), 500, SERVER, "InternalServerError", True),
    "nested without end": Expected(Reply(raw=b'{"a":' + b"[" * 100_000), 500, SERVER, "InternalServerError", True),
}


@pytest.fixture(scope="module")
def model_list(model_list: list[dict[str, Any]], upstream_port: int) -> list[dict[str, Any]]:
    """Besides the usual models two deployments for each fault, so that none rests for what another test did to it."""
    here = f"http://127.0.0.1:{upstream_port}/v1"
    pairs = [
        deployment(f"pair {name}", here, model, id=f"{half} of {name}")
        for name in [*FAULTS, "both fail", "rested"]
        for half, model in (("one", "openai/gpt-4o-mini"), ("other", "openai/gpt-4o"))
    ]
    return [*model_list, *pairs]


@pytest.mark.parametrize("name", FAULTS)
async def test_a_fault_has_the_contract_s_status_and_an_honest_row(
    worker: LiveWorker, upstream: ScriptedUpstream, key: str, name: str
) -> None:
    expected = FAULTS[name]
    upstream.plan(expected.step)
    answer = await worker.chat(key, headers=ONCE)
    error = error_of(answer, expected.status)
    assert len(upstream.requests) == 1
    assert error["type"] == expected.type
    assert error["message"].startswith(f"litellm.{expected.name}: {expected.name}: OpenaiException - ")
    assert answer.headers["x-litellm-call-id"] and answer.headers["x-litellm-response-cost"] == "0"
    row = await worker.spend_row(key)
    assert (row["status"], row["spend"], row["total_tokens"]) == ("failure", 0, 0)
    assert row["metadata"]["error_information"]["error_code"] == str(expected.status)
    assert row["litellm_call_id"] == answer.headers["x-litellm-call-id"]
    assert (row["model"], row["model_group"], row["model_id"]) == ("gpt-4o-mini", "chat", "chat-1")


@pytest.mark.parametrize("name", FAULTS)
async def test_another_deployment_answers_what_it_may(
    worker: LiveWorker, upstream: ScriptedUpstream, key: str, name: str
) -> None:
    expected = FAULTS[name]
    upstream.plan(expected.step, Reply("from the other one"))
    answer = await worker.chat(key, f"pair {name}")
    if not expected.is_retried:
        error_of(answer, expected.status)
        assert len(upstream.requests) == 1
        return
    assert answer.status_code == 200, answer.text
    assert answer.json()["choices"][0]["message"]["content"] == "from the other one"
    assert answer.headers["x-litellm-attempted-retries"] == "1"
    assert {request.model for request in upstream.requests} == {"gpt-4o-mini", "gpt-4o"}
    row = await worker.spend_row(key)
    (attempt,) = row["metadata"]["failed_attempts"]
    assert (row["status"], attempt["status"]) == ("success", expected.status)
    assert {attempt["model_id"], answer.headers["x-litellm-model-id"]} == {f"one of {name}", f"other of {name}"}


async def test_the_provider_s_own_words_reach_the_client(
    worker: LiveWorker, upstream: ScriptedUpstream, key: str
) -> None:
    upstream.plan(Fault.status(400, "temperature is too hot", param="temperature", code="too_hot"))
    error = error_of(await worker.chat(key), 400)
    assert error["message"] == "litellm.BadRequestError: BadRequestError: OpenaiException - temperature is too hot"
    assert error["param"] == "temperature"


@pytest.mark.parametrize(
    ("step", "name"),
    [
        (Fault.status(400, "no", code="context_length_exceeded"), "ContextWindowExceededError"),
        (Fault.status(400, "This model's maximum context length is 8192 tokens"), "ContextWindowExceededError"),
        (Fault.status(400, "no", code="content_policy_violation"), "ContentPolicyViolationError"),
        (Fault.status(400, "Your request was rejected by our safety system"), "ContentPolicyViolationError"),
    ],
)
async def test_some_refusals_have_names_of_their_own(
    worker: LiveWorker, upstream: ScriptedUpstream, key: str, step: Step, name: str
) -> None:
    upstream.plan(step)
    error = error_of(await worker.chat(key), 400)
    assert error["message"].startswith(f"litellm.{name}: ")
    assert error["type"] == "invalid_request_error"


@pytest.mark.parametrize("given", ["7", "Wed, 21 Oct 2026 07:28:00 GMT"])
async def test_the_time_to_wait_reaches_the_client(
    worker: LiveWorker, upstream: ScriptedUpstream, key: str, given: str
) -> None:
    upstream.plan(Fault.status(429, retry_after=given))
    answer = await worker.chat(key, headers=ONCE)
    error_of(answer, 429)
    assert answer.headers["retry-after"] == given


async def test_a_provider_that_refuses_connections(worker: LiveWorker, key: str) -> None:
    error = error_of(await worker.chat(key, "refused", headers=ONCE), 500)
    assert "APIConnectionError" in error["message"]
    assert "127.0.0.1" not in error["message"]
    assert (await worker.spend_row(key))["status"] == "failure"


async def test_a_deployment_that_is_down_is_never_noticed(
    worker: LiveWorker, upstream: ScriptedUpstream, key: str
) -> None:
    answers = await asyncio.gather(*(worker.chat(key, "half-refused") for _ in range(20)))
    assert {answer.status_code for answer in answers} == {200}
    assert {answer.headers["x-litellm-model-id"] for answer in answers} == {"answering-half"}
    rows = await worker.spend_rows(key, 20)
    assert {row["status"] for row in rows} == {"success"}
    assert 0 < sum("failed_attempts" in row["metadata"] for row in rows) < 20


async def test_when_every_deployment_fails_the_last_failure_is_the_answer(
    worker: LiveWorker, upstream: ScriptedUpstream, key: str
) -> None:
    upstream.plan(Fault.status(500, "first"), Fault.status(503, "second"))
    answer = await worker.chat(key, "pair both fail", num_retries=1)
    assert "second" in error_of(answer, 503)["message"]
    assert answer.headers["x-litellm-attempted-retries"] == "1"
    row = await worker.spend_row(key)
    assert [attempt["status"] for attempt in row["metadata"]["failed_attempts"]] == [500, 503]


@pytest.mark.parametrize(
    "step", [Fault.hang(), Fault.hang_after_headers(), Reply(delay=3)], ids=["all", "body", "late"]
)
async def test_a_provider_that_hangs_is_given_up(
    worker: LiveWorker, upstream: ScriptedUpstream, key: str, step: Step
) -> None:
    upstream.plan(step)
    async with asyncio.timeout(2.5):
        error = error_of(await worker.chat(key, "impatient", headers=ONCE), 408)
    assert error["type"] == "invalid_request_error"
    assert error["message"].startswith("litellm.Timeout: Timeout: ")
    await upstream.wait_for_disconnects(1, seconds=2)
    assert (await worker.spend_row(key))["metadata"]["error_information"]["error_code"] == "408"


async def test_a_client_may_set_a_shorter_time(worker: LiveWorker, upstream: ScriptedUpstream, key: str) -> None:
    upstream.plan(Fault.hang())
    async with asyncio.timeout(2):
        error_of(await worker.chat(key, headers={"x-litellm-timeout": "0.3", **ONCE}), 408)
    for wrong in ("soon", "0", "-1", "nan", "inf", "1e9"):
        error = error_of(await worker.chat(key, headers={"x-litellm-timeout": wrong}), 400)
        assert error["param"] == "x-litellm-timeout"


@pytest.mark.parametrize("model", ["mocked-limit"])
async def test_a_mocked_failure_is_a_failure(worker: LiveWorker, key: str, model: str) -> None:
    assert error_of(await worker.chat(key, model, headers=ONCE), 429)["type"] == "throttling_error"
    assert (await worker.spend_row(key))["status"] == "failure"


async def test_a_very_long_answer_passes(worker: LiveWorker, upstream: ScriptedUpstream, key: str) -> None:
    upstream.plan(Fault.huge(8_000_000))
    answer = await worker.chat(key)
    assert len(answer.json()["choices"][0]["message"]["content"]) == 8_000_000


async def test_no_fault_leaves_a_stack_or_a_secret_in_the_log(worker: LiveWorker, key: str) -> None:
    log = worker.process.log_text()
    assert "Traceback" not in log and "sk-provider" not in log and key not in log
