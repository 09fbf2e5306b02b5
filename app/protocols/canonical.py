"""A conversation in no dialect's words: what translation between two dialects goes through.

It holds what both sides can mean, not what either writes: parts of a message are values of their own, instructions are
apart from the conversation, a tool's result answers a call by its id, and an answer streams as events that build it up.
A dialect reads into these values and writes out of them (`ChatCodec` of dialect.py); what it cannot say, it refuses by
name. Times are seconds since the epoch, sizes are tokens, JSON stands as text where it must survive unread.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import msgspec

from .base import Usage

Role = Literal["user", "assistant"]
# Why a choice ended: of itself, by the limit of tokens, to call tools, by a filter, by a stop sequence of the client.
StopReason = Literal["stop", "length", "tool_calls", "content_filter", "stop_sequence"]


class Text(msgspec.Struct, frozen=True, kw_only=True):
    """Words. `cache`: the provider is asked to cache the conversation up to here, as the mark says ("ephemeral")."""

    text: str
    cache: Mapping[str, Any] | None = None


class Media(msgspec.Struct, frozen=True, kw_only=True):
    """A picture, a sound or a document: by its address, or as base64 with its media type."""

    kind: Literal["image", "audio", "document"]
    url: str = ""
    data: str = ""
    media_type: str = ""
    name: str = ""
    detail: str = ""
    cache: Mapping[str, Any] | None = None


class Reasoning(msgspec.Struct, frozen=True, kw_only=True):
    """What a model thought. `signature` proves it to its provider; `encrypted`: thoughts that are not shown."""

    text: str = ""
    signature: str = ""
    encrypted: str = ""


class Refusal(msgspec.Struct, frozen=True, kw_only=True):
    """The model's own words for why it does not answer."""

    text: str


class ToolCall(msgspec.Struct, frozen=True, kw_only=True):
    """A tool that the model wants called. `arguments` is JSON as the model wrote it."""

    id: str
    name: str
    arguments: str = "{}"


class ToolResult(msgspec.Struct, frozen=True, kw_only=True):
    """What a tool said to the call of this id."""

    id: str
    content: Sequence[Text | Media] = ()
    is_error: bool = False
    cache: Mapping[str, Any] | None = None


Part = Text | Media | Reasoning | Refusal | ToolCall | ToolResult


class Message(msgspec.Struct, frozen=True, kw_only=True):
    """One turn. Results of tools are parts of the user's turn."""

    role: Role
    parts: Sequence[Part]
    name: str = ""


class Tool(msgspec.Struct, frozen=True, kw_only=True):
    """A function that the model may call. `schema`: JSON schema of its arguments."""

    name: str
    description: str = ""
    schema: Mapping[str, Any] = {}
    is_strict: bool | None = None
    cache: Mapping[str, Any] | None = None


class ToolChoice(msgspec.Struct, frozen=True, kw_only=True):
    """`name` with mode "tool" only. `is_parallel`: whether several may be called at once; None leaves it open."""

    mode: Literal["auto", "none", "required", "tool"] = "auto"
    name: str = ""
    is_parallel: bool | None = None


class ReasoningWish(msgspec.Struct, frozen=True, kw_only=True):
    """How much thought: an effort ("low" … "high"), or tokens. `is_on` False switches it off."""

    is_on: bool = True
    effort: str = ""
    budget_tokens: int | None = None


class OutputFormat(msgspec.Struct, frozen=True, kw_only=True):
    """The shape of the answer's text: any JSON object without a schema, else what the schema says."""

    schema: Mapping[str, Any] | None = None
    name: str = ""
    is_strict: bool | None = None


class ChatRequest(msgspec.Struct, frozen=True, kw_only=True):
    """What is asked for. None: the client left it open. `others` are parameters that no field here stands for."""

    messages: Sequence[Message]
    system: Sequence[Text] = ()
    tools: Sequence[Tool] = ()
    tool_choice: ToolChoice | None = None
    output: OutputFormat | None = None
    reasoning: ReasoningWish | None = None
    max_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    stop: Sequence[str] = ()
    seed: int | None = None
    choices: int | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    logprobs: int | None = None
    user: str = ""
    is_stream: bool = False
    others: Mapping[str, Any] = {}


class Choice(msgspec.Struct, frozen=True, kw_only=True):
    """One answer of several. `logprobs` as OpenAI's dialect has them, which is the only one that does."""

    parts: Sequence[Part]
    stop: StopReason | None = "stop"
    stop_sequence: str = ""
    logprobs: Mapping[str, Any] | None = None


class ChatAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """A whole answer. `usage` None: its provider counted nothing."""

    id: str
    created: int
    choices: Sequence[Choice]
    usage: Usage | None = None


# ---- the events of a stream ----------------------------------------------------------------------------------------


class Started(msgspec.Struct, frozen=True, kw_only=True):
    """The first event of a stream, once."""

    id: str
    created: int


class TextDelta(msgspec.Struct, frozen=True, kw_only=True):
    text: str
    choice: int = 0


class ReasoningDelta(msgspec.Struct, frozen=True, kw_only=True):
    text: str = ""
    signature: str = ""
    encrypted: str = ""
    choice: int = 0


class RefusalDelta(msgspec.Struct, frozen=True, kw_only=True):
    text: str
    choice: int = 0


class ToolCallStarted(msgspec.Struct, frozen=True, kw_only=True):
    """`index` tells the calls of one choice apart, from 0."""

    index: int
    id: str
    name: str
    choice: int = 0


class ToolCallDelta(msgspec.Struct, frozen=True, kw_only=True):
    """A further piece of the arguments."""

    index: int
    arguments: str
    choice: int = 0


class Stopped(msgspec.Struct, frozen=True, kw_only=True):
    """A choice has ended."""

    reason: StopReason
    stop_sequence: str = ""
    choice: int = 0


class Counted(msgspec.Struct, frozen=True, kw_only=True):
    """What was used so far; the last one counts."""

    usage: Usage


ChatEvent = Started | TextDelta | ReasoningDelta | RefusalDelta | ToolCallStarted | ToolCallDelta | Stopped | Counted
