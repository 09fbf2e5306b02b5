"""What a provider says reaches the client only as far as it is safe: no credential of ours, no header that breaks."""

from __future__ import annotations

import pytest

from tests.llm.live_worker import PROVIDER_KEY, LiveWorker, error_of
from tests.upstream import Fault, Reply, ScriptedUpstream, Stream


async def test_a_provider_that_repeats_our_credential_does_not_give_it_away(
    worker: LiveWorker, upstream: ScriptedUpstream, key: str
) -> None:
    upstream.plan(Fault.status(401, f"Incorrect API key provided: {PROVIDER_KEY}. Header: Bearer {PROVIDER_KEY}"))
    answer = await worker.chat(key)
    message = error_of(answer, 401)["message"]
    assert "Incorrect API key provided" in message
    assert PROVIDER_KEY not in answer.text
    assert PROVIDER_KEY not in str(await worker.spend_row(key))


async def test_a_credential_in_an_error_event_stays_here(
    worker: LiveWorker, upstream: ScriptedUpstream, key: str
) -> None:
    upstream.plan(Reply(raw=b'data: {"error": {"message": "bad key ' + PROVIDER_KEY.encode() + b'"}}\n\n'))
    answer = await worker.chat(key, stream=True)
    assert PROVIDER_KEY not in answer.text


@pytest.mark.parametrize("value", ["caf\u00e9", "tab\there", "\u00ff"])
@pytest.mark.parametrize("is_stream", [False, True])
async def test_a_header_that_cannot_be_passed_on_does_not_cost_the_answer(
    worker: LiveWorker, upstream: ScriptedUpstream, key: str, value: str, is_stream: bool
) -> None:
    step = Stream(headers={"x-odd": value}) if is_stream else Reply("fine", headers={"x-odd": value})
    upstream.plan(step)
    answer = await worker.chat(key, stream=is_stream)
    assert answer.status_code == 200, answer.text


async def test_an_answer_without_usage_is_not_free(worker: LiveWorker, upstream: ScriptedUpstream, key: str) -> None:
    upstream.plan(Reply(raw=b'{"id": "x", "choices": [{"message": {"content": "' + b"word " * 100 + b'"}}]}'))
    assert (await worker.chat(key, "costly")).status_code == 200
    row = await worker.spend_row(key)
    assert row["spend"] > 0
    assert row["metadata"]["usage_object"] == {"estimated": True}


@pytest.mark.parametrize("is_stream", [False, True])
async def test_a_header_that_repeats_our_credential_does_not_give_it_away(
    worker: LiveWorker, upstream: ScriptedUpstream, key: str, is_stream: bool
) -> None:
    headers = {"x-echo": f"Bearer {PROVIDER_KEY}"}
    upstream.plan(Stream(headers=headers) if is_stream else Reply("fine", headers=headers))
    answer = await worker.chat(key, stream=is_stream)
    assert answer.status_code == 200, answer.text
    assert PROVIDER_KEY not in str(answer.headers)
