"""Streams of the OpenAI dialect's chat as canonical events, and back. Pure but for the names that it gives."""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import msgspec

from ...errors import InvalidRequest
from ..base import Usage
from ..canonical import (
    ChatEvent,
    Counted,
    Reasoning,
    ReasoningDelta,
    Refusal,
    RefusalDelta,
    Started,
    Stopped,
    Text,
    TextDelta,
    ToolCallDelta,
    ToolCallStarted,
)
from ..dialect import InvalidAnswer, ProviderFault
from ..json_fields import error_message
from .answers import DONE, DONE_FRAME, read_usage
from .chat_answer import answer_head, finish_reason, identity, stop_reason, write_usage
from .chat_fields import Call, CalledFunction, ChatMessage, Chunk, ChunkChoice
from .chat_messages import thinking_block, words

_chunk = msgspec.json.Decoder(Chunk).decode
_encode = msgspec.json.Encoder().encode

_KIND = "chat.completion.chunk"
_Delta = TextDelta | ReasoningDelta | RefusalDelta | ToolCallStarted | ToolCallDelta


class OpenAIChatReader:
    """Chunks as events."""

    __slots__ = ("_calls", "_has_started", "_stopped", "has_ended")

    def __init__(self) -> None:
        self.has_ended = False
        self._has_started = False
        # Of each choice, the calls of tools in their order: the number that the provider gave, and the id.
        self._calls: dict[int, list[tuple[int, str]]] = {}
        self._stopped: set[int] = set()

    def read(self, event: bytes) -> Sequence[ChatEvent]:
        if event == DONE:
            self.has_ended = True
            return ()
        chunk = _chunk(event)
        if chunk.error is not None:
            raise ProviderFault(error_message(event) or "the provider reported an error")
        events: list[ChatEvent] = []
        for choice in chunk.choices or ():
            events += self._choice_events(choice)
        usage = read_usage(chunk.usage)
        if usage is not None:
            events.append(Counted(usage=usage))
        if not self._has_started and (events or chunk.choices):
            self._has_started = True
            id, created = identity(chunk.id, chunk.created)
            return [Started(id=id, created=created), *events]
        return events

    def _choice_events(self, choice: ChunkChoice) -> Iterator[ChatEvent]:
        if choice.index in self._stopped:
            # Some providers repeat the last choice beside the usage.
            return
        delta = choice.delta or ChatMessage()
        yield from _words(choice, delta)
        for call in delta.tool_calls or ():
            yield from self._call_events(call, choice.index)
        reason = stop_reason(choice.finish_reason)
        if reason is not None:
            self._stopped.add(choice.index)
            yield Stopped(reason=reason, choice=choice.index)

    def _call_events(self, call: Call, choice: int) -> Iterator[ChatEvent]:
        """Some providers give all calls of an answer the same number, or none: another id is another call."""
        calls = self._calls.setdefault(choice, [])
        number = call.index or 0
        function = call.function or CalledFunction()
        index = next((at for at in reversed(range(len(calls))) if calls[at][0] == number), None)
        if index is None or (call.id and function.name and calls[index][1] != call.id):
            if not function.name:
                raise InvalidAnswer("a call of a tool begins without the name of its function")
            index, id = len(calls), call.id or f"call_{uuid.uuid4().hex}"
            calls.append((number, id))
            yield ToolCallStarted(index=index, id=id, name=function.name, choice=choice)
        if function.arguments:
            yield ToolCallDelta(index=index, arguments=function.arguments, choice=choice)


def _words(choice: ChunkChoice, delta: ChatMessage) -> Iterator[ChatEvent]:
    logprobs = choice.logprobs
    try:
        parts = words(delta, f"choices[{choice.index}].delta")
    except InvalidRequest as problem:
        raise InvalidAnswer(problem.message) from None
    for part in parts:
        if isinstance(part, Text):
            yield TextDelta(text=part.text, choice=choice.index, logprobs=logprobs)
            logprobs = None
        elif isinstance(part, Reasoning):
            yield ReasoningDelta(
                text=part.text, signature=part.signature, encrypted=part.encrypted, choice=choice.index
            )
        elif isinstance(part, Refusal):
            yield RefusalDelta(text=part.text, choice=choice.index)
    if logprobs is not None:
        yield TextDelta(text="", choice=choice.index, logprobs=logprobs)


# ---- and back ------------------------------------------------------------------------------------------------------


class OpenAIChatWriter:
    """Events as chunks: each choice begins with its role and ends with a reason; what was used comes last of all."""

    __slots__ = ("_begun", "_head", "_model", "_stopped", "_usage", "_wants_usage", "_without_arguments")

    def __init__(self, model: str, *, wants_usage: bool) -> None:
        self._model = model
        self._wants_usage = wants_usage
        self._usage: Usage | None = None
        self._head: dict[str, Any] | None = None
        self._begun: set[int] = set()
        self._stopped: set[int] = set()
        # Calls of tools, by choice and number, whose arguments have not begun.
        self._without_arguments: dict[tuple[int, int], None] = {}

    def write(self, event: ChatEvent) -> bytes:
        if isinstance(event, Started):
            self._head = answer_head(event.id, event.created, self._model, _KIND)
            return b""
        if isinstance(event, Counted):
            self._usage = event.usage
            return b""
        if event.choice in self._stopped:
            return b""
        frames = b""
        if event.choice not in self._begun:
            self._begun.add(event.choice)
            frames = self._frame(event.choice, {"role": "assistant", "content": ""})
        if isinstance(event, Stopped):
            return frames + self._stop(event)
        logprobs = event.logprobs if isinstance(event, TextDelta) else None
        return frames + self._frame(event.choice, self._delta(event), logprobs=logprobs)

    def _delta(self, event: _Delta) -> dict[str, Any]:
        match event:
            case TextDelta():
                return {"content": event.text}
            case RefusalDelta():
                return {"refusal": event.text}
            case ReasoningDelta():
                return _thought(event)
            case ToolCallStarted():
                self._without_arguments[event.choice, event.index] = None
                function = {"name": event.name, "arguments": ""}
                return _call({"index": event.index, "id": event.id, "type": "function", "function": function})
        self._without_arguments.pop((event.choice, event.index), None)
        return _call({"index": event.index, "function": {"arguments": event.arguments}})

    def _stop(self, event: Stopped) -> bytes:
        """A call without arguments gets those of a function that takes none: clients read them as JSON."""
        choice = event.choice
        calls = [index for at, index in self._without_arguments if at == choice]
        frames = [self._frame(choice, _call({"index": index, "function": {"arguments": "{}"}})) for index in calls]
        self._stopped.add(choice)
        return b"".join(frames) + self._frame(choice, {}, finish=finish_reason(event.reason))

    def finish(self) -> bytes:
        if not self._wants_usage or self._usage is None:
            return DONE_FRAME
        return self._chunk({"choices": [], "usage": write_usage(self._usage)}) + DONE_FRAME

    def _frame(
        self,
        choice: int,
        delta: dict[str, Any],
        *,
        finish: str | None = None,
        logprobs: Mapping[str, Any] | None = None,
    ) -> bytes:
        written = {"index": choice, "delta": delta, "finish_reason": finish}
        return self._chunk({"choices": [written if logprobs is None else {**written, "logprobs": logprobs}]})

    def _chunk(self, fields: dict[str, Any]) -> bytes:
        if self._head is None:
            self._head = answer_head("", 0, self._model, _KIND)
        return b"data: " + _encode({**self._head, **fields}) + b"\n\n"


def _call(piece: dict[str, Any]) -> dict[str, Any]:
    return {"tool_calls": [piece]}


def _thought(event: ReasoningDelta) -> dict[str, Any]:
    """The text for everyone; the same as a piece of a block, for clients that send thoughts back with their proof."""
    thought = Reasoning(text=event.text, signature=event.signature, encrypted=event.encrypted)
    return {**({"reasoning_content": event.text} if event.text else {}), "thinking_blocks": [thinking_block(thought)]}
