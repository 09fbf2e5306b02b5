"""What the scripted upstream can answer: `Reply`, `Stream`, `Answer`, and the faults by name. See tests/upstream.py."""

from __future__ import annotations

import asyncio
import base64
import json
import struct
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any, Literal, Protocol

REASONS = {status.value: status.phrase for status in HTTPStatus} | {529: "Overloaded"}

ERROR_TYPES = {401: "authentication_error", 403: "permission_error", 429: "rate_limit_error"}

CREATED = 1_700_000_000


class Channel(ABC):
    """The connection as a step sees it."""

    @abstractmethod
    async def write(self, data: bytes) -> None: ...

    @abstractmethod
    def end(self, *, reset: bool = False) -> None:
        """Closes with FIN, or with RST (bytes not yet sent are lost)."""


class Step(Protocol):
    async def perform(self, channel: Channel, path: str, body: Any) -> None:
        """Answers one request; `path` without the query, `body` the parsed JSON or None."""


@dataclass(frozen=True)
class Usage:
    """Tokens to report; `cached` are part of `prompt`, `reasoning` part of `completion`."""

    prompt: int = 9
    completion: int = 3
    cached: int | None = None
    reasoning: int | None = None

    def json(self) -> dict[str, Any]:
        usage: dict[str, Any] = {
            "prompt_tokens": self.prompt,
            "completion_tokens": self.completion,
            "total_tokens": self.prompt + self.completion,
        }
        if self.cached is not None:
            usage["prompt_tokens_details"] = {"cached_tokens": self.cached, "audio_tokens": 0}
        if self.reasoning is not None:
            usage["completion_tokens_details"] = {"reasoning_tokens": self.reasoning, "audio_tokens": 0}
        return usage


@dataclass(frozen=True)
class Reply:
    """One JSON answer. `body` replaces the natural one of the path; `raw` replaces the bytes altogether.

    `delay` seconds pass before the headers, `body_delay` between headers and body; `cut_body` sends only the first half
    of the body and then closes (`"close"`) or resets (`"reset"`).
    """

    content: str = "Hello world"
    status: int = 200
    body: Mapping[str, Any] | None = None
    raw: bytes | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    usage: Usage | None = field(default_factory=Usage)
    delay: float = 0
    body_delay: float = 0
    cut_body: Literal["close", "reset"] | None = None

    async def perform(self, channel: Channel, path: str, body: Any) -> None:
        await asyncio.sleep(self.delay)
        if self.raw is not None:
            payload = self.raw
        else:
            answer = self.body if self.body is not None else natural_json(path, body, self.content, self.usage)
            payload = json.dumps(answer).encode()
        headers = {"content-type": "application/json", "content-length": str(len(payload)), **self.headers}
        await channel.write(head(self.status, headers))
        await asyncio.sleep(self.body_delay)
        if self.cut_body is None:
            await channel.write(payload)
        else:
            await channel.write(payload[: len(payload) // 2])
            await asyncio.sleep(0.05)  # a reset would drop what the kernel has not delivered yet
            channel.end(reset=self.cut_body == "reset")


@dataclass(frozen=True)
class Stream:
    """Server-sent events: one per word, the finish event, usage (if asked for, or `usage_always`), and [DONE].

    `events` replaces all payloads (the text after `data: `). `cut` ends the connection after `cut_after` events
    (default: after the last word), with `cut_mid_event` in the middle of the next one. `hang_after` falls silent after
    that many events, `error_after` sends an error event then and ends. `packet` splits the bytes into TCP packets of
    that size, whatever the event borders. `newline` is "\\n", "\\r\\n" or "\\r".
    """

    words: Sequence[str] = ("Hello", " ", "world")
    events: Sequence[str] | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    usage: Usage = field(default_factory=Usage)
    usage_always: bool = False
    delay: float = 0
    first_delay: float = 0
    interval: float = 0
    done: bool = True
    newline: str = "\n"
    packet: int | None = None
    cut: Literal["close", "reset"] | None = None
    cut_after: int | None = None
    cut_mid_event: bool = False
    hang_after: int | None = None
    error_after: int | None = None
    comment: str | None = None

    async def perform(self, channel: Channel, path: str, body: Any) -> None:
        await asyncio.sleep(self.delay)
        headers = {"content-type": "text/event-stream; charset=utf-8", "transfer-encoding": "chunked", **self.headers}
        await channel.write(head(200, headers))
        await asyncio.sleep(self.first_delay)
        if self.comment is not None:
            await self._send(channel, f": {self.comment}{self.newline * 2}".encode())
        events = self._events(path, body)
        for number, event in enumerate(events):
            if await self._stops(channel, number, event):
                return
            if number:
                await asyncio.sleep(self.interval)
            await self._send(channel, self._frame(event))
        if await self._stops(channel, len(events), ""):
            return
        await channel.write(b"0\r\n\r\n")

    def _events(self, path: str, body: Any) -> list[str]:
        if self.events is not None:
            return list(self.events)
        asked = isinstance(body, dict) and bool((body.get("stream_options") or {}).get("include_usage"))
        usage = self.usage if asked or self.usage_always else None
        payloads = [json.dumps(event) for event in natural_events(path, body, self.words, usage)]
        return [*payloads, "[DONE]"] if self.done else payloads

    async def _stops(self, channel: Channel, number: int, event: str) -> bool:
        """Performs the fault that is due before event `number`; True if the stream ends here."""
        if number == self.hang_after:
            await asyncio.Event().wait()
        if number == self.error_after:
            error = {
                "error": {"message": "The server had an error", "type": "server_error", "param": None, "code": None}
            }
            await self._send(channel, self._frame(json.dumps(error)))
            await channel.write(b"0\r\n\r\n")
            return True
        cut_after = self.cut_after if self.cut_after is not None else len(self.words)
        if self.cut is None or number != cut_after:
            return False
        if self.cut_mid_event:
            frame = self._frame(event)
            await self._send(channel, frame[: len(frame) // 2])
        await asyncio.sleep(0.05)  # a reset would drop what the kernel has not delivered yet
        channel.end(reset=self.cut == "reset")
        return True

    def _frame(self, event: str) -> bytes:
        return f"data: {event}{self.newline * 2}".encode()

    async def _send(self, channel: Channel, data: bytes) -> None:
        if self.packet is None:
            await channel.write(chunk(data))
            return
        for start in range(0, len(data), self.packet):
            await channel.write(chunk(data[start : start + self.packet]))
            await asyncio.sleep(0.001)  # lets the packet leave on its own


@dataclass(frozen=True)
class Pieces:
    """Bytes as they are, one chunk each; `cut` closes (or resets) the connection after them instead of ending well."""

    pieces: Sequence[bytes]
    content_type: str = "application/octet-stream"
    headers: Mapping[str, str] = field(default_factory=dict)
    interval: float = 0
    cut: Literal["close", "reset"] | None = None
    status: int = 200

    async def perform(self, channel: Channel, path: str, body: Any) -> None:
        headers = {"content-type": self.content_type, "transfer-encoding": "chunked", **self.headers}
        await channel.write(head(self.status, headers))
        for piece in self.pieces:
            await channel.write(chunk(piece))
            await asyncio.sleep(self.interval)
        if self.cut is None:
            await channel.write(b"0\r\n\r\n")
        else:
            await asyncio.sleep(0.05)  # a reset would drop what the kernel has not delivered yet
            channel.end(reset=self.cut == "reset")


@dataclass(frozen=True)
class Answer:
    """JSON or a stream, as the request asks."""

    content: str = "Hello world"
    usage: Usage = field(default_factory=Usage)
    delay: float = 0

    async def perform(self, channel: Channel, path: str, body: Any) -> None:
        step: Step = Reply(self.content, usage=self.usage, delay=self.delay)
        if isinstance(body, dict) and body.get("stream") is True:
            words = tuple(f"{word} " for word in self.content.split())
            step = Stream(words, usage=self.usage, delay=self.delay)
        await step.perform(channel, path, body)


@dataclass(frozen=True)
class _Ending:
    """Sends `data` as it is, then closes, resets, or stays silent."""

    data: bytes
    then: Literal["close", "reset", "hang"]
    delay: float = 0

    async def perform(self, channel: Channel, path: str, body: Any) -> None:
        await asyncio.sleep(self.delay)
        if self.data:
            await channel.write(self.data)
        if self.then == "hang":
            await asyncio.Event().wait()
        channel.end(reset=self.then == "reset")


class Fault:
    """The faults by name. Refused connections: `ScriptedUpstream.refused_url`, or `down()`."""

    @staticmethod
    def status(
        status: int,
        message: str | None = None,
        *,
        code: str | None = None,
        param: str | None = None,
        retry_after: float | str | None = None,
        delay: float = 0,
    ) -> Reply:
        """An OpenAI error body; `retry_after` in seconds or as an HTTP date."""
        kind = ERROR_TYPES.get(status, "server_error" if status >= 500 else "invalid_request_error")
        error = {"message": message or REASONS.get(status, "Error"), "type": kind, "param": param, "code": code}
        headers = {} if retry_after is None else {"retry-after": str(retry_after)}
        return Reply(status=status, body={"error": error}, headers=headers, delay=delay)

    @staticmethod
    def reset(delay: float = 0) -> Step:
        """RST before the headers."""
        return _Ending(b"", "reset", delay)

    @staticmethod
    def closed(delay: float = 0) -> Step:
        """An orderly close before the headers."""
        return _Ending(b"", "close", delay)

    @staticmethod
    def hang() -> Step:
        """Never answers, until the client leaves."""
        return _Ending(b"", "hang")

    @staticmethod
    def hang_after_headers() -> Step:
        return _Ending(head(200, {"content-type": "application/json", "content-length": "100"}), "hang")

    @staticmethod
    def garbage(status: int = 200) -> Reply:
        """HTML where JSON was promised."""
        return Reply(status=status, raw=b"<html><body>It works!</body></html>", headers={"content-type": "text/html"})

    @staticmethod
    def wrong_json() -> Reply:
        """Valid JSON that is no answer."""
        return Reply(raw=b'["not", "an", "object"]')

    @staticmethod
    def not_http() -> Step:
        return _Ending(b"SSH-2.0-OpenSSH_9.2\r\n", "close")

    @staticmethod
    def cut_mid_body() -> Reply:
        return Reply(cut_body="close")

    @staticmethod
    def cut_stream(after: int = 2, *, how: Literal["close", "reset"] = "close", mid_event: bool = False) -> Stream:
        return Stream(cut=how, cut_after=after, cut_mid_event=mid_event)

    @staticmethod
    def error_in_stream(after: int = 2) -> Stream:
        return Stream(error_after=after)

    @staticmethod
    def huge(size: int = 20_000_000) -> Reply:
        """A valid answer whose content alone has `size` bytes."""
        return Reply("x" * size)


def head(status: int, headers: Mapping[str, str]) -> bytes:
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    return f"HTTP/1.1 {status} {REASONS.get(status, 'Status')}\r\n{lines}\r\n".encode("latin-1")


def chunk(data: bytes) -> bytes:
    return f"{len(data):x}\r\n".encode() + data + b"\r\n"


def natural_json(path: str, body: Any, content: str, usage: Usage | None) -> dict[str, Any]:
    """What OpenAI would answer on this path."""
    request = body if isinstance(body, dict) else {}
    model = request.get("model", "scripted")
    counted = {} if usage is None else {"usage": usage.json()}
    if path.endswith("/embeddings"):
        given = request.get("input", "")
        count = len(given) if isinstance(given, list) and not (given and isinstance(given[0], int)) else 1
        vector: Any = [0.5, -0.25, 0.125]
        if request.get("encoding_format") == "base64":
            vector = base64.b64encode(struct.pack("<3f", *vector)).decode()
        rows = [{"object": "embedding", "index": index, "embedding": vector} for index in range(count)]
        if usage is not None:
            counted = {"usage": {"prompt_tokens": usage.prompt, "total_tokens": usage.prompt}}
        return {"object": "list", "data": rows, "model": model, **counted}
    if path.endswith("/models"):
        return {
            "object": "list",
            "data": [{"id": "scripted", "object": "model", "created": CREATED, "owned_by": "test"}],
        }
    if path.endswith("/completions") and not path.endswith("/chat/completions"):
        choice = {"index": 0, "text": content, "finish_reason": "stop", "logprobs": None}
        return {
            "id": "cmpl-1",
            "object": "text_completion",
            "created": CREATED,
            "model": model,
            "choices": [choice],
            **counted,
        }
    message: dict[str, Any] = {"role": "assistant", "content": content, "refusal": None, "annotations": []}
    choice = {"index": 0, "message": message, "finish_reason": "stop", "logprobs": None}
    return {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": CREATED,
        "model": model,
        "choices": [choice],
        **counted,
    }


def natural_events(path: str, body: Any, words: Sequence[str], usage: Usage | None) -> list[dict[str, Any]]:
    """OpenAI's stream events for these words; the usage event has no choices."""
    model = body.get("model", "scripted") if isinstance(body, dict) else "scripted"
    chat = path.endswith("/chat/completions")
    kind, name = ("chat.completion.chunk", "chatcmpl-1") if chat else ("text_completion", "cmpl-1")
    frame = {"id": name, "object": kind, "created": CREATED, "model": model}
    events: list[dict[str, Any]] = []
    for number, word in enumerate(words):
        delta = {"role": "assistant", "content": word} if number == 0 else {"content": word}
        part: dict[str, Any] = {"delta": delta} if chat else {"text": word}
        events.append({**frame, "choices": [{"index": 0, **part, "finish_reason": None, "logprobs": None}]})
    last: dict[str, Any] = {"delta": {}} if chat else {"text": ""}
    events.append({**frame, "choices": [{"index": 0, **last, "finish_reason": "stop", "logprobs": None}]})
    if usage is not None:
        events.append({**frame, "choices": [], "usage": usage.json()})
    return events
