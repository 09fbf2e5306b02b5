"""The OpenAI dialect beyond text: pictures, speech, transcription, moderation, and Cohere's reranking.

An operation reads JSON or a form; its answer is JSON, a text, or bytes that are passed on while they come. Files are
never decoded, and what the gateway does not need is copied as it is.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import msgspec
from msgspec import Raw

from ...errors import InvalidRequest
from ..base import Usage
from ..call_options import read_options
from ..json_fields import BROKEN_JSON, check_text, read_fields
from ..media_usage import assumed_tokens, seconds_of_files, seconds_of_subtitles, seconds_of_text, used_by
from ..multipart import Form, form_type, new_boundary, parse_form
from .request import GATEWAY_FIELDS, REFUSED_FIELDS, OpenAIEndpoint, OpenAIRequest, refuse_fields

_any = msgspec.json.Decoder().decode
_encode = msgspec.json.Encoder().encode

# Formats of a transcription that are no JSON.
_TEXTS = ("text", "srt", "vtt")
# What a fallback cannot change.
_NOT_REPLACED = frozenset((*REFUSED_FIELDS, "model", "stream"))
_MAX_IMAGES = 100
# Cohere bills one search for each hundred documents.
_DOCUMENTS_PER_QUERY = 100
_MISSING_MODEL = "litellm.BadRequestError: You passed in model=None. There are no healthy deployments for this model"


@dataclass(frozen=True, slots=True)
class MediaEndpoint(OpenAIEndpoint):
    """`unit`: what a call asks for, apart from tokens. `default_model`: asked for when a body names none."""

    unit: str = ""
    is_form: bool = False
    also_required: tuple[str, ...] = ()
    default_model: str = ""

    def read(self, body: bytes, path_model: str | None, content_type: str) -> OpenAIRequest:
        if self.is_form:
            return _read_form(self, body, path_model, content_type)
        return _read_json(self, body, path_model)

    def answered(self, body: bytes, content_type: str, request: OpenAIRequest) -> tuple[bytes, Usage | None]:
        if isinstance(request, MediaRequest) and request.keeps_content_type:
            return body, _used_by_text(request, body)
        fields = read_fields(body)
        usage = used_by(self.unit, fields, request.asked or Usage())
        if "model" in fields:
            fields["model"] = Raw(_encode(request.model))
            body = _encode(fields)
        return body, usage


IMAGES = MediaEndpoint("/images/generations", "aimage_generation", "prompt", unit="image", answer_field="data")
IMAGE_EDITS = MediaEndpoint(
    "/images/edits",
    "aimage_edit",
    "image",
    unit="image",
    is_form=True,
    also_required=("prompt",),
    answer_field="data",
)
SPEECH = MediaEndpoint("/audio/speech", "aspeech", "input", may_stream=False, unit="character")
TRANSCRIPTIONS = MediaEndpoint("/audio/transcriptions", "atranscription", "file", unit="second", is_form=True)
TRANSLATIONS = MediaEndpoint(
    "/audio/translations", "atranslation", "file", may_stream=False, unit="second", is_form=True
)
MODERATIONS = MediaEndpoint(
    "/moderations",
    "amoderation",
    "input",
    may_stream=False,
    default_model="omni-moderation-latest",
    answer_field="results",
)
RERANK = MediaEndpoint(
    "/rerank",
    "arerank",
    "query",
    may_stream=False,
    unit="query",
    also_required=("documents",),
    answer_field="results",
)


@dataclass(slots=True, kw_only=True)
class MediaRequest(OpenAIRequest):
    """A client's body, split. `form`: its parts, when it is one. `answer_format`: what it wants to hear, "" unset."""

    form: Form | None = None
    boundary: str = ""
    answer_format: str = ""

    @property
    def content_type(self) -> str:
        return form_type(self.boundary) if self.form is not None else "application/json"

    def replaced(self, changes: Mapping[str, Any]) -> OpenAIRequest:
        changes = {name: value for name, value in changes.items() if name not in _NOT_REPLACED}
        if self.form is not None:
            form = self.form
            for name, value in changes.items():
                form = form.with_text(name, _as_text(value))
            return replace(self, form=form)
        raw = {name: Raw(_encode(value)) for name, value in changes.items()}
        if not raw:
            return self
        changed = self.endpoint.read(_encode({**self.fields, **raw}), self.model, "application/json")
        return replace(changed, model=self.model, end_user=self.end_user, tags=self.tags, options=self.options)

    def estimated_usage(self, answer_bytes: int) -> Usage:
        """What the call asked for: its provider counted nothing."""
        if self.asked is not None:
            return self.asked
        return Usage(prompt_tokens=self.estimated_prompt_tokens, raw={"estimated": True})

    def upstream_body(self, upstream_model: str, defaults: Mapping[str, Any]) -> bytes:
        if self.form is None:
            return OpenAIRequest.upstream_body(self, upstream_model, defaults)
        form = self.form.without(GATEWAY_FIELDS | {"metadata"})
        for name, value in defaults.items():
            if not form.has(name):
                form = form.with_text(name, _as_text(value))
        return form.with_text("model", upstream_model).encoded(self.boundary)


def _as_text(value: Any) -> str:
    return value if isinstance(value, str) else _encode(value).decode()


# ---- JSON ----------------------------------------------------------------------------------------------------------


def _read_json(endpoint: MediaEndpoint, body: bytes, path_model: str | None) -> MediaRequest:
    fields = read_fields_of_client(body)
    refuse_fields(endpoint, fields)
    for name in (endpoint.required, *endpoint.also_required):
        raw = bytes(fields[name]).lstrip() if name in fields else b""
        if raw in (b"", b"null", b'""', b"[]"):
            raise _missing(endpoint, name)
        openings, description = _shape(endpoint, name)
        if raw[:1] not in openings:
            raise InvalidRequest(f"{endpoint.path}: '{name}' must be {description}.", param=name)
    values = _small_values(endpoint, fields)
    asked, most = _asked_by_json(endpoint, fields, values)
    return MediaRequest(
        endpoint=endpoint,
        fields=fields,
        model=_model(values.get("model"), path_model, endpoint),
        body_bytes=len(body),
        max_tokens=most,
        choices=asked.images if asked is not None and asked.images else 1,
        end_user=str(values.get("user") or (values.get("metadata") or {}).get("user_id") or ""),
        tags=[str(tag)[:255] for tag in values.get("tags") or ()][:50],
        options=read_options(fields),
        asked=asked,
        is_relayed=endpoint is SPEECH or (endpoint.may_stream and values.get("stream") is True),
        keeps_content_type=endpoint is SPEECH,
    )


def read_fields_of_client(body: bytes) -> dict[str, Raw]:
    """A JSON object of a client, its values left as they are. Raises InvalidRequest (400)."""
    check_text(body)
    try:
        return read_fields(body if body.strip() else b"{}")
    except msgspec.ValidationError:
        raise InvalidRequest("Invalid JSON payload: the body must be a JSON object", param="request_body") from None
    except BROKEN_JSON as problem:
        raise InvalidRequest(f"Invalid JSON payload: {problem}", param="request_body") from None


_SMALL: dict[str, tuple[tuple[type, ...], str]] = {
    "model": ((str,), "text"),
    "user": ((str,), "text"),
    "n": ((int,), "a whole number"),
    "stream": ((bool,), "true or false"),
    "tags": ((list,), "a list of texts"),
    "metadata": ((dict,), "an object"),
    "response_format": ((str, dict), "text"),
}


def _small_values(endpoint: OpenAIEndpoint, fields: Mapping[str, Raw]) -> dict[str, Any]:
    """The few fields that steer the gateway, decoded and checked."""
    values: dict[str, Any] = {}
    for name, (kinds, description) in _SMALL.items():
        if name not in fields:
            continue
        try:
            value = _any(fields[name])
        except BROKEN_JSON as problem:
            raise InvalidRequest(f"Invalid JSON payload: '{name}': {problem}", param=name) from None
        if value is not None and (not isinstance(value, kinds) or (kinds == (int,) and isinstance(value, bool))):
            raise InvalidRequest(f"{endpoint.path}: '{name}' must be {description}.", param=name)
        values[name] = value
    return values


def _asked_by_json(
    endpoint: MediaEndpoint, fields: Mapping[str, Raw], values: Mapping[str, Any]
) -> tuple[Usage | None, int]:
    """The units that a body asks for, and the most tokens that one of its answers may have."""
    try:
        if endpoint.unit == "image":
            return _images(endpoint, values.get("n"))
        if endpoint.unit == "character":
            count = len(_any(fields["input"]))
            return Usage(characters=count, raw={"characters": count}), 0
        if endpoint.unit == "query":
            documents = -(-len(_any(fields["documents"])) // _DOCUMENTS_PER_QUERY)
            return Usage(queries=documents, raw={"search_units": documents}), 0
    except BROKEN_JSON as problem:
        raise InvalidRequest(f"Invalid JSON payload: {problem}", param="request_body") from None
    return None, 0


def _images(endpoint: OpenAIEndpoint, count: Any) -> tuple[Usage, int]:
    number = 1 if count is None else count
    if not isinstance(number, int) or not 1 <= number <= _MAX_IMAGES:
        raise InvalidRequest(f"{endpoint.path}: 'n' must be a whole number from 1 to {_MAX_IMAGES}.", param="n")
    return Usage(images=number, raw={"images": number}), assumed_tokens("image")


# ---- forms ---------------------------------------------------------------------------------------------------------


def _read_form(endpoint: MediaEndpoint, body: bytes, path_model: str | None, content_type: str) -> MediaRequest:
    form = parse_form(body, content_type)
    names = {part.base_name for part in form.parts}
    refuse_fields(endpoint, names)
    if not form.files(endpoint.required):
        raise _missing(endpoint, endpoint.required)
    for name in endpoint.also_required:
        if not form.has(name):
            raise _missing(endpoint, name)
    asked, most = _asked_by_form(endpoint, form)
    answer_format = form.text("response_format") or ""
    files = sum(len(part.value) for part in form.files())
    tokens = assumed_tokens("picture sent") * len(form.files()) if endpoint.unit == "image" else most
    return MediaRequest(
        endpoint=endpoint,
        fields={},
        model=_model(form.text("model"), path_model, endpoint),
        # Bytes of a file are no words: what a file counts is assumed.
        body_bytes=max(0, len(body) - files) + 4 * tokens,
        max_tokens=most,
        choices=asked.images or 1,
        end_user=form.text("user") or form.text("metadata[user_id]") or "",
        tags=[tag[:255] for tag in form.texts("tags")][:50],
        options=read_options({name: _raw(text) for name in names if (text := form.text(name)) is not None}),
        asked=asked,
        is_relayed=endpoint.may_stream and (form.text("stream") or "").lower() in ("true", "1"),
        form=form,
        boundary=new_boundary(),
        answer_format=answer_format,
        keeps_content_type=endpoint.unit == "second" and answer_format in _TEXTS,
    )


def _asked_by_form(endpoint: MediaEndpoint, form: Form) -> tuple[Usage, int]:
    if endpoint.unit == "image":
        count = form.text("n")
        return _images(endpoint, None if count is None else int(count[:9]) if count.isdecimal() else 0)
    seconds = seconds_of_files([part.value for part in form.files("file")])
    raw = {"seconds": float(seconds), "estimated": True}
    return Usage(seconds=seconds, raw=raw), int(seconds * assumed_tokens("second"))


def _raw(text: str) -> Raw:
    """A form's field as JSON: what reads as JSON is it, anything else is text."""
    try:
        _any(text)
    except BROKEN_JSON:
        return Raw(_encode(text))
    return Raw(text.encode())


def _used_by_text(request: MediaRequest, body: bytes) -> Usage:
    """Subtitles end when the audio does; for a plain text its length is what the file looked like, or what it says."""
    asked = request.asked or Usage()
    seconds = seconds_of_subtitles(body) if request.answer_format in ("srt", "vtt") else None
    if seconds is not None:
        return Usage(seconds=seconds, raw={"seconds": float(seconds)})
    least = seconds_of_text(body) if request.answer_format == "text" else asked.seconds
    return asked if least <= asked.seconds else Usage(seconds=least, raw={"seconds": float(least), "estimated": True})


# ---- words ---------------------------------------------------------------------------------------------------------


def _model(named: str | None, path_model: str | None, endpoint: MediaEndpoint) -> str:
    model = named or path_model or endpoint.default_model
    if not model:
        raise InvalidRequest(_MISSING_MODEL, param="model")
    return model


def _missing(endpoint: OpenAIEndpoint, name: str) -> InvalidRequest:
    return InvalidRequest(f"{endpoint.path}: Missing required parameter: '{name}'.", param=name)


def _shape(endpoint: OpenAIEndpoint, name: str) -> tuple[tuple[bytes, ...], str]:
    """How a required field begins, and in words."""
    if name == "documents":
        return (b"[",), "a list"
    return ((b'"', b"["), "text or a list") if endpoint is MODERATIONS else ((b'"',), "text")
