"""What the fast path and the framework's LLM routes share: a call read from its headers, and what answers carry.

Headers come as a mapping that finds lower-case names; the first of several with one name counts.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping

from ..auth.principal import Principal
from ..errors import GatewayError, InvalidRequest
from ..logs import bind_request
from ..protocols.openai import Endpoint
from ..version import VERSION
from .call import Call

EVENT_STREAM = {
    "Content-Type": "text/event-stream; charset=utf-8",
    "Cache-Control": "no-cache",
    "X-Accel-Buffering": "no",
}


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
