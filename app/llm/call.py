"""What the edge hands to the gateway and gets back: a call and its reply."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from dataclasses import dataclass, field

from ..auth.principal import Principal
from ..errors import UpstreamError
from ..protocols.call_options import CallOptions
from ..protocols.openai import Endpoint


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


def is_client_timeout(error: UpstreamError, call: Call, options: CallOptions) -> bool:
    """Whether an attempt ended by a time that the client chose, which says nothing about the deployment."""
    chosen = (options.timeout, options.stream_timeout, call.timeout, call.stream_timeout)
    return error.error_class == "Timeout" and any(seconds is not None for seconds in chosen)


@dataclass(slots=True)
class Reply:
    """What the edge sends: one body, or frames as they come.

    `content_type` None: JSON for a body, server-sent events for frames.
    """

    headers: dict[str, str]
    body: bytes = b""
    frames: AsyncGenerator[bytes] | None = None
    content_type: str | None = None
