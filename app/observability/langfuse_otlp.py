"""Events as OpenTelemetry spans that Langfuse reads: OTLP over HTTP in its JSON encoding. Pure functions."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

import msgspec
from msgspec import Raw

from ..version import VERSION

_HEX_TRACE = re.compile(r"^[0-9a-f]{32}$")
_CLIENT_SPAN, _OK, _ERROR = 3, 1, 2
_MAX_NAME = 200
_encode = msgspec.json.Encoder().encode

_OPERATIONS = {"acompletion": "chat", "atext_completion": "text_completion", "aembedding": "embeddings"}


def span(event: Mapping[str, Any], client: Mapping[str, Any]) -> bytes:
    """The JSON of one event's span. `client`: what its client wrote under `metadata`."""
    return _encode(_span(event, client))


def traces(spans: Iterable[bytes]) -> bytes:
    """The body of one export."""
    resource = {"attributes": _attributes({"service.name": "quarterdeck", "service.version": VERSION})}
    scopes = [{"scope": {"name": "quarterdeck", "version": VERSION}, "spans": [Raw(one) for one in spans]}]
    return _encode({"resourceSpans": [{"resource": resource, "scopeSpans": scopes}]})


def _span(event: Mapping[str, Any], client: Mapping[str, Any]) -> dict[str, Any]:
    is_failure = event["status"] != "success"
    message = str(event["error_str"] or "")
    return {
        "traceId": _trace_id(_text(client.get("trace_id")) or str(event["trace_id"])),
        "spanId": hashlib.sha256(str(event["id"]).encode()).hexdigest()[:16],
        "name": _text(client.get("generation_name")) or f"{event['call_type']} {event['model_group']}",
        "kind": _CLIENT_SPAN,
        "startTimeUnixNano": _nanoseconds(event["startTime"]),
        "endTimeUnixNano": _nanoseconds(event["endTime"]),
        "attributes": _attributes({**_gen_ai(event), **_langfuse(event, client, is_failure, message)}),
        "status": {"code": _ERROR, "message": message} if is_failure else {"code": _OK},
    }


def _gen_ai(event: Mapping[str, Any]) -> dict[str, Any]:
    found = {
        "gen_ai.operation.name": _OPERATIONS.get(event["call_type"], event["call_type"]),
        "gen_ai.system": event["custom_llm_provider"],
        "gen_ai.provider.name": event["custom_llm_provider"],
        "gen_ai.request.model": event["model_group"],
        "gen_ai.response.model": event["model"],
        "gen_ai.usage.input_tokens": event["prompt_tokens"],
        "gen_ai.usage.output_tokens": event["completion_tokens"],
    }
    if event["error_information"]:
        found["error.type"] = event["error_information"].get("error_class")
    return found


def _langfuse(event: Mapping[str, Any], client: Mapping[str, Any], is_failure: bool, message: str) -> dict[str, Any]:
    metadata = event["metadata"]
    usage = {"input": event["prompt_tokens"], "output": event["completion_tokens"], "total": event["total_tokens"]}
    found = {
        "langfuse.observation.type": "embedding" if event["call_type"] == "aembedding" else "generation",
        "langfuse.observation.model.name": event["model"] or event["model_group"],
        "langfuse.observation.model.parameters": _json(event["model_parameters"]),
        "langfuse.observation.input": _json(event["messages"]),
        "langfuse.observation.output": _json(event["response"]),
        "langfuse.observation.usage_details": _json(usage),
        "langfuse.observation.cost_details": _json({"total": event["response_cost"]}),
        "langfuse.observation.completion_start_time": _moment(event["completionStartTime"]),
        "langfuse.observation.level": "ERROR" if is_failure else "DEFAULT",
        "langfuse.observation.status_message": message or None,
        "langfuse.trace.name": _text(client.get("trace_name")) or event["call_type"],
        "langfuse.trace.tags": event["request_tags"] or None,
        "session.id": _text(client.get("session_id")),
        "user.id": _text(client.get("trace_user_id")) or event["end_user"] or metadata.get("user_api_key_user_id"),
    }
    names = ("model_id", "api_base", "litellm_call_id", "cache_hit")
    found |= {f"langfuse.observation.metadata.{name}": event[name] for name in names}
    found |= {
        f"langfuse.trace.metadata.{name}": value
        for name, value in metadata.items()
        if name.startswith("user_api_key_") and value
    }
    return found


def _attributes(values: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Values of None and empty texts say nothing and are left out."""
    return [
        {"key": name, "value": _value(value)} for name, value in values.items() if value is not None and value != ""
    ]


def _value(value: Any) -> dict[str, Any]:
    if type(value) is str:  # nearly all of them
        return {"stringValue": value}
    if isinstance(value, bool):
        return {"boolValue": value}
    if isinstance(value, int):
        return {"intValue": str(value)}
    if isinstance(value, float):
        return {"doubleValue": value}
    if isinstance(value, list | tuple):
        return {"arrayValue": {"values": [_value(item) for item in value]}}
    return {"stringValue": str(value)}


def _json(value: Any) -> str | None:
    """JSON as text, which is how these attributes carry what is no plain value."""
    if value is None or isinstance(value, str):
        return value
    return bytes(value).decode() if isinstance(value, Raw) else _encode(value).decode()


def _moment(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat()


def _trace_id(text: str) -> str:
    plain = text.replace("-", "").lower()
    return plain if _HEX_TRACE.match(plain) else hashlib.sha256(text.encode()).hexdigest()[:32]


def _nanoseconds(seconds: float) -> str:
    return str(int(seconds * 1_000_000) * 1000)


def _text(value: Any) -> str | None:
    return value[:_MAX_NAME] if isinstance(value, str) and value else None
