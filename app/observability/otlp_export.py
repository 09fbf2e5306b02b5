"""Calls as spans of the OpenTelemetry SDK, sent as OTLP over HTTP. Needs the extra `otel`; imported only when it is on.

One span per call, continuing the client's trace, and one below it per attempt at a deployment.
"""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import unquote, urlsplit

from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter
from opentelemetry.trace import (
    NonRecordingSpan,
    SpanContext,
    SpanKind,
    Status,
    StatusCode,
    TraceFlags,
    set_span_in_context,
)

from ..deployments.deployment import Deployment
from ..settings import Settings
from ..version import VERSION
from .traces import TracedCall

_USUAL_ENDPOINT = "http://localhost:4318"
_OPERATIONS = {"acompletion": "chat", "atext_completion": "text_completion", "aembedding": "embeddings"}
# Our names of providers where the conventions have others.
_PROVIDERS = {
    "azure": "azure.ai.openai",
    "azure_ai": "azure.ai.inference",
    "bedrock": "aws.bedrock",
    "gemini": "gcp.gemini",
    "vertex_ai": "gcp.vertex_ai",
    "mistral": "mistral_ai",
    "xai": "x_ai",
    "watsonx": "ibm.watsonx.ai",
}
_Attributes = dict[str, str | int | float | bool]


class OtlpExport:
    """`exporter`: where spans go instead of the configured collector."""

    def __init__(self, settings: Settings, exporter: SpanExporter | None = None) -> None:
        base = (settings.otlp_endpoint or _USUAL_ENDPOINT).rstrip("/")
        exporter = exporter or OTLPSpanExporter(
            endpoint=f"{base}/v1/traces", headers=_headers(settings.otlp_headers or ""), timeout=10
        )
        names = {"service.name": settings.trace_service_name, "service.version": VERSION}
        self._provider = TracerProvider(resource=Resource.create(names))
        self._provider.add_span_processor(BatchSpanProcessor(exporter))
        self._tracer = self._provider.get_tracer("quarterdeck", VERSION)

    def export(self, call: TracedCall) -> None:
        operation = _OPERATIONS.get(call.call_type, call.call_type)
        span = self._tracer.start_span(
            f"{operation} {call.model}",
            context=_parent(call.traceparent),
            kind=SpanKind.SERVER,
            attributes={**_of_call(call, operation), **(_of_target(call.deployment) if call.deployment else {})},
            start_time=_nanoseconds(call, 0.0),
        )
        if call.error_class:
            span.set_status(Status(StatusCode.ERROR))
        below = set_span_in_context(span, Context())
        for attempt in call.failed:
            facts: _Attributes = {"error.type": attempt.error_class, "http.response.status_code": attempt.status}
            self._attempt(call, below, attempt.deployment, facts, attempt.offset, attempt.offset + attempt.seconds)
        if call.deployment is not None and not call.error_class and not call.is_cache_hit:
            self._attempt(call, below, call.deployment, _usage(call), call.attempt_offset, call.total_seconds)
        span.end(_nanoseconds(call, call.total_seconds))

    def _attempt(
        self,
        call: TracedCall,
        below: Context,
        deployment: Deployment,
        facts: Mapping[str, str | int | float | bool],
        start: float,
        end: float,
    ) -> None:
        operation = _OPERATIONS.get(call.call_type, call.call_type)
        span = self._tracer.start_span(
            f"{operation} {deployment.upstream_model}",
            context=below,
            kind=SpanKind.CLIENT,
            attributes={
                "gen_ai.operation.name": operation,
                "gen_ai.request.model": deployment.upstream_model,
                **_of_target(deployment),
                **facts,
            },
            start_time=_nanoseconds(call, start),
        )
        if "error.type" in facts:
            span.set_status(Status(StatusCode.ERROR))
        span.end(_nanoseconds(call, end))

    def shutdown(self) -> None:
        self._provider.shutdown()


def _of_call(call: TracedCall, operation: str) -> _Attributes:
    found: _Attributes = {
        "gen_ai.operation.name": operation,
        "gen_ai.request.model": call.model,
        "http.response.status_code": call.status,
        "quarterdeck.call_id": call.call_id,
        "quarterdeck.cost_usd": float(call.cost),
        "quarterdeck.cache_hit": call.is_cache_hit,
        **_usage(call),
    }
    if call.error_class:
        found["error.type"] = call.error_class
    if call.team_id:
        found["quarterdeck.team_id"] = call.team_id
    if call.first_chunk_seconds is not None:
        found["quarterdeck.time_to_first_chunk_seconds"] = call.first_chunk_seconds
    return found


def _usage(call: TracedCall) -> _Attributes:
    found: _Attributes = {
        "gen_ai.usage.input_tokens": call.usage.prompt_tokens,
        "gen_ai.usage.output_tokens": call.usage.completion_tokens,
    }
    if call.deployment is not None and not call.error_class:
        found["gen_ai.response.model"] = call.deployment.upstream_model
    return found


def _of_target(deployment: Deployment) -> _Attributes:
    parts, name = urlsplit(deployment.api_base), deployment.provider.name
    return {
        "gen_ai.provider.name": _PROVIDERS.get(name, name),
        "server.address": parts.hostname or "",
        "server.port": parts.port or (443 if parts.scheme == "https" else 80),
        "quarterdeck.deployment_id": deployment.id,
    }


def _parent(traceparent: str) -> Context:
    """The client's span, or none: spans of other calls must not become parents by being current here."""
    if not traceparent:
        return Context()
    _, trace_id, span_id, flags = traceparent.split("-")[:4]
    remote = SpanContext(int(trace_id, 16), int(span_id, 16), is_remote=True, trace_flags=TraceFlags(int(flags, 16)))
    return set_span_in_context(NonRecordingSpan(remote), Context())


def _nanoseconds(call: TracedCall, seconds: float) -> int:
    # A float holds the microseconds of a moment, and no more.
    return round(call.started_at * 1e6) * 1000 + round(seconds * 1e9)


def _headers(written: str) -> dict[str, str]:
    """`name=value,name=value`, values percent-encoded, as the variable is defined."""
    pairs = (entry.partition("=") for entry in written.split(",") if "=" in entry)
    return {name.strip().lower(): unquote(value.strip()) for name, _, value in pairs}
