"""One ended call as receivers of callbacks know it: the field's standard logging payload. Pure functions.

Prompts and answers are copied as raw JSON and never decoded. No credential of a provider is anywhere near.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec
from msgspec import Raw

from ..llm.observers import EndedCall

REDACTED = "redacted-by-litellm"
_OMITTED = "omitted: too large"
_MAX_TEXT_BYTES = 1024 * 1024
_MAX_PARAMETER = 4096

_fields = msgspec.json.Decoder(dict[str, Raw]).decode
_raw = msgspec.json.Decoder(Raw).decode
_any = msgspec.json.Decoder().decode
_PROMPTS = ("messages", "prompt", "input", "query", "contents")
_PARAMETERS = frozenset(
    "temperature top_p max_tokens max_completion_tokens max_output_tokens n stop seed presence_penalty "
    "frequency_penalty response_format reasoning_effort tool_choice parallel_tool_calls dimensions "
    "encoding_format service_tier stream".split()
)
# What decoding raises for bytes that are no JSON, no UTF-8, or nested beyond any purpose.
_BROKEN = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)


def standard_event(ended: EndedCall, *, is_redacted: bool, hides_caller: bool) -> dict[str, Any] | None:
    """The payload of one call, ready to be encoded by msgspec; None when the caller asked that it is not logged."""
    event, call = ended.event, ended.call
    fields = body_fields(call.body)
    if bytes(fields.get("no-log", b"")) == b"true":
        return None
    is_redacted = is_redacted or wants_redaction(ended)
    information = event.metadata.get("error_information")
    error = information if isinstance(information, Mapping) else {}
    first = event.first_chunk_time
    return {
        "id": event.request_id,
        "trace_id": event.session_id or event.call_id or event.request_id,
        "litellm_call_id": event.call_id,
        "call_type": event.call_type,
        "stream": ended.first_chunk_seconds is not None,
        "status": event.status,
        "response_cost": float(event.cost),
        "prompt_tokens": event.prompt_tokens,
        "completion_tokens": event.completion_tokens,
        "total_tokens": event.prompt_tokens + event.completion_tokens,
        "startTime": event.start_time.timestamp(),
        "endTime": event.end_time.timestamp(),
        "completionStartTime": first.timestamp() if first is not None else event.end_time.timestamp(),
        "response_time": ended.total_seconds,
        "model": event.model,
        "model_group": event.model_group,
        "model_id": event.model_id,
        "custom_llm_provider": event.provider,
        "api_base": (event.api_base or "").partition("?")[0],
        "cache_hit": event.is_cache_hit,
        "cache_key": event.cache_key,
        "request_tags": event.tags,
        "end_user": event.end_user,
        "requester_ip_address": None if hides_caller else event.ip_address,
        "metadata": _metadata(ended, hides_caller),
        "model_parameters": {
            name: value for name, value in fields.items() if name in _PARAMETERS and len(value) <= _MAX_PARAMETER
        },
        "messages": REDACTED if is_redacted else _prompt(fields),
        "response": REDACTED if is_redacted else _answer(ended),
        "error_str": error.get("error_message"),
        "error_information": {**error, "llm_provider": event.provider} if error else None,
    }


def body_fields(body: bytes) -> dict[str, Raw]:
    """The top level of a JSON body; nothing for what is no JSON object."""
    try:
        return _fields(body) if body else {}
    except _BROKEN:
        return {}


def wants_redaction(ended: EndedCall) -> bool:
    """Whether the caller's headers or its key keep prompts and answers to themselves."""
    call = ended.call
    return call.principal.is_redacted or call.redaction.strip().lower() in ("true", "1", "yes")


def _metadata(ended: EndedCall, hides_caller: bool) -> dict[str, Any]:
    event, principal = ended.event, ended.call.principal
    found: dict[str, Any] = {
        "attempted_fallbacks": ended.fallbacks,
        "attempted_retries": max(0, len(ended.failed) - ended.fallbacks),
        "failed_attempts": [
            {"model_id": one.deployment.id, "status": one.status, "error_class": one.error_class}
            for one in ended.failed
        ],
        "usage_object": event.metadata.get("usage_object"),
    }
    if not hides_caller:
        found |= {
            "user_api_key_hash": event.key_hash,
            "user_api_key_alias": principal.key_alias,
            "user_api_key_user_id": event.user_id,
            "user_api_key_team_id": event.team_id,
            "user_api_key_team_alias": principal.team_alias,
            "user_api_key_org_id": event.organization_id,
            "user_api_key_end_user_id": event.end_user,
        }
    return found


def _prompt(fields: Mapping[str, Raw]) -> Any:
    found = next((fields[name] for name in _PROMPTS if name in fields), None)
    return _OMITTED if found is not None and len(found) > _MAX_TEXT_BYTES else found


def _answer(ended: EndedCall) -> Any:
    """The whole answer; a text that says why where there is none."""
    if ended.answer is None:
        return "omitted: streamed" if ended.first_chunk_seconds is not None else None
    if len(ended.answer) > _MAX_TEXT_BYTES:
        return _OMITTED
    try:
        return _raw(ended.answer)
    except _BROKEN:
        return "omitted: no JSON"


def client_metadata(body: bytes) -> dict[str, Any]:
    """What the client wrote under `metadata`: names and ids for a trace."""
    field = body_fields(body).get("metadata")
    if field is None or len(field) > _MAX_PARAMETER:
        return {}
    try:
        found = _any(field)
    except _BROKEN:
        return {}
    return found if isinstance(found, dict) else {}
