"""One attempt: a call's exchange with one deployment, whole or as a stream, and what it leaves in the record."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Mapping

import msgspec

from ..deployments.deployment import Deployment
from ..errors import UpstreamError
from ..protocols.mock import MOCK_ERRORS, mock_answer, mock_events, mock_type
from ..protocols.openai import (
    BROKEN_JSON,
    DONE_FRAME,
    PING_FRAME,
    OpenAIRequest,
    StreamFault,
    StreamRestamper,
    error_frame,
)
from ..protocols.sse import EventTooLarge, SSEDecoder
from ..settings import Settings
from .byte_stream import relayed, safe_type
from .call import Call, Reply
from .call_record import CallRecord
from .upstream.client import Answer, Upstream
from .upstream.errors import invalid_answer_error, status_error

_ROLE_IS_HELD_SECONDS = 1.0
_BROKEN_EVENTS = (StreamFault, EventTooLarge, *BROKEN_JSON)


class AttemptRunner:
    def __init__(self, settings: Settings, upstream: Upstream) -> None:
        self._settings = settings
        self._upstream = upstream

    def reconfigure(self, settings: Settings) -> None:
        """Take settings that changed while running."""
        self._settings = settings

    async def run(self, call: Call, request: OpenAIRequest, deployment: Deployment, record: CallRecord) -> Reply:
        """Ask one deployment. Raises UpstreamError while nothing was sent to the client, so that another may answer."""
        if deployment.mock_response is not None:
            return await self._mocked(request, deployment, record)
        if request.is_relayed:
            return await relayed(await self._post(call, request, deployment), request.estimated_usage(0), record)
        if request.is_stream:
            return await self._stream(call, request, deployment, record)
        return await self._whole(call, request, deployment, record)

    async def _whole(self, call: Call, request: OpenAIRequest, deployment: Deployment, record: CallRecord) -> Reply:
        async with await self._post(call, request, deployment) as answer:
            body = await answer.read()
            return self._settled(body, answer.headers, request, deployment, record, answer.content_type)

    async def _post(self, call: Call, request: OpenAIRequest, deployment: Deployment) -> Answer:
        options = request.options
        return await self._upstream.post(
            deployment,
            call.endpoint.path,
            request.upstream_body(deployment.upstream_model, deployment.defaults),
            is_stream=request.is_stream or request.is_relayed,
            content_type=request.content_type,
            seconds=options.timeout or call.timeout,
            silence=options.stream_timeout or call.stream_timeout,
        )

    def _settled(
        self,
        body: bytes,
        upstream_headers: Mapping[str, str],
        request: OpenAIRequest,
        deployment: Deployment,
        record: CallRecord,
        content_type: str,
    ) -> Reply:
        try:
            stamped, usage = request.endpoint.answered(body, content_type, request)
        except BROKEN_JSON:
            raise invalid_answer_error(deployment) from None
        answer = None if request.passes_type_on else stamped
        record.upstream_headers = upstream_headers
        record.succeed(usage or request.estimated_usage(len(body)), answer)
        kind = safe_type(content_type) if request.passes_type_on else None
        return Reply({**upstream_headers, **record.headers()}, stamped, content_type=kind)

    async def _stream(self, call: Call, request: OpenAIRequest, deployment: Deployment, record: CallRecord) -> Reply:
        """Open a stream and look at how it begins: until it has said something, another deployment may take over."""
        answer = await self._post(call, request, deployment)
        restamper = self._restamper(request)
        ping_seconds = deployment.keepalive_seconds or self._settings.stream_keepalive
        frames = _frames(answer, restamper, deployment, ping_seconds)
        try:
            first, late = await _beginning(frames, restamper)
        except BaseException as problem:  # whatever ends the wait, the provider must be told to stop
            answer.close()
            if isinstance(problem, StopAsyncIteration):
                raise invalid_answer_error(deployment) from None
            raise
        record.first_chunk()
        record.upstream_headers = answer.headers
        headers = {**record.upstream_headers, **record.headers()}
        billed = _billed(first, frames if late is None else _resumed(late, frames), answer, restamper, record)
        return Reply(headers, frames=await _started(billed))

    def _restamper(self, request: OpenAIRequest) -> StreamRestamper:
        wants_usage = request.wants_usage or self._settings.always_include_stream_usage
        return StreamRestamper(request.model, wants_usage=wants_usage)

    async def _mocked(self, request: OpenAIRequest, deployment: Deployment, record: CallRecord) -> Reply:
        text = deployment.mock_response or ""
        if text in MOCK_ERRORS:
            status, code = MOCK_ERRORS[text]
            body = msgspec.json.encode({"error": {"message": f"mock_response: {text}", "code": code}})
            raise status_error(status, body, {}, deployment)
        if not request.is_stream:
            body, kind = mock_answer(request.endpoint, text), mock_type(request.endpoint)
            return self._settled(body, {}, request, deployment, record, kind)
        restamper = self._restamper(request)
        frames = _mock_frames(mock_events(request.endpoint, text), restamper)
        return Reply(record.headers(), frames=await _started(_billed(b"", frames, None, restamper, record)))


async def _beginning(
    frames: AsyncIterator[bytes], restamper: StreamRestamper
) -> tuple[bytes, asyncio.Task[bytes] | None]:
    """The frames up to the first that says something, and the next one, awaited already, if that takes long.

    Most providers announce a role first. It is held back for the moment until the answer proper begins, since nobody
    can take over after it; but not while a model thinks.
    """
    first = await anext(frames)
    while not restamper.has_begun:
        following = asyncio.ensure_future(_next(frames))
        try:
            await asyncio.wait({following}, timeout=_ROLE_IS_HELD_SECONDS)
        except asyncio.CancelledError:
            following.cancel()
            raise
        if not following.done():
            # The client may leave before anybody waits for it: then its failure is nobody's business.
            following.add_done_callback(_noticed)
            return first, following
        first = following.result() if first == PING_FRAME else first + following.result()
    return first, None


def _noticed(task: asyncio.Task[bytes]) -> None:
    """Keep a task that failed from being reported as forgotten."""
    if not task.cancelled():
        task.exception()


async def _next(frames: AsyncIterator[bytes]) -> bytes:
    return await anext(frames)


async def _resumed(late: asyncio.Task[bytes], frames: AsyncIterator[bytes]) -> AsyncGenerator[bytes]:
    """The frame that is awaited already, then the others."""
    try:
        yield await late
    except StopAsyncIteration:
        return
    finally:
        late.cancel()
    async for frame in frames:
        yield frame


async def _frames(
    answer: Answer, restamper: StreamRestamper, deployment: Deployment, ping_seconds: float | None
) -> AsyncGenerator[bytes]:
    """The client's frames, one batch per piece that the network brought: nothing waits for a fuller buffer.

    Raises UpstreamError for an error event, for garbage, and for a stream that ends before it is finished. One that
    gave its reason to finish is finished, also without `[DONE]`.
    """
    decoder = SSEDecoder()
    while (chunk := await answer.next_chunk(ping_seconds)) is not None:
        if not chunk:
            yield PING_FRAME
            continue
        ready: list[bytes] = []
        try:
            events = decoder.feed(chunk)
            if not events:
                answer.overhear()  # comments, or a part of an event
                continue
            for data in events:
                frame = restamper.frame(data)
                if frame is not None:
                    ready.append(frame)
        except _BROKEN_EVENTS as problem:
            if ready:
                yield b"".join(ready)
            if isinstance(problem, StreamFault):
                raise status_error(500, msgspec.json.encode({"error": str(problem)}), {}, deployment) from None
            raise invalid_answer_error(deployment) from None
        if ready:
            yield ready[0] if len(ready) == 1 else b"".join(ready)
        if restamper.finished:
            return
    if not decoder.has_partial_event and restamper.has_finish_reason:
        restamper.finished = True
        yield DONE_FRAME
    else:
        raise status_error(500, b'{"error": "the stream ended before it was finished"}', {}, deployment)


async def _mock_frames(events: list[bytes], restamper: StreamRestamper) -> AsyncGenerator[bytes]:
    for event in events:
        frame = restamper.frame(event)
        if frame is not None:
            yield frame


async def _started(frames: AsyncGenerator[bytes]) -> AsyncGenerator[bytes]:
    """Run a billed stream to its first, empty frame: only a generator that has begun settles when it is dropped."""
    await anext(frames)
    return frames


async def _billed(
    first: bytes, frames: AsyncIterator[bytes], answer: Answer | None, restamper: StreamRestamper, record: CallRecord
) -> AsyncGenerator[bytes]:
    """Pass frames on and account for the stream however it ends: to its end, by a fault, or because the client left."""
    try:
        yield b""
        if first:
            record.pass_on(first, restamper)
            yield first
        async for frame in frames:
            # Before the client sees the end: what it got must outlive us from that moment on.
            record.pass_on(frame, restamper)
            yield frame
    except UpstreamError as error:
        record.break_off(error, record.usage_of(restamper))
        yield error_frame(error.message, str(error.status))
    finally:
        # Reached open only when the client left: what it received is billed, and the provider is told to stop.
        record.fail(499, "ClientDisconnected", "the client left mid-stream", record.usage_of(restamper))
        if answer is not None:
            answer.close()
