"""Lines of the log about calls: which calls get one, at which level, and what is in it."""

from __future__ import annotations

from structlog.testing import capture_logs

from app.errors import BudgetExceeded
from app.llm.observers import FailedAttempt
from app.observability.call_log import CallLog
from tests.llm.ended_calls import ended, target


def test_a_failed_call_gets_one_line_without_the_texts_of_errors() -> None:
    where = target("chat")
    failed = [FailedAttempt(where, 500, "InternalServerError", "a text of the provider", 0.1)]
    with capture_logs() as lines:
        CallLog(is_verbose=False).call_ended(ended(where, failed=failed, status=500, error_class="InternalServerError"))
    assert lines == [
        {
            "event": "call failed",
            "log_level": "warning",
            "error": "InternalServerError",
            "request_id": "call-1",
            "status": 500,
            "model": "chat",
            "deployment": where.id,
            "failed_attempts": 1,
            "fallbacks": 0,
            "seconds": 0.8,
        }
    ]


def test_a_refused_call_names_its_key_by_a_part_of_its_hash() -> None:
    call = ended(target("chat")).call
    with capture_logs() as lines:
        CallLog(is_verbose=False).call_refused(call, BudgetExceeded("over"))
    (line,) = lines
    assert (line["event"], line["error"], line["key"]) == ("call refused", "BudgetExceeded", "hash-of-a-key")
    assert "over" not in line.values()


def test_a_client_that_left_is_no_warning() -> None:
    with capture_logs() as lines:
        CallLog(is_verbose=False).call_ended(ended(target("chat"), status=499, error_class="ClientDisconnected"))
    assert [(line["event"], line["log_level"]) for line in lines] == [("client left", "info")]


def test_a_good_call_gets_a_line_only_when_that_is_asked_for() -> None:
    with capture_logs() as lines:
        CallLog(is_verbose=False).call_ended(ended(target("chat")))
        assert lines == []
        CallLog(is_verbose=True).call_ended(ended(target("chat")))
    assert [(line["event"], line["log_level"], line["tokens"]) for line in lines] == [("call answered", "debug", 15)]
