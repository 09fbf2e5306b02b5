"""Answers that are passed on as bytes while they come: spoken audio, and events whose shape is the provider's own."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator

from ..errors import UpstreamError
from ..protocols.base import Usage
from ..protocols.dialect import Dialect
from ..protocols.error_answers import is_json
from ..protocols.media_usage import RelayMeter
from .call import Reply
from .call_record import CallRecord
from .upstream.client import Answer
from .upstream.errors import empty_answer_error, refuse_error_answer

_EVENTS = "text/event-stream"
# What a browser would run or show as a page of ours must not come from a provider.
_SAFE_TYPES = (
    "audio/",
    "video/",
    "application/json",
    "application/x-subrip",
    "application/octet-stream",
    "application/jsonl",
)
_SAFE_TEXTS = ("text/plain", "text/vtt", "text/csv", "text/srt", _EVENTS)
_SAFE_PICTURES = ("image/png", "image/jpeg", "image/webp", "image/gif")
_BYTES = "application/octet-stream"
_MAX_ERROR_BYTES = 64 * 1024


def safe_type(content_type: str) -> str:
    """A provider's content type, or one that no browser acts upon."""
    kind = content_type.partition(";")[0].strip().lower()
    is_safe = kind.startswith(_SAFE_TYPES) or kind in _SAFE_TEXTS or kind in _SAFE_PICTURES
    return content_type if is_safe else _BYTES


async def relayed(answer: Answer, asked: Usage, record: CallRecord, dialect: Dialect) -> Reply:
    """Pass an answer on once its first bytes are there: until then, another deployment may take over.

    An error begins as no answer does: one in JSON in place of sound or events, or the first event of a stream.
    """
    is_events = answer.content_type.lower().startswith(_EVENTS)
    meter = RelayMeter(asked, is_events=is_events)
    chunks = answer.chunks()
    try:
        first = await (_beginning(chunks) if is_json(answer.content_type) else anext(chunks))
        if is_json(answer.content_type):
            refuse_error_answer(first, "", answer.headers, answer.deployment)
        meter.feed(first)
        if meter.fault_event is not None:
            refuse_error_answer(meter.fault_event, "", answer.headers, answer.deployment)
    except BaseException as problem:  # whatever ends the wait, the provider must be told to stop
        answer.close()
        if isinstance(problem, StopAsyncIteration):
            raise empty_answer_error(answer.deployment) from None
        raise
    record.timing.first_chunk()
    record.upstream_headers = answer.headers
    headers = {**record.upstream_headers, **record.headers()}
    frames = _billed(first, chunks, answer, meter, record, dialect if is_events else None)
    # Only a generator that has begun settles when it is dropped.
    await anext(frames)
    return Reply(headers, frames=frames, content_type=safe_type(answer.content_type))


async def _beginning(chunks: AsyncIterator[bytes]) -> bytes:
    """What may be an error, whole: the first bytes up to more than any error has. Raises StopAsyncIteration."""
    pieces = [await anext(chunks)]
    while sum(map(len, pieces)) < _MAX_ERROR_BYTES and (piece := await anext(chunks, b"")):
        pieces.append(piece)
    return b"".join(pieces)


async def _billed(
    first: bytes,
    chunks: AsyncIterator[bytes],
    answer: Answer,
    meter: RelayMeter,
    record: CallRecord,
    dialect: Dialect | None,
) -> AsyncGenerator[bytes]:
    """Pass chunks on and account for them however they end. `dialect`: of the events that tell what went wrong.

    What broke off in other than events is cut off here too.
    """
    try:
        yield b""
        yield first
        async for chunk in chunks:
            meter.feed(chunk)
            yield chunk
        # Before the client sees the end: what it got must outlive us from that moment on.
        if meter.fault is None:
            record.succeed(meter.usage)
        else:
            record.fail(500, "MidStreamError", meter.fault, meter.usage)
    except UpstreamError as error:
        record.break_off(error, meter.usage)
        if dialect is None:
            raise
        yield dialect.error_frame(error.message, str(error.status))
    finally:
        # Reached open only when the client left: the provider made what it was asked for, and is told to stop.
        record.fail(499, "ClientDisconnected", "the client left mid-stream", meter.usage)
        answer.close()
