"""Events as spans, in the JSON that OTLP prescribes and with the names that Langfuse reads."""

from __future__ import annotations

import json
from typing import Any

from app.llm.observers import EndedCall
from app.observability.langfuse_otlp import span, traces
from app.observability.standard_logging import client_metadata, standard_event
from tests.observability.calls import MESSAGES, NOON, ended_call


def span_of(ended: EndedCall) -> dict[str, Any]:
    event = standard_event(ended, is_redacted=False, hides_caller=False)
    assert event is not None
    body = json.loads(traces([span(event, client_metadata(ended.call.body))]))
    (resource,) = body["resourceSpans"]
    assert {"key": "service.name", "value": {"stringValue": "quarterdeck"}} in resource["resource"]["attributes"]
    (only,) = resource["scopeSpans"][0]["spans"]
    encoded: dict[str, Any] = only
    return encoded


def attributes(of: dict[str, Any]) -> dict[str, Any]:
    """Name -> plain value; AssertionError for a value that has no kind or several."""
    values = {}
    for attribute in of["attributes"]:
        ((_, value),) = attribute["value"].items()
        values[attribute["key"]] = value
    return values


def test_a_call_is_a_span_of_a_generation() -> None:
    encoded = span_of(ended_call())
    assert (len(encoded["traceId"]), len(encoded["spanId"]), encoded["kind"]) == (32, 16, 3)
    assert encoded["startTimeUnixNano"] == str(int(NOON.timestamp()) * 10**9)
    assert int(encoded["endTimeUnixNano"]) - int(encoded["startTimeUnixNano"]) == 500_000_000
    assert encoded["status"] == {"code": 1}
    values = attributes(encoded)
    assert (values["gen_ai.operation.name"], values["gen_ai.provider.name"]) == ("chat", "openai")
    assert (values["gen_ai.request.model"], values["gen_ai.response.model"]) == ("chat", "gpt-4o-mini")
    assert (values["gen_ai.usage.input_tokens"], values["gen_ai.usage.output_tokens"]) == ("7", "5")
    assert values["langfuse.observation.type"] == "generation"
    assert json.loads(values["langfuse.observation.input"]) == MESSAGES
    assert json.loads(values["langfuse.observation.output"])["id"] == "chatcmpl-1"
    assert json.loads(values["langfuse.observation.usage_details"]) == {"input": 7, "output": 5, "total": 12}
    assert json.loads(values["langfuse.observation.cost_details"]) == {"total": 0.0125}
    assert values["langfuse.trace.tags"] == {"values": [{"stringValue": "blue"}]}
    assert (values["user.id"], values["langfuse.trace.metadata.user_api_key_team_id"]) == ("customer-1", "crew")


def test_a_failure_is_an_error_with_its_reason() -> None:
    encoded = span_of(ended_call(status=503))
    values = attributes(encoded)
    assert encoded["status"] == {"code": 2, "message": "it broke"}
    assert (values["langfuse.observation.level"], values["error.type"]) == ("ERROR", "InternalServerError")


def test_a_client_names_its_trace_and_session() -> None:
    metadata = {"trace_id": "0af76519-16cd-43dd-8448-eb211c80319c", "session_id": "s-1", "trace_name": "shop"}
    encoded = span_of(ended_call(body={"metadata": {**metadata, "generation_name": "greet", "trace_user_id": "u-1"}}))
    values = attributes(encoded)
    assert (encoded["traceId"], encoded["name"]) == ("0af7651916cd43dd8448eb211c80319c", "greet")
    assert (values["session.id"], values["langfuse.trace.name"], values["user.id"]) == ("s-1", "shop", "u-1")


def test_any_text_is_the_same_trace_each_time() -> None:
    first, second = (span_of(ended_call(id=id, body={"metadata": {"trace_id": "my trace"}})) for id in ("a", "b"))
    assert first["traceId"] == second["traceId"]
    assert first["spanId"] != second["spanId"]
    assert span_of(ended_call(body={"metadata": {"trace_id": {"odd": 1}, "session_id": 5}}))["traceId"]
