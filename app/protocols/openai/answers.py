"""Answers of the OpenAI dialect on their way to a client of the same dialect: whole ones, and streams event by event.

Only the model's name is changed, and what was used is read; everything else is copied as it is.
"""

from __future__ import annotations

import msgspec
from msgspec import Raw

from ..base import Usage
from ..dialect import ProviderFault
from ..json_fields import RawFields, as_count, as_mapping, error_message, read_fields
from .stream_repair import ChoiceRepair

_any = msgspec.json.Decoder().decode
_encode = msgspec.json.Encoder().encode

# Bytes of a list without any, or of null, with some space.
_NO_CHOICES = 8
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
    """Turns a provider's stream into the client's, one event at a time, and remembers what must be billed.

    `is_repaired`: the client gets it well-formed, also where the provider's is not (stream_repair.py).
    """

    __slots__ = (
        "_choices",
        "_is_repaired",
        "_last",
        "_model",
        "_pending_usage",
        "_wants_usage",
        "chunks",
        "has_content",
        "has_finished",
        "usage",
    )

    def __init__(self, model: str, *, wants_usage: bool, is_repaired: bool = True) -> None:
        self._model = Raw(_encode(model))
        self._wants_usage = wants_usage
        self._is_repaired = is_repaired
        self.usage: Usage | None = None
        self.has_finished = False
        # Whether the client would see an answer begin: until then another deployment can still give it.
        self.has_content = False
        self.chunks = 0
        self._choices = ChoiceRepair()
        self._last: RawFields = {}
        # What was used came beside choices, and the client has not been told.
        self._pending_usage: RawFields | None = None

    @property
    def has_finish_reason(self) -> bool:
        """Whether all choices said why they ended: such an answer is whole, also where `[DONE]` never comes."""
        return bool(self._choices.stopped) and self._choices.indexes <= self._choices.stopped

    def frame(self, data: bytes) -> bytes | None:
        """The frames to send for one event, or None for one that the client did not ask for.

        Raises ProviderFault for an error event, one of BROKEN_JSON for one that is not a JSON object.
        """
        if data == DONE:
            return self.finish()
        fields = read_fields(data)
        if "error" in fields and bytes(fields["error"]) != b"null":
            raise ProviderFault(error_message(data) or "the provider reported an error")
        choices = bytes(fields["choices"]) if "choices" in fields else b"[]"
        if len(choices) <= _NO_CHOICES and choices.replace(b" ", b"") in (b"[]", b"null"):
            choices = b"[]"
        elif not self.has_content or not self._choices.is_ordinary(choices):
            choices = self._take_choices(fields, choices)
        if "usage" in fields and not self._take_usage(fields, choices):
            return None
        self.chunks += 1
        fields["model"] = self._model
        if choices != b"[]":
            self._last = fields
        elif "usage" in fields and self._is_repaired and self._choices.indexes - self._choices.stopped:
            # It comes last of all, and something is still to come: a reason of the end at least.
            self._pending_usage = fields
            return None
        return _frame(fields)

    def _take_choices(self, fields: RawFields, raw: bytes) -> bytes:
        """Look at the choices of a chunk, and put them right."""
        if self._is_repaired:
            repaired = self._choices.repaired(raw)
            if repaired is not raw:
                fields["choices"] = Raw(repaired)
                raw = repaired
        self._choices.note(raw)
        if not self.has_content:
            self.has_content = _says_something(raw)
        return raw

    def _take_usage(self, fields: RawFields, choices: bytes) -> bool:
        """Count what was used; whether there is something left to send."""
        usage = read_usage(fields["usage"])
        if usage is None:
            if not self._wants_usage:
                del fields["usage"]
            return True
        self.usage = usage
        is_alone = choices == b"[]"
        if not is_alone and self._is_repaired and self._choices.says_nothing_new(choices):
            is_alone = True
            fields["choices"] = Raw(b"[]")
        if is_alone:
            self._pending_usage = None
            return self._wants_usage
        if not self._wants_usage:
            del fields["usage"]
        elif self._is_repaired:
            self._pending_usage = {**fields, "choices": Raw(b"[]"), "model": self._model}
            del fields["usage"]
        return True

    def _missing_ends(self) -> bytes:
        """Chunks with the reason of the end, for choices that had none until everything else has come."""
        if not self._is_repaired or not self.has_content or not self._last:
            return b""
        is_text = b"text_completion" in bytes(self._last.get("object", b""))
        reason = "tool_calls" if self._choices.has_called else "stop"
        frames = b""
        for index in sorted(self._choices.indexes - self._choices.stopped):
            self._choices.stopped.add(index)
            piece: dict[str, object] = {"text": ""} if is_text else {"delta": {}}
            choice = {"index": index, **piece, "logprobs": None, "finish_reason": reason}
            frames += _frame({**self._last, "choices": Raw(_encode([choice]))})
        return frames

    @property
    def has_begun(self) -> bool:
        return self.has_content or self.has_finished

    def finish(self) -> bytes:
        """The end, also of streams that have none of their own, and what must come before it."""
        self.has_finished = True
        frames = self._missing_ends()
        if self._pending_usage is not None:
            frames += _frame(self._pending_usage)
        return frames + DONE_FRAME

    def estimated_usage(self, body_bytes: int) -> Usage:
        """For a stream that ended before its usage came: about a token a chunk, four bytes a prompt token."""
        return Usage(prompt_tokens=body_bytes // 4, completion_tokens=max(0, self.chunks - 1), raw={"estimated": True})


def _frame(fields: RawFields) -> bytes:
    return b"data: " + _encode(fields) + b"\n\n"


def _says_something(choices: bytes) -> bool:
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
