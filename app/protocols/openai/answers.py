"""Answers of the OpenAI dialect on their way to a client of the same dialect: whole ones, and streams event by event.

Only the model's name is changed, and what was used is read; everything else is copied as it is.
"""

from __future__ import annotations

import msgspec
from msgspec import Raw

from ..base import Usage
from ..dialect import ProviderFault
from ..json_fields import as_count, as_mapping, error_message, read_fields

_any = msgspec.json.Decoder().decode
_encode = msgspec.json.Encoder().encode

DONE = b"[DONE]"
DONE_FRAME = b"data: [DONE]\n\n"
# A comment, which every client ignores: it keeps a silent connection open.
PING_FRAME = b": ping\n\n"


def read_usage(raw: Raw | bytes | None) -> Usage | None:
    """The provider's `usage` object as disjoint token classes, or None when it has none."""
    value = _any(raw) if raw is not None else None
    if not isinstance(value, dict) or not value:
        return None
    details = as_mapping(value.get("prompt_tokens_details"))
    output = as_mapping(value.get("completion_tokens_details"))
    return Usage(
        prompt_tokens=as_count(value.get("prompt_tokens")),
        completion_tokens=as_count(value.get("completion_tokens")),
        # DeepSeek reports cache hits at the top level.
        cache_read_tokens=as_count(details.get("cached_tokens")) or as_count(value.get("prompt_cache_hit_tokens")),
        cache_write_tokens=as_count(details.get("cache_creation_tokens")),
        reasoning_tokens=as_count(output.get("reasoning_tokens")),
        raw=value,
    )


def restamp(body: bytes, model: str) -> tuple[bytes, Usage | None]:
    """A provider's JSON answer under the name that the client asked for, and its usage.

    Raises one of BROKEN_JSON when the body is not a JSON object.
    """
    fields = read_fields(body)
    usage = read_usage(fields.get("usage"))
    fields["model"] = Raw(_encode(model))
    return _encode(fields), usage


class StreamRestamper:
    """Turns a provider's stream into the client's, one event at a time, and remembers what must be billed."""

    __slots__ = ("_choices", "_model", "_wants_usage", "chunks", "has_content", "has_finished", "usage")

    def __init__(self, model: str, *, wants_usage: bool) -> None:
        self._model = Raw(_encode(model))
        self._wants_usage = wants_usage
        self.usage: Usage | None = None
        self.has_finished = False
        # Whether the client would see an answer begin: until then another deployment can still give it.
        self.has_content = False
        self.chunks = 0
        self._choices: Raw | None = None

    @property
    def has_finish_reason(self) -> bool:
        """Whether the last choice said why it ended: such an answer is whole, also where `[DONE]` never comes."""
        choices = _any(self._choices) if self._choices is not None else None
        return isinstance(choices, list) and any(as_mapping(choice).get("finish_reason") for choice in choices)

    def frame(self, data: bytes) -> bytes | None:
        """The frame to send for one event, or None for one that the client did not ask for.

        Raises ProviderFault for an error event, one of BROKEN_JSON for one that is not a JSON object.
        """
        if data == DONE:
            self.has_finished = True
            return DONE_FRAME
        fields = read_fields(data)
        if "error" in fields and bytes(fields["error"]) != b"null":
            raise ProviderFault(error_message(data) or "the provider reported an error")
        if "usage" in fields:
            usage = read_usage(fields["usage"])
            if usage is not None:
                self.usage = usage
            if not self._wants_usage:
                if usage is not None and bytes(fields.get("choices", b"[]")).replace(b" ", b"") == b"[]":
                    return None
                del fields["usage"]
        choices = fields.get("choices")
        if choices is not None and bytes(choices) != b"[]":
            self._choices = choices
            if not self.has_content:
                self.has_content = _says_something(choices)
        self.chunks += 1
        fields["model"] = self._model
        return b"data: " + _encode(fields) + b"\n\n"

    @property
    def has_begun(self) -> bool:
        return self.has_content or self.has_finished

    def finish(self) -> bytes:
        """For providers whose streams end without `[DONE]`."""
        self.has_finished = True
        return DONE_FRAME

    def estimated_usage(self, body_bytes: int) -> Usage:
        """For a stream that ended before its usage came: about a token a chunk, four bytes a prompt token."""
        return Usage(prompt_tokens=body_bytes // 4, completion_tokens=max(0, self.chunks - 1), raw={"estimated": True})


def _says_something(choices: Raw) -> bool:
    """Whether a chunk is more than the announcement of a role."""
    value = _any(choices)
    for choice in value if isinstance(value, list) else ():
        parts = as_mapping(choice)
        delta = as_mapping(parts.get("delta"))
        if parts.get("text") or parts.get("finish_reason") or any(delta[key] for key in delta if key != "role"):
            return True
    return False


def error_frame(message: str, code: str) -> bytes:
    """An error inside a stream that has already begun, followed by the end of the stream."""
    error = {"error": {"message": message, "type": None, "param": None, "code": code}}
    return b"data: " + _encode(error) + b"\n\n" + DONE_FRAME
