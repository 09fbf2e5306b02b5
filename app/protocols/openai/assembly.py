"""Streams of the OpenAI dialect put together into the whole answer, and whole answers told as streams. Pure.

`assemble(replay(answer)) == answer` for every answer without nulls: a cached answer serves both kinds of calls.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

from ..base import Usage
from ..dialect import Endpoint
from ..json_fields import BROKEN_JSON
from .answers import DONE, DONE_FRAME
from .request import CHAT

_any = msgspec.json.Decoder().decode
_encode = msgspec.json.Encoder().encode

# A word and the space behind it, as most providers send; what has no spaces comes in pieces all the same.
_PIECE = re.compile(r"\S{1,32}\s{0,32}|\s{1,32}")
# Frames of a replay go out together up to about this size: one write costs more than what is in it.
_BATCH_BYTES = 16 * 1024
# What a call of a tool weighs besides its arguments.
_CALL_BYTES = 128
# Texts that a delta brings piece by piece.
_TEXTS = ("content", "refusal", "reasoning_content", "reasoning")
# Facts about a request that some providers add to each piece, and that no answer is poorer without.
_PASSED_OVER = frozenset(("content_filter_results", "content_filter_offsets", "obfuscation", "prompt_filter_results"))
_UNFINISHED = frozenset(("content_filter", "error"))


class _End(msgspec.Struct):
    finish_reason: str | None = None


class _Ends(msgspec.Struct):
    choices: list[_End]
    error: Any = None


def is_complete(body: bytes) -> bool:
    """Whether a whole chat or text answer came to its natural end: every choice says why it ended, none was cut off."""
    try:
        ends = msgspec.json.decode(body, type=_Ends)
    except BROKEN_JSON:
        return False
    return (
        ends.error is None and bool(ends.choices) and all(_is_natural(choice.finish_reason) for choice in ends.choices)
    )


def _is_natural(finish_reason: Any) -> bool:
    return bool(finish_reason) and finish_reason not in _UNFINISHED


# ---- from a stream to the whole answer -----------------------------------------------------------------------------


class StreamAssembler:
    """Feed it the frames that a client gets. What it cannot put together faithfully has no answer."""

    __slots__ = ("_choices", "_head", "_is_chat", "_is_fit", "is_finished", "size")

    def __init__(self, endpoint: Endpoint) -> None:
        self._is_chat = endpoint is CHAT
        self._head: dict[str, Any] = {}
        self._choices: dict[int, dict[str, Any]] = {}
        self._is_fit = True
        self.is_finished = False
        # About how many bytes the answer has by now.
        self.size = 0

    def feed(self, frames: bytes) -> None:
        """Some whole frames, comments among them. Never raises: what makes no sense makes the answer unfit."""
        for frame in frames.split(b"\n\n"):
            if not self._is_fit or not frame.startswith(b"data: "):
                continue
            if frame[6:] == DONE:
                self.is_finished = True
                continue
            try:
                self._add(_any(frame[6:]))
            except (*BROKEN_JSON, TypeError, ValueError, AttributeError, KeyError):
                self._is_fit = False

    def give_up(self) -> None:
        """Forget all: the answer is too large to be kept."""
        self._is_fit = False
        self._choices.clear()

    @property
    def is_given_up(self) -> bool:
        return not self._is_fit

    def answer(self, usage: Usage) -> bytes | None:
        """The whole answer as JSON; None for a stream that did not come to its natural end."""
        is_whole = self.is_finished and all(_is_natural(choice["finish_reason"]) for choice in self._choices.values())
        return self.so_far(usage) if is_whole else None

    def so_far(self, usage: Usage) -> bytes | None:
        """What has come as JSON, whole or not; None when nothing has, or nothing that could be put together."""
        choices = [choice for _, choice in sorted(self._choices.items())]
        if not self._is_fit or not choices:
            return None
        for choice in choices:
            _close(choice.get("message", choice))
        kind = "chat.completion" if self._is_chat else "text_completion"
        return _encode({**self._head, "object": kind, "choices": choices, "usage": usage_of_answer(usage)})

    def _add(self, event: dict[str, Any]) -> None:
        if event.get("error") is not None:
            raise ValueError
        for name, value in event.items():
            if name not in ("choices", "usage", "object") and name not in _PASSED_OVER and value is not None:
                self._head[name] = value
        for piece in event.get("choices") or ():
            self._add_piece(piece)

    def _add_piece(self, piece: dict[str, Any]) -> None:
        index = piece.get("index", 0)
        choice = self._choices.get(index)
        if choice is None:
            self.size += _CALL_BYTES
            start: dict[str, Any] = (
                {"message": {"role": "assistant", "content": None}} if self._is_chat else {"text": []}
            )
            choice = self._choices[index] = {"index": index, **start, "finish_reason": None}
        for name, value in piece.items():
            if value is None or name == "index" or name in _PASSED_OVER:
                continue
            if name == "delta" and self._is_chat:
                self._add_delta(choice["message"], value)
            elif name == "text" and not self._is_chat:
                self._add_text(choice, "text", value)
            elif name == "finish_reason":
                choice["finish_reason"] = value
            elif name == "logprobs":
                self.size += _add_lists(choice.setdefault("logprobs", {}), value)
            else:
                raise ValueError

    def _add_delta(self, message: dict[str, Any], delta: dict[str, Any]) -> None:
        for name, value in delta.items():
            if value is None:
                continue
            if name == "role":
                message["role"] = value
            elif name in _TEXTS:
                self._add_text(message, name, value)
            elif name == "tool_calls":
                for piece in value:
                    self._add_tool_call(message, piece)
            elif name == "function_call":
                self._add_function(message.setdefault("function_call", {}), value)
            elif name == "annotations":
                message.setdefault("annotations", []).extend(value)
                self.size += _CALL_BYTES * len(value)
            elif value not in ({}, []):
                # Nobody knows how its pieces belong together.
                raise ValueError

    def _add_tool_call(self, message: dict[str, Any], piece: dict[str, Any]) -> None:
        calls: dict[int, dict[str, Any]] = message.setdefault("tool_calls", {})
        call = calls.setdefault(piece.get("index", 0), {})
        self.size += 0 if call else _CALL_BYTES
        if call.get("id") and piece.get("id") and call["id"] != piece["id"]:
            # Some providers give all calls of one answer the same number.
            raise ValueError
        for name, value in piece.items():
            if name == "function" and value is not None:
                self._add_function(call.setdefault("function", {}), value)
            elif name != "index" and value is not None and (value or name not in call):
                call[name] = value

    def _add_function(self, function: dict[str, Any], piece: dict[str, Any]) -> None:
        for name, value in piece.items():
            if name == "arguments" and value is not None:
                self._add_text(function, "arguments", value)
            elif value:
                function[name] = value

    def _add_text(self, holder: dict[str, Any], name: str, value: str) -> None:
        """Pieces are kept apart until the end: adding to a text again and again copies it again and again."""
        if not isinstance(value, str):
            raise TypeError
        if not isinstance(holder.get(name), list):
            holder[name] = []
        holder[name].append(value)
        self.size += len(value)


def _add_lists(holder: dict[str, Any], piece: dict[str, Any]) -> int:
    """Join the lists of `logprobs`, whatever their names. Answers about how many bytes came."""
    size = 0
    for name, values in piece.items():
        if values is not None:
            holder.setdefault(name, []).extend(values)
            size += 100 * len(values)
    return size


def _close(message: dict[str, Any]) -> None:
    """Pieces of text become texts, and tool calls by their number a list."""
    for name in ("text", *_TEXTS):
        if isinstance(message.get(name), list):
            message[name] = "".join(message[name])
    calls = message.get("tool_calls")
    if calls is not None:
        message["tool_calls"] = [call for _, call in sorted(calls.items())]
    functions = [call.get("function") for call in message.get("tool_calls", ())]
    for function in (*functions, message.get("function_call")):
        if function is not None and isinstance(function.get("arguments"), list):
            function["arguments"] = "".join(function["arguments"])


# ---- from the whole answer to a stream -----------------------------------------------------------------------------


def replay(endpoint: Endpoint, body: bytes, *, wants_usage: bool) -> Iterator[bytes]:
    """A complete answer as the frames of a stream, several of them in one piece of bytes."""
    answer: dict[str, Any] = _any(body)
    batch = bytearray()
    for event in _events(endpoint, answer, wants_usage=wants_usage):
        batch += b"data: " + _encode(event) + b"\n\n"
        if len(batch) >= _BATCH_BYTES:
            yield bytes(batch)
            batch.clear()
    yield bytes(batch) + DONE_FRAME


def _events(endpoint: Endpoint, answer: dict[str, Any], *, wants_usage: bool) -> Iterator[dict[str, Any]]:
    usage = answer.pop("usage", None)
    choices = answer.pop("choices")
    head = {**answer, "object": "chat.completion.chunk" if endpoint is CHAT else "text_completion"}
    for choice in choices:
        index = choice.get("index", 0)
        pieces = _deltas(choice.get("message") or {}) if endpoint is CHAT else _text_pieces(choice.get("text") or "")
        for piece in pieces:
            yield {**head, "choices": [{"index": index, **piece}]}
        last: dict[str, Any] = {"delta": {}} if endpoint is CHAT else {"text": ""}
        if choice.get("logprobs") is not None:
            last["logprobs"] = choice["logprobs"]
        yield {**head, "choices": [{"index": index, **last, "finish_reason": choice.get("finish_reason")}]}
    if wants_usage and usage:
        yield {**head, "choices": [], "usage": usage}


def _text_pieces(text: str) -> Iterator[dict[str, Any]]:
    for piece in _PIECE.findall(text):
        yield {"text": piece}


def _deltas(message: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The role, what was thought, what was said, the calls of tools, and whatever else there is."""
    content = message.get("content")
    yield {"delta": {"role": message.get("role", "assistant"), "content": None if content is None else ""}}
    for name in ("reasoning", "reasoning_content", "content", "refusal"):
        text = message.get(name)
        for piece in _PIECE.findall(text) if isinstance(text, str) else ():
            yield {"delta": {name: piece}}
    for number, call in enumerate(message.get("tool_calls") or ()):
        yield {"delta": {"tool_calls": [{"index": number, **call}]}}
    known = ("role", "content", "tool_calls", *_TEXTS)
    others = {name: value for name, value in message.items() if name not in known and value not in (None, [], {})}
    if others:
        yield {"delta": others}


def usage_of_answer(usage: Usage) -> Mapping[str, Any]:
    """A `usage` object for an answer whose provider may not have sent one."""
    if usage.raw and "prompt_tokens" in usage.raw:
        return usage.raw
    return {
        "prompt_tokens": usage.prompt_tokens,
        "completion_tokens": usage.completion_tokens,
        "total_tokens": usage.total_tokens,
    }
