"""Streams of providers with flaws become well-formed ones, and well-formed ones stay as they are."""

from __future__ import annotations

import json
from typing import Any

import pytest

from app.protocols.openai.answers import DONE, StreamRestamper

USAGE = {"prompt_tokens": 9, "completion_tokens": 2, "total_tokens": 11}
STOP: dict[str, Any] = {"finish_reason": "stop"}


def chunk(delta: Any = None, index: int = 0, **fields: Any) -> dict[str, Any]:
    choice = {"index": index, "delta": delta or {}, "finish_reason": fields.pop("finish_reason", None)}
    return {"id": "1", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": [choice], **fields}


def call(id: str | None = None, name: str | None = None, arguments: str = "", index: int | None = None) -> Any:
    function = {"arguments": arguments} | ({"name": name} if name else {})
    piece = {"function": function} | ({"id": id, "type": "function"} if id else {})
    return {"tool_calls": [piece if index is None else {"index": index, **piece}]}


def sent(*events: dict[str, Any], wants_usage: bool = True, is_repaired: bool = True) -> list[dict[str, Any]]:
    """What a client gets of these events and the end."""
    stream = StreamRestamper("m", wants_usage=wants_usage, is_repaired=is_repaired)
    data = [*(json.dumps(event).encode() for event in events), DONE]
    frames = b"".join(frame for one in data if (frame := stream.frame(one)) is not None).split(b"\n\n")
    assert frames[-2:] == [b"data: [DONE]", b""]
    return [json.loads(frame.removeprefix(b"data: ")) for frame in frames[:-2]]


def choices(chunks: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [choice for one in chunks for choice in one["choices"]]


def calls(chunks: list[dict[str, Any]]) -> list[tuple[int, str]]:
    pieces = [piece for choice in choices(chunks) for piece in choice["delta"].get("tool_calls", ())]
    return [(piece["index"], piece["function"]["arguments"]) for piece in pieces]


def test_a_stream_without_flaws_is_left_alone() -> None:
    events = [
        chunk({"role": "assistant", "content": ""}),
        chunk({"content": 'say "finish_reason":"" and "reasoning" and "tool_calls"'}),
        chunk(call("a", "f", index=0)),
        chunk(call(arguments='{"index":1}', index=0)),
        chunk(call("b", "g", index=1)),
        chunk(call(arguments="{}", index=1)),
        chunk(finish_reason="tool_calls"),
        {**chunk(usage=USAGE), "choices": []},
    ]
    assert sent(*events) == events
    assert sent(*events, wants_usage=False) == events[:-1]


def test_calls_of_tools_are_numbered() -> None:
    events = [call("a", "f"), call(arguments="{"), call(arguments="}"), call("b", "g"), call(arguments="[]")]
    found = calls(sent(*map(chunk, events), chunk(finish_reason="tool_calls")))
    assert found == [(0, ""), (0, "{"), (0, "}"), (1, ""), (1, "[]")]


def test_calls_that_all_have_one_number_are_told_apart() -> None:
    events = [call("a", "f", "{}", index=0), call("b", "g", index=0), call(arguments="[]", index=0)]
    assert calls(sent(*map(chunk, events), chunk(**STOP))) == [(0, "{}"), (1, ""), (1, "[]")]


def test_whole_calls_in_one_chunk_are_numbered() -> None:
    both = {"tool_calls": [*call("a", "f", "{}")["tool_calls"], *call("b", "g", "[]")["tool_calls"]]}
    assert calls(sent(chunk(both), chunk(**STOP))) == [(0, "{}"), (1, "[]")]
    nameless = {"tool_calls": [*call(None, "f", "{}")["tool_calls"], *call(None, "g", "[]")["tool_calls"]]}
    assert calls(sent(chunk(nameless), chunk(**STOP))) == [(0, "{}"), (1, "[]")]


def test_calls_of_each_choice_are_numbered_apart() -> None:
    found = sent(chunk(call("a", "f")), chunk(call("b", "g"), index=1), chunk(**STOP), chunk(index=1, **STOP))
    assert calls(found) == [(0, ""), (0, "")]


def test_an_empty_reason_is_none() -> None:
    found = choices(sent(chunk({"content": "a"}, finish_reason=""), chunk(finish_reason="stop")))
    assert [choice["finish_reason"] for choice in found] == [None, "stop"]


@pytest.mark.parametrize(("delta", "reason"), [({"content": "a"}, "stop"), (call("a", "f", "{}"), "tool_calls")])
def test_a_missing_reason_comes_before_what_was_used(delta: Any, reason: str) -> None:
    found = sent(chunk(delta), {**chunk(usage=USAGE), "choices": []})
    assert [choice["finish_reason"] for choice in choices(found)] == [None, reason]
    assert (found[-1]["choices"], found[-1]["usage"], found[-2]["id"]) == ([], USAGE, "1")


def test_a_missing_reason_of_text_and_of_several_choices() -> None:
    text = {**chunk(), "object": "text_completion", "choices": [{"index": 0, "text": "a"}]}
    assert choices(sent(text))[-1] == {"index": 0, "text": "", "logprobs": None, "finish_reason": "stop"}
    found = choices(sent(chunk({"content": "a"}), chunk({"content": "b"}, index=1), chunk(**STOP)))
    assert [(choice["index"], choice["finish_reason"]) for choice in found[2:]] == [(0, "stop"), (1, "stop")]


def test_usage_beside_choices_comes_last_and_alone() -> None:
    found = sent(chunk({"content": "a"}, usage=USAGE), chunk({"content": "b"}, usage=USAGE), chunk(usage=USAGE, **STOP))
    assert ["usage" in one for one in found] == [False, False, False, True]
    assert (found[-1]["choices"], found[-1]["usage"]) == ([], USAGE)
    repeated = sent(chunk({"content": "a"}), chunk(**STOP), chunk(usage=USAGE, cost=1))
    assert [(one["choices"] == [], one.get("cost")) for one in repeated] == [(False, None), (False, None), (True, 1)]
    assert len(sent(chunk({"content": "a"}), chunk(**STOP), chunk(usage=USAGE), wants_usage=False)) == 2


def test_usage_in_the_middle_does_not_end_an_answer() -> None:
    alone = {**chunk(usage=USAGE), "choices": []}
    found = sent(chunk({"content": "a"}), alone, chunk({"content": "b"}), chunk(**STOP), alone)
    assert [choice["delta"].get("content") for choice in choices(found)] == ["a", "b", None]
    assert [bool(one.get("usage")) for one in found] == [False, False, False, True]


def test_thoughts_have_both_names() -> None:
    found = choices(sent(chunk({"reasoning": "hm"}), chunk({"content": "a"}), chunk(**STOP)))
    assert found[0]["delta"] == {"reasoning": "hm", "reasoning_content": "hm"}


def test_nothing_changes_for_those_who_do_not_want_it() -> None:
    events = [chunk(call("a", "f")), chunk({"reasoning": "hm"}, finish_reason=""), chunk({"content": "a"}, usage=USAGE)]
    assert sent(*events, is_repaired=False) == events
