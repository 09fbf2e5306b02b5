"""The HTTP of callbacks and alerts: one POST, no redirects followed, and the answer discarded."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from http.cookiejar import CookieJar, DefaultCookiePolicy

import httpx

from ..settings.header_rules import check_sent
from .delivery_queue import DeliveryFailed

_TIMEOUT_SECONDS = 5.0
_MAX_ANSWER_BYTES = 64 * 1024
_RETRYABLE_STATUSES = frozenset({408, 425, 429})


def open_client() -> httpx.AsyncClient:
    """For all receivers of an instance. No proxy of the environment, and no cookies: they would cross tenants."""
    limits = httpx.Limits(max_connections=20, max_keepalive_connections=5)
    cookies = CookieJar(DefaultCookiePolicy(allowed_domains=()))
    return httpx.AsyncClient(
        timeout=_TIMEOUT_SECONDS, follow_redirects=False, trust_env=False, limits=limits, cookies=cookies
    )


async def post_json(
    http: httpx.AsyncClient, url: str, body: bytes, headers: Mapping[str, str], *, closes: bool = False
) -> None:
    """Deliver one body. Raises DeliveryFailed, whose text holds neither address nor credential.

    `closes`: no other request follows on the connection, as after one whose headers a tenant wrote.
    """
    all_headers = _with_content_type(headers)
    try:
        check_sent(all_headers)
    except ValueError:
        raise DeliveryFailed("a header must not be sent", is_permanent=True) from None
    if closes:
        all_headers["Connection"] = "close"
    try:
        async with (
            asyncio.timeout(_TIMEOUT_SECONDS),
            http.stream("POST", url, content=body, headers=all_headers) as answer,
        ):
            size = 0
            async for piece in answer.aiter_raw():
                size += len(piece)
                if size > _MAX_ANSWER_BYTES:
                    break
    except TimeoutError:
        raise DeliveryFailed("no answer in time") from None
    except (httpx.HTTPError, httpx.InvalidURL) as problem:
        raise DeliveryFailed(type(problem).__name__) from None
    if not 200 <= answer.status_code < 300:
        is_permanent = answer.status_code < 500 and answer.status_code not in _RETRYABLE_STATUSES
        raise DeliveryFailed(f"status {answer.status_code}", is_permanent=is_permanent)


def _with_content_type(headers: Mapping[str, str]) -> dict[str, str]:
    is_given = any(name.lower() == "content-type" for name in headers)
    return dict(headers) if is_given else {"Content-Type": "application/json", **headers}
