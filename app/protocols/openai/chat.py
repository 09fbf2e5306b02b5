"""The OpenAI dialect's words for a conversation: `/chat/completions` in both directions, as canonical.py's values.

Compatible providers' common additions are read and written too: thoughts, and marks for the cache. A request keeps its
unknown parameters only on the way to a provider of the same dialect.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from ..canonical import ChatAnswer, ChatRequest
from ..dialect import ChatReader, ChatWriter, ClientRequest, EventDecoder
from ..sse import SSEDecoder
from .chat_answer import read_answer, write_answer
from .chat_events import OpenAIChatReader, OpenAIChatWriter
from .chat_fields import PATH, refused
from .chat_messages import read_messages, write_messages
from .chat_params import (
    canonical_params,
    limit_name,
    own_parameters,
    read_body,
    read_others,
    with_defaults,
    write_params,
)

_encode = msgspec.json.Encoder().encode

DIALECT = "openai"


class OpenAIChat:
    """The `ChatCodec` of the OpenAI dialect."""

    path = PATH

    def read_request(self, request: ClientRequest) -> ChatRequest:
        body = read_body(request.fields)
        if not body.messages:
            raise refused("messages", "must be a list with at least one message")
        system, messages = read_messages(body.messages)
        return ChatRequest(
            messages=messages,
            system=system,
            is_stream=request.is_stream,
            others=read_others(request.fields),
            dialect=DIALECT,
            **canonical_params(body),
        )

    def write_request(self, chat: ChatRequest, upstream_model: str, defaults: Mapping[str, Any]) -> bytes:
        others = own_parameters(chat, DIALECT)
        chat, other_defaults = with_defaults(chat, defaults)
        fields = {
            **other_defaults,
            **others,
            "model": upstream_model,
            "messages": write_messages(chat),
            **write_params(chat, limit_name(upstream_model, defaults)),
        }
        if chat.is_stream:
            # Always ask, so that streams are billed exactly.
            fields |= {"stream": True, "stream_options": {"include_usage": True}}
        return _encode(fields)

    def read_answer(self, body: bytes) -> ChatAnswer:
        return read_answer(body)

    def write_answer(self, answer: ChatAnswer, model: str) -> bytes:
        return write_answer(answer, model)

    def decoder(self) -> EventDecoder:
        return SSEDecoder()

    def reader(self) -> ChatReader:
        return OpenAIChatReader()

    def writer(self, model: str, *, wants_usage: bool) -> ChatWriter:
        return OpenAIChatWriter(model, wants_usage=wants_usage)
