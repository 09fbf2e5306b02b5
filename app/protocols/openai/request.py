"""The OpenAI dialect: chat completions, text completions, embeddings.

Client and provider speak the same dialect here, so bodies are not decoded: only the top level is split into raw values,
the few that steer the gateway are read, and the rest is copied. A 300 KB prompt is never parsed.
"""

from __future__ import annotations

import re
from collections.abc import Container, Mapping
from dataclasses import dataclass, replace
from typing import Any

import msgspec
from msgspec import Raw

from ...errors import InvalidRequest
from ..base import Usage
from ..call_options import read_options
from ..dialect import ClientRequest, Endpoint
from ..json_fields import BROKEN_JSON, RawFields, check_text, read_fields
from ..sse import SSEDecoder
from .answers import StreamRestamper, restamp

_text = msgspec.json.Decoder(str).decode
_any = msgspec.json.Decoder().decode
_encode = msgspec.json.Encoder().encode

# What a client may say to the gateway; providers never see it.
GATEWAY_FIELDS = frozenset(
    "fallbacks context_window_fallbacks content_policy_fallbacks num_retries timeout stream_timeout disable_fallbacks "
    "cache litellm_metadata tags guardrails drop_params allowed_openai_params extra_headers extra_body user_config "
    "max_retries priority caching no-log mock_response mock_tool_calls callbacks service_callback logger_fn "
    "litellm_disabled_callbacks proxy_server_request input_cost_per_token output_cost_per_token fallback_depth "
    "disable_global_guardrails litellm_call_id litellm_trace_id litellm_session_id".split()
)
# Where a client would point the gateway elsewhere, with the gateway's own credentials.
REFUSED_FIELDS = (
    "api_base",
    "base_url",
    "api_key",
    "api_version",
    "custom_llm_provider",
    "litellm_credential_name",
)
# What a fallback cannot change: those, and what the client was promised already.
_NOT_REPLACED = frozenset((*REFUSED_FIELDS, "model", "stream"))
# Pictures and sound inside a body: bytes that are no text.
_MEDIA = re.compile(rb'"(?:data:[^",]{0,200};base64,)?[A-Za-z0-9+/=\\]{1000,}"')


@dataclass(frozen=True, slots=True)
class OpenAIEndpoint(Endpoint):
    """An operation whose body is JSON. Other kinds are in media.py."""

    def read(self, body: bytes, path_model: str | None, content_type: str) -> OpenAIRequest:
        return parse_request(self, body, path_model)

    def answered(self, body: bytes, content_type: str, request: OpenAIRequest) -> tuple[bytes, Usage | None]:
        """A provider's whole answer as the client gets it, and what it used. Raises one of BROKEN_JSON."""
        return restamp(body, request.model)


CHAT = OpenAIEndpoint("/chat/completions", "acompletion", "messages", answer_field="choices", is_chat=True)
COMPLETIONS = OpenAIEndpoint("/completions", "atext_completion", "prompt", answer_field="choices")
EMBEDDINGS = OpenAIEndpoint("/embeddings", "aembedding", "input", may_stream=False, answer_field="data")


@dataclass(slots=True, kw_only=True)
class OpenAIRequest(ClientRequest):
    """A client's body, split; for a provider of the same dialect also the exchange with it."""

    endpoint: OpenAIEndpoint
    is_relayed: bool = False
    keeps_content_type: bool = False

    @property
    def path(self) -> str:
        return self.endpoint.path

    @property
    def content_type(self) -> str:
        return "application/json"

    @property
    def answer_field(self) -> str:
        return self.endpoint.answer_field

    def replaced(self, changes: Mapping[str, Any]) -> OpenAIRequest:
        raw = {key: Raw(_encode(value)) for key, value in changes.items() if key not in _NOT_REPLACED}
        if not raw:
            return self
        changed = self.endpoint.read(_encode({**self.fields, **raw}), self.model, "application/json")
        return replace(
            changed,
            model=self.model,
            wants_usage=self.wants_usage,
            end_user=self.end_user,
            tags=self.tags,
            options=self.options,
        )

    @property
    def estimated_text_tokens(self) -> int:
        return sum(len(_MEDIA.sub(b"", bytes(raw))) for raw in self.fields.values()) // 4

    def upstream_body(self, upstream_model: str, defaults: Mapping[str, Any]) -> bytes:
        fields = {key: value for key, value in self.fields.items() if key not in GATEWAY_FIELDS}
        if bytes(fields.get("store", b"")) != b"true":
            fields.pop("metadata", None)
        for key, value in defaults.items():
            fields.setdefault(key, Raw(_encode(value)))
        fields["model"] = Raw(_encode(upstream_model))
        if self.is_stream:
            # Always ask, so that streams are billed exactly; the chunk is dropped again for clients that did not.
            options = _any(fields["stream_options"]) if "stream_options" in fields else {}
            fields["stream_options"] = Raw(_encode({**(options or {}), "include_usage": True}))
        return _encode(fields)

    def answered(self, body: bytes, content_type: str) -> tuple[bytes, Usage | None]:
        return self.endpoint.answered(body, content_type, self)

    def decoder(self) -> SSEDecoder:
        return SSEDecoder()

    def stream(self, *, wants_usage: bool, is_repaired: bool = True) -> StreamRestamper:
        return StreamRestamper(self.model, wants_usage=wants_usage, is_repaired=is_repaired)


def parse_request(endpoint: OpenAIEndpoint, body: bytes, path_model: str | None = None) -> OpenAIRequest:
    """Split and check a client's body. Raises InvalidRequest (400) with what to change."""
    check_text(body)
    try:
        fields = read_fields(body if body.strip() else b"{}")
    except msgspec.ValidationError:
        raise InvalidRequest("Invalid JSON payload: the body must be a JSON object", param="request_body") from None
    except BROKEN_JSON as problem:
        raise InvalidRequest(f"Invalid JSON payload: {problem}", param="request_body") from None
    refuse_fields(endpoint, fields)
    _check_required(endpoint, fields)
    model = _string(endpoint, fields, "model") or path_model
    if not model:
        raise InvalidRequest(
            "litellm.BadRequestError: You passed in model=None. There are no healthy deployments for this model",
            param="model",
        )
    is_stream = endpoint.may_stream and _flag(endpoint, fields, "stream")
    metadata = _object(endpoint, fields, "metadata")
    options = _object(endpoint, fields, "stream_options")
    return OpenAIRequest(
        endpoint=endpoint,
        fields=fields,
        model=model,
        body_bytes=len(body),
        is_stream=is_stream,
        wants_usage=bool(options.get("include_usage")),
        max_tokens=_limit(endpoint, fields),
        choices=_choices(endpoint, fields),
        end_user=_string(endpoint, fields, "user") or str(metadata.get("user_id") or ""),
        tags=_tags(endpoint, fields, metadata),
        options=read_options(fields),
    )


def refuse_fields(endpoint: Endpoint, fields: Container[str]) -> None:
    """Raises InvalidRequest (400) for a field that would point the gateway elsewhere."""
    for name in REFUSED_FIELDS:
        if name in fields:
            raise InvalidRequest(
                f"{endpoint.path}: '{name}' cannot be set by a client; providers are configured on the gateway",
                param=name,
            )


def _check_required(endpoint: Endpoint, fields: RawFields) -> None:
    """`messages` is a list of objects; `prompt` and `input` are text or a list."""
    name = endpoint.required
    raw = bytes(fields[name]).lstrip() if name in fields else b""
    if not raw or raw == b"null":
        raise InvalidRequest(f"{endpoint.path}: Missing required parameter: '{name}'.", param=name)
    if endpoint is CHAT and (not raw.startswith(b"[") or raw[1:].lstrip()[:1] != b"{"):
        raise InvalidRequest(
            f"{endpoint.path}: '{name}' must be a list with at least one message, as "
            '[{"role": "user", "content": "…"}].',
            param=name,
        )
    if endpoint is not CHAT and raw[:1] not in (b'"', b"["):
        raise InvalidRequest(f"{endpoint.path}: '{name}' must be text or a list.", param=name)


def _typed(endpoint: Endpoint, fields: RawFields, name: str, kind: type, description: str) -> Any:
    if name not in fields:
        return None
    try:
        value = _any(fields[name])
    except BROKEN_JSON as problem:
        raise InvalidRequest(f"Invalid JSON payload: '{name}': {problem}", param=name) from None
    if value is not None and (not isinstance(value, kind) or (kind is int and isinstance(value, bool))):
        raise InvalidRequest(f"{endpoint.path}: '{name}' must be {description}.", param=name)
    return value


def _string(endpoint: Endpoint, fields: RawFields, name: str) -> str | None:
    value: str | None = _typed(endpoint, fields, name, str, "text")
    return value


def _flag(endpoint: Endpoint, fields: RawFields, name: str) -> bool:
    return bool(_typed(endpoint, fields, name, bool, "true or false"))


def _object(endpoint: Endpoint, fields: RawFields, name: str) -> dict[str, Any]:
    return _typed(endpoint, fields, name, dict, "an object") or {}


def _limit(endpoint: Endpoint, fields: RawFields) -> int | None:
    for name in ("max_completion_tokens", "max_tokens"):
        value: int | None = _typed(endpoint, fields, name, int, "a whole number")
        if value is not None:
            if value < 0:
                raise InvalidRequest(f"{endpoint.path}: '{name}' must be zero or more.", param=name)
            return value
    return 0 if endpoint is EMBEDDINGS else None


def _choices(endpoint: Endpoint, fields: RawFields) -> int:
    """How many answers are asked for; each may be as long as the limit says."""
    return max(1, *(_typed(endpoint, fields, name, int, "a whole number") or 1 for name in ("n", "best_of")))


def _tags(endpoint: Endpoint, fields: RawFields, metadata: Mapping[str, Any]) -> list[str]:
    own = _typed(endpoint, fields, "tags", list, "a list of texts") or []
    inner = metadata.get("tags")
    return [str(tag)[:255] for tag in [*own, *(inner if isinstance(inner, list) else [])]][:50]
