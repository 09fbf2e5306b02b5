"""The event of a call: the field's payload, with nothing in it that its reader may not see."""

from __future__ import annotations

from typing import Any

import msgspec

from app.llm.observers import EndedCall
from app.observability.standard_logging import REDACTED, client_metadata, standard_event
from tests.observability.calls import ANSWER, MESSAGES, NOON, PROVIDER_KEY, ended_call


def written(ended: EndedCall, **flags: bool) -> dict[str, Any]:
    """The event as its reader decodes it."""
    event = standard_event(ended, **{"is_redacted": False, "hides_caller": False, **flags})
    assert event is not None
    decoded: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(event))
    return decoded


def test_a_good_call_says_who_what_how_much_and_what_was_said() -> None:
    event = written(ended_call())
    assert (event["id"], event["status"], event["call_type"], event["stream"]) == (
        "call-1",
        "success",
        "acompletion",
        False,
    )
    assert (event["prompt_tokens"], event["completion_tokens"], event["total_tokens"]) == (7, 5, 12)
    assert (event["response_cost"], event["end_user"], event["request_tags"]) == (0.0125, "customer-1", ["blue"])
    assert (event["model"], event["model_group"], event["model_id"]) == ("gpt-4o-mini", "chat", "d1")
    assert (event["startTime"], event["endTime"]) == (NOON.timestamp(), NOON.timestamp() + 0.5)
    assert (event["api_base"], event["error_information"]) == ("http://127.0.0.1:9/v1", None)
    assert event["metadata"]["user_api_key_hash"] == "hash-of-the-key"
    assert event["metadata"]["user_api_key_team_alias"] == "The crew"
    assert (event["messages"], event["response"]) == (MESSAGES, msgspec.json.decode(ANSWER))
    assert event["model_parameters"] == {"temperature": 0.2}


def test_a_failed_call_says_why() -> None:
    event = written(ended_call(status=500, attempts=2))
    assert (event["status"], event["error_str"], event["response"]) == ("failure", "it broke", None)
    assert event["error_information"]["error_code"] == "500"
    assert [one["status"] for one in event["metadata"]["failed_attempts"]] == [500, 500]


def test_no_credential_of_a_provider_is_in_an_event() -> None:
    for ended in (ended_call(), ended_call(status=500, attempts=1)):
        assert PROVIDER_KEY not in msgspec.json.encode(written(ended)).decode()


def test_prompts_and_answers_stay_here_for_each_way_to_say_so() -> None:
    cases: list[tuple[EndedCall, bool]] = [
        (ended_call(), True),
        (ended_call(redaction="true"), False),
        (ended_call(is_redacted=True), False),
    ]
    for ended, is_redacted in cases:
        event = written(ended, is_redacted=is_redacted)
        assert (event["messages"], event["response"]) == (REDACTED, REDACTED)
        assert "the prompt" not in str(event)


def test_the_caller_can_be_left_out() -> None:
    event = written(ended_call(), hides_caller=True)
    assert not [name for name in event["metadata"] if name.startswith("user_api_key")]
    assert "alice" not in str(event)


def test_what_cannot_be_shown_says_why() -> None:
    assert written(ended_call(first_chunk=0.2))["response"] == "omitted: streamed"
    assert written(ended_call(first_chunk=0.2))["completionStartTime"] == NOON.timestamp() + 0.2
    assert written(ended_call(answer=b"\xff\xfb audio"))["response"] == "omitted: no JSON"
    assert written(ended_call(answer=b'"' + b"x" * 2_000_000 + b'"'))["response"] == "omitted: too large"
    assert written(ended_call(body={"messages": "y" * 2_000_000}))["messages"] == "omitted: too large"


def test_a_caller_may_ask_not_to_be_logged() -> None:
    assert standard_event(ended_call(body={"no-log": True}), is_redacted=False, hides_caller=False) is None
    assert written(ended_call(body={"no-log": False}))["id"] == "call-1"


def test_a_body_that_is_no_json_object_has_an_event_too() -> None:
    ended = ended_call()
    ended.call.body = b"\xff not json"
    assert (written(ended)["messages"], client_metadata(ended.call.body)) == (None, {})


def test_metadata_of_a_client_are_read_when_they_are_an_object() -> None:
    assert client_metadata(b'{"metadata":{"session_id":"s"}}') == {"session_id": "s"}
    for body in (b"{}", b'{"metadata":[1]}', b'{"metadata":{"a":"' + b"x" * 5000 + b'"}}'):
        assert client_metadata(body) == {}
