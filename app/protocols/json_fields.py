"""JSON whose values are left as they are: what all of the OpenAI dialect reads bodies and answers with."""

from __future__ import annotations

import re
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
# Halves of a pair of surrogates that may stand alone, and every escape of a text, to tell whether they do.
_HALF = re.compile(
    rb"\\u[dD][89abAB][0-9a-fA-F]{2}(?!\\u[dD][c-fC-F])|(?<!\\u[dD][89abAB][0-9a-fA-F]{2})\\u[dD][c-fC-F][0-9a-fA-F]{2}"
)
_ESCAPE = re.compile(
    rb"\\(?:u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|u([dD][89a-fA-F][0-9a-fA-F]{2})|.)", re.DOTALL
)


def check_text(body: bytes) -> None:
    """Refuse a client's body that no provider can read: values are passed on undecoded. Raises InvalidRequest (400)."""
    if not body.isascii():
        try:
            body.decode()
        except UnicodeDecodeError as problem:
            text = f"Invalid JSON payload: the body is not UTF-8 (byte {problem.start})"
            raise InvalidRequest(text, param="request_body") from None
    if _HALF.search(body) is None:
        return
    for escape in _ESCAPE.finditer(body):
        if escape[1] is not None:
            text = f"Invalid JSON payload: \\u{escape[1].decode()} is half of a character (a lone surrogate)"
            raise InvalidRequest(text, param="request_body")


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
    check_text(body)
    try:
        value = _any(body if body.strip() else b"{}")
    except BROKEN_JSON as problem:
        raise InvalidRequest(f"Invalid JSON payload: {problem}", param="request_body") from None
    if not isinstance(value, dict):
        raise InvalidRequest("Invalid JSON payload: the body must be a JSON object", param="request_body")
    return value
