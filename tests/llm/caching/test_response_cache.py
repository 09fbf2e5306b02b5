"""Calls that were answered before, through a worker with the cache in memory."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from app.backends import open_answer_store
from app.llm.caching.answer_store import MemoryAnswers
from app.llm.caching.response_cache import ResponseCache, open_response_cache
from app.settings import Settings
from app.settings.response_cache import CacheParams
from tests.conftest import MASTER_KEY
from tests.llm.cached_worker import CACHE_KEY, configured, is_hit
from tests.llm.live_worker import FAST, LiveWorker, content_of, error_of, payloads
from tests.services.quarterdeck import QuarterdeckFactory, QuarterdeckProcess
from tests.upstream import Fault, Reply, ScriptedUpstream, Stream, Usage


@pytest.fixture(scope="module")
def memory_process(factory: QuarterdeckFactory, upstream_port: int) -> QuarterdeckProcess:
    return factory(configured(upstream_port, max_entry_mb=0.01), env=FAST)


@pytest.fixture
async def cached(
    memory_process: QuarterdeckProcess, http: httpx.AsyncClient, upstream: ScriptedUpstream
) -> AsyncIterator[LiveWorker]:
    worker = LiveWorker(memory_process, http)
    await worker.manage("/cache/flushall")
    yield worker


@pytest.fixture
async def key(cached: LiveWorker) -> str:
    return await cached.new_key()


# ---- hits ----------------------------------------------------------------------------------------------------------


async def test_the_same_request_is_answered_once_and_costs_once(
    cached: LiveWorker, upstream: ScriptedUpstream, key: str
) -> None:
    first, second = await cached.chat(key, temperature=0.5), await cached.chat(key, temperature=0.5)
    assert len(upstream.requests) == 1
    assert (is_hit(first), is_hit(second)) == (False, True)
    assert second.json() == first.json()
    assert second.headers["x-litellm-response-cost"] == "0"
    assert second.headers["x-litellm-model-id"] == "chat-1"
    paid, free = await cached.spend_rows(key, 2)
    assert (paid["cache_hit"], paid["spend"], paid["total_tokens"]) == ("False", 0.012, 12)
    assert (free["cache_hit"], free["spend"], free["total_tokens"]) == ("True", 0.0, 0)
    assert paid["cache_key"] == free["cache_key"] == second.headers[CACHE_KEY]
    assert free["metadata"]["usage_object"]["total_tokens"] == 12
    assert (free["status"], free["model_id"]) == ("success", "chat-1")
    assert (await cached.key_info(key))["spend"] == pytest.approx(0.012)


async def test_an_alias_shares_the_answers_of_its_model(cached: LiveWorker, key: str) -> None:
    assert not is_hit(await cached.chat(key))
    answer = await cached.chat(key, model="alias")
    assert is_hit(answer)
    assert answer.json()["model"] == "alias"


async def test_a_whole_answer_is_replayed_as_a_stream(cached: LiveWorker, upstream: ScriptedUpstream, key: str) -> None:
    first = (await cached.chat(key)).json()
    frames = await cached.frames(key, stream_options={"include_usage": True})
    events = [json.loads(frame) for frame in frames[:-1]]
    assert frames[-1] == "[DONE]"
    assert {event["id"] for event in events} == {first["id"]}
    assert [event["choices"][0]["delta"] for event in events[:-1]] == [
        {"role": "assistant", "content": ""},
        {"content": "Hello "},
        {"content": "world"},
        {},
    ]
    assert events[-1]["usage"] == first["usage"]
    assert "usage" not in "".join(await cached.frames(key))
    assert len(upstream.requests) == 1
    assert [row["cache_hit"] for row in await cached.spend_rows(key, 3)] == ["False", "True", "True"]


async def test_a_stream_is_put_together_and_serves_both_kinds(
    cached: LiveWorker, upstream: ScriptedUpstream, key: str
) -> None:
    upstream.plan(Stream(("Hel", "lo", " you"), usage=Usage(5, 4)))
    async with cached.stream(key) as answer:
        assert CACHE_KEY not in answer.headers
        assert content_of(payloads(await answer.aread())) == "Hello you"
    whole = await cached.chat(key)
    assert is_hit(whole)
    assert whole.json()["choices"][0]["message"]["content"] == "Hello you"
    assert whole.json()["usage"]["total_tokens"] == 9
    async with cached.stream(key) as answer:
        assert CACHE_KEY in answer.headers
        assert answer.headers["content-type"].startswith("text/event-stream")
        assert content_of(payloads(await answer.aread())) == "Hello you"
    assert len(upstream.requests) == 1


async def test_the_sdk_reads_a_replayed_stream_with_tool_calls(
    cached: LiveWorker, upstream: ScriptedUpstream, key: str
) -> None:
    call = {"id": "call-1", "type": "function", "function": {"name": "weather", "arguments": '{"city": "Bern"}'}}
    message = {"role": "assistant", "content": None, "tool_calls": [call, {**call, "id": "call-2"}]}
    choice = {"index": 0, "message": message, "finish_reason": "tool_calls"}
    upstream.plan(
        Reply(body={"id": "c-1", "created": 1, "object": "chat.completion", "model": "m", "choices": [choice]})
    )
    messages: list[Any] = [{"role": "user", "content": "hi"}]
    async with cached.sdk(key) as sdk:
        await sdk.chat.completions.create(model="chat", messages=messages)
        async with sdk.chat.completions.stream(model="chat", messages=messages) as stream:
            events = [event.type async for event in stream]
            final = (await stream.get_final_completion()).choices[0]
    assert "tool_calls.function.arguments.done" in events
    assert final.finish_reason == "tool_calls"
    assert [(one.id, one.function.arguments) for one in final.message.tool_calls or []] == [
        ("call-1", '{"city": "Bern"}'),
        ("call-2", '{"city": "Bern"}'),
    ]
    assert len(upstream.requests) == 1


async def test_text_completions_are_cached_too(cached: LiveWorker, upstream: ScriptedUpstream, key: str) -> None:
    async with cached.sdk(key) as sdk:
        first = await sdk.completions.create(model="text", prompt="hi")
        again = await sdk.completions.create(model="text", prompt="hi")
        stream = await sdk.completions.create(model="text", prompt="hi", stream=True)
        told = "".join([chunk.choices[0].text async for chunk in stream])
    assert (again.id, again.choices[0].text) == (first.id, told)
    assert len(upstream.requests) == 1


# ---- who shares, and who may ---------------------------------------------------------------------------------------


async def test_a_team_shares_answers_and_tenants_do_not(cached: LiveWorker, upstream: ScriptedUpstream) -> None:
    teams = [(await cached.manage("/team/new"))["team_id"] for _ in range(2)]
    of_first = [await cached.new_key(team_id=teams[0]) for _ in range(2)]
    strangers = [await cached.new_key(team_id=teams[1]), await cached.new_key(), await cached.new_key()]
    assert not is_hit(await cached.chat(of_first[0]))
    assert is_hit(await cached.chat(of_first[1]))
    assert [is_hit(await cached.chat(key)) for key in strangers] == [False, False, False]
    assert len(upstream.requests) == 4


async def test_a_hit_is_for_those_who_may_ask_the_model(cached: LiveWorker) -> None:
    team = (await cached.manage("/team/new"))["team_id"]
    good, other = [await cached.new_key(team_id=team, models=[name]) for name in ("chat", "text")]
    assert not is_hit(await cached.chat(good))
    assert is_hit(await cached.chat(good))
    error_of(await cached.chat(other), 403)
    await cached.manage("/key/block", key=good)
    error_of(await cached.chat(good), 401)


async def test_a_hit_counts_as_a_request_and_not_as_tokens(cached: LiveWorker) -> None:
    key = await cached.new_key(rpm_limit=4, tpm_limit=1000)
    answers = [await cached.chat(key) for _ in range(4)]
    assert [is_hit(answer) for answer in answers] == [False, True, True, True]
    left = [int(answer.headers["x-ratelimit-api_key-remaining-tokens"]) for answer in answers]
    # What a call may use is held while it runs, and a hit used nothing.
    assert left[1] == left[2] == left[3]
    error_of(await cached.chat(key), 429)


async def test_hits_leave_a_budget_as_it_is(cached: LiveWorker) -> None:
    key = await cached.new_key(max_budget=10)
    for _ in range(5):
        await cached.chat(key)
    await cached.spend_rows(key, 5)
    assert (await cached.key_info(key))["spend"] == pytest.approx(0.012)


# ---- controls ------------------------------------------------------------------------------------------------------


async def test_a_call_steers_the_cache(cached: LiveWorker, upstream: ScriptedUpstream, key: str) -> None:
    async def asks(cache: Any = None, **headers: str) -> bool:
        return is_hit(await cached.chat(key, headers=headers, **({"cache": cache} if cache else {})))

    assert await asks({"no-store": True}) is False
    assert await asks() is False
    assert await asks() is True
    assert await asks({"no-cache": True}) is False
    assert await asks(**{"Cache-Control": "no-cache"}) is False
    assert await asks({"namespace": "other"}) is False
    assert await asks({"namespace": "other"}) is True
    assert await asks({"s-maxage": 60}) is True
    assert await asks({"s-maxage": 0}) is False
    assert all("cache" not in request.json for request in upstream.requests)


async def test_an_answer_lives_as_long_as_its_call_said(cached: LiveWorker, key: str) -> None:
    assert not is_hit(await cached.chat(key, cache={"ttl": 0.3}))
    assert is_hit(await cached.chat(key))
    await asyncio.sleep(0.35)
    assert not is_hit(await cached.chat(key, cache={"ttl": 0}))
    assert not is_hit(await cached.chat(key))


async def test_a_key_may_be_kept_from_steering_the_cache(cached: LiveWorker) -> None:
    key = await cached.new_key(allowed_cache_controls=["ttl"])
    assert (await cached.chat(key, cache={"ttl": 60})).status_code == 200
    for refused in (
        await cached.chat(key, cache={"no-cache": True}),
        await cached.chat(key, headers={"Cache-Control": "no-cache"}),
    ):
        assert "may not use the cache control 'no-cache'" in error_of(refused, 403)["message"]
    error = error_of(await cached.chat(key, cache="yes"), 400)
    assert error["param"] == "cache"


# ---- what is not kept ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "step",
    [
        Fault.status(429),
        Fault.status(500),
        Fault.status(400),
        Fault.garbage(),
        Fault.cut_mid_body(),
    ],
)
async def test_a_failure_is_not_kept(cached: LiveWorker, upstream: ScriptedUpstream, key: str, step: Any) -> None:
    upstream.plan(step)
    assert (await cached.chat(key)).status_code >= 400
    assert not is_hit(await cached.chat(key))
    assert is_hit(await cached.chat(key))


@pytest.mark.parametrize("reason", ["content_filter", None])
async def test_an_answer_that_was_cut_off_is_not_kept(
    cached: LiveWorker, upstream: ScriptedUpstream, key: str, reason: str | None
) -> None:
    choice = {"index": 0, "message": {"role": "assistant", "content": "Hel"}, "finish_reason": reason}
    upstream.plan(Reply(body={"id": "c", "object": "chat.completion", "model": "m", "choices": [choice]}))
    assert (await cached.chat(key)).status_code == 200
    assert not is_hit(await cached.chat(key))


@pytest.mark.parametrize("step", [Fault.cut_stream(), Fault.error_in_stream()])
async def test_a_stream_that_broke_is_not_kept(
    cached: LiveWorker, upstream: ScriptedUpstream, key: str, step: Any
) -> None:
    upstream.plan(step)
    assert any('"error"' in frame for frame in await cached.frames(key))
    assert not is_hit(await cached.chat(key))


async def test_a_stream_that_was_left_is_not_kept(cached: LiveWorker, upstream: ScriptedUpstream, key: str) -> None:
    upstream.plan(Stream(("a",) * 50, interval=0.05))
    async with cached.stream(key) as answer:
        await anext(answer.aiter_bytes())
    await upstream.wait_for_disconnects(1)
    assert not is_hit(await cached.chat(key))
    assert (await cached.spend_rows(key, 2))[0]["status"] == "failure"


async def test_an_answer_of_a_fallback_is_not_kept(cached: LiveWorker, upstream: ScriptedUpstream, key: str) -> None:
    upstream.on_model("first", Fault.status(500))
    for _ in range(2):
        answer = await cached.chat(key, model="first")
        assert not is_hit(answer)
        assert answer.headers["x-litellm-attempted-fallbacks"] == "1"


async def test_what_is_too_large_is_not_kept(cached: LiveWorker, upstream: ScriptedUpstream, key: str) -> None:
    upstream.plan(Reply("x" * 20_000), Stream(("x" * 1000,) * 20))
    assert not is_hit(await cached.chat(key))
    assert len(content_of(await cached.frames(key))) == 20_000
    assert not is_hit(await cached.chat(key))


# ---- embeddings ----------------------------------------------------------------------------------------------------


async def embed(worker: LiveWorker, key: str, input: Any, **fields: Any) -> httpx.Response:
    body = {"model": "embedding", "input": input, **fields}
    headers = {"Authorization": f"Bearer {key}"}
    answer = await worker.http.post(f"{worker.url}/v1/embeddings", json=body, headers=headers)
    assert answer.status_code == 200, answer.text
    return answer


def vectors(*numbers: float) -> Reply:
    """What a provider says to as many items, the last first."""
    rows = [{"object": "embedding", "index": index, "embedding": [number]} for index, number in enumerate(numbers)]
    tokens = 10 * len(numbers)
    usage = {"prompt_tokens": tokens, "total_tokens": tokens}
    return Reply(body={"object": "list", "data": rows[::-1], "model": "m", "usage": usage})


def numbers_of(answer: httpx.Response) -> list[float]:
    rows = answer.json()["data"]
    assert [row["index"] for row in rows] == list(range(len(rows)))
    return [row["embedding"][0] for row in rows]


async def test_only_the_missing_items_are_asked_for_and_billed(
    cached: LiveWorker, upstream: ScriptedUpstream, key: str
) -> None:
    upstream.plan(vectors(1, 2), vectors(3, 4))
    await embed(cached, key, ["a", "b"])
    mixed = await embed(cached, key, ["c", "b", "d", "a"])
    assert upstream.requests[1].json["input"] == ["c", "d"]
    assert numbers_of(mixed) == [3, 2, 4, 1]
    assert (mixed.json()["model"], mixed.json()["usage"]["prompt_tokens"]) == ("embedding", 40)
    assert CACHE_KEY not in mixed.headers
    known = await embed(cached, key, ["d", "a"])
    assert (numbers_of(known), known.json()["usage"]["prompt_tokens"]) == ([4, 1], 20)
    assert CACHE_KEY in known.headers
    assert numbers_of(await embed(cached, key, "c")) == [3]
    assert len(upstream.requests) == 2
    rows = await cached.spend_rows(key, 4)
    assert [row["prompt_tokens"] for row in rows] == [20, 20, 0, 0]
    assert [row["cache_hit"] for row in rows] == ["False", "False", "True", "True"]


async def test_a_provider_that_loses_items_is_not_believed(
    cached: LiveWorker, upstream: ScriptedUpstream, key: str
) -> None:
    upstream.plan(vectors(1), vectors(2), vectors(2, 3))
    assert numbers_of(await embed(cached, key, ["a"])) == [1]
    body = {"model": "embedding", "input": ["a", "b", "c"]}
    sent = {"Authorization": f"Bearer {key}"}
    answer = await cached.http.post(f"{cached.url}/v1/embeddings", json=body, headers=sent)
    assert "another number of embeddings" in error_of(answer, 502)["message"]
    assert numbers_of(await embed(cached, key, ["a", "b", "c"])) == [1, 2, 3]


async def test_items_that_cannot_be_had_alone_fail_the_call(
    cached: LiveWorker, upstream: ScriptedUpstream, key: str
) -> None:
    upstream.plan(vectors(1), Fault.status(400, "no such item"), Fault.status(400, "no such item"))
    await embed(cached, key, ["a"])
    body = {"model": "embedding", "input": ["a", "b"]}
    sent = {"Authorization": f"Bearer {key}"}
    answer = await cached.http.post(f"{cached.url}/v1/embeddings", json=body, headers=sent)
    assert "no such item" in error_of(answer, 400)["message"]


# ---- several processes ---------------------------------------------------------------------------------------------


async def test_what_one_process_drops_the_others_drop_too() -> None:
    settings = Settings(master_key=MASTER_KEY)
    stores = [MemoryAnswers(10, 1000) for _ in range(2)]
    other = ResponseCache(settings, CacheParams(), stores[1], lambda message: None, open_answer_store)
    here = ResponseCache(settings, CacheParams(), stores[0], other.on_message, open_answer_store)
    for store in stores:
        for key in ("a", "b", "c"):
            store.put(key, b"1", 60)
    assert await here.delete(["a"]) == 1
    assert await stores[1].get_many(["a", "b"]) == [None, b"1"]
    other.on_message("key:b")
    assert len(stores[1]) == 2
    assert await here.flush() == 2
    assert len(stores[1]) == 0


def test_there_is_no_cache_unless_somebody_asks_for_one() -> None:
    assert open_response_cache(Settings(master_key=MASTER_KEY), lambda message: None, open_answer_store) is None
    opened = open_response_cache(
        Settings(master_key=MASTER_KEY, caches_answers=True, cache_params={"type": "disk"}),
        lambda message: None,
        open_answer_store,
    )
    assert opened is not None and opened.kind == "local"
