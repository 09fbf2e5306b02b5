"""A call as the edge reads it, and the reply that it sends.

Headers come as a mapping that finds lower-case names; the first of several with one name counts.
"""

from __future__ import annotations

import uuid
from collections.abc import AsyncGenerator, Mapping
from dataclasses import dataclass, field, replace

from ..auth.principal import Principal
from ..errors import GatewayError, InvalidRequest, UpstreamError
from ..logs import bind_request
from ..protocols.call_options import CallOptions
from ..protocols.dialect import ClientRequest, Endpoint
from ..version import VERSION

EVENT_STREAM = {
    "Content-Type": "text/event-stream; charset=utf-8",
    "Cache-Control": "no-cache",
    "X-Accel-Buffering": "no",
}
_NAME_LENGTH = 255


@dataclass(slots=True, kw_only=True)
class Call:
    """One call as the edge read it: who, which operation, the raw body, and what the headers said."""

    principal: Principal
    endpoint: Endpoint
    path: str
    body: bytes
    call_id: str
    content_type: str = ""
    path_model: str | None = None
    end_user: str = ""
    tags: list[str] = field(default_factory=list)
    session_id: str | None = None
    ip_address: str | None = None
    user_agent: str = ""
    timeout: float | None = None
    stream_timeout: float | None = None
    num_retries: int | None = None
    # What the client's tracing says of itself, as W3C writes it.
    traceparent: str = ""
    # As the headers say them; read only where somebody is told of calls.
    redaction: str = ""
    disabled_callbacks: str = ""
    cache_control: str = ""

    def read(self) -> ClientRequest:
        """The body in its dialect's words. Its end user, tags and retries join those of the headers.

        Raises InvalidRequest (400) with what to change.
        """
        request = self.endpoint.read(self.body, self.path_model, self.content_type)
        if self.num_retries is not None and request.options.num_retries is None:
            request.options = replace(request.options, num_retries=self.num_retries)
        self.end_user = (self.end_user or request.end_user)[:_NAME_LENGTH]
        self.tags = list(dict.fromkeys([*request.tags, *self.tags]))
        return request


@dataclass(slots=True)
class Reply:
    """What the edge sends: one body, or frames as they come.

    `content_type` None: JSON for a body, server-sent events for frames.
    """

    headers: dict[str, str]
    body: bytes = b""
    frames: AsyncGenerator[bytes] | None = None
    content_type: str | None = None


def is_client_timeout(error: UpstreamError, call: Call, options: CallOptions) -> bool:
    """Whether an attempt ended by a time that the client chose, which says nothing about the deployment."""
    chosen = (options.timeout, options.stream_timeout, call.timeout, call.stream_timeout)
    return error.error_class == "Timeout" and any(seconds is not None for seconds in chosen)


def read_call(
    headers: Mapping[str, str],
    *,
    principal: Principal,
    endpoint: Endpoint,
    path: str,
    body: bytes,
    ip_address: str | None,
    user_header: str | None = None,
    path_model: str | None = None,
) -> Call:
    """One call as its request says. Raises InvalidRequest for a header that makes no sense.

    `user_header`: the header of this instance that names the end user.
    """
    get = headers.get
    tags = get("x-litellm-tags")
    call_id = _call_id(get("x-litellm-call-id"))
    bind_request(call_id)
    return Call(
        principal=principal,
        endpoint=endpoint,
        path=path,
        body=body,
        call_id=call_id,
        path_model=path_model,
        end_user=_end_user(headers, user_header),
        tags=[tag.strip()[:255] for tag in tags.split(",") if tag.strip()][:50] if tags else [],
        session_id=get("x-litellm-session-id") or get("x-litellm-trace-id"),
        ip_address=ip_address,
        user_agent=get("user-agent", ""),
        timeout=_seconds(get("x-litellm-timeout"), "x-litellm-timeout"),
        stream_timeout=_seconds(get("x-litellm-stream-timeout"), "x-litellm-stream-timeout"),
        num_retries=_retries(get("x-litellm-num-retries")),
        traceparent=get("traceparent", ""),
        redaction=get("x-litellm-enable-message-redaction", ""),
        disabled_callbacks=get("x-litellm-disable-callbacks", ""),
        cache_control=get("cache-control", ""),
        content_type=get("content-type", ""),
    )


def add_call_headers(error: GatewayError, call: Call) -> None:
    """What a support ticket needs, on every refusal."""
    error.headers |= {
        "x-litellm-call-id": call.call_id,
        "x-litellm-version": VERSION,
        "x-litellm-response-cost": "0",
    }


def _end_user(headers: Mapping[str, str], own_header: str | None) -> str:
    """Whom the headers name; the body may name somebody too, and then the header wins."""
    named = headers.get(own_header.lower(), "") if own_header else ""
    return named or headers.get("x-litellm-customer-id") or headers.get("x-litellm-end-user-id") or ""


def _call_id(given: str | None) -> str:
    return given if given and len(given) <= 256 and given.isascii() and given.isprintable() else str(uuid.uuid4())


def _retries(given: str | None) -> int | None:
    if given is None:
        return None
    if not (given.isascii() and given.isdigit() and int(given[:9]) <= 20):
        name = "x-litellm-num-retries"
        raise InvalidRequest(f"{name} must be a whole number from 0 to 20", param=name)
    return int(given)


def _seconds(given: str | None, name: str) -> float | None:
    if given is None:
        return None
    try:
        seconds = float(given)
    except ValueError:
        seconds = -1
    if not 0 < seconds < 86_400:
        raise InvalidRequest(f"{name} must be a number of seconds above zero", param=name)
    return seconds
