"""What calls beyond text used, by what their answers and their files show."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import msgspec
import pytest
from msgspec import Raw

from app.protocols.base import Usage
from app.protocols.media_usage import RelayMeter, seconds_of_files, seconds_of_subtitles, tokens_of, used_by

WAV_HEAD = (
    b"RIFF\x00\x00\x00\x00WAVEfmt \x10\x00\x00\x00\x01\x00\x01\x00\x40\x1f\x00\x00\x80\x3e\x00\x00\x02\x00\x10\x00"
)


def raw(**fields: Any) -> dict[str, Raw]:
    return {name: Raw(msgspec.json.encode(value)) for name, value in fields.items()}


def test_wav_tells_its_length_and_other_files_are_taken_by_their_size() -> None:
    assert seconds_of_files([WAV_HEAD + b"\x00" * (32_000 - len(WAV_HEAD))]) == 2
    assert seconds_of_files([b"ID3" + b"\x00" * 15_997]) == 2
    assert seconds_of_files([WAV_HEAD[:28] + b"\x00\x00\x00\x00"]) == Decimal("0.004")
    assert seconds_of_files([WAV_HEAD[:20] + b"\x55\x00" + WAV_HEAD[22:] + b"\x00" * 15_964]) == 2


def test_the_head_of_a_file_cannot_make_it_short() -> None:
    audio = b"\x00" * (32_000 - len(WAV_HEAD))
    for start, lie in ((28, b"\xff\xff\xff\xff"), (22, b"\xff\xff"), (24, b"\xff\xff\xff\xff"), (34, b"\xff\xff")):
        head = WAV_HEAD[:start] + lie + WAV_HEAD[start + len(lie) :]
        assert seconds_of_files([head + audio]) >= 2
    assert seconds_of_files([]) == 0


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        (b"1\n00:00:01,000 --> 00:00:02,500\na\n\n2\n00:00:03,000 --> 01:00:04,250\nb\n", "3604.25"),
        (b"WEBVTT\n\n00:01.000 --> 00:02.5 align:start\nHi\n", "2.5"),
        (b"no times", None),
        (b"", None),
    ],
)
def test_subtitles_end_when_the_audio_does(text: bytes, seconds: str | None) -> None:
    assert seconds_of_subtitles(text) == (None if seconds is None else Decimal(seconds))


@pytest.mark.parametrize(
    ("fields", "seconds", "tokens"),
    [
        (raw(usage={"type": "duration", "seconds": 12}), "12", 0),
        (raw(duration=2.3456), "2.346", 0),
        (raw(duration="7.5"), "7.5", 0),
        (raw(usage={"input_tokens": 10, "output_tokens": 3}), "0", 13),
        (raw(text="nothing said"), "30", 0),
        (raw(duration="long"), "30", 0),
        (raw(duration="NaN"), "30", 0),
        (raw(duration=-1), "30", 0),
        (raw(usage=None, duration=None), "30", 0),
    ],
)
def test_seconds_are_those_that_the_answer_says(fields: dict[str, Raw], seconds: str, tokens: int) -> None:
    usage = used_by("second", fields, Usage(seconds=Decimal(30)))
    assert usage is not None
    assert (usage.seconds, usage.total_tokens) == (Decimal(seconds), tokens)


def test_pictures_are_counted_as_they_came() -> None:
    asked = Usage(images=4)
    made = used_by("image", raw(data=[{}, {}]), asked)
    assert made is not None and (made.images, made.total_tokens) == (2, 0)
    assert used_by("image", raw(data=None), asked) == Usage(images=4, raw={"images": 4})


def test_searches_are_those_that_were_billed_else_those_asked_for() -> None:
    asked = Usage(queries=2)
    billed = used_by("query", raw(meta={"billed_units": {"search_units": 3}}), asked)
    silent = used_by("query", raw(meta=None, usage={"total_tokens": 9}), asked)
    assert billed is not None and silent is not None
    assert (billed.queries, silent.queries, silent.prompt_tokens) == (3, 2, 9)


def test_tokens_are_read_in_both_spellings() -> None:
    details = {"input_tokens": 10, "output_tokens": 2, "input_tokens_details": {"cached_tokens": 4}}
    usage = tokens_of(details)
    assert (usage.prompt_tokens, usage.completion_tokens, usage.cache_read_tokens) == (10, 2, 4)
    assert tokens_of({"prompt_tokens": 1, "completion_tokens": 2}).total_tokens == 3
    assert tokens_of({"total_tokens": "x", "input_tokens": -5}).total_tokens == 0


def test_a_meter_reads_events_in_whatever_pieces_they_come() -> None:
    meter = RelayMeter(Usage(images=1), is_events=True)
    stream = b'event: a\ndata: {"b64_json":"AA"}\n\ndata: {"usage":{"input_tokens":5,"output_tokens":6}}\n\n'
    for index in range(0, len(stream), 7):
        meter.feed(stream[index : index + 7])
    assert (meter.usage.total_tokens, meter.usage.images, meter.fault) == (11, 1, None)
    meter.feed(b'data: {"error": {"message": "broke"}}\n\ndata: "usage" no json\n\n')
    assert meter.fault == "broke"


def test_a_meter_gives_up_on_an_event_without_end_and_never_looks_at_bytes() -> None:
    meter = RelayMeter(Usage(characters=3), is_events=True)
    for _ in range(18):
        meter.feed(b"x" * 1024 * 1024)
    assert meter.usage.characters == 3
    audio = RelayMeter(Usage(characters=3), is_events=False)
    audio.feed(b'data: {"usage":{"input_tokens":5}}\n\n')
    assert audio.usage.total_tokens == 0
