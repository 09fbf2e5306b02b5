"""From group to group over real sockets: who takes over, with which rights and budgets, and how a client steers it."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any

import httpx
import pytest

from tests.llm.live_worker import FAST, LiveWorker, content_of, deployment, error_of
from tests.services.quarterdeck import QuarterdeckFactory, QuarterdeckProcess
from tests.upstream import Fault, ScriptedUpstream, Stream

DOWN = Fault.status(500, "down")
TOO_LONG = Fault.status(400, "no", code="context_length_exceeded")
IMPROPER = Fault.status(400, "no", code="content_policy_violation")
ROUTER = {
    "num_retries": 0,
    "max_fallbacks": 2,
    "fallbacks": [
        {"chat": ["second", "third"]},
        {"links-1": ["links-2"]},
        {"links-2": ["links-3"]},
        {"links-3": ["links-4"]},
        {"ring-1": ["ring-2"]},
        {"ring-2": ["ring-1"]},
        {"changed": [{"model": "third", "temperature": 0.1, "stream": True, "api_base": "http://elsewhere"}]},
        {"cooling_down": ["third"]},
        {"failing": ["third"]},
    ],
    "context_window_fallbacks": [{"chat": ["long"]}],
    "content_policy_fallbacks": [{"chat": ["tame"]}],
    "model_group_alias": {"quick": "chat", "hush": {"model": "chat", "hidden": True}, "nobody": "no-such-group"},
    "enable_tag_filtering": True,
}


@pytest.fixture(scope="module")
def routed_process(factory: QuarterdeckFactory, upstream_port: int) -> QuarterdeckProcess:
    here = f"http://127.0.0.1:{upstream_port}/v1"
    links = [f"links-{number}" for number in range(1, 5)]
    names = "chat second third long tame secret alone changed ring-1 ring-2".split()
    # Without rest, so that no test meets what another one did.
    models = [deployment(name, here, f"openai/{name}", id=name, cooldown_time=0) for name in [*names, *links]]
    models[0]["model_info"]["access_groups"] = ["everyday"]
    models += [
        deployment("cooling_down", here, "openai/cooling_down"),
        deployment("failing", here, "openai/failing"),
        deployment("ordered", here, "openai/later", order=2),
        deployment("ordered", here, "openai/sooner", order=1),
        deployment("tagged", here, "openai/free", tags=["free", "eu"]),
        deployment("tagged", here, "openai/paid", tags=["paid", "eu"]),
        deployment("tagged", here, "openai/usual", tags=["default"]),
        deployment("only-tagged", here, "openai/paid", tags=["paid"]),
        deployment("wild/*", here, "openai/*"),
        deployment("wild/special-*", here, "openai/narrow-*"),
        deployment("wild/exact", here, "openai/by-name"),
    ]
    return factory({"model_list": models, "router_settings": ROUTER}, env=FAST)


@pytest.fixture
async def worker(routed_process: QuarterdeckProcess, http: httpx.AsyncClient) -> LiveWorker:
    return LiveWorker(routed_process, http)


def asked(upstream: ScriptedUpstream) -> list[str]:
    return [request.model for request in upstream.requests]


# ---- the walk ------------------------------------------------------------------------------------------------------


async def test_groups_take_over_in_their_order(worker: LiveWorker, upstream: ScriptedUpstream, key: str) -> None:
    upstream.plan(DOWN, Fault.status(503))
    answer = await worker.chat(key, "chat")
    assert answer.status_code == 200, answer.text
    assert asked(upstream) == ["chat", "second", "third"]
    assert answer.headers["x-litellm-attempted-fallbacks"] == "2"
    assert answer.headers["x-litellm-attempted-retries"] == "0"
    assert answer.headers["x-litellm-model-group"] == "third"
    assert answer.json()["model"] == "chat"
    row = await worker.spend_row(key)
    assert (row["status"], row["model_group"]) == ("success", "third")
    assert [one["model_id"] for one in row["metadata"]["failed_attempts"]] == ["chat", "second"]


async def test_the_last_failure_is_the_answer(worker: LiveWorker, upstream: ScriptedUpstream, key: str) -> None:
    upstream.plan(DOWN, DOWN, Fault.status(503, "third is down too"))
    answer = await worker.chat(key, "chat")
    assert "third is down too" in error_of(answer, 503)["message"]
    assert answer.headers["x-litellm-attempted-fallbacks"] == "2"
    assert (await worker.spend_row(key))["metadata"]["error_information"]["error_code"] == "503"


async def test_a_walk_is_no_longer_than_allowed(worker: LiveWorker, upstream: ScriptedUpstream, key: str) -> None:
    upstream.plan(DOWN, DOWN, DOWN)
    error_of(await worker.chat(key, "links-1"), 500)
    assert asked(upstream) == ["links-1", "links-2", "links-3"]


async def test_a_ring_of_fallbacks_is_walked_once(worker: LiveWorker, upstream: ScriptedUpstream, key: str) -> None:
    upstream.plan(DOWN, DOWN)
    error_of(await worker.chat(key, "ring-1"), 500)
    assert asked(upstream) == ["ring-1", "ring-2"]


async def test_a_refusal_of_any_kind_may_be_made_good(worker: LiveWorker, upstream: ScriptedUpstream, key: str) -> None:
    upstream.plan(Fault.status(422))
    assert (await worker.chat(key, "chat")).status_code == 200
    assert asked(upstream) == ["chat", "second"]


@pytest.mark.parametrize(("fault", "name"), [(TOO_LONG, "long"), (IMPROPER, "tame")])
async def test_some_reasons_have_fallbacks_of_their_own(
    worker: LiveWorker, upstream: ScriptedUpstream, key: str, fault: Any, name: str
) -> None:
    upstream.plan(fault)
    assert (await worker.chat(key, "chat")).headers["x-litellm-model-group"] == name
    assert asked(upstream) == ["chat", name]
    upstream.plan(fault)
    error_of(await worker.chat(key, "cooling_down"), 400)  # it has fallbacks, but none for this reason


async def test_a_fallback_may_change_the_call_but_not_where_it_goes(
    worker: LiveWorker, upstream: ScriptedUpstream, key: str
) -> None:
    upstream.plan(DOWN)
    answer = await worker.chat(key, "changed", temperature=0.9, top_p=0.5)
    assert answer.json()["choices"][0]["message"]["content"] == "Hello world"
    sent = upstream.requests[1].json
    assert (sent["model"], sent["temperature"], sent["top_p"]) == ("third", 0.1, 0.5)
    assert {"stream", "api_base"}.isdisjoint(sent)


# ---- streams -------------------------------------------------------------------------------------------------------


async def test_after_the_first_words_nobody_takes_over(
    worker: LiveWorker, upstream: ScriptedUpstream, key: str
) -> None:
    upstream.plan(Stream(("Hello", " you"), cut="reset", cut_after=1))
    frames = await worker.frames(key, "chat")
    assert content_of(frames[:1]) == "Hello" and '"error"' in frames[-2] and frames[-1] == "[DONE]"
    assert asked(upstream) == ["chat"]
    row = await worker.spend_row(key)
    assert (row["status"], row["metadata"]["error_information"]["error_class"]) == ("failure", "MidStreamError")


async def test_a_stream_goes_on_to_the_fallback_until_something_was_said(
    worker: LiveWorker, upstream: ScriptedUpstream, key: str
) -> None:
    role = '{"choices":[{"index":0,"delta":{"role":"assistant"}}]}'
    upstream.plan(Stream(events=(role, role), cut="close", cut_after=1))
    frames = await worker.frames(key, "chat")
    assert content_of(frames) == "Hello world "
    assert asked(upstream) == ["chat", "second"]
    assert sum('"role"' in frame for frame in frames) == 1


# ---- rights, budgets and limits ------------------------------------------------------------------------------------


async def test_a_configured_fallback_needs_no_grant(worker: LiveWorker, upstream: ScriptedUpstream) -> None:
    upstream.plan(DOWN)
    assert (await worker.chat(await worker.new_key(models=["chat"]), "chat")).status_code == 200


@pytest.mark.parametrize(
    ("fault", "options"),
    [
        (DOWN, {"fallbacks": ["secret"]}),
        (DOWN, {"fallbacks": [{"chat": ["secret"]}]}),
        (DOWN, {"fallbacks": [{"model": "secret", "temperature": 0}]}),
        (TOO_LONG, {"context_window_fallbacks": [{"chat": ["secret"]}]}),
        (IMPROPER, {"content_policy_fallbacks": [{"chat": ["secret"]}]}),
    ],
)
async def test_a_client_s_fallback_needs_the_client_s_own_access(
    worker: LiveWorker, upstream: ScriptedUpstream, fault: Any, options: dict[str, Any]
) -> None:
    upstream.plan(fault)
    answer = await worker.chat(await worker.new_key(models=["chat"]), "chat", **options)
    error_of(answer, 500 if fault is DOWN else 400)
    assert asked(upstream) == ["chat"]
    upstream.plan(fault)
    allowed = await worker.chat(await worker.new_key(models=["chat", "secret"]), "chat", **options)
    assert allowed.headers["x-litellm-model-group"] == "secret"


async def test_a_client_s_list_wins_and_an_empty_one_means_none(
    worker: LiveWorker, upstream: ScriptedUpstream, key: str
) -> None:
    upstream.plan(DOWN)
    assert (await worker.chat(key, "chat", fallbacks=["alone"])).status_code == 200
    upstream.plan(DOWN, DOWN)
    error_of(await worker.chat(key, "chat", fallbacks=[]), 500)
    error_of(await worker.chat(key, "chat", disable_fallbacks=True), 500)
    assert asked(upstream) == ["chat", "alone", "chat", "chat"]


async def test_a_fallback_s_own_budget_and_limit_hold(worker: LiveWorker, upstream: ScriptedUpstream) -> None:
    broke = await worker.new_key(model_max_budget={"second": {"max_budget": 0, "budget_duration": "1d"}})
    upstream.plan(DOWN)
    assert (await worker.chat(broke, "chat")).headers["x-litellm-model-group"] == "third"
    limited = await worker.new_key(model_rpm_limit={"second": 1})
    assert (await worker.chat(limited, "second")).status_code == 200
    upstream.plan(DOWN)
    assert (await worker.chat(limited, "chat")).headers["x-litellm-model-group"] == "third"


async def test_a_fallback_s_cost_is_what_its_caller_pays(worker: LiveWorker, upstream: ScriptedUpstream) -> None:
    """Were the hold of the first group left behind, the second call would be over the budget."""
    key = await worker.new_key(max_budget=0.02)
    for _ in range(3):
        upstream.plan(DOWN)
        assert (await worker.chat(key, "chat", max_tokens=10)).status_code == 200


# ---- what a client says --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "how", [{"headers": {"x-litellm-num-retries": "1"}}, {"num_retries": 1}, {"max_retries": 1}], ids=str
)
async def test_a_client_chooses_how_often_its_call_is_tried(
    worker: LiveWorker, upstream: ScriptedUpstream, key: str, how: dict[str, Any]
) -> None:
    upstream.plan(DOWN)
    answer = await worker.chat(key, "alone", **how)
    assert (answer.status_code, answer.headers["x-litellm-attempted-retries"]) == (200, "1")
    assert all(not {"num_retries", "max_retries"} & set(request.json) for request in upstream.requests)


async def test_a_client_chooses_how_long_it_waits(worker: LiveWorker, upstream: ScriptedUpstream, key: str) -> None:
    upstream.plan(Fault.hang(), Fault.hang())
    error_of(await worker.chat(key, "alone", timeout=0.2), 408)
    async with worker.stream(key, "alone", stream_timeout=0.2) as answer:
        await answer.aread()
    error_of(answer, 408)


@pytest.mark.parametrize(
    "options",
    [
        {"num_retries": -1},
        {"num_retries": "many"},
        {"max_retries": True},
        {"timeout": 0},
        {"stream_timeout": "soon"},
        {"fallbacks": 5},
        {"fallbacks": [None]},
        {"context_window_fallbacks": "long"},
    ],
    ids=str,
)
async def test_options_that_are_none_are_named(
    worker: LiveWorker, upstream: ScriptedUpstream, key: str, options: dict[str, Any]
) -> None:
    error = error_of(await worker.chat(key, "alone", **options), 400)
    assert error["param"] == next(iter(options))
    assert asked(upstream) == []


async def test_bytes_that_are_no_text_are_a_bad_request(
    worker: LiveWorker, upstream: ScriptedUpstream, key: str
) -> None:
    body = b'{"model":"alone","messages":[{"role":"user"}],"fallbacks":["\xff\xfe"]}'
    assert error_of(await worker.send(key, body), 400)["param"] == "request_body"


# ---- which deployment ----------------------------------------------------------------------------------------------


async def test_the_first_order_is_asked_before_the_second(
    worker: LiveWorker, upstream: ScriptedUpstream, key: str
) -> None:
    for _ in range(5):
        await worker.chat(key, "ordered")
    assert Counter(asked(upstream)) == {"sooner": 5}
    upstream.plan(DOWN)
    answer = await worker.chat(key, "ordered")
    assert asked(upstream)[-2:] == ["sooner", "later"]
    assert answer.headers["x-litellm-attempted-fallbacks"] == "0"


@pytest.mark.parametrize(
    ("tags", "model"),
    [("free", "free"), ("paid", "paid"), ("", "usual"), ("unknown", "usual"), ("eu,!free", "paid"), ("&free", "free")],
)
async def test_tags_choose_the_deployment(
    worker: LiveWorker, upstream: ScriptedUpstream, key: str, tags: str, model: str
) -> None:
    assert (await worker.chat(key, "tagged", headers={"x-litellm-tags": tags})).status_code == 200
    assert asked(upstream) == [model]


async def test_tags_of_the_key_choose_as_well(worker: LiveWorker, upstream: ScriptedUpstream) -> None:
    await worker.chat(await worker.new_key(tags=["paid"]), "tagged")
    assert asked(upstream) == ["paid"]


async def test_no_deployment_for_these_tags_is_401(worker: LiveWorker, upstream: ScriptedUpstream, key: str) -> None:
    error = error_of(await worker.chat(key, "only-tagged", tags=["free"]), 401)
    assert error["type"] == "internal_server_error"
    assert "Not allowed to access model due to tags configuration" in error["message"]


@pytest.mark.parametrize(
    ("model", "sent"), [("wild/gpt-9", "gpt-9"), ("wild/special-one", "narrow-one"), ("wild/exact", "by-name")]
)
async def test_a_star_stands_for_the_rest_of_the_name(
    worker: LiveWorker, upstream: ScriptedUpstream, model: str, sent: str
) -> None:
    answer = await worker.chat(await worker.new_key(models=["wild/*"]), model)
    assert answer.json()["model"] == model
    assert asked(upstream) == [sent]


async def test_aliases_are_names_of_the_same_group(worker: LiveWorker, upstream: ScriptedUpstream) -> None:
    for name in ("quick", "hush"):
        answer = await worker.chat(await worker.new_key(models=[name]), name)
        assert answer.json()["model"] == name
    error_of(await worker.chat(await worker.new_key(models=["second"]), "quick"), 403)
    assert asked(upstream) == ["chat", "chat"]
    async with worker.sdk(await worker.new_key()) as sdk:
        names = [model.id async for model in sdk.models.list()]
    assert "quick" in names and "hush" not in names
    assert "nobody" not in names, "an alias of a group that nobody serves"


@pytest.mark.parametrize(
    ("granted", "shown"),
    [
        ("everyday", ["chat", "quick", "everyday"]),
        ("chat", ["chat", "quick", "everyday"]),
        ("quick", ["quick", "everyday"]),
        ("second", ["second"]),
    ],
)
async def test_an_alias_is_granted_by_its_own_name_its_group_and_the_access_groups_of_that(
    worker: LiveWorker, upstream: ScriptedUpstream, granted: str, shown: list[str]
) -> None:
    key = await worker.new_key(models=[granted])
    async with worker.sdk(key) as sdk:
        names = [model.id async for model in sdk.models.list(extra_query={"include_model_access_groups": True})]
    assert names == shown
    statuses = {name: (await worker.chat(key, name)).status_code for name in ("chat", "quick", "hush")}
    is_of_group = granted in ("everyday", "chat")
    assert statuses == {
        "chat": 200 if is_of_group else 403,
        "quick": 200 if "quick" in shown else 403,
        "hush": 200 if is_of_group else 403,
    }
    asked_for = {"model": "quick", "messages": [{"role": "user", "content": "hi"}]}
    counted = await worker.http.post(
        f"{worker.url}/utils/token_counter", json=asked_for, headers={"Authorization": f"Bearer {key}"}
    )
    assert counted.status_code == statuses["quick"], counted.text


# ---- rest ----------------------------------------------------------------------------------------------------------


async def test_a_single_deployment_with_a_fallback_rests_as_long_as_its_provider_asks(
    worker: LiveWorker, upstream: ScriptedUpstream, key: str
) -> None:
    upstream.plan(Fault.status(429, retry_after=1))
    for _ in range(2):
        assert (await worker.chat(key, "cooling_down")).headers["x-litellm-model-group"] == "third"
    assert Counter(asked(upstream)) == {"cooling_down": 1, "third": 2}
    await asyncio.sleep(1.02)
    assert (await worker.chat(key, "cooling_down")).headers["x-litellm-model-group"] == "cooling_down"


async def test_an_outage_of_a_single_deployment_is_paid_for_by_its_first_callers_only(
    worker: LiveWorker, upstream: ScriptedUpstream, key: str
) -> None:
    upstream.on_model("failing", DOWN)
    for _ in range(8):
        assert (await worker.chat(key, "failing")).status_code == 200
    assert Counter(asked(upstream)) == {"failing": 5, "third": 8}


async def test_a_single_deployment_without_a_fallback_is_asked_every_time(
    worker: LiveWorker, upstream: ScriptedUpstream, key: str
) -> None:
    upstream.on_model("alone", Fault.status(429, retry_after=9))
    for _ in range(7):
        error_of(await worker.chat(key, "alone"), 429)
    assert Counter(asked(upstream)) == {"alone": 7}
