"""How a chat of the OpenAI dialect looks on the wire, as far as its meaning is known: types to decode with.

Beside OpenAI's own fields stand those that compatible providers share: `reasoning_content` and `reasoning` for what a
model thought, `thinking_blocks` for thoughts with a signature, and `cache_control` marks.
"""

from __future__ import annotations

import re
from typing import Any

import msgspec
from msgspec import Raw, Struct

from ...errors import InvalidRequest

PATH = "/chat/completions"
_PLACE = re.compile(r" - at `(?:key in )?\$\.?(.*)`$")

Mark = dict[str, Any] | None


class Image(Struct):
    url: str
    detail: str | None = None
    format: str | None = None


class Audio(Struct):
    data: str
    format: str


class File(Struct):
    file_data: str | None = None
    file_id: str | None = None
    filename: str | None = None
    format: str | None = None


class Thought(Struct):
    text: str = ""


class ContentPart(Struct):
    """Of any type: each type uses the field that is named for it."""

    type: str
    text: str | None = None
    refusal: str | None = None
    image_url: Image | str | None = None
    input_audio: Audio | None = None
    file: File | None = None
    thinking: list[Thought] | str | None = None
    signature: str | None = None
    cache_control: Mark = None


class ThinkingBlock(Struct):
    """`data` of a redacted block: thoughts that only their provider can read."""

    type: str = "thinking"
    thinking: str | None = None
    signature: str | None = None
    data: str | None = None


class CalledFunction(Struct):
    name: str | None = None
    arguments: str | None = None


class Call(Struct):
    """A call of a tool, or in a stream a piece of one. Which pieces belong together, `index` says."""

    index: int | None = None
    id: str | None = None
    type: str | None = None
    function: CalledFunction | None = None
    cache_control: Mark = None


class ChatMessage(Struct):
    """A message of a request or an answer, or a delta of a stream."""

    role: str | None = None
    content: str | list[ContentPart] | None = None
    name: str | None = None
    refusal: str | None = None
    tool_calls: list[Call] | None = None
    tool_call_id: str | None = None
    reasoning_content: str | None = None
    reasoning: Any = None
    thinking_blocks: list[ThinkingBlock] | None = None
    cache_control: Mark = None
    audio: Any = None
    function_call: Any = None


class FunctionDefinition(Struct):
    name: str
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None
    cache_control: Mark = None


class ToolDefinition(Struct):
    type: str = "function"
    function: FunctionDefinition | None = None
    cache_control: Mark = None


class NamedFunction(Struct):
    name: str


class NamedTool(Struct):
    type: str = "function"
    function: NamedFunction | None = None


class Schema(Struct):
    name: str
    description: str | None = None
    schema: dict[str, Any] | None = None
    strict: bool | None = None


class Format(Struct):
    type: str
    json_schema: Schema | None = None


class Thinking(Struct):
    """The wish for thought as Anthropic and others put it. "adaptive": as much as the model finds right."""

    type: str = "enabled"
    budget_tokens: int | None = None


class ChatBody(Struct):
    """A request's body. What is not here is a parameter that only its provider knows."""

    messages: list[ChatMessage] = []
    tools: list[ToolDefinition] | None = None
    tool_choice: NamedTool | str | None = None
    parallel_tool_calls: bool | None = None
    response_format: Format | None = None
    reasoning_effort: str | None = None
    thinking: Thinking | None = None
    max_tokens: int | None = None
    max_completion_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    stop: str | list[str] | None = None
    seed: int | None = None
    n: int | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    logprobs: bool | None = None
    top_logprobs: int | None = None
    user: str | None = None


class AnswerChoice(Struct):
    message: ChatMessage
    index: int = 0
    finish_reason: str | None = None
    logprobs: dict[str, Any] | None = None


class Answer(Struct):
    choices: list[AnswerChoice]
    id: Any = None
    created: Any = None
    usage: Raw = Raw(b"null")


class ChunkChoice(Struct):
    index: int = 0
    delta: ChatMessage | None = None
    finish_reason: str | None = None
    logprobs: dict[str, Any] | None = None


class Chunk(Struct):
    choices: list[ChunkChoice] | None = None
    id: Any = None
    created: Any = None
    usage: Raw = Raw(b"null")
    error: Any = None


def refused(field: str, reason: str) -> InvalidRequest:
    """The refusal (400) of one field of a client's body."""
    return InvalidRequest(f"{PATH}: '{field}' {reason}.", param=field)


def undecodable(problem: Exception, field: str) -> InvalidRequest:
    """The same for a value that did not decode: msgspec names the place, `field` is what was decoded at all."""
    message = str(problem)
    place = _PLACE.search(message) if isinstance(problem, msgspec.ValidationError) else None
    if place is None:
        return InvalidRequest(f"Invalid JSON payload: '{field}': {message}", param=field)
    return InvalidRequest(f"{PATH}: '{place[1] or field}': {message[: place.start()]}.", param=place[1] or field)
