"""A stream put together is the whole answer, and a whole answer told as a stream says the same."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.protocols.base import Usage
from app.protocols.openai.assembly import StreamAssembler, is_complete, replay, usage_of_answer
from app.protocols.openai.request import CHAT, COMPLETIONS, OpenAIEndpoint

_USAGE = {"prompt_tokens": 9, "completion_tokens": 3, "total_tokens": 12}
_REASONS = st.sampled_from(["stop", "length", "tool_calls"])
_TEXT = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=200)
_FUNCTION = st.fixed_dictionaries({"name": _TEXT, "arguments": st.text('{}":, ab\n\\é', max_size=50)})
_CALLS = st.lists(st.tuples(_TEXT, _FUNCTION), min_size=1, max_size=4)


@st.composite
def messages(draw: st.DrawFn) -> dict[str, Any]:
    message: dict[str, Any] = {"role": "assistant", "content": draw(st.none() | st.just("") | _TEXT)}
    for name in ("refusal", "reasoning_content", "reasoning"):
        if draw(st.booleans()):
            message[name] = draw(_TEXT)
    if draw(st.booleans()):
        message["tool_calls"] = [{"id": id, "type": "function", "function": function} for id, function in draw(_CALLS)]
    if draw(st.booleans()):
        message["annotations"] = [{"type": "url_citation", "url_citation": {"url": "https://a.example"}}]
    return message


_COUNTED = Usage(raw=_USAGE)


def answer_of(endpoint: OpenAIEndpoint, choices: list[dict[str, Any]]) -> dict[str, Any]:
    is_chat = endpoint is CHAT
    return {
        "id": "chatcmpl-1",
        "created": 1_700_000_000,
        "model": "chat",
        "system_fingerprint": "fp_1",
        "object": "chat.completion" if is_chat else "text_completion",
        "choices": choices,
        "usage": _USAGE,
    }


def assembled(endpoint: OpenAIEndpoint, pieces: list[bytes], usage: Usage = _COUNTED) -> Any:
    assembler = StreamAssembler(endpoint)
    for piece in pieces:
        assembler.feed(piece)
    answer = assembler.answer(usage)
    return None if answer is None else json.loads(answer)


def frame(choices: list[Any], **fields: Any) -> bytes:
    event = {"id": "c-1", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": choices, **fields}
    return b"data: " + json.dumps(event).encode() + b"\n\n"


def delta(reason: str | None = None, **fields: Any) -> bytes:
    return frame([{"index": 0, "delta": fields, "finish_reason": reason, "logprobs": None}])


DONE = b"data: [DONE]\n\n"


@given(parts=st.lists(st.tuples(messages(), _REASONS), min_size=1, max_size=3), wants_usage=st.booleans())
def test_a_chat_answer_survives_being_told_as_a_stream(
    parts: list[tuple[dict[str, Any], str]], wants_usage: bool
) -> None:
    choices = [
        {"index": number, "message": message, "finish_reason": reason} for number, (message, reason) in enumerate(parts)
    ]
    answer = answer_of(CHAT, choices)
    pieces = list(replay(CHAT, json.dumps(answer).encode(), wants_usage=wants_usage))
    assert assembled(CHAT, pieces) == answer
    assert (b'"usage"' in b"".join(pieces)) == wants_usage


@given(texts=st.lists(st.tuples(_TEXT, _REASONS), min_size=1, max_size=3))
def test_a_text_answer_survives_being_told_as_a_stream(texts: list[tuple[str, str]]) -> None:
    logprobs = {"tokens": ["a", "b"], "token_logprobs": [-0.5, None], "text_offset": [0, 1]}
    choices = [
        {"index": number, "text": text, "finish_reason": reason, "logprobs": logprobs}
        for number, (text, reason) in enumerate(texts)
    ]
    answer = answer_of(COMPLETIONS, choices)
    assert assembled(COMPLETIONS, list(replay(COMPLETIONS, json.dumps(answer).encode(), wants_usage=False))) == answer


@given(message=messages(), cuts=st.lists(st.integers(1, 40), max_size=30))
def test_tool_calls_that_come_in_many_deltas_are_put_together(message: dict[str, Any], cuts: list[int]) -> None:
    calls = message.get("tool_calls", [])
    frames = [delta(role="assistant", content=message["content"])]
    for name in ("refusal", "reasoning_content", "reasoning"):
        frames += [delta(**{name: piece}) for piece in cut(message.get(name, ""), cuts)]
    for number, call in enumerate(calls):
        head = {**call, "index": number, "function": {"name": call["function"]["name"], "arguments": ""}}
        frames.append(delta(tool_calls=[head]))
        for piece in cut(call["function"]["arguments"], cuts):
            frames.append(delta(tool_calls=[{"index": number, "id": None, "function": {"arguments": piece}}]))
    if "annotations" in message:
        frames.append(delta(annotations=message["annotations"]))
    frames += [delta("tool_calls" if calls else "stop"), b": ping\n\n", DONE]
    # However the frames are batched.
    whole = assembled(CHAT, [b"".join(frames)])
    assert whole == assembled(CHAT, frames)
    assert whole["choices"][0]["message"] == message


def cut(text: str, cuts: list[int]) -> list[str]:
    pieces = []
    for length in cuts:
        if text:
            pieces.append(text[:length])
            text = text[length:]
    return [*pieces, text] if text else pieces


def test_words_are_replayed_one_by_one_with_the_stored_id() -> None:
    choices = [{"index": 0, "message": {"role": "assistant", "content": "Hello world"}, "finish_reason": "stop"}]
    body = json.dumps(answer_of(CHAT, choices)).encode()
    *frames, end = b"".join(replay(CHAT, body, wants_usage=True)).decode().removesuffix("\n\n").split("\n\n")
    assert end == "data: [DONE]"
    events = [json.loads(one.removeprefix("data: ")) for one in frames]
    assert {event["id"] for event in events} == {"chatcmpl-1"}
    assert {event["object"] for event in events} == {"chat.completion.chunk"}
    deltas = [event["choices"][0]["delta"] for event in events[:-1]]
    assert deltas == [{"role": "assistant", "content": ""}, {"content": "Hello "}, {"content": "world"}, {}]
    assert events[-2]["choices"][0]["finish_reason"] == "stop"
    assert (events[-1]["choices"], events[-1]["usage"]) == ([], _USAGE)


def test_a_long_answer_is_replayed_in_bounded_pieces() -> None:
    choices = [{"index": 0, "message": {"role": "assistant", "content": "word " * 5000}, "finish_reason": "stop"}]
    pieces = list(replay(CHAT, json.dumps(answer_of(CHAT, choices)).encode(), wants_usage=False))
    assert len(pieces) > 10
    assert max(map(len, pieces)) < 20_000


@pytest.mark.parametrize(
    "frames",
    [
        [delta(role="assistant", content="a")],
        [delta(role="assistant", content="a"), delta("stop")],
        [delta(role="assistant", content="a"), DONE],
        [delta(role="assistant", content="a"), delta("content_filter"), DONE],
        [delta(content="a"), b'data: {"error": {"message": "boom"}}\n\n', DONE],
        [delta(content="a"), delta("stop", audio={"id": "a", "data": "AAAA"}), DONE],
        [delta(content=["a"]), delta("stop"), DONE],
        [delta(content="a"), b"data: {broken\n\n", delta("stop"), DONE],
        [delta(content="a"), b"data: [1]\n\n", delta("stop"), DONE],
        [frame([{"index": 0, "delta": {"content": "a"}, "finish_reason": "stop", "surprise": 1}]), DONE],
        [frame([{"index": 0, "delta": "a", "finish_reason": "stop"}]), DONE],
        [frame([]), DONE],
        [
            delta(tool_calls=[{"index": 0, "id": "call-1", "function": {"name": "f", "arguments": "{}"}}]),
            delta(tool_calls=[{"index": 0, "id": "call-2", "function": {"name": "f", "arguments": "{}"}}]),
            delta("tool_calls"),
            DONE,
        ],
    ],
)
def test_what_is_not_whole_or_not_understood_is_no_answer(frames: list[bytes]) -> None:
    assert assembled(CHAT, frames) is None


def test_what_providers_add_to_pieces_does_not_get_in_the_way() -> None:
    frames = [
        frame([], prompt_filter_results=[{"prompt_index": 0}]),
        frame([{"index": 0, "delta": {"content": "a"}, "content_filter_results": {}}], obfuscation="xyz", usage=None),
        frame([{"index": 0, "delta": {"images": []}, "finish_reason": "stop"}], service_tier="default"),
        DONE,
    ]
    answer = assembled(CHAT, frames)
    assert answer["choices"][0]["message"]["content"] == "a"
    assert answer["service_tier"] == "default"
    assert not {"obfuscation", "prompt_filter_results"} & set(answer)


def test_log_probabilities_are_joined() -> None:
    frames = [
        frame([{"index": 0, "delta": {"content": word}, "logprobs": {"content": [{"token": word}], "refusal": None}}])
        for word in ("a", "b")
    ]
    answer = assembled(CHAT, [*frames, delta("stop"), DONE])
    assert answer["choices"][0]["logprobs"] == {"content": [{"token": "a"}, {"token": "b"}]}


def test_an_assembler_knows_how_large_its_answer_is() -> None:
    assembler = StreamAssembler(CHAT)
    for _ in range(10):
        assembler.feed(delta(content="x" * 100))
    assert 1000 <= assembler.size < 2000
    assembler.give_up()
    assembler.feed(delta(content="x" * 100) + DONE)
    assert assembler.size < 2000
    assert assembler.answer(Usage()) is None


@pytest.mark.parametrize(
    ("body", "complete"),
    [
        ({"choices": [{"finish_reason": "stop"}]}, True),
        ({"choices": [{"finish_reason": "stop"}, {"finish_reason": "length"}]}, True),
        ({"choices": [{"finish_reason": "stop"}, {"finish_reason": None}]}, False),
        ({"choices": [{"finish_reason": "content_filter"}]}, False),
        ({"choices": []}, False),
        ({"choices": [{"finish_reason": "stop"}], "error": {"message": "x"}}, False),
        ({"error": {"message": "x"}}, False),
        ([], False),
    ],
)
def test_only_natural_ends_count_as_complete(body: Any, complete: bool) -> None:
    assert is_complete(json.dumps(body).encode()) is complete


def test_usage_is_the_provider_s_own_or_what_was_estimated() -> None:
    assert usage_of_answer(Usage(prompt_tokens=1, raw=_USAGE)) == _USAGE
    estimated = Usage(prompt_tokens=3, completion_tokens=4, raw={"estimated": True})
    assert usage_of_answer(estimated) == {"prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 7}
    assert msgspec.json.encode(usage_of_answer(estimated))


def test_what_came_of_a_stream_that_broke_can_be_seen_but_is_no_answer() -> None:
    assembler = StreamAssembler(CHAT)
    assembler.feed(
        b'data: {"id":"c","choices":[{"index":0,"delta":{"role":"assistant","content":"Hel"}}]}\n\n: ping\n\n'
    )
    assembler.feed(b'data: {"id":"c","choices":[{"index":0,"delta":{"content":"lo"}}]}\n\n')
    assert assembler.answer(Usage()) is None
    seen = json.loads(assembler.so_far(Usage(prompt_tokens=1, completion_tokens=2)) or b"{}")
    assert seen["choices"][0]["message"] == {"role": "assistant", "content": "Hello"}
    assert seen["usage"] == {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3}
    assert StreamAssembler(CHAT).so_far(Usage()) is None
