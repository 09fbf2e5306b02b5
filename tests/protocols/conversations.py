"""Random conversations, answers and streams, as a dialect can express them."""

from __future__ import annotations

import json
from base64 import b64encode
from typing import Any

import msgspec
from hypothesis import strategies as st

from app.protocols.base import Usage
from app.protocols.canonical import (
    ChatAnswer,
    ChatEvent,
    ChatRequest,
    Choice,
    Counted,
    Media,
    Message,
    OutputFormat,
    Part,
    Reasoning,
    ReasoningDelta,
    ReasoningWish,
    Refusal,
    RefusalDelta,
    Started,
    Stopped,
    StopReason,
    Text,
    TextDelta,
    Tool,
    ToolCall,
    ToolCallDelta,
    ToolCallStarted,
    ToolChoice,
    ToolResult,
)
from app.protocols.openai.answers import read_usage

WORDS = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20)
NAMES = st.text("abcXYZ_0", min_size=1, max_size=8)
BASE64 = st.binary(min_size=1, max_size=12).map(lambda value: b64encode(value).decode())
ADDRESSES = NAMES.map(lambda name: f"https://pictures.example/{name}.png")
JSON_VALUES: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | WORDS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=3),
    max_leaves=5,
)
OBJECTS = st.dictionaries(NAMES, JSON_VALUES, max_size=3)
ARGUMENTS = OBJECTS.map(lambda value: msgspec.json.encode(value).decode())
MARKS = st.none() | st.just({"type": "ephemeral"}) | st.just({"type": "ephemeral", "ttl": "1h"})
OTHERS = st.dictionaries(st.sampled_from(["logit_bias", "service_tier", "verbosity", "x_anything"]), JSON_VALUES)
_FLAGS = st.none() | st.booleans()
_COUNTS = st.none() | st.integers(0, 100_000)
_RATIOS = st.none() | st.floats(-2, 2)

# ---- requests ------------------------------------------------------------------------------------------------------

TEXTS = st.builds(Text, text=WORDS, cache=MARKS)
PLAIN_TEXTS = st.builds(Text, text=WORDS)
_SIGHTS = st.sampled_from(["image/png", "image/jpeg", "image/svg+xml"])
PLAIN_IMAGES = st.builds(Media, kind=st.just("image"), url=ADDRESSES) | st.builds(
    Media, kind=st.just("image"), data=BASE64, media_type=_SIGHTS
)
_DETAILS = st.sampled_from(["", "low", "high"])
MEDIA = st.one_of(
    st.builds(Media, kind=st.just("image"), url=ADDRESSES, detail=_DETAILS, cache=MARKS),
    st.builds(Media, kind=st.just("image"), data=BASE64, media_type=_SIGHTS, detail=_DETAILS, cache=MARKS),
    st.builds(
        Media,
        kind=st.just("audio"),
        data=BASE64,
        media_type=st.sampled_from(["audio/wav", "audio/mpeg", "audio/flac"]),
        cache=MARKS,
    ),
    st.builds(
        Media,
        kind=st.just("document"),
        data=BASE64,
        media_type=st.sampled_from(["", "application/pdf"]),
        name=st.just("") | NAMES,
        cache=MARKS,
    ),
    st.builds(Media, kind=st.just("document"), file_id=NAMES, name=st.just("") | NAMES),
    st.builds(Media, kind=st.just("document"), url=ADDRESSES, media_type=st.sampled_from(["", "text/plain"])),
)
THOUGHTS = st.builds(
    Reasoning, text=st.just("") | WORDS, signature=st.just("") | NAMES, encrypted=st.just("") | NAMES
).filter(lambda thought: bool(thought.text or thought.signature or thought.encrypted))


@st.composite
def user_turns(draw: st.DrawFn, *, is_plain: bool) -> Message:
    texts, media = (PLAIN_TEXTS, PLAIN_IMAGES) if is_plain else (TEXTS, MEDIA)
    result = st.builds(
        ToolResult, id=NAMES, content=st.lists(texts, max_size=2), cache=st.none() if is_plain else MARKS
    )
    results = draw(st.lists(result, max_size=2))
    words: list[Any] = draw(st.lists(texts | media, min_size=0 if results else 1, max_size=3))
    name = draw(st.just("") | NAMES) if words and not is_plain else ""
    return Message(role="user", parts=[*results, *words], name=name)


@st.composite
def assistant_turns(draw: st.DrawFn, *, is_plain: bool) -> Message:
    calls = draw(
        st.lists(
            st.builds(ToolCall, id=NAMES, name=NAMES, arguments=ARGUMENTS, cache=st.none() if is_plain else MARKS),
            max_size=3,
        )
    )
    if is_plain:
        return Message(role="assistant", parts=[*draw(st.lists(PLAIN_TEXTS, max_size=2)), *calls])
    parts: list[Part] = [*draw(st.lists(THOUGHTS, max_size=2)), *draw(st.lists(TEXTS, max_size=2))]
    refusals = draw(st.lists(st.builds(Refusal, text=WORDS), max_size=1))
    return Message(role="assistant", parts=[*parts, *refusals, *calls], name=draw(st.just("") | NAMES))


@st.composite
def turns(draw: st.DrawFn, *, is_plain: bool = False) -> list[Message]:
    """At least one. Behind a turn that only answers calls no second one of the user stands: they would be one."""
    turn = user_turns(is_plain=is_plain) | assistant_turns(is_plain=is_plain)
    messages: list[Message] = []
    for message in draw(st.lists(turn, min_size=1, max_size=4)):
        before = messages[-1].parts if messages and messages[-1].role == "user" else []
        if not (message.role == "user" and before and isinstance(before[-1], ToolResult)):
            messages.append(message)
    return messages


_CHOICES = st.none() | st.builds(ToolChoice, mode=st.sampled_from(["auto", "none", "required"]), is_parallel=_FLAGS)
_TOOL_CHOICES = _CHOICES | st.builds(ToolChoice, mode=st.just("tool"), name=NAMES, is_parallel=_FLAGS)
_FORMATS = st.builds(
    OutputFormat, schema=OBJECTS, name=NAMES, description=st.just("") | WORDS, is_strict=_FLAGS
) | st.just(OutputFormat())
_WISHES = st.builds(ReasoningWish, effort=st.sampled_from(["minimal", "low", "medium", "high"])) | st.just(
    ReasoningWish(is_on=False)
)

# All that the OpenAI dialect can say.
CHATS = st.builds(
    ChatRequest,
    messages=turns(),
    system=st.lists(TEXTS, max_size=2),
    tools=st.lists(
        st.builds(Tool, name=NAMES, description=st.just("") | WORDS, schema=OBJECTS, is_strict=_FLAGS, cache=MARKS),
        max_size=2,
    ),
    tool_choice=_TOOL_CHOICES,
    output=st.none() | _FORMATS,
    reasoning=st.none() | _WISHES,
    max_tokens=_COUNTS,
    temperature=_RATIOS,
    top_p=_RATIOS,
    top_k=_COUNTS,
    stop=st.lists(WORDS, max_size=2),
    seed=_COUNTS,
    choices=st.none() | st.integers(1, 5),
    presence_penalty=_RATIOS,
    frequency_penalty=_RATIOS,
    logprobs=st.none() | st.integers(0, 20),
    user=st.just("") | WORDS,
    is_stream=st.booleans(),
    others=OTHERS,
    dialect=st.just("openai"),
)

# What the OpenAI dialect and the toy dialect can both say.
PLAIN_CHATS = st.builds(
    ChatRequest,
    messages=turns(is_plain=True),
    system=st.lists(PLAIN_TEXTS, max_size=1),
    tools=st.lists(st.builds(Tool, name=NAMES, description=st.just("") | WORDS, schema=OBJECTS), max_size=2),
    tool_choice=st.none()
    | st.builds(ToolChoice, mode=st.sampled_from(["auto", "none", "required"]))
    | st.builds(ToolChoice, mode=st.just("tool"), name=NAMES),
    max_tokens=_COUNTS,
    temperature=_RATIOS,
    stop=st.lists(WORDS, max_size=2),
    is_stream=st.booleans(),
)

# ---- answers -------------------------------------------------------------------------------------------------------

_DETAILS_OF_USAGE = st.fixed_dictionaries(
    {},
    optional={
        "prompt_tokens_details": st.just({"cached_tokens": 2, "cache_creation_tokens": 1}),
        "completion_tokens_details": st.just({"reasoning_tokens": 3}),
    },
)


def _usage(prompt: int, completion: int, details: dict[str, dict[str, int]]) -> Usage:
    """As a provider of the OpenAI dialect counts."""
    counts = {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion}
    usage = read_usage(json.dumps({**counts, **details}).encode())
    assert usage is not None
    return usage


USAGES = st.builds(_usage, st.integers(0, 999), st.integers(0, 999), _DETAILS_OF_USAGE)
REASONS: st.SearchStrategy[StopReason] = st.sampled_from(["stop", "length", "tool_calls", "content_filter"])
LOGPROBS = st.none() | st.just({"content": [{"token": "a", "logprob": -0.5, "bytes": [97], "top_logprobs": []}]})


@st.composite
def answer_choices(draw: st.DrawFn, *, is_plain: bool = False) -> Choice:
    text = draw(st.lists(PLAIN_TEXTS, max_size=1))
    calls = draw(st.lists(st.builds(ToolCall, id=NAMES, name=NAMES, arguments=ARGUMENTS), max_size=2))
    if is_plain:
        return Choice(parts=[*text, *calls], stop=draw(REASONS))
    thoughts = draw(st.lists(THOUGHTS, max_size=2))
    refusals = draw(st.lists(st.builds(Refusal, text=WORDS), max_size=1))
    return Choice(parts=[*thoughts, *text, *refusals, *calls], stop=draw(REASONS), logprobs=draw(LOGPROBS))


ANSWERS = st.builds(
    ChatAnswer,
    id=NAMES,
    created=st.integers(1, 2**31),
    choices=st.lists(answer_choices(), min_size=1, max_size=3),
    usage=st.none() | USAGES,
)


@st.composite
def _choice_events(draw: st.DrawFn, choice: int, *, is_plain: bool) -> list[ChatEvent]:
    texts: st.SearchStrategy[ChatEvent] = st.builds(TextDelta, text=WORDS, choice=st.just(choice))
    if not is_plain:
        texts |= st.builds(TextDelta, text=WORDS, choice=st.just(choice), logprobs=LOGPROBS)
        texts |= st.builds(RefusalDelta, text=WORDS, choice=st.just(choice))
        texts |= THOUGHTS.map(
            lambda thought: ReasoningDelta(
                text=thought.text, signature=thought.signature, encrypted=thought.encrypted, choice=choice
            )
        )
    events = draw(st.lists(texts, max_size=4))
    for index in range(draw(st.integers(0, 2))):
        events.append(ToolCallStarted(index=index, id=f"call_{choice}_{index}", name=draw(NAMES), choice=choice))
        pieces = draw(st.lists(WORDS, min_size=1, max_size=3))
        events += [ToolCallDelta(index=index, arguments=piece, choice=choice) for piece in pieces]
    return [*events, Stopped(reason=draw(REASONS), choice=choice)]


@st.composite
def streams(draw: st.DrawFn, *, is_plain: bool = False) -> list[ChatEvent]:
    """Events of a whole stream, those of several choices in between each other, what was used at the end."""
    waiting = [
        draw(_choice_events(choice, is_plain=is_plain)) for choice in range(1 if is_plain else draw(st.integers(1, 3)))
    ]
    events: list[ChatEvent] = [Started() if is_plain else Started(id=draw(NAMES), created=draw(st.integers(1, 2**31)))]
    while waiting:
        choice = draw(st.sampled_from(waiting))
        events.append(choice.pop(0))
        waiting = [rest for rest in waiting if rest]
    usage = draw(st.none() | USAGES)
    return events if usage is None else [*events, Counted(usage=usage)]
