"""Usage of a relayed response: tokens and model, read while its bytes are passed on.

Pure. Nothing is delayed, and little is buffered: a JSON body up to a bound, then only its end; of a stream, one event.
Each provider has its own field names, by which its format is recognized.
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
# Fields of stream events that hold text of a model.
_TEXT_FIELDS = re.compile(
    rb'"(?:text|content|delta|thinking|partial_json|arguments|input|reasoning_content|refusal|completion)"'
    rb'\s*:\s*"([^"\\]*(?:\\.[^"\\]*)*)"'
)
# A longer text is encoded audio or an image, whose bytes do not count as tokens.
_MAX_TEXT_BYTES = 4096
# A longer event is no text delta: searching it would block the event loop.
_MAX_SCANNED_EVENT = 256 * 1024
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
    """Feed it an answer as it arrives. `usage` is None until some was reported; `has_failed` after an error event.

    `is_finished`: the stream sent its last event, so what follows changes nothing. `is_background`: the response
    was generated after the call that started it had ended.
    """

    def __init__(self, content_type: str) -> None:
        kind = content_type.partition(";")[0].strip().lower()
        self.model = ""
        self.has_failed = False
        self.is_finished = False
        self.is_background = False
        self._counts: dict[str, Any] = {}
        self._text_bytes = 0
        self._reader: _JsonBody | _ServerSentEvents | _EventStream | None = None
        if kind == "text/event-stream":
            self._reader = _ServerSentEvents()
        elif kind == "application/vnd.amazon.eventstream":
            self._reader = _EventStream()
        elif kind.endswith("json"):
            self._reader = _JsonBody()

    @property
    def is_stream(self) -> bool:
        return isinstance(self._reader, _ServerSentEvents | _EventStream)

    def feed(self, chunk: bytes) -> None:
        """The next bytes. What cannot be parsed ends the scan, never the response."""
        if self._reader is None or not chunk:
            return
        try:
            for event in self._reader.feed(chunk):
                self._scan(event)
        except (EventTooLarge, ValueError, struct.error):
            self._reader = None

    def end(self) -> None:
        """The response is over."""
        reader = self._reader
        if isinstance(reader, _JsonBody):
            self._reader = None
            for event in reader.end():
                self._scan(event)

    @property
    def usage(self) -> Usage | None:
        return usage_of(self._counts) if self._counts else None

    def billed(self, prompt_tokens: int, *, is_whole: bool) -> Usage | None:
        """The usage to bill: as reported, else estimated from the text of a stream, so that leaving early is not free.

        `is_whole`: the response is complete. `prompt_tokens`: an estimate. None without any text of a model.
        """
        reported = self.usage
        if not self._text_bytes or (reported is not None and (is_whole or "promptTokenCount" in self._counts)):
            return reported
        estimated = -(-self._text_bytes // _BYTES_PER_TOKEN)
        if reported is None:
            return Usage(prompt_tokens=prompt_tokens, completion_tokens=estimated, raw={"estimated": True})
        return replace(reported, completion_tokens=max(reported.completion_tokens, estimated))

    def _scan(self, event: bytes) -> None:
        if event == b"[DONE]":
            self.is_finished = True
            return
        if self.is_stream and len(event) <= _MAX_SCANNED_EVENT and b'.done"' not in event[:80]:
            self._text_bytes += sum(
                size for piece in _TEXT_FIELDS.findall(event) if (size := len(piece)) <= _MAX_TEXT_BYTES
            )
        if not _may_have_usage(event) and (self.model or b'"model' not in event):
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
            self.is_background = True
        if answer.type in _LAST_EVENTS:
            self.is_finished = True
        for inner in (answer.message, answer.response):
            if depth == 0 and (nested := bytes(inner)).startswith(b"{"):
                self._read(nested, depth=1)


def _may_have_usage(event: bytes) -> bool:
    """Whether an event may hold usage, an error, or the end of the stream. Most do not."""
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


# ---- response formats ----------------------------------------------------------------------------------------------


class _JsonBody:
    """One JSON value. Buffered whole while small; of a large one only the end, where providers write the usage."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._is_whole = True

    def feed(self, chunk: bytes) -> list[bytes]:
        self._buffer += chunk
        if len(self._buffer) > (_MAX_BYTES if self._is_whole else 2 * _TAIL_BYTES):
            self._is_whole = False
            del self._buffer[:-_TAIL_BYTES]
        return []

    def end(self) -> Iterator[bytes]:
        text = bytes(self._buffer).strip()
        if not self._is_whole:
            yield from _last_usage(text)
        elif text.startswith(b"["):
            # Gemini's streams without `alt=sse`: a list of answers, one after the other.
            try:
                yield from (bytes(item) for item in msgspec.json.decode(text, type=list[msgspec.Raw]))
            except (msgspec.DecodeError, ValueError):
                yield from _last_usage(text)
        else:
            yield text


def _last_usage(text: bytes) -> Iterator[bytes]:
    """The last `"usage": {…}` of a cut text, as an answer of its own."""
    matches = list(_USAGE_START.finditer(text))
    if not matches:
        return
    start = matches[-1].end() - 1
    depth = 0
    for position in range(start, len(text)):
        depth += {0x7B: 1, 0x7D: -1}.get(text[position], 0)
        if depth == 0:
            yield b'{"' + matches[-1][1] + b'":' + text[start : position + 1] + b"}"
            return


class _ServerSentEvents:
    """Server-sent events."""

    def __init__(self) -> None:
        self._decoder = SSEDecoder()

    def feed(self, chunk: bytes) -> list[bytes]:
        return self._decoder.feed(chunk)


class _EventStream:
    """The binary event stream of AWS: each message has lengths, headers, payload and checksums."""

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
    """The event as JSON. Any exception is an error; an event of an invoked model is wrapped in `bytes`."""
    if b":exception-type" in headers or b":error-code" in headers:
        return b'{"type":"error"}'
    if payload.startswith(b'{"bytes":'):
        wrapped = msgspec.json.decode(payload)
        return base64.b64decode(str(wrapped.get("bytes", "")), validate=False)
    return payload


# ---- counts --------------------------------------------------------------------------------------------------------


def usage_of(counts: Mapping[str, Any]) -> Usage | None:
    """Tokens from any provider's field names. None when there are no tokens among them."""
    for read_counts in (_google, _converse, _cohere, _responses_or_messages, _completions):
        usage = read_counts(counts)
        if usage is not None:
            return usage
    return None


def _google(counts: Mapping[str, Any]) -> Usage | None:
    if "promptTokenCount" not in counts and "candidatesTokenCount" not in counts:
        return None
    reasoning = _count(counts, "thoughtsTokenCount")
    return _usage(
        counts,
        prompt=_count(counts, "promptTokenCount") + _count(counts, "toolUsePromptTokenCount"),
        completion=_count(counts, "candidatesTokenCount") + reasoning,
        cached=_count(counts, "cachedContentTokenCount"),
        reasoning=reasoning,
    )


def _converse(counts: Mapping[str, Any]) -> Usage | None:
    if "inputTokenCount" in counts:
        prompt, completion = _count(counts, "inputTokenCount"), _count(counts, "outputTokenCount")
        cached = _count(counts, "cacheReadInputTokenCount")
        written = _count(counts, "cacheWriteInputTokenCount")
    elif "inputTokens" in counts:
        prompt, completion = _count(counts, "inputTokens"), _count(counts, "outputTokens")
        cached, written = _count(counts, "cacheReadInputTokens"), _count(counts, "cacheWriteInputTokens")
    else:
        return None
    return _usage(counts, prompt=prompt + cached + written, completion=completion, cached=cached, written=written)


def _cohere(counts: Mapping[str, Any]) -> Usage | None:
    billed = counts.get("billed_units")
    if not isinstance(billed, Mapping) or not {"input_tokens", "output_tokens"} & set(billed):
        return None
    return _usage(counts, prompt=_count(billed, "input_tokens"), completion=_count(billed, "output_tokens"))


def _responses_or_messages(counts: Mapping[str, Any]) -> Usage | None:
    """OpenAI's responses count cached tokens in the input, Anthropic's messages in addition to it."""
    if "input_tokens" not in counts and "output_tokens" not in counts:
        return None
    prompt, completion = _count(counts, "input_tokens"), _count(counts, "output_tokens")
    details = counts.get("input_tokens_details")
    if isinstance(details, Mapping):
        reasoning = _within(counts, "output_tokens_details", "reasoning_tokens")
        return _usage(
            counts,
            prompt=prompt,
            completion=completion,
            cached=_count(details, "cached_tokens"),
            reasoning=reasoning,
        )
    cached, written = _count(counts, "cache_read_input_tokens"), _count(counts, "cache_creation_input_tokens")
    return _usage(counts, prompt=prompt + cached + written, completion=completion, cached=cached, written=written)


def _completions(counts: Mapping[str, Any]) -> Usage | None:
    if "prompt_tokens" not in counts and "total_tokens" not in counts:
        return None
    prompt = _count(counts, "prompt_tokens")
    if "prompt_tokens" not in counts:
        prompt = _count(counts, "total_tokens")
    return _usage(
        counts,
        prompt=prompt,
        completion=_count(counts, "completion_tokens"),
        cached=_within(counts, "prompt_tokens_details", "cached_tokens"),
        reasoning=_within(counts, "completion_tokens_details", "reasoning_tokens"),
    )


def _usage(
    counts: Mapping[str, Any], *, prompt: int, completion: int, cached: int = 0, written: int = 0, reasoning: int = 0
) -> Usage:
    """Parts are capped at their whole, whatever was reported."""
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
    return _count(details, part) if isinstance(details, Mapping) else 0


def _count(counts: Mapping[str, Any], name: str) -> int:
    """A count of tokens; 0 for what is none."""
    value = counts.get(name)
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1e9:
        return 0
    return int(value)
