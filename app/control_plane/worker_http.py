"""One HTTP exchange with one worker: deadlines, size cap, and every failure as a typed error.

Times are seconds. A worker that is alive but slow gets `TOTAL_TIMEOUT`; the wait for one that is dead ends well before
two seconds: when an answer takes longer than `PROBE_AFTER`, a liveliness probe runs beside it, and if that gets no
answer either, the worker is unreachable and the page says so instead of waiting.
"""

from __future__ import annotations

import asyncio
import json
import re
import time
from collections.abc import Mapping
from decimal import Decimal
from typing import Any
from urllib.parse import quote

import httpx

from .formatting import whole_number
from .registry import Worker, WorkerHealth
from .worker_errors import SessionExpired, WorkerRefused, WorkerUnreachable, read_refusal

CONNECT_TIMEOUT, TOTAL_TIMEOUT, TILE_TIMEOUT = 1.5, 5.0, 1.5
PROBE_AFTER, PROBE_TIMEOUT = 0.9, 0.7
MAX_ANSWER_BYTES = 8 * 1024 * 1024
MAX_DIGITS = 30
# A megabyte of compressed bytes may stand for a thousand: the console neither asks for them nor reads them.
_UNCOMPRESSED = {"Accept-Encoding": "identity"}
_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")
_EXPIRED_TYPES = {"expired_key", "token_not_found_in_db"}


def _reason(error: httpx.HTTPError) -> str:
    if isinstance(error, httpx.ConnectTimeout):
        return f"connect timeout after {CONNECT_TIMEOUT:g} s"
    if isinstance(error, httpx.TimeoutException):
        return "no answer in time"
    text = str(error).lower()
    if "certificate" in text or "ssl" in text:
        return "its TLS certificate could not be verified"
    if isinstance(error, httpx.ConnectError):
        return "name not found" if "name" in text else "connection refused"
    return "the connection broke before the answer was complete"


class WorkerConnection:
    """Speaks HTTP to `worker` as `key`. `transport` replaces the network: the instance's own app, or a test."""

    def __init__(
        self,
        worker: Worker,
        health: WorkerHealth,
        *,
        http: httpx.AsyncClient,
        key: str | None = None,
        changed_by: str | None = None,
    ) -> None:
        self.worker = worker
        self.health = health
        self._http = http
        self._key = key
        self._changed_by = changed_by

    async def get(self, path: str, *, total: float = TOTAL_TIMEOUT, **params: Any) -> Any:
        """The decoded JSON of a GET. Parameters that are None or empty are omitted."""
        query = {name: _query_text(value) for name, value in params.items() if value not in (None, "")}
        return await self._call("GET", path, params=query, total=total)

    async def post(self, path: str, body: Mapping[str, Any] | None = None, *, total: float = TOTAL_TIMEOUT) -> Any:
        return await self._call("POST", path, content=json.dumps(body or {}, default=str).encode(), total=total)

    async def _call(self, method: str, path: str, *, total: float, **request: Any) -> Any:
        started = time.perf_counter()
        try:
            response = await self._send_within(method, path, total=total, **request)
        except WorkerUnreachable:
            self.health.record_failure()
            raise
        self.health.record_answer(response.status_code, round((time.perf_counter() - started) * 1000))
        return await self._decode(response)

    async def _send_within(self, method: str, path: str, *, total: float, **request: Any) -> httpx.Response:
        sending = asyncio.create_task(self._send(method, path, **request))
        try:
            async with asyncio.timeout(total):
                await asyncio.wait({sending}, timeout=PROBE_AFTER)
                if not sending.done() and total > PROBE_AFTER + PROBE_TIMEOUT:
                    await self._probe()
                return await asyncio.shield(sending)
        except TimeoutError:
            raise WorkerUnreachable(self.worker, f"no answer within {total:g} s") from None
        except httpx.HTTPError as error:
            raise WorkerUnreachable(self.worker, _reason(error)) from error
        finally:
            sending.cancel()
            await asyncio.gather(sending, return_exceptions=True)

    async def _probe(self) -> None:
        if self.worker.is_self:
            return
        try:
            async with asyncio.timeout(PROBE_TIMEOUT):
                url = self.worker.url + "/health/liveliness"
                async with self._http.stream("GET", url, headers=_UNCOMPRESSED, timeout=PROBE_TIMEOUT):
                    pass  # that it answers is enough: the body is not read
        except (TimeoutError, httpx.HTTPError):
            silent = PROBE_AFTER + PROBE_TIMEOUT
            raise WorkerUnreachable(self.worker, f"no answer within {silent:.1f} s, and none to a probe") from None

    async def _send(self, method: str, path: str, **request: Any) -> httpx.Response:
        headers = {"Accept": "application/json", "Content-Type": "application/json", **_UNCOMPRESSED}
        if self._key:
            headers["Authorization"] = f"Bearer {self._key}"
        if self._changed_by and method != "GET":
            headers["litellm-changed-by"] = quote(self._changed_by, safe=" @+!#$&'()*,/:;=?[]~")
        timeout = httpx.Timeout(TOTAL_TIMEOUT, connect=CONNECT_TIMEOUT)
        url = self.worker.url + path
        async with self._http.stream(method, url, headers=headers, timeout=timeout, **request) as response:
            if response.headers.get("content-encoding", "identity").strip().lower() not in ("", "identity"):
                raise WorkerUnreachable(self.worker, "it sends compressed answers, which the console does not ask for")
            body = bytearray()
            async for chunk in response.aiter_raw():
                body += chunk
                if len(body) > MAX_ANSWER_BYTES:
                    raise httpx.RemoteProtocolError("the answer is larger than the console reads")
        return httpx.Response(response.status_code, headers=_plain(response.headers), content=bytes(body))

    async def _decode(self, response: httpx.Response) -> Any:
        try:
            body = json.loads(response.content or b"null", parse_float=_finite, parse_constant=_refuse_constant)
            if _SURROGATE.search(response.content):
                json.dumps(body, ensure_ascii=False, default=str).encode()  # half a character fits into no page
        except (ValueError, RecursionError):
            body = None
            if response.is_success:
                raise self._refused(response, "It answered something that is not JSON. Is this a worker?") from None
        if response.is_success:
            return body
        if response.is_redirect:
            raise self._refused(response, "It redirects elsewhere, and the console follows no redirects.")
        message, kind, fields = read_refusal(body)
        if response.status_code == 401 and self._key and await self._is_session_expired(kind):
            raise SessionExpired(self.worker, message)
        raise self._refused(response, message, kind, fields)

    async def _is_session_expired(self, kind: str | None) -> bool:
        """A 401 also says "your role may not do this". The credential's own row tells the two apart."""
        if kind in _EXPIRED_TYPES:
            return True
        response = await self._send_within("GET", "/key/info", total=TOTAL_TIMEOUT)
        return response.status_code == 401

    def _refused(
        self, response: httpx.Response, message: str, kind: str | None = None, fields: dict[str, str] | None = None
    ) -> WorkerRefused:
        retry_after = whole_number(response.headers.get("retry-after", ""))
        return WorkerRefused(
            self.worker,
            message.removeprefix("Authentication Error, "),
            status=response.status_code,
            type=kind,
            fields=fields,
            request_id=response.headers.get("x-litellm-call-id") or response.headers.get("x-request-id"),
            retry_after_seconds=retry_after,
        )


def _plain(headers: httpx.Headers) -> dict[str, str]:
    """Headers of a body that was read already."""
    return {name: value for name, value in headers.items() if name not in ("content-encoding", "content-length")}


def _finite(text: str) -> Decimal:
    """A number that can be shown. One with a million digits would take the console's memory to write down."""
    number = Decimal(text)
    if number.adjusted() > MAX_DIGITS:
        raise ValueError("this number is out of any range")
    return number


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


def _query_text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
