"""Answers with a success status whose body is an error: gateways in front of models send them. Pure.

A body is an error when it says so (`error`, `errors`, `"object": "error"`), or when it lacks what its operation answers
with and has the text of an error instead. Bytes are looked for before anything is parsed: an answer costs a scan.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import msgspec

from .json_fields import BROKEN_JSON, as_mapping

_any = msgspec.json.Decoder().decode
_encode = msgspec.json.Encoder().encode

# A name or a value of JSON: the quotes of a text inside a text are escaped, so words of a model never match.
_SIGNS = (b'"error"', b'"errors"', b'"detail"')
# Larger errors there are none, and without any of the signs a body of this size is parsed to see what it lacks.
_SMALL_BYTES = 4096
_NOTHING: tuple[Any, ...] = (None, False, "", {}, [], 0)
_NO_TEXT = "the provider answered 200 with an error"

# What providers call their errors, where they send no number.
_STATUS_OF_WORDS = {
    "invalid_request_error": 400,
    "context_length_exceeded": 400,
    "content_filter": 400,
    "content_policy_violation": 400,
    "authentication_error": 401,
    "invalid_api_key": 401,
    "permission_error": 403,
    "not_found_error": 404,
    "model_not_found": 404,
    "rate_limit_error": 429,
    "rate_limit_exceeded": 429,
    "insufficient_quota": 429,
    "resource_exhausted": 429,
    "overloaded_error": 503,
    "unavailable": 503,
    "timeout_error": 504,
}


class ErrorAnswer(NamedTuple):
    """`status`: that the provider should have sent, 400 to 599. `body`: its error in OpenAI's words."""

    status: int
    body: bytes


def is_json(content_type: str) -> bool:
    kind = content_type.partition(";")[0].strip().lower()
    return kind == "application/json" or kind.endswith("+json")


def error_answer(body: bytes, answer_field: str = "") -> ErrorAnswer | None:
    """The error that an answer of status 200 is, or None for an answer.

    `answer_field`: without which the operation has no answer, "" where that is not known.
    """
    has_sign = any(sign in body for sign in _SIGNS)
    if not has_sign and (len(body) > _SMALL_BYTES or not answer_field or b'"%s"' % answer_field.encode() in body):
        return None
    try:
        value = _any(body)
    except BROKEN_JSON:
        return None
    if not isinstance(value, dict):
        return None
    error = _error_in(value, answer_field)
    return None if error is None else _told(error, value)


def _error_in(value: dict[str, Any], answer_field: str) -> Any:
    """The part of an object that is its error; None where there is none."""
    if _is_something(value.get("error")):
        return value["error"]
    if value.get("object") == "error":
        return value
    if answer_field and answer_field in value:
        return None
    errors = value.get("errors")
    if isinstance(errors, list) and errors:
        return errors[0]
    return value if answer_field and _text_of(value) else None


def _is_something(error: Any) -> bool:
    return not any(error == nothing for nothing in _NOTHING)


def _told(error: Any, whole: dict[str, Any]) -> ErrorAnswer:
    parts = as_mapping(error)
    told = {"message": _text_of(error) or _NO_TEXT, "code": parts.get("code"), "param": parts.get("param")}
    return ErrorAnswer(_status_of(parts, whole), _encode({"error": told}))


def _text_of(error: Any) -> str | None:
    if isinstance(error, str):
        return error or None
    parts = as_mapping(error)
    return next((text for name in ("message", "detail") if isinstance(text := parts.get(name), str) and text), None)


def _status_of(*places: dict[str, Any]) -> int:
    """The status that an error names as a number or by a word; 500 where it does not."""
    named = [place.get(name) for place in places for name in ("code", "status", "status_code", "type")]
    for status in map(_as_status, named):
        if status is not None:
            return status
    return next((status for word in named if (status := _STATUS_OF_WORDS.get(str(word).lower()))), 500)


def _as_status(value: Any) -> int | None:
    if isinstance(value, str) and len(value) == 3 and value.isascii() and value.isdigit():
        value = int(value)
    return value if type(value) is int and 400 <= value <= 599 else None
