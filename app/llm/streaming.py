"""A stream on its way from a provider to a client: how it begins, how its frames come, how it is billed at its end."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Coroutine
from contextlib import aclosing
from typing import Any

import msgspec

from ..deployments.deployment import Deployment
from ..errors import GatewayError, UpstreamError
from ..protocols.dialect import Dialect, EventDecoder, InvalidAnswer, ProviderFault, StreamTranslation
from ..protocols.json_fields import BROKEN_JSON
from ..protocols.sse import EventTooLarge
from .call import Reply
from .call_record import CallRecord
from .upstream.client import Answer
from .upstream.errors import invalid_answer_error, status_error

_ROLE_IS_HELD_SECONDS = 1.0
_BROKEN_EVENTS = (ProviderFault, InvalidAnswer, EventTooLarge, *BROKEN_JSON)


# ---- from the provider ---------------------------------------------------------------------------------------------


async def translated_frames(
    answer: Answer,
    decoder: EventDecoder,
    stream: StreamTranslation,
    deployment: Deployment,
    ping_frame: bytes,
    ping_seconds: float | None,
) -> AsyncGenerator[bytes]:
    """The client's frames, one batch per piece that the network brought: nothing waits for a fuller buffer.

    Raises UpstreamError for an error event, for one that makes no sense, and for a stream that ends before it is
    finished. One that gave its reason to finish is finished, also where the end of its dialect never comes.
    """
    while (chunk := await answer.next_chunk(ping_seconds)) is not None:
        if not chunk:
            yield ping_frame
            continue
        ready: list[bytes] = []
        try:
            events = decoder.feed(chunk)
            if not events:
                answer.overhear()  # comments, or a part of an event
                continue
            for event in events:
                frame = stream.frame(event)
                if frame is not None:
                    ready.append(frame)
        except _BROKEN_EVENTS as problem:
            if ready:
                yield b"".join(ready)
            if isinstance(problem, ProviderFault):
                raise status_error(500, msgspec.json.encode({"error": str(problem)}), {}, deployment) from None
            raise invalid_answer_error(deployment) from None
        if ready:
            yield ready[0] if len(ready) == 1 else b"".join(ready)
        if stream.has_finished:
            return
    if not decoder.has_partial_event and stream.has_finish_reason:
        yield stream.finish()
    else:
        raise status_error(500, b'{"error": "the stream ended before it was finished"}', {}, deployment)


async def mocked_frames(events: list[bytes], stream: StreamTranslation) -> AsyncGenerator[bytes]:
    """The same for events that no provider sent."""
    for event in events:
        frame = stream.frame(event)
        if frame is not None:
            yield frame


async def until_begun(
    frames: AsyncIterator[bytes], stream: StreamTranslation, ping_frame: bytes
) -> tuple[bytes, AsyncIterator[bytes]]:
    """The frames up to the first that says something, and the others.

    Most providers announce a role first. It is held back for the moment until the answer proper begins, since nobody
    can take over after it; but not while a model thinks. Raises StopAsyncIteration for a stream without frames.
    """
    first = await anext(frames)
    while not stream.has_begun:
        following = asyncio.ensure_future(_next(frames))
        try:
            await asyncio.wait({following}, timeout=_ROLE_IS_HELD_SECONDS)
        except asyncio.CancelledError:
            following.cancel()
            raise
        if not following.done():
            # The client may leave before anybody waits for it: then its failure is nobody's business.
            following.add_done_callback(_retrieved)
            return first, _resumed(following, frames)
        first = following.result() if first == ping_frame else first + following.result()
    return first, frames


def _retrieved(task: asyncio.Task[bytes]) -> None:
    """Keep a task that failed from being reported as forgotten."""
    if not task.cancelled():
        task.exception()


async def _next(frames: AsyncIterator[bytes]) -> bytes:
    return await anext(frames)


async def _resumed(following: asyncio.Task[bytes], frames: AsyncIterator[bytes]) -> AsyncGenerator[bytes]:
    """The frame that is awaited already, then the others."""
    try:
        yield await following
    except StopAsyncIteration:
        return
    finally:
        following.cancel()
    async for frame in frames:
        yield frame


# ---- to the client -------------------------------------------------------------------------------------------------


async def billed(
    first: bytes,
    frames: AsyncIterator[bytes],
    answer: Answer | None,
    stream: StreamTranslation,
    record: CallRecord,
    dialect: Dialect,
) -> AsyncGenerator[bytes]:
    """A stream that accounts for itself however it ends: to its end, by a fault, or because the client left."""
    generator = _accounted(first, frames, answer, stream, record, dialect)
    await anext(generator)  # only a generator that has begun settles when it is dropped
    return generator


async def _accounted(
    first: bytes,
    frames: AsyncIterator[bytes],
    answer: Answer | None,
    stream: StreamTranslation,
    record: CallRecord,
    dialect: Dialect,
) -> AsyncGenerator[bytes]:
    try:
        yield b""
        if first:
            record.pass_on(first, stream)
            yield first
        async for frame in frames:
            # Before the client sees the end: what it got must outlive us from that moment on.
            record.pass_on(frame, stream)
            yield frame
    except UpstreamError as error:
        record.break_off(error, record.usage_of(stream))
        yield dialect.error_frame(error.message, str(error.status))
    finally:
        # Reached open only when the client left: what it received is billed, and the provider is told to stop.
        record.fail(499, "ClientDisconnected", "the client left mid-stream", record.usage_of(stream))
        if answer is not None:
            answer.close()


async def kept_alive(answering: Coroutine[Any, Any, Reply], seconds: float, dialect: Dialect) -> Reply:
    """The reply of a stream, or one that begins with comments when it takes longer than `seconds` to come.

    Proxies in between cut what is silent. The status is sent with the first comment, so whatever happens later is an
    event of the stream.
    """
    task = asyncio.ensure_future(answering)
    try:
        await asyncio.wait({task}, timeout=seconds)
    except asyncio.CancelledError:
        task.cancel()
        await asyncio.wait({task})
        raise
    if task.done():
        return task.result()
    frames = _late(task, seconds, dialect)
    await anext(frames)  # only a generator that has begun ends the call when it is dropped
    return Reply({}, frames=frames)


async def _late(task: asyncio.Task[Reply], seconds: float, dialect: Dialect) -> AsyncGenerator[bytes]:
    try:
        yield b""
        while not task.done():
            yield dialect.ping_frame
            await asyncio.wait({task}, timeout=seconds)
        try:
            reply = task.result()
        except GatewayError as error:
            yield dialect.error_frame(error.message, str(error.status))
            return
        if reply.frames is not None:
            async with aclosing(reply.frames) as frames:
                async for frame in frames:
                    yield frame
    finally:
        # The client left before the answer began: the call ends as one that was left.
        task.cancel()
