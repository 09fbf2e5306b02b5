"""Streams of the OpenAI dialect survive translation, and are well-formed whatever is told."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.protocols.base import Usage
from app.protocols.canonical import (
    ChatEvent,
    Counted,
    ReasoningDelta,
    RefusalDelta,
    Started,
    Stopped,
    TextDelta,
    ToolCallDelta,
    ToolCallStarted,
)
from app.protocols.dialect import InvalidAnswer, ProviderFault
from app.protocols.json_fields import BROKEN_JSON
from app.protocols.openai.answers import DONE, DONE_FRAME
from app.protocols.openai.chat import OpenAIChat
from tests.protocols.conversations import streams
from tests.protocols.openai.chunk_grammar import chunks_of

CODEC = OpenAIChat()
HEAD = Started(id="a", created=1)


def written(events: list[ChatEvent], *, wants_usage: bool = True) -> bytes:
    writer = CODEC.writer("m", wants_usage=wants_usage)
    return b"".join(writer.write(event) for event in events) + writer.finish()


def read(*chunks: dict[str, Any]) -> list[ChatEvent]:
    reader = CODEC.reader()
    return [event for chunk in chunks for event in reader.read(json.dumps({"id": "a", "created": 1, **chunk}).encode())]


def delta(index: int = 0, reason: str | None = None, **fields: Any) -> dict[str, Any]:
    return {"choices": [{"index": index, "delta": fields, "finish_reason": reason}]}


def call(**fields: Any) -> dict[str, Any]:
    return delta(tool_calls=[fields])


# ---- written -------------------------------------------------------------------------------------------------------


@given(streams())
def test_what_the_dialect_can_say_survives_being_written_and_read(events: list[ChatEvent]) -> None:
    stream = written(events)
    chunks_of(stream)
    reader = CODEC.reader()
    assert [event for data in CODEC.decoder().feed(stream) for event in reader.read(data)] == events
    assert reader.has_ended


_STRAY: st.SearchStrategy[ChatEvent] = st.one_of(
    st.just(Counted(usage=Usage(prompt_tokens=1))),
    st.just(TextDelta(text="late")),
    st.just(Stopped(reason="length")),
    st.just(Stopped(reason="stop_sequence", stop_sequence="x", choice=1)),
)


@given(streams(), st.lists(st.tuples(st.integers(1, 30), _STRAY), max_size=4), st.booleans())
def test_a_stream_is_well_formed_whatever_is_told(
    events: list[ChatEvent], strays: list[tuple[int, ChatEvent]], wants_usage: bool
) -> None:
    """Some say their usage twice or in the middle, their end twice, or more behind it."""
    end = [Stopped(reason="stop", choice=choice) for choice in range(3)]
    for position, stray in strays:
        events.insert(position, stray)
    chunks = chunks_of(written([*events, *end], wants_usage=wants_usage))
    is_counted = any(isinstance(event, Counted) for event in events)
    assert any(chunk.get("usage") for chunk in chunks) == (is_counted and wants_usage)


def test_a_call_without_arguments_gets_empty_ones() -> None:
    [_, _, arguments, _] = chunks_of(
        written([HEAD, ToolCallStarted(index=0, id="c", name="now"), Stopped(reason="stop")])
    )
    assert arguments["choices"][0]["delta"] == {"tool_calls": [{"index": 0, "function": {"arguments": "{}"}}]}


def test_an_empty_answer_has_a_role_and_an_end() -> None:
    first, last = chunks_of(written([HEAD, Stopped(reason="length")]))
    assert first["choices"][0]["delta"] == {"role": "assistant", "content": ""}
    assert last["choices"] == [{"index": 0, "delta": {}, "finish_reason": "length"}]


def test_a_stream_that_never_began_is_its_end() -> None:
    assert written([]) == DONE_FRAME


def test_chunks_of_a_dialect_without_ids_share_one() -> None:
    chunks = chunks_of(written([Started(), TextDelta(text="a"), Stopped(reason="stop")]))
    assert chunks[0]["id"].startswith("chatcmpl-") and chunks[0]["created"] > 0
    assert chunks_of(written([TextDelta(text="a"), Stopped(reason="stop")]))[0]["id"] != chunks[0]["id"]


def test_thoughts_are_told_as_text_and_as_blocks() -> None:
    events = [ReasoningDelta(text="hm"), ReasoningDelta(signature="s"), ReasoningDelta(encrypted="x")]
    _, *chunks, _ = chunks_of(written([HEAD, *events, Stopped(reason="stop")]))
    assert [chunk["choices"][0]["delta"] for chunk in chunks] == [
        {"reasoning_content": "hm", "thinking_blocks": [{"type": "thinking", "thinking": "hm"}]},
        {"thinking_blocks": [{"type": "thinking", "thinking": "", "signature": "s"}]},
        {"thinking_blocks": [{"type": "redacted_thinking", "data": "x"}]},
    ]


# ---- read ----------------------------------------------------------------------------------------------------------


def test_a_stream_starts_with_its_first_choice() -> None:
    """Azure says what its filter found of the prompt in a chunk that is of no answer."""
    reader = CODEC.reader()
    assert list(reader.read(b'{"id": "", "created": 0, "choices": [], "prompt_filter_results": []}')) == []
    assert list(reader.read(json.dumps({"id": "a", "created": 1, **delta(role="assistant")}).encode())) == [HEAD]


def test_all_that_one_chunk_says_is_read_in_order() -> None:
    chunk = delta(
        reason="stop",
        content="a",
        refusal="no",
        reasoning="hm",
        tool_calls=[{"index": 0, "id": "c", "function": {"name": "add", "arguments": "{"}}],
    )
    *events, counted = read({**chunk, "usage": {"prompt_tokens": 1}})
    assert events == [
        HEAD,
        ReasoningDelta(text="hm"),
        TextDelta(text="a"),
        RefusalDelta(text="no"),
        ToolCallStarted(index=0, id="c", name="add"),
        ToolCallDelta(index=0, arguments="{"),
        Stopped(reason="stop"),
    ]
    assert isinstance(counted, Counted) and counted.usage.prompt_tokens == 1


def test_calls_under_one_number_are_told_apart_by_their_ids() -> None:
    pieces = [{"id": id, "function": {"name": "add", "arguments": id}} for id in ("a", "b")]
    assert read(*(call(index=0, **piece) for piece in pieces)) == read(*(call(**piece) for piece in pieces))
    assert read(*(call(index=0, **piece) for piece in pieces))[1:] == [
        ToolCallStarted(index=0, id="a", name="add"),
        ToolCallDelta(index=0, arguments="a"),
        ToolCallStarted(index=1, id="b", name="add"),
        ToolCallDelta(index=1, arguments="b"),
    ]


def test_a_call_whose_head_is_repeated_with_each_piece_is_one() -> None:
    piece = {"index": 7, "id": "a", "function": {"name": "add", "arguments": "1"}}
    assert read(call(**piece), call(**piece))[1:] == [
        ToolCallStarted(index=0, id="a", name="add"),
        ToolCallDelta(index=0, arguments="1"),
        ToolCallDelta(index=0, arguments="1"),
    ]


def test_a_call_without_an_id_gets_one() -> None:
    starts = read(call(index=0, function={"name": "a"}), call(index=1, function={"name": "b"}))[1:]
    ids = {event.id for event in starts if isinstance(event, ToolCallStarted)}
    assert len(ids) == 2 and all(id.startswith("call_") for id in ids)


def test_a_choice_ends_once() -> None:
    assert read(delta(reason="stop"), delta(reason="stop", content="a"))[1:] == [Stopped(reason="stop")]


def test_probabilities_without_text_are_not_lost() -> None:
    logprobs: dict[str, Any] = {"content": []}
    chunk = {"choices": [{"index": 0, "delta": {"content": ""}, "logprobs": logprobs}]}
    assert read(chunk)[1:] == [TextDelta(text="", logprobs=logprobs)]


@pytest.mark.parametrize("error", [{"message": "it broke"}, "it broke"])
def test_an_error_event_is_a_fault_with_the_provider_s_words(error: Any) -> None:
    with pytest.raises(ProviderFault, match="it broke"):
        read({"error": error})


@pytest.mark.parametrize(
    "chunk",
    [
        call(index=0, id="a", function={"arguments": "{"}),
        call(index=0),
        delta(audio={"id": "a"}),
        delta(content=[{"type": "hologram"}]),
    ],
)
def test_a_chunk_without_sense_is_no_answer(chunk: dict[str, Any]) -> None:
    with pytest.raises(InvalidAnswer):
        read(chunk)


@pytest.mark.parametrize("data", [b"<html>", b"[]", b"", b'{"choices": 1}', b"\xff", b"[" * 100_000])
def test_an_event_that_is_no_chunk_is_broken(data: bytes) -> None:
    with pytest.raises(BROKEN_JSON):
        CODEC.reader().read(data)


def test_the_end_is_read_as_such() -> None:
    reader = CODEC.reader()
    assert not reader.has_ended
    assert list(reader.read(DONE)) == []
    assert reader.has_ended
