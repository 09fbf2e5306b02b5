"""Whole answers of the OpenAI dialect survive translation, with what was used."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from openai.types.chat import ChatCompletion

from app.protocols.base import Usage
from app.protocols.canonical import ChatAnswer, Choice, Media, Reasoning, Text, ToolCall
from app.protocols.dialect import InvalidAnswer
from app.protocols.json_fields import BROKEN_JSON
from app.protocols.openai.answers import read_usage
from app.protocols.openai.chat import OpenAIChat
from tests.protocols.conversations import ANSWERS

CODEC = OpenAIChat()


def read(*choices: dict[str, Any], **fields: Any) -> ChatAnswer:
    return CODEC.read_answer(json.dumps({"id": "a", "created": 1, "choices": choices, **fields}).encode())


def written(*choices: Choice, usage: Usage | None = None) -> dict[str, Any]:
    fields: dict[str, Any] = json.loads(CODEC.write_answer(ChatAnswer(choices=choices, usage=usage), "m"))
    return fields


def message(**fields: Any) -> dict[str, Any]:
    return {"message": {"role": "assistant", **fields}, "finish_reason": "stop"}


@given(ANSWERS)
def test_what_the_dialect_can_say_survives_being_written_and_read(answer: ChatAnswer) -> None:
    body = CODEC.write_answer(answer, "m")
    ChatCompletion.model_validate_json(body)
    assert CODEC.read_answer(body) == answer


def test_choices_are_in_the_order_of_their_numbers() -> None:
    answer = read({**message(content="b"), "index": 1}, {**message(content="a"), "index": 0})
    assert [choice.parts for choice in answer.choices] == [[Text(text="a")], [Text(text="b")]]


@pytest.mark.parametrize(
    ("reason", "stop"),
    [("function_call", "tool_calls"), ("eos", "stop"), (None, None), ("length", "length"), ("content_filter",) * 2],
)
def test_the_reason_of_the_end_is_read_in_all_words(reason: str | None, stop: str | None) -> None:
    [choice] = read({**message(content="a"), "finish_reason": reason}).choices
    assert choice.stop == stop


@pytest.mark.parametrize(
    ("fields", "thoughts"),
    [
        ({"reasoning_content": "hm"}, [Reasoning(text="hm")]),
        ({"reasoning": "hm"}, [Reasoning(text="hm")]),
        ({"reasoning": {"not": "text"}}, []),
        (
            {"reasoning_content": "hm", "thinking_blocks": [{"type": "redacted_thinking", "data": "x"}]},
            [Reasoning(text="hm"), Reasoning(encrypted="x")],
        ),
    ],
)
def test_thoughts_are_read_in_all_the_ways_that_providers_write_them(
    fields: dict[str, Any], thoughts: list[Reasoning]
) -> None:
    [choice] = read(message(content=None, **fields)).choices
    assert choice.parts == thoughts


@pytest.mark.parametrize(
    "body",
    [
        b'{"id": "a", "choices": []}',
        b'{"id": "a", "choices": [{"message": {"content": [{"type": "hologram"}]}}]}',
        b'{"id": "a", "choices": [{"message": {"audio": {"id": "b"}}}]}',
        b'{"id": "a", "choices": [{"message": {"tool_calls": [{"function": {}}]}}]}',
        b'{"id": "a"}',
        b"[]",
        b"<html>",
    ],
)
def test_an_answer_without_sense_is_not_read(body: bytes) -> None:
    with pytest.raises((InvalidAnswer, *BROKEN_JSON)):
        CODEC.read_answer(body)


def test_an_answer_of_a_dialect_without_ids_gets_one() -> None:
    answer = written(Choice(parts=[Text(text="a")]))
    assert answer["id"].startswith("chatcmpl-") and answer["created"] > 0 and answer["model"] == "m"
    assert answer["id"] != written(Choice(parts=[]))["id"]


def test_texts_are_joined_and_a_stop_sequence_is_a_stop() -> None:
    choice = Choice(parts=[Text(text="a"), Text(text="b")], stop="stop_sequence", stop_sequence="b")
    [only] = written(choice)["choices"]
    assert only == {"index": 0, "message": {"role": "assistant", "content": "ab"}, "finish_reason": "stop"}


def test_calls_without_words_have_no_content() -> None:
    [only] = written(Choice(parts=[ToolCall(id="c", name="add")], stop="tool_calls"))["choices"]
    assert only["message"]["content"] is None and only["message"]["tool_calls"][0]["id"] == "c"


def test_a_picture_has_no_place_in_an_answer() -> None:
    with pytest.raises(InvalidAnswer):
        written(Choice(parts=[Media(kind="image", data="AA")]))


def test_what_was_used_is_written_by_its_classes() -> None:
    usage = Usage(
        prompt_tokens=9,
        completion_tokens=5,
        cache_read_tokens=3,
        cache_write_tokens=2,
        reasoning_tokens=4,
        raw={"in": 9},
    )
    assert written(Choice(parts=[]), usage=usage)["usage"] == {
        "prompt_tokens": 9,
        "completion_tokens": 5,
        "total_tokens": 14,
        "prompt_tokens_details": {"cached_tokens": 3, "cache_creation_tokens": 2},
        "completion_tokens_details": {"reasoning_tokens": 4},
    }
    plain = written(Choice(parts=[]), usage=Usage(prompt_tokens=1, completion_tokens=2))["usage"]
    assert plain == {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3}


def test_what_a_provider_counted_in_this_dialect_is_passed_on_whole() -> None:
    raw = {"prompt_tokens": 1, "completion_tokens": 2, "prompt_tokens_details": {"audio_tokens": 1}}
    assert written(Choice(parts=[]), usage=read_usage(json.dumps(raw).encode()))["usage"] == raw


def test_an_uncounted_answer_says_nothing_of_what_was_used() -> None:
    assert "usage" not in written(Choice(parts=[]))
