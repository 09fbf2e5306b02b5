"""JSON whose values are left as they are: what all of the OpenAI dialect reads bodies and answers with."""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import Raw

from ..errors import InvalidRequest

RawFields = dict[str, Raw]

# The top level of an object; its values stay undecoded.
read_fields = msgspec.json.Decoder(RawFields).decode
_any = msgspec.json.Decoder().decode

# What decoding raises for bytes that are no JSON, no UTF-8, or nested beyond any purpose.
BROKEN_JSON = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)

_MAX_TOKENS = 10**9


def as_mapping(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def as_count(value: Any) -> int:
    """A number of tokens. A provider that reports nonsense must not break the sums of everyone else."""
    return max(0, min(int(value), _MAX_TOKENS)) if isinstance(value, int | float) else 0


def error_message(body: bytes) -> str | None:
    """The text of a provider's error body, in any of the shapes that compatible providers use."""
    value = _object_or_none(body)
    error = value.get("error", value) if value is not None else None
    if isinstance(error, dict):
        error = error.get("message") or error.get("detail")
    return error if isinstance(error, str) else None


def error_detail(body: bytes, name: str) -> str | None:
    """One text of a provider's error: its `code`, as `context_length_exceeded`, or the `param` that it is about."""
    error = (_object_or_none(body) or {}).get("error")
    detail = error.get(name) if isinstance(error, dict) else None
    return detail if isinstance(detail, str) else None


def _object_or_none(body: bytes) -> dict[str, Any] | None:
    try:
        value = _any(body)
    except BROKEN_JSON:
        return None
    return value if isinstance(value, dict) else None


def object_of(body: bytes) -> dict[str, Any]:
    """A client's JSON object, decoded. Raises InvalidRequest (400) for anything else."""
    try:
        value = _any(body if body.strip() else b"{}")
    except BROKEN_JSON as problem:
        raise InvalidRequest(f"Invalid JSON payload: {problem}", param="request_body") from None
    if not isinstance(value, dict):
        raise InvalidRequest("Invalid JSON payload: the body must be a JSON object", param="request_body")
    return value
