"""Calls to providers: one shared HTTP client (http_client.py), and every failure as an UpstreamError (errors.py)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Hashable, Mapping, Sequence
from types import TracebackType
from urllib.parse import quote

from ...deployments.deployment import Deployment
from ...errors import UpstreamError
from ...settings import Settings
from .errors import TRANSPORT_PROBLEMS, invalid_answer_error, is_plain, status_error, transport_error
from .http_client import HttpClient
from .http_response import HttpResponse, Timeouts
from .raw_answer import RawAnswer

_CONNECT_SECONDS = 10.0
# ValueError: an address or a header that cannot be sent.
_CONNECTION_PROBLEMS = (*TRANSPORT_PROBLEMS, ValueError)
# Below the five seconds after which common servers close: a call must not use a connection that is just closing.
_IDLE_SECONDS = 4.0
_MAX_ERROR_BYTES = 64 * 1024
# An error body is small and arrives at once; one that trickles is not waited for.
_ERROR_BODY_SECONDS = 10.0
# Not quoted in a query: the unreserved characters of RFC 3986, which AWS signatures are made over.
_UNRESERVED = "-._~"
# The largest answer that is held in memory; embeddings of a full batch stay well below.
_MAX_ANSWER_BYTES = 256 * 1024 * 1024

# Not forwarded: hop-by-hop, cookies, and what our own response sets itself.
_DROPPED_HEADERS = frozenset(
    "connection keep-alive transfer-encoding te trailer upgrade proxy-authenticate proxy-authorization set-cookie "
    "set-cookie2 content-length content-encoding content-type date server alt-svc strict-transport-security".split()
)


class Answer:
    """An open response of a provider with a success status. Use it as an async context manager: leaving closes it."""

    def __init__(self, answer: HttpResponse, deployment: Deployment) -> None:
        self._answer = answer
        self._deployment = deployment

    async def __aenter__(self) -> Answer:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def deployment(self) -> Deployment:
        return self._deployment

    @property
    def content_type(self) -> str:
        """As the provider sent it, or "" where that is not printable ASCII."""
        kind = self._answer.header("content-type") or ""
        return kind if is_plain(kind) else ""

    @property
    def headers(self) -> dict[str, str]:
        """The provider's headers as `llm_provider-…`, and its rate limits under their own names."""
        headers: dict[str, str] = {}
        credentials = self._deployment.credentials
        for name, value in self._answer.headers:
            lower = name.lower()
            if lower in _DROPPED_HEADERS or not is_plain(value):
                continue
            if any(credential in value for credential in credentials):
                value = self._deployment.redacted(value)
            headers[f"llm_provider-{lower}"] = value
            if lower.startswith("x-ratelimit-"):
                headers[lower] = value
        return headers

    async def read(self) -> bytes:
        """The whole body. A body that breaks off or has no end is an UpstreamError."""
        body = bytearray()
        try:
            while chunk := await self._answer.read():
                body += chunk
                if len(body) > _MAX_ANSWER_BYTES:
                    raise invalid_answer_error(self._deployment)
        except TRANSPORT_PROBLEMS as problem:
            raise transport_error(problem, self._deployment) from problem
        return bytes(body)

    async def chunks(self) -> AsyncIterator[bytes]:
        """The body as it arrives. A connection that breaks or stays silent is an UpstreamError."""
        while chunk := await self.next_chunk():
            yield chunk

    async def next_chunk(self, ping_seconds: float | None = None) -> bytes | None:
        """What has arrived, as soon as there is something; b"" after `ping_seconds` of silence, None at the end.

        A connection that breaks, or stays silent for the stream's timeout, is an UpstreamError.
        """
        answer = self._answer
        try:
            chunk = await (answer.read() if ping_seconds is None else _read_or_ping(answer, ping_seconds))
        except TRANSPORT_PROBLEMS as problem:
            raise transport_error(problem, self._deployment) from problem
        return chunk or (None if answer.has_ended else b"")

    def ignore_last_chunk(self) -> None:
        """The last chunk had no content: it does not reset the timeout for silence."""
        self._answer.ignore_last_chunk()

    def close(self) -> None:
        """Abort the connection unless the response was read to its end: an unread stream must stop costing."""
        self._answer.close()


async def _read_or_ping(answer: HttpResponse, seconds: float) -> bytes:
    """What arrives within the time, else b"". The timeout for silence goes on counting."""
    try:
        async with asyncio.timeout(seconds) as deadline:
            return await answer.read()
    except TimeoutError:
        if not deadline.expired():
            raise
        return b""


class Upstream:
    def __init__(self, settings: Settings) -> None:
        self.reconfigure(settings)
        self._http = HttpClient(_IDLE_SECONDS)

    def reconfigure(self, settings: Settings) -> None:
        """Take time limits that changed while running."""
        self._request_timeout = settings.router_timeout or settings.request_timeout
        self._stream_timeout = settings.stream_timeout

    def close(self) -> None:
        """Abort the open connections."""
        self._http.close()

    async def post(
        self,
        deployment: Deployment,
        endpoint: str,
        body: bytes,
        *,
        is_stream: bool,
        seconds: float | None = None,
        silence: float | None = None,
        content_type: str = "application/json",
    ) -> Answer:
        """Send a call and wait for its status. Raises UpstreamError for an error status and for no response at all.

        `seconds` for the whole call and `silence` for each gap of a stream override what is configured.
        """
        timeouts = self._timeouts(deployment, is_stream=is_stream, seconds=seconds, silence=silence)
        return await self._request("POST", deployment, deployment.url(endpoint), body, content_type, timeouts)

    async def send(
        self,
        method: str,
        deployment: Deployment,
        url: str,
        *,
        query: Sequence[tuple[str, str]] = (),
        body: bytes | None = None,
        content_type: str = "application/json",
    ) -> Answer:
        """The same for any method and any address of a deployment's account; `query` is added to that of the `url`."""
        timeouts = self._timeouts(deployment, is_stream=True, seconds=None, silence=None)
        return await self._request(method, deployment, _with_query(url, query), body, content_type, timeouts)

    async def _request(
        self,
        method: str,
        deployment: Deployment,
        url: str,
        body: bytes | None,
        content_type: str,
        timeouts: Timeouts,
    ) -> Answer:
        headers = {"Content-Type": content_type, **deployment.headers} if body is not None else deployment.headers
        try:
            answer = await self._http.request(
                method,
                url,
                headers,
                body,
                timeouts,
                owner=deployment.connection_owner,
                is_public_only=deployment.is_team_made,
            )
        except _CONNECTION_PROBLEMS as problem:
            raise transport_error(problem, deployment) from problem
        if not 200 <= answer.status < 300:
            raise await _error_response(answer, deployment)
        return Answer(answer, deployment)

    async def open_raw(
        self,
        method: str,
        url: str,
        query: Sequence[tuple[str, str]],
        *,
        headers: Mapping[str, str],
        body: bytes,
        silence: float,
        owner: Hashable,
    ) -> RawAnswer:
        """Send a request as it is and wait for its status, whatever that is. Raises UpstreamError for no response.

        `url` is percent-encoded already, `query` is not. `silence`: seconds without a byte after which it fails.
        `owner`: whose credential it carries; connections are shared by requests of an equal owner only.
        """
        timeouts = Timeouts(connect=min(_CONNECT_SECONDS, silence), silence=silence)
        try:
            answer = await self._http.request(
                method, _with_query(url, query), headers, body or None, timeouts, owner=owner
            )
        except _CONNECTION_PROBLEMS as problem:
            raise transport_error(problem) from problem
        return RawAnswer(answer)

    def _timeouts(
        self, deployment: Deployment, *, is_stream: bool, seconds: float | None, silence: float | None
    ) -> Timeouts:
        total = seconds or deployment.timeout or self._request_timeout
        if not is_stream:
            return Timeouts(connect=min(_CONNECT_SECONDS, total), total=total)
        silence = silence or deployment.stream_timeout or self._stream_timeout or total
        return Timeouts(connect=min(_CONNECT_SECONDS, silence), silence=silence)


def _with_query(url: str, query: Sequence[tuple[str, str]]) -> str:
    """The URL, which may have a query of its own, with more parameters."""
    if not query:
        return url
    parameters = "&".join(f"{quote(name, safe=_UNRESERVED)}={quote(value, safe=_UNRESERVED)}" for name, value in query)
    return f"{url}{'&' if '?' in url else '?'}{parameters}"


async def _error_response(answer: HttpResponse, deployment: Deployment) -> UpstreamError:
    """The error of a response with an error status, with as much of its body as arrives in time."""
    body = bytearray()
    try:
        async with asyncio.timeout(_ERROR_BODY_SECONDS):
            while len(body) < _MAX_ERROR_BYTES and (chunk := await answer.read()):
                body += chunk
    except TRANSPORT_PROBLEMS:
        body.clear()
    finally:
        answer.close()
    return status_error(answer.status, bytes(body[:_MAX_ERROR_BYTES]), dict(answer.headers), deployment)
