"""Server-sent events come out the same however the network cuts them."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.protocols.sse import EventTooLarge, SSEDecoder

NEWLINES = st.sampled_from(["\n", "\r\n", "\r"])
PAYLOADS = st.lists(st.text(st.characters(exclude_characters="\r\n", exclude_categories=["Cs"])), max_size=6)


def decoded(stream: bytes, cuts: list[int] | None = None) -> list[bytes]:
    decoder = SSEDecoder()
    borders = [0, *sorted(cut % (len(stream) + 1) for cut in cuts or []), len(stream)]
    return [data for start, end in pairwise(borders) for data in decoder.feed(stream[start:end])]


@given(PAYLOADS, NEWLINES, st.lists(st.integers(min_value=0, max_value=10_000), max_size=20))
def test_any_split_of_the_bytes_gives_the_same_events(payloads: list[str], newline: str, cuts: list[int]) -> None:
    stream = "".join(f"data: {payload}{newline * 2}" for payload in payloads).encode()
    assert decoded(stream, cuts) == [payload.encode() for payload in payloads]


@given(PAYLOADS, NEWLINES)
def test_one_byte_at_a_time_is_enough(payloads: list[str], newline: str) -> None:
    stream = "".join(f"data: {payload}{newline * 2}" for payload in payloads).encode()
    assert decoded(stream, list(range(len(stream)))) == [payload.encode() for payload in payloads]


def test_an_event_is_out_as_soon_as_its_last_byte_came() -> None:
    decoder = SSEDecoder()
    assert decoder.feed(b"data: one\r\n\r") == [b"one"]
    assert decoder.feed(b"\ndata: two\n") == []
    assert decoder.feed(b"\n") == [b"two"]


def test_comments_and_other_fields_are_passed_over() -> None:
    stream = b": ping\n\nevent: message\nid: 7\nretry: 10\ndata: {}\n\n:\n\nevent: only\n\n"
    assert decoded(stream) == [b"{}"]


def test_data_without_the_space_and_over_several_lines() -> None:
    assert decoded(b"data:x\n\ndata: a\ndata:  b\n\ndata\n\n") == [b"x", b"a\n b"]


def test_bytes_that_end_inside_an_event_are_noticed() -> None:
    decoder = SSEDecoder()
    assert decoder.feed(b'data: {"a":') == []
    assert decoder.has_partial_event
    assert decoder.feed(b"1}\n\n") == [b'{"a":1}']
    assert not decoder.has_partial_event


def test_blank_lines_after_the_last_event_are_no_partial_event() -> None:
    decoder = SSEDecoder()
    decoder.feed(b"data: x\n\n\n\n\r\n")
    assert not decoder.has_partial_event


def test_an_event_without_end_is_refused() -> None:
    decoder = SSEDecoder()
    with pytest.raises(EventTooLarge):
        for _ in range(18):
            decoder.feed(b"x" * 1024 * 1024)
