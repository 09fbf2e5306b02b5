"""Whole answers of the OpenAI dialect's chat as canonical ones, and back; and what was used."""

from __future__ import annotations

import time
import uuid
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from ...errors import InvalidRequest
from ..base import Usage
from ..canonical import ChatAnswer, Choice, Media, Part, StopReason, Text, ToolResult
from ..dialect import InvalidAnswer
from .answers import read_usage
from .chat_fields import Answer, AnswerChoice
from .chat_messages import assistant_parts, spoken

_answer = msgspec.json.Decoder(Answer).decode
_encode = msgspec.json.Encoder().encode

_STOP_REASONS: dict[str, StopReason] = {
    "stop": "stop",
    "length": "length",
    "tool_calls": "tool_calls",
    "function_call": "tool_calls",
    "content_filter": "content_filter",
}


def read_answer(body: bytes) -> ChatAnswer:
    """Raises InvalidAnswer or one of BROKEN_JSON."""
    answer = _answer(body)
    if not answer.choices:
        raise InvalidAnswer("the answer has no choices")
    choices = [_choice(choice) for choice in sorted(answer.choices, key=lambda choice: choice.index)]
    id, created = identity(answer.id, answer.created)
    return ChatAnswer(id=id, created=created, choices=choices, usage=read_usage(answer.usage))


def _choice(choice: AnswerChoice) -> Choice:
    try:
        parts = assistant_parts(choice.message, f"choices[{choice.index}].message")
    except InvalidRequest as problem:
        raise InvalidAnswer(problem.message) from None
    return Choice(parts=parts, stop=stop_reason(choice.finish_reason), logprobs=choice.logprobs)


def identity(id: Any, created: Any) -> tuple[str, int]:
    """Of an answer as a provider wrote it: some write numbers, fractions or nothing."""
    return str(id or ""), int(created) if isinstance(created, int | float) else 0


def stop_reason(finish_reason: str | None) -> StopReason | None:
    """A reason that nobody else knows is an end like others."""
    return _STOP_REASONS.get(finish_reason, "stop") if finish_reason else None


# ---- and back ------------------------------------------------------------------------------------------------------


def write_answer(answer: ChatAnswer, model: str) -> bytes:
    """Raises InvalidAnswer for a part that no message of the dialect has room for."""
    choices = [_written_choice(index, choice) for index, choice in enumerate(answer.choices)]
    fields = {**answer_head(answer.id, answer.created, model, "chat.completion"), "choices": choices}
    if answer.usage is not None:
        fields["usage"] = write_usage(answer.usage)
    return _encode(fields)


def answer_head(id: str, created: int, model: str, kind: str) -> dict[str, Any]:
    """What an answer and each chunk of a stream begin with. What the provider's dialect does not have is made up."""
    return {
        "id": id or f"chatcmpl-{uuid.uuid4()}",
        "object": kind,
        "created": created or int(time.time()),
        "model": model,
    }


def _written_choice(index: int, choice: Choice) -> dict[str, Any]:
    written = {
        "index": index,
        "message": {"role": "assistant", "content": _words(choice.parts), **spoken(choice.parts)},
        "finish_reason": finish_reason(choice.stop),
    }
    return written if choice.logprobs is None else {**written, "logprobs": choice.logprobs}


def _words(parts: Sequence[Part]) -> str | None:
    for part in parts:
        if isinstance(part, Media | ToolResult):
            raise InvalidAnswer("the answer has a part that is neither text nor a call")
    return "".join(part.text for part in parts if isinstance(part, Text)) or None


def finish_reason(stop: StopReason | None) -> str | None:
    """The dialect does not say which stop sequence ended an answer, nor that one did."""
    return "stop" if stop == "stop_sequence" else stop


def write_usage(usage: Usage) -> Mapping[str, Any]:
    """As the provider wrote it where that is in this dialect, which may know more; else from the classes of tokens."""
    if "prompt_tokens" in usage.raw:
        return usage.raw
    fields: dict[str, Any] = {
        "prompt_tokens": usage.prompt_tokens,
        "completion_tokens": usage.completion_tokens,
        "total_tokens": usage.total_tokens,
    }
    prompt = {"cached_tokens": usage.cache_read_tokens, "cache_creation_tokens": usage.cache_write_tokens}
    if any(prompt.values()):
        fields["prompt_tokens_details"] = prompt
    if usage.reasoning_tokens:
        fields["completion_tokens_details"] = {"reasoning_tokens": usage.reasoning_tokens}
    return fields
