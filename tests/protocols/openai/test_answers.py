"""A provider's stream becomes the client's, one event at a time."""

from __future__ import annotations

import json
from typing import Any

import pytest

from app.protocols.dialect import ProviderFault
from app.protocols.json_fields import BROKEN_JSON, error_detail, error_message
from app.protocols.openai.answers import DONE, DONE_FRAME, StreamRestamper, error_frame

USAGE = {"prompt_tokens": 9, "completion_tokens": 2, "total_tokens": 11}


def event(**fields: Any) -> bytes:
    return json.dumps({"id": "1", "model": "provider-model", "choices": [{"index": 0, "delta": {}}], **fields}).encode()


def payload(frame: bytes | None) -> dict[str, Any]:
    assert frame is not None
    assert frame.startswith(b"data: ") and frame.endswith(b"\n\n") and frame.count(b"\n") == 2
    value: dict[str, Any] = json.loads(frame[6:])
    return value


def test_each_chunk_carries_the_name_that_was_asked_for() -> None:
    restamper = StreamRestamper("group", wants_usage=False)
    assert payload(restamper.frame(event(x=1.5))) == {**json.loads(event(x=1.5)), "model": "group"}


def test_the_usage_chunk_is_dropped_for_a_client_that_did_not_ask_and_counted_all_the_same() -> None:
    restamper = StreamRestamper("group", wants_usage=False)
    assert restamper.frame(event(choices=[], usage=USAGE)) is None
    assert restamper.usage is not None and restamper.usage.total_tokens == 11


def test_the_usage_chunk_is_sent_to_a_client_that_asked() -> None:
    restamper = StreamRestamper("group", wants_usage=True)
    assert payload(restamper.frame(event(choices=[], usage=USAGE)))["usage"] == USAGE


def test_usage_beside_content_is_taken_out_and_the_content_stays() -> None:
    restamper = StreamRestamper("group", wants_usage=False)
    frame = payload(restamper.frame(event(usage=USAGE)))
    assert "usage" not in frame and frame["choices"]
    assert "usage" not in payload(restamper.frame(event(usage=None)))


def test_the_last_usage_counts() -> None:
    restamper = StreamRestamper("group", wants_usage=False)
    for tokens in (1, 2, 3):
        restamper.frame(event(usage={"prompt_tokens": 9, "completion_tokens": tokens}))
    assert restamper.usage is not None and restamper.usage.completion_tokens == 3


def test_the_end_is_passed_on() -> None:
    restamper = StreamRestamper("group", wants_usage=False)
    assert not restamper.has_finished
    assert restamper.frame(DONE) == DONE_FRAME
    assert restamper.has_finished


def test_a_stream_knows_whether_its_answer_is_whole() -> None:
    restamper = StreamRestamper("group", wants_usage=True)
    restamper.frame(event())
    assert not restamper.has_finish_reason
    restamper.frame(event(choices=[{"index": 0, "delta": {}, "finish_reason": "stop"}]))
    restamper.frame(event(choices=[], usage=USAGE))
    assert restamper.has_finish_reason


@pytest.mark.parametrize("error", [{"message": "it broke"}, "it broke"])
def test_an_error_event_is_a_fault_with_the_provider_s_words(error: Any) -> None:
    restamper = StreamRestamper("group", wants_usage=False)
    with pytest.raises(ProviderFault, match="it broke"):
        restamper.frame(json.dumps({"error": error}).encode())
    assert payload(restamper.frame(event(error=None)))


@pytest.mark.parametrize("data", [b"<html>", b"[]", b"null", b"", b'{"a"', b"\xff", b"[" * 100_000])
def test_an_event_that_is_no_json_object_is_broken(data: bytes) -> None:
    with pytest.raises(BROKEN_JSON):
        StreamRestamper("group", wants_usage=False).frame(data)


def test_a_stream_that_broke_is_billed_by_what_it_delivered() -> None:
    restamper = StreamRestamper("group", wants_usage=False)
    for _ in range(4):
        restamper.frame(event())
    estimate = restamper.estimated_usage(body_bytes=400)
    assert (estimate.prompt_tokens, estimate.completion_tokens) == (100, 3)


def test_an_error_frame_is_one_event_and_then_the_end() -> None:
    error, done, rest = error_frame('it "broke"\n', "500").split(b"\n\n")
    assert json.loads(error.removeprefix(b"data: ")) == {
        "error": {"message": 'it "broke"\n', "type": None, "param": None, "code": "500"}
    }
    assert (done, rest) == (b"data: [DONE]", b"")


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b'{"error":{"message":"a"}}', "a"),
        (b'{"error":{"detail":"b"}}', "b"),
        (b'{"error":"c"}', "c"),
        (b'{"message":"d"}', "d"),
        (b'{"detail":"e"}', "e"),
        (b"<html>", None),
        (b"[]", None),
        (b'{"error":{"message":{"not":"text"}}}', None),
        (b"[" * 100_000, None),
        (b"\xff", None),
    ],
)
def test_error_texts_of_compatible_providers(body: bytes, message: str | None) -> None:
    assert error_message(body) == message


def test_details_of_an_error() -> None:
    body = b'{"error":{"code":"context_length_exceeded","param":"messages"}}'
    assert (error_detail(body, "code"), error_detail(body, "param")) == ("context_length_exceeded", "messages")
    for other in (b'{"error":{"code":7}}', b'{"error":"x"}', b"[]", b"<html>", b"[" * 100_000):
        assert error_detail(other, "code") is None
