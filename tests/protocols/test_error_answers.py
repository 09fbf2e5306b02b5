"""What counts as an error in a body of status 200, and under which status."""

from __future__ import annotations

import json
from typing import Any

import pytest

from app.protocols.error_answers import error_answer


def error_of(body: Any, answer_field: str = "choices") -> tuple[int, dict[str, Any]] | None:
    found = error_answer(json.dumps(body).encode(), answer_field)
    return None if found is None else (found.status, json.loads(found.body)["error"])


@pytest.mark.parametrize(
    ("body", "status", "message"),
    [
        ({"error": {"message": "in-band", "code": 502}}, 502, "in-band"),
        ({"error": {"message": "slow down", "code": "429"}}, 429, "slow down"),
        ({"error": {"message": "busy", "type": "overloaded_error"}, "type": "error"}, 503, "busy"),
        ({"error": {"message": "too long", "code": "context_length_exceeded"}}, 400, "too long"),
        ({"error": {"code": 429, "message": "quota", "status": "RESOURCE_EXHAUSTED"}}, 429, "quota"),
        ({"error": "no such thing"}, 500, "no such thing"),
        ({"error": True}, 500, "the provider answered 200 with an error"),
        ({"error": {"message": "cut", "code": 1000}, "choices": []}, 500, "cut"),
        ({"object": "error", "message": "vLLM says no", "code": 400}, 400, "vLLM says no"),
        ({"success": False, "errors": [{"code": 7003, "message": "no route"}], "result": None}, 500, "no route"),
        ({"detail": "Not Found"}, 500, "Not Found"),
        ({"message": "Endpoint request timed out"}, 500, "Endpoint request timed out"),
        ({"status": 503, "message": "upstream down"}, 503, "upstream down"),
    ],
)
def test_an_error_is_told_under_its_status(body: Any, status: int, message: str) -> None:
    found = error_of(body)
    assert found is not None
    assert (found[0], found[1]["message"]) == (status, message)


@pytest.mark.parametrize(
    "body",
    [
        {"choices": [{"message": {"content": 'say {"error": "x"}'}}]},
        {"choices": [], "error": None},
        {"choices": [], "error": {}},
        {"choices": [], "error": ""},
        {"choices": [{}], "errors": [], "detail": "high"},
        {"id": "no words of an error at all"},
        [1, 2],
        "error",
    ],
)
def test_an_answer_is_no_error(body: Any) -> None:
    assert error_of(body) is None


def test_bytes_that_are_no_json_are_somebody_elses_fault() -> None:
    assert error_answer(b'{"error": ', "choices") is None


def test_what_an_operation_answers_with_may_be_unknown() -> None:
    assert error_of({"message": "fine"}, "") is None
    assert error_of({"error": {"message": "no"}}, "") == (500, {"message": "no", "code": None, "param": None})
