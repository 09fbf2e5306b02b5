"""Calls between the OpenAI dialect and one that has nothing in common with it."""

from __future__ import annotations

import json
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from app.errors import InvalidRequest
from app.protocols.base import Usage
from app.protocols.canonical import ChatAnswer, ChatEvent, ChatRequest, Choice, Text
from app.protocols.dialect import ChatCodec, ClientRequest, InvalidAnswer, ProviderFault
from app.protocols.json_fields import BROKEN_JSON
from app.protocols.openai.answers import DONE
from app.protocols.openai.chat import OpenAIChat
from app.protocols.openai.request import CHAT, parse_request
from app.protocols.translation import TranslatedExchange, TranslatedStream
from tests.protocols.conversations import PLAIN_CHATS, USAGES, answer_choices, streams
from tests.protocols.openai.chunk_grammar import chunks_of
from tests.protocols.toy import TALK, ToyChat

OPENAI, TOY = OpenAIChat(), ToyChat()


def openai_request(**fields: Any) -> ClientRequest:
    body = {"model": "group", "messages": [{"role": "user", "content": "hi"}], **fields}
    return parse_request(CHAT, json.dumps(body).encode())


def toy_request(**fields: Any) -> ClientRequest:
    body = {"engine": "group", "turns": [{"who": "human", "says": ["hi"]}], **fields}
    return TALK.read(json.dumps(body).encode(), None, "application/json")


def to_toy(**fields: Any) -> TranslatedExchange:
    return TranslatedExchange(openai_request(**fields), OPENAI, TOY)


def to_openai(**fields: Any) -> TranslatedExchange:
    return TranslatedExchange(toy_request(**fields), TOY, OPENAI)


def sent(exchange: TranslatedExchange, defaults: dict[str, Any] | None = None) -> dict[str, Any]:
    body: dict[str, Any] = json.loads(exchange.upstream_body("provider-model", defaults or {}))
    return body


# ---- requests ------------------------------------------------------------------------------------------------------


def test_a_request_is_written_in_the_provider_s_words() -> None:
    exchange = to_toy(max_tokens=5, stream=True, tool_choice="required")
    assert (exchange.path, exchange.content_type) == ("/talk", "application/json")
    assert not exchange.is_relayed and not exchange.keeps_content_type
    assert sent(exchange, {"temperature": 0.5, "halo": 1}) == {
        "engine": "provider-model",
        "turns": [{"who": "human", "says": ["hi"]}],
        "limit": 5,
        "live": True,
        "pick": "something",
        "heat": 0.5,
        "halo": 1,
    }
    assert sent(to_openai(limit=5, live=True), {"seed": 1}) == {
        "model": "provider-model",
        "messages": [{"role": "user", "content": "hi"}],
        "max_tokens": 5,
        "stream": True,
        "stream_options": {"include_usage": True},
        "seed": 1,
    }


@given(PLAIN_CHATS)
def test_a_request_survives_both_dialects(chat: ChatRequest) -> None:
    """Written as OpenAI's, sent on as the toy's, and that sent on as OpenAI's again."""
    body = OPENAI.write_request(chat, "m", {})
    as_toy = TranslatedExchange(parse_request(CHAT, body), OPENAI, TOY).upstream_body("m", {})
    toy_client = TALK.read(as_toy, None, "application/json")
    assert replace(TOY.read_request(toy_client), dialect="") == chat
    assert json.loads(TranslatedExchange(toy_client, TOY, OPENAI).upstream_body("m", {})) == json.loads(body)


def test_what_the_provider_s_dialect_cannot_say_is_refused_by_name() -> None:
    for fields, field in (({"n": 2}, "choices"), ({"logit_bias": {"1": 1}}, "logit_bias")):
        with pytest.raises(InvalidRequest) as problem:
            to_toy(**fields).upstream_body("m", {})
        assert (problem.value.status, problem.value.param) == (400, field)


def test_what_cannot_be_read_is_refused_before_a_provider_is_asked() -> None:
    with pytest.raises(InvalidRequest) as problem:
        to_toy(tools=[{"type": "web_search"}])
    assert problem.value.param == "tools[0].type"


# ---- whole answers -------------------------------------------------------------------------------------------------


@given(answer_choices(is_plain=True), USAGES)
def test_a_whole_answer_is_told_in_the_client_s_words(choice: Choice, usage: Usage) -> None:
    body = TOY.write_answer(ChatAnswer(choices=[choice], usage=usage), "provider-model")
    translated, used = to_toy().answered(body, "application/x-toy")
    answer = OPENAI.read_answer(translated)
    assert list(answer.choices) == [choice]
    assert json.loads(translated)["model"] == "group"
    assert used is not None and used.total_tokens == usage.total_tokens
    assert answer.usage is not None and answer.usage.total_tokens == usage.total_tokens
    back, used = to_openai().answered(translated, "application/json")
    assert json.loads(back) == {**json.loads(body), "engine": "group"}
    assert used is not None and used.total_tokens == usage.total_tokens


def test_an_uncounted_answer_has_no_usage() -> None:
    body = TOY.write_answer(ChatAnswer(choices=[Choice(parts=[Text(text="a")])]), "m")
    assert to_toy().answered(body, "")[1] is None


@pytest.mark.parametrize("body", [b'{"says": ["a"]}', b"<html>", b"[]"])
def test_an_answer_without_sense_is_not_translated(body: bytes) -> None:
    with pytest.raises((InvalidAnswer, *BROKEN_JSON)):
        to_toy().answered(body, "")


# ---- streams -------------------------------------------------------------------------------------------------------


def provider_stream(codec: ChatCodec, events: list[ChatEvent]) -> bytes:
    writer = codec.writer("provider-model", wants_usage=True)
    return b"".join(writer.write(event) for event in events) + writer.finish()


def translated(exchange: TranslatedExchange, stream: bytes, cuts: list[int], *, wants_usage: bool = True) -> bytes:
    decoder, translation = exchange.decoder(), exchange.stream(wants_usage=wants_usage)
    borders = [0, *sorted(cut % (len(stream) + 1) for cut in cuts), len(stream)]
    pieces = [stream[start:end] for start, end in pairwise(borders)]
    frames = [translation.frame(event) for piece in pieces for event in decoder.feed(piece)]
    assert translation.has_finished and translation.has_finish_reason and not decoder.has_partial_event
    return b"".join(frame for frame in frames if frame)


def events_of(codec: ChatCodec, stream: bytes) -> list[ChatEvent]:
    reader = codec.reader()
    return [event for data in codec.decoder().feed(stream) for event in reader.read(data)]


CUTS = st.lists(st.integers(0, 10_000), max_size=20)


@given(streams(is_plain=True), CUTS)
def test_a_stream_is_told_in_the_client_s_words_however_the_network_cuts_it(
    events: list[ChatEvent], cuts: list[int]
) -> None:
    """There as the toy's stream, back as OpenAI's: each client sees what the provider of the other dialect said."""
    stream = provider_stream(TOY, events)
    as_openai = translated(to_toy(stream=True), stream, cuts)
    chunks_of(as_openai)
    assert events_of(TOY, translated(to_openai(live=True), as_openai, cuts)) == events_of(TOY, stream)
    assert translated(to_openai(live=True), as_openai, cuts) == translated(to_openai(live=True), as_openai, [])


@given(streams(), CUTS, st.booleans())
def test_each_stream_of_the_openai_dialect_is_well_formed(
    events: list[ChatEvent], cuts: list[int], wants_usage: bool
) -> None:
    exchange = TranslatedExchange(openai_request(stream=True), OPENAI, OPENAI)
    stream = translated(exchange, provider_stream(OPENAI, events), cuts, wants_usage=wants_usage)
    chunks = chunks_of(stream)
    assert all(chunk["model"] == "group" for chunk in chunks)
    assert wants_usage or not any("usage" in chunk for chunk in chunks)


def toy_stream(*records: dict[str, Any]) -> tuple[TranslatedStream, list[bytes | None]]:
    stream = to_toy(stream=True).stream(wants_usage=False)
    return stream, [stream.frame(json.dumps(record).encode()) for record in records]


def test_an_answer_begins_with_its_first_piece_and_ends_with_its_end() -> None:
    openai = to_openai(live=True).stream(wants_usage=True)
    assert openai.frame(b'{"id": "a", "choices": [{"index": 0, "delta": {"role": "assistant"}}]}') is None
    assert not openai.has_begun
    openai.frame(b'{"choices": [{"index": 0, "delta": {"content": "a"}}]}')
    openai.frame(b'{"choices": [{"index": 1, "delta": {}, "finish_reason": "stop"}]}')
    assert openai.has_begun and not openai.has_finish_reason
    openai.frame(b'{"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}')
    assert openai.has_finish_reason and not openai.has_finished
    assert openai.frame(DONE) == b'{"end":"done"}\n'
    assert openai.has_finished
    assert openai.frame(DONE) is None


def test_a_whole_answer_whose_provider_sent_no_end_is_ended() -> None:
    stream = to_openai(live=True).stream(wants_usage=True)
    stream.frame(b'{"choices": [{"index": 0, "delta": {"content": "a"}, "finish_reason": "length"}]}')
    stream.frame(b'{"choices": [], "usage": {"prompt_tokens": 1, "completion_tokens": 2}}')
    assert json.loads(stream.finish()) == {"end": "full", "spent": {"in": 1, "out": 2}}
    assert stream.has_finished and stream.has_begun


def test_what_was_used_is_known_though_the_client_is_not_told() -> None:
    stream, frames = toy_stream({"piece": "a"}, {"end": "done", "spent": {"in": 3, "out": 4}})
    assert stream.usage is not None and stream.usage.total_tokens == 7
    assert b"usage" not in b"".join(frame for frame in frames if frame)


def test_a_stream_that_broke_is_billed_by_what_came() -> None:
    stream, _ = toy_stream({"piece": "a"}, {"use": "add", "id": "1"}, {"with": "{}", "at": 0})
    assert stream.usage is None and not stream.has_finish_reason
    estimate = stream.estimated_usage(body_bytes=400)
    assert (estimate.prompt_tokens, estimate.completion_tokens) == (100, 3)
    assert estimate.raw == {"estimated": True}


def test_an_error_event_is_a_fault() -> None:
    with pytest.raises(ProviderFault, match="it broke"):
        toy_stream({"oops": "it broke"})
