"""What a call beyond text used: counted by its provider, else as far as its file or its answer shows. Pure."""

from __future__ import annotations

import re
import struct
from collections.abc import Iterable, Mapping
from decimal import Decimal
from typing import Any

import msgspec
from msgspec import Raw
from msgspec.structs import replace

from .base import Usage
from .json_fields import BROKEN_JSON, as_count, as_mapping, error_message
from .sse import EventTooLarge, SSEDecoder

_any = msgspec.json.Decoder().decode

# For holding an estimate, and for counting against limits of tokens. A large picture of OpenAI's has about 4,200.
_ASSUMED_TOKENS = {"image": 4_200, "picture sent": 800, "second": 10}
# Speech as people send it, 64 kbit/s.
_BYTES_PER_SECOND = 8_000
# Nobody speaks more text in a second; a file may be pressed harder than people send it.
_TEXT_BYTES_PER_SECOND = 25
_MAX_SECONDS = Decimal(1_000_000)
# Of a WAV file's head: its encoding, channels, samples a second, and bits a sample, where the first block is `fmt `.
_WAV = struct.Struct("<HHI6xH")
_WAV_AT = 20
# Encodings whose samples are plain numbers, so that their size follows from the head that a player goes by.
_PLAIN_WAV = frozenset({0x0001, 0x0003, 0x0006, 0x0007, 0xFFFE})
_MAX_CHANNELS, _MAX_SAMPLES, _MAX_BITS = 8, 192_000, 32
_ARROW = re.compile(rb"-->\s*(?:(\d+):)?(\d{1,2}):(\d{1,2})[.,](\d{1,3})")


def assumed_tokens(thing: str) -> int:
    """Tokens of an `image` that is made, of a `picture sent`, of a `second` of audio."""
    return _ASSUMED_TOKENS[thing]


def seconds_of_files(files: Iterable[bytes]) -> Decimal:
    """How long audio files look: exact for WAV, else by their size."""
    return _rounded(sum((_seconds_of(file) for file in files), Decimal(0)))


def _seconds_of(file: bytes) -> Decimal:
    rate = _wav_rate(file) if file[:4] == b"RIFF" and file[8:16] == b"WAVEfmt " else None
    return Decimal(len(file)) / (rate or _BYTES_PER_SECOND)


def _wav_rate(file: bytes) -> int | None:
    """Bytes a second, from what a player goes by: the rate that the head states is nobody's but its writer's."""
    if len(file) < _WAV_AT + _WAV.size:
        return None
    encoding, channels, samples, bits = _WAV.unpack_from(file, _WAV_AT)
    is_likely = 0 < channels <= _MAX_CHANNELS and 0 < samples <= _MAX_SAMPLES and 0 < bits <= _MAX_BITS
    return int(channels * samples * -(-bits // 8)) if encoding in _PLAIN_WAV and is_likely else None


def seconds_of_subtitles(text: bytes) -> Decimal | None:
    """When the last line of SRT or WebVTT ends, None without one."""
    ends = [_seconds_at(match.groups()) for match in _ARROW.finditer(text)]
    return max(ends, default=None)


def seconds_of_text(text: bytes) -> Decimal:
    """How long it takes at least to say a text."""
    return _rounded(Decimal(len(text.strip())) / _TEXT_BYTES_PER_SECOND)


def _seconds_at(parts: tuple[bytes | None, ...]) -> Decimal:
    hours, minutes, seconds, fraction = (part or b"0" for part in parts)
    whole = int(hours) * 3600 + int(minutes) * 60 + int(seconds)
    return _rounded(Decimal(whole) + Decimal(f"0.{fraction.decode()}"))


def used_by(unit: str, fields: Mapping[str, Raw], asked: Usage) -> Usage | None:
    """What a JSON answer says that it used, else what was asked for. None: it says nothing, and no unit was asked for.

    Raises one of BROKEN_JSON.
    """
    usage = as_mapping(_any(fields["usage"])) if "usage" in fields else {}
    tokens = tokens_of(usage)
    if unit == "image":
        data = _any(fields["data"]) if "data" in fields else None
        made = len(data) if isinstance(data, list) else asked.images
        return replace(tokens, images=made, raw=usage or {"images": made})
    if unit == "second":
        seconds = _reported_seconds(usage, fields)
        if seconds is not None:
            return replace(tokens, seconds=seconds, raw=usage or {"seconds": float(seconds)})
        return replace(tokens, raw=usage) if tokens.total_tokens else asked
    if unit == "query":
        billed = as_mapping(as_mapping(_any(fields["meta"])).get("billed_units")) if "meta" in fields else {}
        queries = as_count(billed.get("search_units")) or asked.queries
        return replace(tokens, queries=queries, raw=usage or {"search_units": queries})
    return tokens if tokens.total_tokens else None


def tokens_of(usage: Mapping[str, Any]) -> Usage:
    """Tokens in either of OpenAI's spellings, `input_tokens` or `prompt_tokens`; a total alone is all prompt."""
    prompt = as_count(usage.get("input_tokens")) or as_count(usage.get("prompt_tokens"))
    completion = as_count(usage.get("output_tokens")) or as_count(usage.get("completion_tokens"))
    details = as_mapping(usage.get("input_tokens_details") or usage.get("prompt_tokens_details"))
    if not prompt and not completion:
        prompt = as_count(usage.get("total_tokens"))
    return Usage(
        prompt_tokens=prompt,
        completion_tokens=completion,
        cache_read_tokens=as_count(details.get("cached_tokens")),
        raw=usage,
    )


def _reported_seconds(usage: Mapping[str, Any], fields: Mapping[str, Raw]) -> Decimal | None:
    """The length of the audio: in the usage, or beside the text as some formats have it."""
    reported = usage.get("seconds")
    if reported is None and "duration" in fields:
        reported = _any(fields["duration"])
    try:
        seconds = Decimal(str(reported))
    except ArithmeticError:
        return None
    return _rounded(min(seconds, _MAX_SECONDS)) if seconds.is_finite() and seconds >= 0 else None


def _rounded(seconds: Decimal) -> Decimal:
    return min(seconds, _MAX_SECONDS).quantize(Decimal("0.001"))


class RelayMeter:
    """Looks at what is passed on as bytes: the usage that events carry, and an error that one of them tells."""

    def __init__(self, asked: Usage, *, is_events: bool) -> None:
        self._asked = asked
        self._decoder = SSEDecoder() if is_events else None
        self.usage = asked
        self.fault: str | None = None
        self.fault_event: bytes | None = None

    def feed(self, chunk: bytes) -> None:
        if self._decoder is None:
            return
        try:
            events = self._decoder.feed(chunk)
        except EventTooLarge:
            self._decoder = None
            return
        for data in events:
            if b'"usage"' in data or b'"error"' in data:
                self._look_at(data)

    def _look_at(self, data: bytes) -> None:
        try:
            event = as_mapping(_any(data))
        except BROKEN_JSON:
            return
        if event.get("error"):
            self.fault = error_message(data) or "the provider reported an error"
            self.fault_event = data
        usage = as_mapping(event.get("usage"))
        tokens = tokens_of(usage)
        if tokens.total_tokens:
            self.usage = replace(tokens, images=self._asked.images, characters=self._asked.characters)
        elif "seconds" in usage:
            seconds = _reported_seconds(usage, {})
            self.usage = self.usage if seconds is None else replace(self._asked, seconds=seconds, raw=usage)
