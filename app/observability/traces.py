"""Traces of calls by OpenTelemetry, with its conventions for generative AI. Off unless a collector is configured.

A call is put aside when it ends; spans are made of it in the background, and sent by a thread of the SDK. The SDK is an
extra (`pip install quarterdeck[otel]`), so only span_export.py imports it.
"""

from __future__ import annotations

import asyncio
import re
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Protocol

import structlog

from ..deployments.deployment import Deployment
from ..llm.observers import EndedCall, FailedAttempt, Observer
from ..protocols.base import Usage
from ..tasks import ended as task_ended

log = structlog.get_logger(__name__)

_MAX_WAITING = 5000
_AT_ONCE = 20
_PAUSE_SECONDS = 0.5
_STOP_SECONDS = 3.0
_CALLBACK = "otel"
_TRACEPARENT = re.compile(r"^[0-9a-f]{2}-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}")


@dataclass(frozen=True, slots=True, kw_only=True)
class TracedCall:
    """What spans are made of: no prompt, no answer, no key. Times are seconds, `started_at` since 1970."""

    traceparent: str
    call_id: str
    call_type: str
    model: str
    deployment: Deployment | None
    failed: Sequence[FailedAttempt]
    team_id: str | None
    usage: Usage
    cost: Decimal
    status: int
    error_class: str
    is_cache_hit: bool
    started_at: float
    total_seconds: float
    attempt_offset: float
    first_chunk_seconds: float | None


class SpanExport(Protocol):
    """Who turns calls into spans and sends them."""

    def export(self, call: TracedCall) -> None:
        """Make the spans of one call. Never waits: sending is done elsewhere."""

    def shutdown(self) -> None:
        """Send what waits. Blocks for a moment."""


class Traces(Observer):
    def __init__(self, export: SpanExport) -> None:
        self._export = export
        self._waiting: deque[TracedCall] = deque()
        self._dropped = 0
        self._task: asyncio.Task[None] | None = None

    def call_ended(self, ended: EndedCall) -> None:
        if len(self._waiting) >= _MAX_WAITING:
            self._dropped += 1
            return
        call, event = ended.call, ended.event
        self._waiting.append(
            TracedCall(
                traceparent=call.traceparent if _TRACEPARENT.match(call.traceparent) else "",
                call_id=call.call_id,
                call_type=event.call_type,
                model=ended.model,
                deployment=ended.deployment,
                failed=ended.failed,
                team_id=event.team_id,
                usage=ended.usage,
                cost=event.cost,
                status=ended.status,
                error_class=ended.error_class,
                is_cache_hit=event.is_cache_hit,
                started_at=event.start_time.timestamp(),
                total_seconds=ended.total_seconds,
                attempt_offset=ended.attempt_offset,
                first_chunk_seconds=ended.first_chunk_seconds,
            )
        )

    async def start(self) -> None:
        """Make spans in the background from now on."""
        self._task = asyncio.create_task(self._export_forever(), name="traces")

    async def stop(self) -> None:
        """Send what waits, within three seconds."""
        if self._task is not None:
            await task_ended(self._task)
        self._export_some(len(self._waiting))
        try:
            await asyncio.wait_for(asyncio.to_thread(self._export.shutdown), _STOP_SECONDS)
        except TimeoutError:
            log.warning("traces that were not sent are lost")

    async def _export_forever(self) -> None:
        while True:
            self._export_some(_AT_ONCE)
            if self._dropped:
                log.warning("calls were not traced: they came faster than spans are made", calls=self._dropped)
                self._dropped = 0
            # Calls get their turn between two batches, also when many wait.
            await asyncio.sleep(0 if self._waiting else _PAUSE_SECONDS)

    def _export_some(self, count: int) -> None:
        for _ in range(min(count, len(self._waiting))):
            try:
                self._export.export(self._waiting.popleft())
            except Exception as problem:  # noqa: BLE001 - a call that cannot be traced must not end the tracing
                log.error("a call could not be traced", reason=type(problem).__name__)
