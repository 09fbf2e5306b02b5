"""Callbacks and alerts of a running worker: what its receivers hear, and that calls never wait for them."""

from __future__ import annotations

import json
import time
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from tests.conftest import MASTER_KEY
from tests.llm.live_worker import FAST, MESSAGES, PROVIDER_KEY, LiveWorker, deployment, hash_of
from tests.observability.receivers import HttpReceiver
from tests.services.quarterdeck import QuarterdeckFactory
from tests.services.run_directory import RunDirectory
from tests.upstream import Fault, ScriptedUpstream, Stream

SLACK, CALLS, KEYS = "/slack", "/calls", "/of-the-key"


class Watched:
    """A worker whose calls a receiver hears of."""

    def __init__(self, worker: LiveWorker, upstream: ScriptedUpstream, receiver: HttpReceiver) -> None:
        self.worker = worker
        self.upstream = upstream
        self.receiver = receiver

    async def events(self, count: int, *keys: str, path: str = CALLS) -> list[dict[str, Any]]:
        """What was posted to a path about calls of these keys, as soon as there are so many events."""
        hashes = {hash_of(key) for key in keys}

        def found() -> list[dict[str, Any]]:
            posted = [event for post in self.receiver.posts if post.path == path for event in post.json]
            return [event for event in posted if event["metadata"].get("user_api_key_hash") in hashes]

        await self.receiver.wait(lambda: len(found()) >= count)
        assert len(found()) == count
        return found()

    async def slack_text(self, part: str) -> str:
        def found() -> str:
            return "\n".join(post.json["text"] for post in self.receiver.posts if post.path == SLACK)

        await self.receiver.wait(lambda: part in found())
        return found()


@pytest.fixture(scope="module")
async def shared(run_directory: RunDirectory, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Watched]:
    factory = QuarterdeckFactory(run_directory, tmp_path_factory.mktemp("watched"), MASTER_KEY)
    async with ScriptedUpstream() as upstream, HttpReceiver() as receiver, httpx.AsyncClient(timeout=20) as http:
        config = {
            "model_list": [
                deployment("chat", upstream.url, id="chat-1"),
                deployment("costly", upstream.url, input_cost_per_token=0.01, output_cost_per_token=0.01),
            ],
            "general_settings": {"alerting": ["slack"], "alerting_threshold": 0.3},
            "litellm_settings": {"callbacks": ["own", "nobody-knows-me"]},
            "callback_settings": {"own": {"callback_type": "generic_api", "endpoint": receiver.url + CALLS}},
        }
        environment = {
            **FAST,
            "SLACK_WEBHOOK_URL": receiver.url + SLACK,
            "QUARTERDECK_CALLBACK_HOSTS": receiver.url,
        }
        process = factory(config, env=environment)
        yield Watched(LiveWorker(process, http), upstream, receiver)
        factory.close()


@pytest.fixture
def watched(shared: Watched) -> Watched:
    """The module's worker, with a receiver that answers well and at once."""
    shared.receiver.statuses, shared.receiver.delay = [], 0.0
    shared.receiver.posts.clear()
    return shared


async def test_receivers_hear_of_every_call_and_see_no_secret(watched: Watched) -> None:
    worker = watched.worker
    key = await worker.new_key(key_alias="alice's")
    assert (await worker.chat(key, tags=["blue"])).status_code == 200
    await worker.frames(key)
    watched.upstream.plan(Fault.status(500))
    assert (await worker.chat(key, num_retries=0)).status_code == 500
    whole, stream, failed = await watched.events(3, key)
    assert (whole["status"], whole["request_tags"], whole["stream"]) == ("success", ["blue"], False)
    assert (whole["model_id"], whole["metadata"]["user_api_key_alias"]) == ("chat-1", "alice's")
    assert whole["messages"] == [{"role": "user", "content": "hi"}]
    assert whole["response"]["choices"]
    assert (stream["stream"], stream["total_tokens"] > 0) == (True, True)
    assert stream["response"]["choices"][0]["message"] == {"role": "assistant", "content": "Hello world "}
    assert stream["response"]["usage"]["total_tokens"] == stream["total_tokens"]
    assert (failed["status"], failed["error_information"]["error_code"]) == ("failure", "500")
    rows = await worker.spend_rows(key, 3)
    assert [row["request_id"] for row in rows] == [event["id"] for event in (whole, stream, failed)]
    sent = b"".join(post.body for post in watched.receiver.posts).decode() + worker.process.log_text()
    assert not [secret for secret in (PROVIDER_KEY, MASTER_KEY, key) if secret in sent]
    assert "nobody-knows-me" in worker.process.log_text()


async def test_a_callers_wish_for_silence_is_kept(watched: Watched) -> None:
    worker = watched.worker
    key = await worker.new_key(metadata={"turn_off_message_logging": True})
    await worker.chat(key)
    other = await worker.new_key()
    await worker.chat(other, headers={"x-litellm-enable-message-redaction": "true"})
    await worker.chat(other, headers={"x-litellm-disable-callbacks": "own"})
    unlogged = {"model": "chat", "messages": MESSAGES, "no-log": True}
    assert (await worker.send(other, json.dumps(unlogged).encode())).status_code == 200
    await worker.chat(other, tags=["last"])
    by_key, by_header, last = await watched.events(3, key, other)
    assert last["request_tags"] == ["last"]
    for event in (by_key, by_header):
        assert (event["messages"], event["response"]) == ("redacted-by-litellm", "redacted-by-litellm")


async def test_a_key_and_a_team_bring_their_own_receivers(watched: Watched) -> None:
    worker, url = watched.worker, watched.receiver.url + KEYS
    logging = [{"callback_name": "webhook", "callback_vars": {"endpoint": url, "headers": "X-Mine=of-the-key"}}]
    key = await worker.new_key(metadata={"logging": logging})
    assert "of-the-key" not in json.dumps(await worker.key_info(key))
    team = await worker.manage("/team/new", metadata={"logging": logging})
    team_key = await worker.new_key(team_id=team["team_id"])
    await worker.chat(key)
    await worker.chat(team_key)
    other = await worker.new_key()
    await worker.chat(other)
    events = await watched.events(2, key, team_key, other, path=KEYS)
    assert {event["metadata"]["user_api_key_team_id"] for event in events} == {None, team["team_id"]}
    assert {post.headers.get("x-mine") for post in watched.receiver.posts if post.path == KEYS} == {"of-the-key"}


async def test_slow_calls_and_budgets_are_alerts(watched: Watched) -> None:
    worker = watched.worker
    key = await worker.new_key(key_alias="spender", max_budget=0.1)
    watched.upstream.plan(Stream(first_delay=0.5))
    await worker.frames(key)
    while (await worker.chat(key, "costly")).status_code == 200:
        pass
    assert (await worker.chat(key, "costly")).status_code == 422
    text = await watched.slack_text("is used up")
    assert "Key=spender" in text
    await watched.slack_text("llm_too_slow")
    assert text.count("budget_alerts") <= 2


async def test_admins_try_receivers_and_see_what_runs(watched: Watched) -> None:
    worker = watched.worker

    async def get(path: str, key: str | None = None) -> httpx.Response:
        headers = {"Authorization": f"Bearer {key}"} if key else worker.admin
        return await worker.http.get(f"{worker.url}{path}", headers=headers)

    for name in ("slack", "own"):
        answer = await get(f"/health/services?service={name}")
        assert (answer.status_code, answer.json()["status"]) == (200, "success"), answer.text
    assert "This is a test" in await watched.slack_text("test")
    assert [post.json[0]["call_type"] for post in watched.receiver.posts if post.path == CALLS] == ["test"]
    assert (await get("/health/services?service=email")).status_code == 422
    assert (await get("/health/services?service=slack", await worker.new_key())).status_code == 401
    watched.receiver.statuses = [500]
    away = await get("/health/services?service=slack")
    assert (away.status_code, "127.0.0.1" in away.text) == (503, False)
    running = (await get("/active/callbacks")).json()
    assert (running["alerting"], running["all_litellm_callbacks"]) == (["slack"], ["own"])


async def test_what_waits_is_sent_when_the_worker_stops(watched: Watched) -> None:
    worker = watched.worker
    key = await worker.new_key()
    for _ in range(3):
        await worker.chat(key)
    worker.process.restart()
    await watched.events(3, key)


async def test_receivers_that_hang_slow_no_call(watched: Watched) -> None:
    worker = watched.worker
    key = await worker.new_key()
    await worker.chat(key)
    watched.receiver.delay = 30
    begun = time.monotonic()
    for _ in range(20):
        assert (await worker.chat(key)).status_code == 200
    assert time.monotonic() - begun < 5
