"""Traces: a span per call and one per attempt, in the client's own trace, by the conventions for generative AI."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import pytest
from msgspec.structs import replace
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind

from app.backends import open_traces
from app.llm.observers import EndedCall, FailedAttempt
from app.observability.otlp_export import OtlpExport
from app.observability.traces import TracedCall, Traces
from app.protocols.base import Usage
from app.settings import load_settings
from tests.llm.ended_calls import START, ended, target
from tests.llm.live_worker import LiveWorker, deployment
from tests.services.quarterdeck import QuarterdeckFactory
from tests.upstream import ScriptedUpstream

TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
SETTINGS = load_settings(
    environ={"LITELLM_MASTER_KEY": "sk-master-0123456789", "OTEL_EXPORTER_OTLP_ENDPOINT": "http://collector:4318"}
)


async def spans_of(*calls: EndedCall) -> list[ReadableSpan]:
    """What a collector gets of these calls, the call's span before those of its attempts."""
    memory = InMemorySpanExporter()
    traces = Traces(OtlpExport(SETTINGS, memory))
    await traces.start()
    for call in calls:
        traces.call_ended(call)
    await traces.stop()
    return sorted(memory.get_finished_spans(), key=lambda span: span.parent is not None and not span.parent.is_remote)


async def test_a_call_is_a_span_with_one_below_it_for_each_attempt() -> None:
    broken = target("chat", "azure/gpt-4o", api_base="https://eu.example.com:8443")
    good = target("chat", "openai/gpt-4o-mini")
    call = ended(
        good,
        failed=[FailedAttempt(broken, 429, "RateLimitError", "", 0.25, 0.0)],
        seconds=1.0,
        usage=Usage(prompt_tokens=11, completion_tokens=7),
        team_id="harbour",
    )
    whole, first, second = await spans_of(replace(call, attempt_offset=0.5))
    assert whole.name == "chat chat" and whole.kind is SpanKind.SERVER and whole.parent is None
    facts = dict(whole.attributes or {})
    assert facts["gen_ai.operation.name"] == "chat" and facts["gen_ai.request.model"] == "chat"
    assert (facts["gen_ai.usage.input_tokens"], facts["gen_ai.usage.output_tokens"]) == (11, 7)
    assert (facts["gen_ai.response.model"], facts["gen_ai.provider.name"]) == ("gpt-4o-mini", "openai")
    assert (facts["server.address"], facts["quarterdeck.team_id"]) == ("models.example.com", "harbour")
    for attempt in (first, second):
        assert attempt.parent is not None and attempt.parent.span_id == whole.context.span_id
        assert attempt.kind is SpanKind.CLIENT
    failed, answered = dict(first.attributes or {}), dict(second.attributes or {})
    assert (failed["error.type"], failed["gen_ai.provider.name"]) == ("RateLimitError", "azure.ai.openai")
    assert (failed["server.address"], failed["server.port"]) == ("eu.example.com", 8443)
    assert not first.status.is_ok and answered["gen_ai.usage.output_tokens"] == 7
    begin = int(START.timestamp() * 1e9)
    assert (whole.start_time, whole.end_time) == (begin, begin + 1_000_000_000)
    assert (first.start_time, first.end_time) == (begin, begin + 250_000_000)
    assert (second.start_time, second.end_time) == (begin + 500_000_000, begin + 1_000_000_000)


async def test_the_clients_trace_goes_on() -> None:
    call = ended(target("chat"), traceparent=f"00-{TRACE}-{SPAN}-01")
    whole, attempt = await spans_of(call)
    assert whole.parent is not None
    assert (f"{whole.context.trace_id:032x}", f"{whole.parent.span_id:016x}") == (TRACE, SPAN)
    assert attempt.context.trace_id == whole.context.trace_id


async def test_a_client_that_is_not_sampled_is_not_traced() -> None:
    assert await spans_of(ended(target("chat"), traceparent=f"00-{TRACE}-{SPAN}-00")) == []


@pytest.mark.parametrize("written", ["nonsense", f"00-{'0' * 32}-{SPAN}-01", f"00-{TRACE}-{SPAN}", "00-xyz-1-01"])
async def test_nonsense_begins_a_trace_of_its_own(written: str) -> None:
    whole, _ = await spans_of(ended(target("chat"), traceparent=written))
    assert whole.parent is None


async def test_a_failed_call_names_its_error_and_has_no_span_of_an_answer() -> None:
    where = target("chat")
    failed = [FailedAttempt(where, 500, "InternalServerError", "a secret of the provider", 0.1, 0.0)]
    whole, attempt = await spans_of(ended(where, failed=failed, status=500, error_class="InternalServerError"))
    assert dict(whole.attributes or {})["error.type"] == "InternalServerError"
    assert not whole.status.is_ok and "a secret of the provider" not in whole.to_json() + attempt.to_json()


@dataclass
class SlowExport:
    calls: list[TracedCall] = field(default_factory=list)

    def export(self, call: TracedCall) -> None:
        self.calls.append(call)
        raise RuntimeError("a bug")

    def shutdown(self) -> None:
        """Nothing is kept."""


async def test_what_waits_is_bounded_and_a_bug_ends_nothing() -> None:
    export = SlowExport()
    traces = Traces(export)
    for _ in range(6000):
        traces.call_ended(ended(target("chat")))
    await traces.start()
    while len(export.calls) < 5000:
        await asyncio.sleep(0)
    await traces.stop()
    assert len(export.calls) == 5000


def test_nothing_is_traced_without_a_collector() -> None:
    assert open_traces(load_settings(environ={"LITELLM_MASTER_KEY": "sk-master-0123456789"})) is None
    assert open_traces(SETTINGS) is not None


# ---- a running worker ----------------------------------------------------------------------------------------------


@dataclass
class Collector:
    """A collector on a real socket: what it was sent."""

    url: str = ""
    spans: list[Any] = field(default_factory=list)
    headers: dict[str, str] = field(default_factory=dict)
    arrived: asyncio.Event = field(default_factory=asyncio.Event)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        self.headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in head[1:])}
        body = await reader.readexactly(int(self.headers["content-length"]))
        request = ExportTraceServiceRequest.FromString(body)
        for resource in request.resource_spans:
            for scope in resource.scope_spans:
                self.spans.extend(scope.spans)
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")
        writer.close()
        self.arrived.set()


@pytest.fixture
async def collector() -> AsyncIterator[Collector]:
    found = Collector()
    server = await asyncio.start_server(found.serve, "127.0.0.1", 0)
    found.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    yield found
    server.close()


async def test_a_worker_sends_its_traces_to_the_collector(
    factory: QuarterdeckFactory, upstream: ScriptedUpstream, collector: Collector, http: Any
) -> None:
    environment = {
        "OTEL_EXPORTER_OTLP_ENDPOINT": collector.url,
        "OTEL_EXPORTER_OTLP_HEADERS": "x-tenant=harbour%20one",
        "OTEL_BSP_SCHEDULE_DELAY": "200",
    }
    process = factory({"model_list": [deployment("chat", upstream.url)]}, env=environment)
    worker = LiveWorker(process, http)
    answer = await worker.chat(process.master_key, headers={"traceparent": f"00-{TRACE}-{SPAN}-01"})
    assert answer.status_code == 200
    async with asyncio.timeout(10):
        await collector.arrived.wait()
    whole = next(span for span in collector.spans if span.parent_span_id.hex() == SPAN)
    below = next(span for span in collector.spans if span.parent_span_id == whole.span_id)
    assert whole.trace_id.hex() == below.trace_id.hex() == TRACE
    facts = {one.key: one.value for one in whole.attributes}
    assert facts["quarterdeck.call_id"].string_value == answer.headers["x-litellm-call-id"]
    assert facts["gen_ai.usage.input_tokens"].int_value > 0
    assert whole.start_time_unix_nano <= below.start_time_unix_nano <= below.end_time_unix_nano
    assert collector.headers["x-tenant"] == "harbour one"
