"""The HTTP of callbacks and alerts: one POST, no redirects followed, and nothing of the answer kept."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from http.cookiejar import CookieJar, DefaultCookiePolicy

import httpx

from .delivery_queue import Undelivered

_SECONDS = 5.0
_MAX_ANSWER_BYTES = 64 * 1024
_WORTH_ANOTHER_TRY = frozenset({408, 425, 429})


def open_client() -> httpx.AsyncClient:
    """For all receivers of an instance. No proxy of the environment, and no cookies: they would cross tenants."""
    limits = httpx.Limits(max_connections=20, max_keepalive_connections=5)
    cookies = CookieJar(DefaultCookiePolicy(allowed_domains=()))
    return httpx.AsyncClient(timeout=_SECONDS, follow_redirects=False, trust_env=False, limits=limits, cookies=cookies)


async def post_json(http: httpx.AsyncClient, url: str, body: bytes, headers: Mapping[str, str]) -> None:
    """Deliver one body. Raises Undelivered, whose text holds neither address nor credential."""
    sent = {"Content-Type": "application/json", **headers}
    try:
        async with asyncio.timeout(_SECONDS), http.stream("POST", url, content=body, headers=sent) as answer:
            size = 0
            async for piece in answer.aiter_raw():
                size += len(piece)
                if size > _MAX_ANSWER_BYTES:
                    break
    except TimeoutError:
        raise Undelivered("no answer in time") from None
    except (httpx.HTTPError, httpx.InvalidURL) as problem:
        raise Undelivered(type(problem).__name__) from None
    if not 200 <= answer.status_code < 300:
        is_final = answer.status_code < 500 and answer.status_code not in _WORTH_ANOTHER_TRY
        raise Undelivered(f"status {answer.status_code}", is_final=is_final)
