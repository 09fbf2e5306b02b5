"""What a relayed answer says that it used: tokens and model, found while its bytes go by.

Pure. Nothing is held back, and little is kept: a whole JSON answer up to a bound, then only its end; of a stream, one
event. Each provider has words of its own; which are meant is told by the words themselves.
"""

from __future__ import annotations

import base64
import re
import struct
from collections.abc import Iterator, Mapping
from typing import Any

import msgspec
from msgspec.structs import replace

from ...protocols.base import Usage
from ...protocols.sse import EventTooLarge, SSEDecoder

_MAX_BYTES = 4 * 1024 * 1024
_TAIL_BYTES = 64 * 1024
_MAX_FRAME = 16 * 1024 * 1024
_PRELUDE = struct.Struct(">II")
_USAGE_START = re.compile(rb'"(usage|usageMetadata)"\s*:\s*\{')
# Where events of streams carry what a model says.
_SAID = re.compile(
    rb'"(?:text|content|delta|thinking|partial_json|arguments|input|reasoning_content|refusal|completion)"'
    rb'\s*:\s*"([^"\\]*(?:\\.[^"\\]*)*)"'
)
# A longer piece is sound or a picture, whose bytes say nothing about tokens.
_MAX_PIECE = 4096
# A longer event is no piece of a text: looking through it would hold up others.
_MAX_EVENT = 256 * 1024
_BYTES_PER_TOKEN = 4
_LAST_EVENTS = frozenset({"message_stop", "response.completed", "response.failed", "response.incomplete"})


class _Answer(msgspec.Struct):
    """The fields of any provider's answer, or of one event of a stream, that matter here."""

    type: Any = None
    model: Any = None
    model_version: Any = msgspec.field(default=None, name="modelVersion")
    usage: Any = None
    usage_metadata: Any = msgspec.field(default=None, name="usageMetadata")
    meta: Any = None
    message: msgspec.Raw = msgspec.Raw()
    response: msgspec.Raw = msgspec.Raw()
    error: Any = None
    background: Any = None
    bedrock_metrics: Any = msgspec.field(default=None, name="amazon-bedrock-invocationMetrics")


class UsageScanner:
    """Feed it an answer as it arrives. `usage` is None while nothing was said; `has_failed` after an error event.

    `is_finished`: the stream said that it is over, so what follows changes nothing. `is_of_background`: the answer was
    made after the call that asked for it had ended.
    """

    def __init__(self, content_type: str) -> None:
        kind = content_type.partition(";")[0].strip().lower()
        self.model = ""
        self.has_failed = False
        self.is_finished = False
        self.is_of_background = False
        self._counts: dict[str, Any] = {}
        self._said_bytes = 0
        self._reader: _Json | _Events | _Frames | None = None
        if kind == "text/event-stream":
            self._reader = _Events()
        elif kind == "application/vnd.amazon.eventstream":
            self._reader = _Frames()
        elif kind.endswith("json"):
            self._reader = _Json()

    @property
    def is_stream(self) -> bool:
        return isinstance(self._reader, _Events | _Frames)

    def feed(self, chunk: bytes) -> None:
        """The next bytes. What cannot be read ends the reading, never the answer."""
        if self._reader is None or not chunk:
            return
        try:
            for event in self._reader.feed(chunk):
                self._take(event)
        except (EventTooLarge, ValueError, struct.error):
            self._reader = None

    def end(self) -> None:
        """The answer is over."""
        reader = self._reader
        if isinstance(reader, _Json):
            self._reader = None
            for event in reader.end():
                self._take(event)

    @property
    def usage(self) -> Usage | None:
        return usage_of(self._counts) if self._counts else None

    def billed(self, prompt_tokens: int, *, is_whole: bool) -> Usage | None:
        """What to bill: what was said, else what a stream looks like, so that leaving early or not asking is not free.

        `is_whole`: the answer came to its end. `prompt_tokens`: an estimate. None where no model spoke.
        """
        said = self.usage
        if not self._said_bytes or (said is not None and (is_whole or "promptTokenCount" in self._counts)):
            return said
        seen = -(-self._said_bytes // _BYTES_PER_TOKEN)
        if said is None:
            return Usage(prompt_tokens=prompt_tokens, completion_tokens=seen, raw={"estimated": True})
        return replace(said, completion_tokens=max(said.completion_tokens, seen))

    def _take(self, event: bytes) -> None:
        if event == b"[DONE]":
            self.is_finished = True
            return
        if self.is_stream and len(event) <= _MAX_EVENT and b'.done"' not in event[:80]:
            self._said_bytes += sum(size for piece in _SAID.findall(event) if (size := len(piece)) <= _MAX_PIECE)
        if not _tells(event) and (self.model or b'"model' not in event):
            return
        try:
            self._read(event, depth=0)
        except (msgspec.DecodeError, ValueError, RecursionError):
            return

    def _read(self, event: bytes, *, depth: int) -> None:
        answer = msgspec.json.decode(event, type=_Answer)
        for model in (answer.model, answer.model_version):
            if isinstance(model, str) and model:
                self.model = model[:512]
        for counts in (answer.usage, answer.usage_metadata, answer.bedrock_metrics, _billed(answer)):
            if isinstance(counts, Mapping):
                self._counts.update({name: value for name, value in counts.items() if value is not None})
        if answer.error is not None or answer.type in ("error", "response.failed"):
            self.has_failed = True
        if answer.background is True:
            self.is_of_background = True
        if answer.type in _LAST_EVENTS:
            self.is_finished = True
        for inner in (answer.message, answer.response):
            if depth == 0 and (nested := bytes(inner)).startswith(b"{"):
                self._read(nested, depth=1)


def _tells(event: bytes) -> bool:
    """Whether an event may say what was used, that something failed, or that it was the last one. Most do not."""
    return (
        (b'"usage' in event and _USAGE_START.search(event) is not None)
        or b'"error"' in event
        or b"Count" in event
        or b'"meta"' in event
        or b"message_stop" in event
    )


def _billed(answer: _Answer) -> Any:
    """Cohere's count, in an answer of its first version."""
    return answer.meta if isinstance(answer.meta, Mapping) and "billed_units" in answer.meta else None


# ---- shapes of answers ---------------------------------------------------------------------------------------------


class _Json:
    """One JSON value. Kept whole while it is small; of a large one only the end, where providers write the usage."""

    def __init__(self) -> None:
        self._kept = bytearray()
        self._is_whole = True

    def feed(self, chunk: bytes) -> list[bytes]:
        self._kept += chunk
        if len(self._kept) > (_MAX_BYTES if self._is_whole else 2 * _TAIL_BYTES):
            self._is_whole = False
            del self._kept[:-_TAIL_BYTES]
        return []

    def end(self) -> Iterator[bytes]:
        kept = bytes(self._kept).strip()
        if not self._is_whole:
            yield from _last_usage(kept)
        elif kept.startswith(b"["):
            # Gemini's streams without `alt=sse`: a list of answers, one after the other.
            try:
                yield from (bytes(item) for item in msgspec.json.decode(kept, type=list[msgspec.Raw]))
            except (msgspec.DecodeError, ValueError):
                yield from _last_usage(kept)
        else:
            yield kept


def _last_usage(text: bytes) -> Iterator[bytes]:
    """The last `"usage": {…}` of a cut text, as an answer of its own."""
    found = list(_USAGE_START.finditer(text))
    if not found:
        return
    start = found[-1].end() - 1
    depth = 0
    for position in range(start, len(text)):
        depth += {0x7B: 1, 0x7D: -1}.get(text[position], 0)
        if depth == 0:
            yield b'{"' + found[-1][1] + b'":' + text[start : position + 1] + b"}"
            return


class _Events:
    """Server-sent events."""

    def __init__(self) -> None:
        self._decoder = SSEDecoder()

    def feed(self, chunk: bytes) -> list[bytes]:
        return self._decoder.feed(chunk)


class _Frames:
    """The binary event stream of AWS: lengths, headers, payload, checksums (contract llm.md §5.5)."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, chunk: bytes) -> Iterator[bytes]:
        self._buffer += chunk
        while len(self._buffer) >= 12:
            total, header_bytes = _PRELUDE.unpack_from(self._buffer)
            if not 16 + header_bytes <= total <= _MAX_FRAME:
                raise EventTooLarge
            if len(self._buffer) < total:
                return
            headers = bytes(self._buffer[12 : 12 + header_bytes])
            payload = bytes(self._buffer[12 + header_bytes : total - 4])
            del self._buffer[:total]
            yield _event_of(headers, payload)


def _event_of(headers: bytes, payload: bytes) -> bytes:
    """The event as JSON. An exception is an error, whatever its words; an invoked model's own event is wrapped."""
    if b":exception-type" in headers or b":error-code" in headers:
        return b'{"type":"error"}'
    if payload.startswith(b'{"bytes":'):
        wrapped = msgspec.json.decode(payload)
        return base64.b64decode(str(wrapped.get("bytes", "")), validate=False)
    return payload


# ---- counts --------------------------------------------------------------------------------------------------------


def usage_of(counts: Mapping[str, Any]) -> Usage | None:
    """Tokens from any provider's words for them. None when they say nothing about tokens."""
    for words in (_google, _converse, _cohere, _responses_or_messages, _completions):
        usage = words(counts)
        if usage is not None:
            return usage
    return None


def _google(counts: Mapping[str, Any]) -> Usage | None:
    if "promptTokenCount" not in counts and "candidatesTokenCount" not in counts:
        return None
    reasoning = _whole(counts, "thoughtsTokenCount")
    return _usage(
        counts,
        prompt=_whole(counts, "promptTokenCount") + _whole(counts, "toolUsePromptTokenCount"),
        completion=_whole(counts, "candidatesTokenCount") + reasoning,
        cached=_whole(counts, "cachedContentTokenCount"),
        reasoning=reasoning,
    )


def _converse(counts: Mapping[str, Any]) -> Usage | None:
    if "inputTokenCount" in counts:
        prompt, completion = _whole(counts, "inputTokenCount"), _whole(counts, "outputTokenCount")
        cached = _whole(counts, "cacheReadInputTokenCount")
        written = _whole(counts, "cacheWriteInputTokenCount")
    elif "inputTokens" in counts:
        prompt, completion = _whole(counts, "inputTokens"), _whole(counts, "outputTokens")
        cached, written = _whole(counts, "cacheReadInputTokens"), _whole(counts, "cacheWriteInputTokens")
    else:
        return None
    return _usage(counts, prompt=prompt + cached + written, completion=completion, cached=cached, written=written)


def _cohere(counts: Mapping[str, Any]) -> Usage | None:
    billed = counts.get("billed_units")
    if not isinstance(billed, Mapping) or not {"input_tokens", "output_tokens"} & set(billed):
        return None
    return _usage(counts, prompt=_whole(billed, "input_tokens"), completion=_whole(billed, "output_tokens"))


def _responses_or_messages(counts: Mapping[str, Any]) -> Usage | None:
    """OpenAI's responses count cached tokens among the input, Anthropic's messages beside it."""
    if "input_tokens" not in counts and "output_tokens" not in counts:
        return None
    prompt, completion = _whole(counts, "input_tokens"), _whole(counts, "output_tokens")
    details = counts.get("input_tokens_details")
    if isinstance(details, Mapping):
        reasoning = _within(counts, "output_tokens_details", "reasoning_tokens")
        return _usage(
            counts,
            prompt=prompt,
            completion=completion,
            cached=_whole(details, "cached_tokens"),
            reasoning=reasoning,
        )
    cached, written = _whole(counts, "cache_read_input_tokens"), _whole(counts, "cache_creation_input_tokens")
    return _usage(counts, prompt=prompt + cached + written, completion=completion, cached=cached, written=written)


def _completions(counts: Mapping[str, Any]) -> Usage | None:
    if "prompt_tokens" not in counts and "total_tokens" not in counts:
        return None
    prompt = _whole(counts, "prompt_tokens")
    if "prompt_tokens" not in counts:
        prompt = _whole(counts, "total_tokens")
    return _usage(
        counts,
        prompt=prompt,
        completion=_whole(counts, "completion_tokens"),
        cached=_within(counts, "prompt_tokens_details", "cached_tokens"),
        reasoning=_within(counts, "completion_tokens_details", "reasoning_tokens"),
    )


def _usage(
    counts: Mapping[str, Any], *, prompt: int, completion: int, cached: int = 0, written: int = 0, reasoning: int = 0
) -> Usage:
    """Parts are never more than their whole, whatever was said."""
    cached = min(cached, prompt)
    return Usage(
        prompt_tokens=prompt,
        completion_tokens=completion,
        cache_read_tokens=cached,
        cache_write_tokens=min(written, prompt - cached),
        reasoning_tokens=min(reasoning, completion),
        raw=dict(counts),
    )


def _within(counts: Mapping[str, Any], name: str, part: str) -> int:
    details = counts.get(name)
    return _whole(details, part) if isinstance(details, Mapping) else 0


def _whole(counts: Mapping[str, Any], name: str) -> int:
    """A count; what is no number, or no number of tokens, counts nothing."""
    value = counts.get(name)
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1e9:
        return 0
    return int(value)
