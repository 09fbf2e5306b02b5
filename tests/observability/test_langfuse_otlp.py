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
    (found,) = resource["scopeSpans"][0]["spans"]
    only: dict[str, Any] = found
    return only


def attributes(of: dict[str, Any]) -> dict[str, Any]:
    """Name -> plain value; AssertionError for a value that has no kind or several."""
    found = {}
    for attribute in of["attributes"]:
        ((_, value),) = attribute["value"].items()
        found[attribute["key"]] = value
    return found


def test_a_call_is_a_span_of_a_generation() -> None:
    found = span_of(ended_call())
    assert (len(found["traceId"]), len(found["spanId"]), found["kind"]) == (32, 16, 3)
    assert found["startTimeUnixNano"] == str(int(NOON.timestamp()) * 10**9)
    assert int(found["endTimeUnixNano"]) - int(found["startTimeUnixNano"]) == 500_000_000
    assert found["status"] == {"code": 1}
    said = attributes(found)
    assert (said["gen_ai.operation.name"], said["gen_ai.provider.name"]) == ("chat", "openai")
    assert (said["gen_ai.request.model"], said["gen_ai.response.model"]) == ("chat", "gpt-4o-mini")
    assert (said["gen_ai.usage.input_tokens"], said["gen_ai.usage.output_tokens"]) == ("7", "5")
    assert said["langfuse.observation.type"] == "generation"
    assert json.loads(said["langfuse.observation.input"]) == MESSAGES
    assert json.loads(said["langfuse.observation.output"])["id"] == "chatcmpl-1"
    assert json.loads(said["langfuse.observation.usage_details"]) == {"input": 7, "output": 5, "total": 12}
    assert json.loads(said["langfuse.observation.cost_details"]) == {"total": 0.0125}
    assert said["langfuse.trace.tags"] == {"values": [{"stringValue": "blue"}]}
    assert (said["user.id"], said["langfuse.trace.metadata.user_api_key_team_id"]) == ("customer-1", "crew")


def test_a_failure_is_an_error_with_its_reason() -> None:
    found = span_of(ended_call(status=503))
    said = attributes(found)
    assert found["status"] == {"code": 2, "message": "it broke"}
    assert (said["langfuse.observation.level"], said["error.type"]) == ("ERROR", "InternalServerError")


def test_a_client_names_its_trace_and_session() -> None:
    metadata = {"trace_id": "0af76519-16cd-43dd-8448-eb211c80319c", "session_id": "s-1", "trace_name": "shop"}
    found = span_of(ended_call(body={"metadata": {**metadata, "generation_name": "greet", "trace_user_id": "u-1"}}))
    said = attributes(found)
    assert (found["traceId"], found["name"]) == ("0af7651916cd43dd8448eb211c80319c", "greet")
    assert (said["session.id"], said["langfuse.trace.name"], said["user.id"]) == ("s-1", "shop", "u-1")


def test_any_text_is_the_same_trace_each_time() -> None:
    one, two = (span_of(ended_call(id=id, body={"metadata": {"trace_id": "my trace"}})) for id in ("a", "b"))
    assert one["traceId"] == two["traceId"]
    assert one["spanId"] != two["spanId"]
    assert span_of(ended_call(body={"metadata": {"trace_id": {"odd": 1}, "session_id": 5}}))["traceId"]
