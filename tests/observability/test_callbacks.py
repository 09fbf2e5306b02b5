"""Ended calls on their way to receivers: the operator's and those of keys and teams, none of which slows a call."""

from __future__ import annotations

import base64
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

from structlog.testing import capture_logs

from app.observability.callback_targets import configured_targets
from app.observability.callbacks import CallbackObserver
from app.observability.http_post import open_client
from app.security.callback_credentials import encrypted_entry
from app.settings import Settings
from tests.observability.calls import PROVIDER_KEY, ended_call, settings
from tests.observability.receivers import HttpReceiver


@asynccontextmanager
async def observing(told: Settings) -> AsyncIterator[CallbackObserver]:
    async with open_client() as http:
        observer = CallbackObserver(told, configured_targets(told).targets, http)
        observer.start()
        yield observer
        await observer.stop()


def to(receiver: HttpReceiver, **fields: Any) -> Settings:
    return settings(callbacks=("generic_api",), generic_logger_endpoint=receiver.url, **fields)


def brought(name: str, kind: str = "success_and_failure", **values: str) -> Mapping[str, Any]:
    """A callback of a key, as its row keeps it."""
    return encrypted_entry(name, kind, values, settings().salt_key)


async def test_events_go_out_as_one_array() -> None:
    async with HttpReceiver() as receiver:
        async with observing(to(receiver, generic_logger_headers=(("X-Key", "k"),))) as observer:
            observer.call_ended(ended_call(id="a"))
            observer.call_ended(ended_call(id="b", status=500))
        (post,) = receiver.posts
    assert [(event["id"], event["status"]) for event in post.json] == [("a", "success"), ("b", "failure")]
    assert post.headers["x-key"] == "k"
    assert PROVIDER_KEY.encode() not in post.body


async def test_langfuse_gets_spans_with_its_credential() -> None:
    async with HttpReceiver() as receiver:
        keys = {"langfuse_public_key": "pk", "langfuse_secret_key": "sk"}
        told = settings(success_callback=("langfuse",), langfuse_host=receiver.url, **keys)
        async with observing(told) as observer:
            observer.call_ended(ended_call(status=500))
            observer.call_ended(ended_call())
        (post,) = receiver.posts
    assert post.path == "/api/public/otel/v1/traces"
    assert post.headers["authorization"] == f"Basic {base64.b64encode(b'pk:sk').decode()}"
    assert len(post.json["resourceSpans"][0]["scopeSpans"][0]["spans"]) == 1


async def test_a_call_that_none_of_the_batch_may_tell_of_is_no_post() -> None:
    async with HttpReceiver() as receiver:
        async with observing(to(receiver)) as observer:
            observer.call_ended(ended_call(body={"no-log": True}))
            observer.call_ended(ended_call(disabled_callbacks="langfuse, Generic_API"))
        assert receiver.posts == []


async def test_prompts_can_be_turned_off_for_everybody() -> None:
    async with HttpReceiver() as receiver:
        async with observing(to(receiver, turn_off_message_logging=True)) as observer:
            observer.call_ended(ended_call())
        assert b"the prompt" not in receiver.posts[0].body
        assert receiver.posts[0].json[0]["messages"] == "redacted-by-litellm"


async def test_a_key_and_its_team_get_their_own_copies() -> None:
    async with HttpReceiver() as receiver:
        told = settings(callback_hosts=(receiver.url,))
        callbacks = (
            brought("webhook", endpoint=f"{receiver.url}/key", headers="X-Key=mine"),
            brought("webhook", "failure", endpoint=f"{receiver.url}/failures"),
            brought("webhook", endpoint="http://10.1.2.3/elsewhere"),
        )
        async with observing(told) as observer:
            observer.call_ended(ended_call(callbacks=callbacks))
            observer.call_ended(ended_call())
        (post,) = receiver.posts
    assert (post.path, post.headers["x-key"], len(post.json)) == ("/key", "mine", 1)


async def test_a_dead_receiver_of_one_key_does_not_keep_others_waiting() -> None:
    async with HttpReceiver() as dead, HttpReceiver() as receiver:
        told = settings(callback_hosts=(receiver.url, dead.url))
        dead.statuses = [500]
        with capture_logs() as logs:
            async with observing(told) as observer:
                observer.call_ended(ended_call(callbacks=(brought("webhook", endpoint=dead.url),)))
                observer.call_ended(ended_call(callbacks=(brought("webhook", endpoint=receiver.url),)))
        assert len(receiver.posts) == 1
    assert [line["reason"] for line in logs] == ["status 500"]


async def test_a_receiver_of_a_key_that_failed_is_left_alone_for_a_while() -> None:
    now = [0.0]
    async with HttpReceiver(500) as receiver, open_client() as http:
        observer = CallbackObserver(settings(callback_hosts=(receiver.url,)), (), http, clock=lambda: now[0])
        call = ended_call(callbacks=(brought("webhook", endpoint=receiver.url),))
        posts = []
        for moment in (100.0, 129.0, 131.0):
            now[0] = moment
            await observer.deliver_to_callers([call])
            posts.append(len(receiver.posts))
    assert posts == [1, 1, 2]


async def test_calls_are_put_aside_whatever_the_receiver_does() -> None:
    ended = ended_call()
    async with HttpReceiver(delay=30) as receiver, observing(to(receiver)) as observer:
        begun = time.perf_counter()
        for _ in range(20_000):
            observer.call_ended(ended)
        micros = (time.perf_counter() - begun) / 20_000 * 1e6
        (outbox, _) = observer.outboxes
        assert len(outbox) == 10_000
        assert outbox.dropped == 10_000
    assert micros < 50  # about 1.5 on an idle machine: it must not wait, whatever else runs here


async def test_nothing_that_is_secret_is_logged_when_a_receiver_refuses() -> None:
    with capture_logs() as logs:
        async with HttpReceiver(404) as receiver:
            told = to(receiver, generic_logger_headers=(("Authorization", "Bearer hidden-word"),))
            async with observing(told) as observer:
                observer.call_ended(ended_call())
    assert [line["reason"] for line in logs] == ["status 404"]
    assert "hidden-word" not in str(logs)
    assert "the prompt" not in str(logs)
