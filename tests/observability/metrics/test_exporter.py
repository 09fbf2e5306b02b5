"""Metrics: what /metrics says of calls, how little of it there is, and that all processes of an instance add up."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from dataclasses import replace
from decimal import Decimal
from typing import Any

import httpx
import msgspec
import pytest
from prometheus_client.parser import text_string_to_metric_families as parse_families

from app.deployments.deployment import Deployment
from app.llm.observers import EndedCall, FailedAttempt
from app.observability.metrics.counts import MAX_CELLS
from app.observability.metrics.exporter import Metrics
from app.protocols.base import Usage
from app.settings import Settings, load_settings
from app.spend.budget import Reservation
from app.spend.scopes import BudgetScope
from tests.llm.ended_calls import caller, ended, target
from tests.llm.live_worker import FAST, LiveWorker, deployment
from tests.services.quarterdeck import QuarterdeckFactory
from tests.upstream import Fault, Reply, ScriptedUpstream, Stream

Series = dict[tuple[str, frozenset[tuple[str, str]]], float]


def settings_with(**fields: Any) -> Settings:
    return replace(load_settings(environ={"LITELLM_MASTER_KEY": "sk-master-0123456789"}), **fields)


def series(text: str) -> Series:
    """(sample name, labels) -> value, as Prometheus itself would read them; no series twice."""
    found: Series = {}
    for family in parse_families(text):
        for sample in family.samples:
            place = (sample.name, frozenset(sample.labels.items()))
            assert place not in found, place
            found[place] = sample.value
    return found


def value(text: str, name: str, **labels: str) -> float | None:
    return series(text).get((name, frozenset(labels.items())))


def total(text: str, name: str) -> float:
    return sum(count for (sample, _), count in series(text).items() if sample == name)


@pytest.fixture
def metrics() -> Metrics:
    return Metrics(settings_with())


def shown(metrics: Metrics, *, shows_callers: bool = True) -> str:
    return metrics.text([], [], shows_callers=shows_callers)


# ---- size ----------------------------------------------------------------------------------------------------------


def test_ten_thousand_calls_on_twenty_models_and_a_hundred_keys_stay_below_64_kilobytes(metrics: Metrics) -> None:
    targets = [target(f"team-model-{n:02}", f"openai/gpt-4o-mini-{n:02}", rpm=100, tpm=1000) for n in range(20)]
    keys = [caller(f"{n:064x}", key_alias=f"key-of-service-{n}", team_id=f"team-{n % 10}") for n in range(100)]
    budgets = [
        Reservation([BudgetScope("key", one.key_hash, "", Decimal(n + 1)), _team_budget(one.team_id)], (), None)
        for n, one in enumerate(keys)
    ]
    cached = Usage(prompt_tokens=100, completion_tokens=50, cache_read_tokens=20, reasoning_tokens=5)
    for n in range(10_000):
        where, key = targets[n % 20], n % 100
        if n % 50 < 3:
            failed = [FailedAttempt(where, (429, 500, 408)[n % 3], ("RateLimitError", "X", "Timeout")[n % 3], "", 0.1)]
            call = ended(where, keys[key], failed=failed, status=500, error_class="X", reservation=budgets[key])
        else:
            first = 0.3 if n % 2 else None
            call = ended(where, keys[key], usage=cached, first_chunk_seconds=first, reservation=budgets[key])
            call = msgspec.structs.replace(call, upstream_headers=room(10_000 - n, 4_000_000 - n))
        metrics.call_ended(call)
    text = metrics.text(targets, [targets[0].id], shows_callers=True)
    assert total(text, "litellm_proxy_total_requests_metric_total") == 10_000
    assert total(text, "litellm_request_total_latency_metric_count") == 9_400
    assert total(text, "litellm_remaining_tokens_metric") > 20 * 3_900_000
    assert len(text.encode()) < 64 * 1024
    assert "_created" not in text


def room(requests: object, tokens: object) -> dict[str, str]:
    """What a provider says of its own limits."""
    return {"x-ratelimit-remaining-requests": str(requests), "x-ratelimit-remaining-tokens": str(tokens)}


def answered(deployment: Deployment, headers: dict[str, str]) -> EndedCall:
    """A good call whose provider said so."""
    return msgspec.structs.replace(ended(deployment), upstream_headers=headers)


def _team_budget(team_id: str | None) -> BudgetScope:
    return BudgetScope("team", team_id or "", "", Decimal(100), Decimal(40))


def test_label_values_beyond_the_cap_are_summed_as_other() -> None:
    config = {"litellm_spend_metric": ("requested_model", "end_user")}
    metrics = Metrics(settings_with(prometheus_metrics_config=config))
    where = target("chat")
    for n in range(MAX_CELLS + 500):
        call = ended(where, cost="1")
        call.call.end_user = f"user-{n}"
        metrics.call_ended(call)
    text = shown(metrics)
    assert total(text, "litellm_spend_metric_total") == MAX_CELLS + 500
    assert value(text, "litellm_spend_metric_total", requested_model="chat", end_user="other") == 500
    assert len(series(text)) <= MAX_CELLS + 2


def test_names_that_nothing_answers_to_do_not_become_models(metrics: Metrics) -> None:
    wildcard = target("openai/*", "openai/*")
    for n in range(50):
        call = ended(wildcard, model=f"openai/invented-{n}", status=404, error_class="NotFoundError")
        metrics.call_ended(call)
    metrics.call_ended(ended(wildcard, model="openai/gpt-4o"))
    metrics.call_ended(ended(None, model="relayed-nonsense", status=404, error_class="NotFoundError"))
    metrics.call_ended(ended(wildcard, model="openai/gpt-4o", status=500, error_class="InternalServerError"))
    text = shown(metrics)
    labels = {"requested_model": "openai/*", "route": "/chat/completions", "status_code": "404"}
    assert value(text, "litellm_proxy_total_requests_metric_total", **labels) == 50
    assert value(text, "litellm_requests_metric_total", requested_model="openai/gpt-4o") == 1
    labels = {"requested_model": "openai/gpt-4o", "route": "/chat/completions", "status_code": "500"}
    assert value(text, "litellm_proxy_total_requests_metric_total", **labels) == 1
    assert "invented" not in text and "nonsense" not in text


# ---- what is counted -----------------------------------------------------------------------------------------------


def test_a_stream_counts_as_the_providers_time_after_its_first_chunk(metrics: Metrics) -> None:
    call = ended(target("chat"), seconds=20.0, first_chunk_seconds=0.404, upstream_seconds=0.4)
    metrics.call_ended(call)
    text = shown(metrics)
    assert value(text, "litellm_llm_api_time_to_first_token_metric_sum", api_provider="openai") == 0.404
    assert value(text, "litellm_overhead_latency_metric_sum") == 0.004
    assert value(text, "litellm_overhead_latency_metric_bucket", le="0.0025") == 0
    assert value(text, "litellm_overhead_latency_metric_bucket", le="0.005") == 1
    assert value(text, "litellm_llm_api_latency_metric_bucket", api_provider="openai", le="15") == 0
    assert value(text, "litellm_llm_api_latency_metric_bucket", api_provider="openai", le="60") == 1


def test_hits_and_misses_of_the_cache_are_told_apart(metrics: Metrics) -> None:
    metrics.call_ended(ended(target("chat"), cache_key="a"))
    metrics.call_ended(ended(target("chat"), cache_key="a", is_cache_hit=True))
    metrics.call_ended(ended(target("chat")))
    text = shown(metrics)
    assert value(text, "litellm_cache_hits_metric_total", requested_model="chat") == 1
    assert value(text, "litellm_cache_misses_metric_total", requested_model="chat") == 1
    assert value(text, "litellm_cached_tokens_metric_total", requested_model="chat") == 15


def test_a_deployment_is_healthy_partial_or_out(metrics: Metrics) -> None:
    well, failing, cooling_down = target("well"), target("failing"), target("cooling_down")
    metrics.call_ended(ended(well))
    failed = [FailedAttempt(failing, 500, "InternalServerError", "", 0.1)]
    metrics.call_ended(ended(failing, failed=failed, status=500, error_class="InternalServerError"))
    metrics.deployment_cooled(cooling_down, 429, 5.0)
    text = metrics.text([well, failing, cooling_down], [cooling_down.id], shows_callers=False)
    for one, state in ((well, 0), (failing, 1), (cooling_down, 2)):
        labels = {"model_id": one.id, "litellm_model_name": "openai/gpt-4o-mini", "api_provider": "openai"}
        assert value(text, "litellm_deployment_state", **labels) == state
    assert value(text, "litellm_deployment_cooled_down_total", model_id=cooling_down.id, exception_status="429") == 1
    labels = {"model_id": failing.id, "exception_status": "500"}
    assert value(text, "litellm_deployment_failure_responses_total", **labels) == 1


def test_what_a_provider_has_left_is_what_it_said_last_and_not_for_long() -> None:
    now = [1000.0]
    metrics = Metrics(settings_with(), clock=lambda: now[0])
    chat, silent = target("chat"), target("silent")

    def left(unit: str) -> float | None:
        text = metrics.text([chat, silent], [], shows_callers=False)
        return value(text, f"litellm_remaining_{unit}_metric", model_id=chat.id)

    metrics.call_ended(ended(silent))
    metrics.call_ended(answered(chat, room(59, 149_000)))
    metrics.call_ended(answered(chat, room(58, 0)))
    assert (left("requests"), left("tokens")) == (58, 0)
    metrics.call_ended(ended(chat))
    assert left("requests") == 58, "an answer that says nothing changes nothing"
    metrics.call_ended(answered(chat, {"x-ratelimit-remaining-tokens": "7"}))
    assert (left("requests"), left("tokens")) == (None, 7)
    now[0] += 601
    assert left("tokens") is None


@pytest.mark.parametrize("said", ["", "-1", "many", "1.5", "1e3", "٣", "9" * 16])
def test_what_is_no_number_of_a_provider_is_not_shown(metrics: Metrics, said: str) -> None:
    chat = target("chat")
    metrics.call_ended(answered(chat, room(said, 5)))
    text = metrics.text([chat], [], shows_callers=False)
    assert value(text, "litellm_remaining_tokens_metric", model_id=chat.id) == 5
    assert value(text, "litellm_remaining_requests_metric", model_id=chat.id) is None


def test_receivers_of_logs_that_fail_are_counted(metrics: Metrics) -> None:
    metrics.watch(lambda: {"quarterdeck_callback_queue_size": 3}, lambda: {"langfuse": 2, "webhook": 0})
    text = shown(metrics)
    assert value(text, "litellm_callback_logging_failures_metric_total", callback_name="langfuse") == 2
    assert value(text, "quarterdeck_callback_queue_size") == 3 and "webhook" not in text


def test_a_fallback_is_counted_by_how_it_ended(metrics: Metrics) -> None:
    metrics.call_ended(ended(target("spare"), model="chat", fallbacks=1))
    metrics.call_ended(ended(target("spare"), model="chat", fallbacks=1, status=500, error_class="Timeout"))
    text = shown(metrics)
    labels = {"requested_model": "chat", "fallback_model": "spare"}
    assert value(text, "litellm_deployment_successful_fallbacks_total", **labels) == 1
    assert value(text, "litellm_deployment_failed_fallbacks_total", **labels, exception_class="Timeout") == 1


def test_only_the_budgets_nearest_to_their_ceiling_are_shown(metrics: Metrics) -> None:
    for n in range(30):
        scope = BudgetScope("key", f"key-{n}", "", Decimal(10), Decimal(n) / 10)
        metrics.call_ended(ended(target("chat"), caller(f"key-{n}"), reservation=Reservation([scope], (), None)))
    text = shown(metrics)
    remaining = [place for place in series(text) if place[0] == "litellm_remaining_api_key_budget_metric"]
    assert len(remaining) == 10
    assert value(text, "litellm_remaining_api_key_budget_metric", hashed_api_key="key-29") == 7.098
    assert value(text, "litellm_api_key_max_budget_metric", hashed_api_key="key-29") == 10
    assert "key-29" not in shown(metrics, shows_callers=False)


# ---- settings ------------------------------------------------------------------------------------------------------


def test_labels_of_callers_are_for_who_may_see_everybody() -> None:
    config = {"litellm_spend_metric": ("team", "requested_model", "user_email")}
    metrics = Metrics(settings_with(prometheus_metrics_config=config))
    metrics.call_ended(ended(target("chat"), caller(team_id="blue"), cost="1"))
    metrics.call_ended(ended(target("chat"), caller(team_id="red"), cost="2"))
    assert value(shown(metrics), "litellm_spend_metric_total", team="red", requested_model="chat") == 2
    assert value(shown(metrics, shows_callers=False), "litellm_spend_metric_total", requested_model="chat") == 3
    assert {family.name for family in parse_families(shown(metrics))} == {"litellm_spend_metric"}


def test_metrics_and_labels_can_be_left_out_and_buckets_chosen() -> None:
    metrics = Metrics(
        settings_with(
            prometheus_exclude_metrics=("litellm_spend_metric",),
            prometheus_exclude_labels=("route",),
            prometheus_latency_buckets=(1.0, 2.0),
        )
    )
    metrics.call_ended(ended(target("chat")))
    text = shown(metrics)
    assert "litellm_spend_metric" not in text and "route=" not in text
    bounds = [dict(labels)["le"] for (name, labels) in series(text) if name.endswith("total_latency_metric_bucket")]
    assert bounds == ["1", "2", "+Inf"]


def test_a_label_value_cannot_break_out_of_its_line(metrics: Metrics) -> None:
    name = 'a"} 1\nlitellm_spend_metric_total{x="\\'
    metrics.call_ended(ended(target("chat"), model=name))
    assert value(shown(metrics), "litellm_requests_metric_total", requested_model=name) == 1


def test_counting_a_call_takes_microseconds(metrics: Metrics) -> None:
    call = ended(target("chat"), first_chunk_seconds=0.1)
    started = time.perf_counter()
    for _ in range(2000):
        metrics.call_ended(call)
    assert (time.perf_counter() - started) / 2000 < 50e-6  # 4 µs on an idle machine


# ---- a running worker ----------------------------------------------------------------------------------------------


async def scraped(worker: LiveWorker, key: str | None = None) -> httpx.Response:
    headers = {"Authorization": f"Bearer {key}"} if key else worker.admin
    return await worker.http.get(f"{worker.url}/metrics", headers=headers)


async def test_a_worker_counts_what_it_serves(worker: LiveWorker, upstream: ScriptedUpstream) -> None:
    key = await worker.new_key(max_budget=5, key_alias="scraped")
    before = (await scraped(worker)).text
    assert (await worker.chat(key, "costly")).status_code == 200
    await worker.frames(key, "costly", stream_options={"include_usage": True})
    upstream.plan(Fault.status(400))
    assert (await worker.chat(key, "costly")).status_code == 400
    assert (await worker.chat(key, "no-such-model")).status_code in (400, 401, 403, 404)
    answer = await scraped(worker)
    assert answer.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    text, labels = answer.text, {"requested_model": "costly"}
    assert value(text, "litellm_requests_metric_total", **labels) == 2
    assert (value(text, "litellm_spend_metric_total", **labels) or 0) > 0
    failures = {"exception_status": "400", "exception_class": "BadRequestError"}
    name = "litellm_proxy_failed_requests_metric_total"
    assert (value(text, name, **failures) or 0) - (value(before, name, **failures) or 0) >= 1
    assert (value(text, "litellm_llm_api_time_to_first_token_metric_count", api_provider="openai") or 0) >= 1
    assert value(text, "litellm_in_flight_requests") == 0
    assert value(text, "litellm_in_memory_spend_update_queue_size") is not None
    (left,) = [
        (dict(labels), amount)
        for (name, labels), amount in series(text).items()
        if name == "litellm_remaining_api_key_budget_metric" and dict(labels).get("api_key_alias") == "scraped"
    ]
    assert 0 < left[1] < 5


async def test_a_worker_shows_what_its_providers_have_left(
    worker: LiveWorker, upstream: ScriptedUpstream, key: str
) -> None:
    upstream.plan(Reply(headers=room(59, 1000)), Stream(headers=room(58, 900)), Fault.status(400))
    assert (await worker.chat(key)).headers["x-ratelimit-remaining-requests"] == "59"
    text = (await scraped(worker, key)).text
    assert value(text, "litellm_remaining_requests_metric", model_id="chat-1") == 59
    await worker.frames(key)
    await worker.chat(key)
    text = (await scraped(worker, key)).text
    assert value(text, "litellm_remaining_requests_metric", model_id="chat-1") == 58
    assert value(text, "litellm_remaining_tokens_metric", model_id="chat-1") == 900


async def test_metrics_need_a_key_and_name_nobody_to_a_client(worker: LiveWorker, key: str) -> None:
    assert (await worker.http.get(f"{worker.url}/metrics")).status_code == 401
    await worker.chat(key, "mocked")
    answer = await scraped(worker, key)
    assert answer.status_code == 200 and "litellm_requests_metric_total" in answer.text
    assert "hashed_api_key" not in answer.text


async def test_a_control_plane_has_open_metrics_when_it_is_told_to(
    factory: QuarterdeckFactory, http: httpx.AsyncClient
) -> None:
    registry = [{"worker_id": "a", "name": "A", "url": "http://127.0.0.1:9"}]
    opened = {"require_auth_for_metrics_endpoint": False}
    process = factory({"worker_registry": registry, "litellm_settings": opened})
    answer = await http.get(f"{process.url}/metrics")
    assert answer.status_code == 200
    assert value(answer.text, "litellm_in_memory_spend_update_queue_size") == 0


async def test_any_of_two_processes_shows_the_calls_of_both(
    factory: QuarterdeckFactory, upstream: ScriptedUpstream
) -> None:
    process = factory(
        {"model_list": [deployment("chat", upstream.url)]}, arguments=["--workers", "2"], env=FAST, wait=True
    )
    for _ in range(60):
        async with httpx.AsyncClient(trust_env=False) as client:  # a connection each, for either process
            assert (await LiveWorker(process, client).chat(process.master_key)).status_code == 200
    await _sees(process, 60)


async def _sees(process: Any, count: int) -> None:
    """Every scrape shows so many calls, whichever process answers it, after the second that sharing may take."""
    deadline, good = time.monotonic() + 10, 0
    while good < 12:
        async with httpx.AsyncClient(trust_env=False) as client:
            worker = LiveWorker(process, client)
            found = total((await scraped(worker)).text, "litellm_requests_metric_total")
        good = good + 1 if found == count else 0
        assert time.monotonic() < deadline, f"{found} calls instead of {count}"
        await asyncio.sleep(0.02)


def test_settings_are_read_from_the_file(tmp_path: Any) -> None:
    file = tmp_path / "config.yaml"
    file.write_text(
        "litellm_settings:\n"
        "  prometheus_latency_buckets: [5, 1, .inf]\n"
        "  prometheus_metrics_config:\n"
        "    - {group: money, metrics: [litellm_spend_metric], include_labels: [team]}\n"
        "    - {group: rest, metrics: [litellm_requests_metric]}\n"
    )
    settings = load_settings(file, environ={"LITELLM_MASTER_KEY": "sk-master-0123456789"})
    config: Mapping[str, Any] | None = settings.prometheus_metrics_config
    assert settings.prometheus_latency_buckets == (1.0, 5.0)
    assert config == {"litellm_spend_metric": ("team",), "litellm_requests_metric": None}
