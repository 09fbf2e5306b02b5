"""Callbacks: the events of ended calls, batched to each receiver."""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import httpx
import msgspec
import structlog

from ..llm.observers import EndedCall, Observer
from ..settings import Settings
from .callback_targets import Target, caller_target, named
from .delivery_queue import DeliveryFailed, DeliveryQueue
from .http_post import post_json
from .langfuse_otlp import span, traces
from .standard_logging import client_metadata, standard_event

log = structlog.get_logger(__name__)

# What an event holds in memory beside its texts.
_EVENT_BYTES = 2048
_MAX_CALLER_TARGETS = 1000
# A receiver of a key that could not be reached gets nothing for so long: those of others must not wait for it again.
_SKIP_SECONDS = 30.0
# Events that are made in a row before others get a turn of the loop.
_EVENTS_PER_TURN = 10


class CallbackObserver(Observer):
    """Queues ended calls for each receiver of the settings, and for those of the calling key and team."""

    wants_answers = True

    def __init__(
        self,
        settings: Settings,
        targets: Sequence[Target],
        http: httpx.AsyncClient,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._settings = settings
        self._http = http
        self._clock = clock
        # Fingerprint of a caller's entry -> moment until which its receiver gets nothing.
        self._skipped_until: dict[str, float] = {}
        self._caller_targets: OrderedDict[str, Target | None] = OrderedDict()
        self._receivers = tuple((target, self._queue_of(target)) for target in targets)
        # One batch to all its receivers at once, without retries: no receiver waits for a dead one of somebody else.
        self._callers = DeliveryQueue[EndedCall](
            "callbacks of keys and teams", self.deliver_to_callers, retry_delays=()
        )

    def _queue_of(self, target: Target) -> DeliveryQueue[EndedCall]:
        async def deliver(batch: Sequence[EndedCall]) -> None:
            await self.deliver(target, batch)

        return DeliveryQueue[EndedCall](target.name, deliver)

    def call_ended(self, ended: EndedCall) -> None:
        call = ended.call
        size = _EVENT_BYTES + len(call.body) + (len(ended.answer) if ended.answer else 0)
        for target, queue in self._receivers:
            if target.receives(ended.is_success) and not (call.disabled_callbacks and _is_disabled(target.name, ended)):
                queue.put(ended, size)
        if call.principal.callbacks:
            self._callers.put(ended, size)

    # ---- life ------------------------------------------------------------------------------------------------------

    def start(self) -> None:
        for queue in self.queues:
            queue.start()

    async def stop(self) -> None:
        await asyncio.gather(*(queue.stop() for queue in self.queues))

    @property
    def queues(self) -> tuple[DeliveryQueue[EndedCall], ...]:
        return (*(queue for _, queue in self._receivers), self._callers)

    @property
    def names(self) -> dict[str, list[str]]:
        return named(target for target, _ in self._receivers)

    # ---- sending ---------------------------------------------------------------------------------------------------

    async def deliver(self, target: Target, batch: Sequence[EndedCall]) -> None:
        """Send events to one receiver. Raises DeliveryFailed."""
        pieces: list[bytes] = []
        for number, ended in enumerate(batch, start=1):
            event = standard_event(
                ended, is_redacted=target.is_redacted, hides_caller=self._settings.redact_user_api_key_info
            )
            if event is not None:
                pieces.append(encoded(target, event, ended.call.body))
            if number % _EVENTS_PER_TURN == 0:
                await asyncio.sleep(0)
        if pieces:
            body = body_of(target, pieces)
            await post_json(self._http, target.url, body, target.headers, closes=target.is_of_caller)

    async def deliver_to_callers(self, batch: Sequence[EndedCall]) -> None:
        """Send events to the receivers of keys and teams, all at once. What a skipped one would get is dropped."""
        batches: dict[str, tuple[Target, list[EndedCall]]] = {}
        for ended in batch:
            for entry in ended.call.principal.callbacks:
                target = self._caller_target(entry)
                if target is not None and target.receives(ended.is_success) and not _is_disabled(target.name, ended):
                    batches.setdefault(_fingerprint(entry), (target, []))[1].append(ended)
        now = self._clock()
        self._skipped_until = {name: until for name, until in self._skipped_until.items() if until > now}
        reachable = {name: batch for name, batch in batches.items() if name not in self._skipped_until}
        results = await asyncio.gather(
            *(self.deliver(target, calls) for target, calls in reachable.values()), return_exceptions=True
        )
        for name, result in zip(reachable, results, strict=True):
            if isinstance(result, DeliveryFailed):
                if not result.is_permanent:
                    self._skipped_until[name] = self._clock() + _SKIP_SECONDS
                log.warning("callback delivery failed", reason=str(result))
            elif isinstance(result, BaseException):
                raise result

    def _caller_target(self, entry: Mapping[str, Any]) -> Target | None:
        """Opened once: a ciphertext that changes is another entry."""
        known, fingerprint = self._caller_targets, _fingerprint(entry)
        if fingerprint not in known:
            known[fingerprint] = caller_target(entry, self._settings)
            while len(known) > _MAX_CALLER_TARGETS:
                known.popitem(last=False)
        return known[fingerprint]


def encoded(target: Target, event: Mapping[str, Any], client_body: bytes = b"") -> bytes:
    """One event as this receiver takes it, encoded at once: a batch holds no objects."""
    if target.kind == "langfuse":
        return span(event, client_metadata(client_body))
    return msgspec.json.encode(event)


def body_of(target: Target, pieces: Sequence[bytes]) -> bytes:
    """The body of one POST."""
    return traces(pieces) if target.kind == "langfuse" else b"[" + b",".join(pieces) + b"]"


def _fingerprint(entry: Mapping[str, Any]) -> str:
    return hashlib.sha256(msgspec.json.encode(dict(entry))).hexdigest()


def _is_disabled(name: str, ended: EndedCall) -> bool:
    """Whether the call's header turned this receiver off (`x-litellm-disable-callbacks`)."""
    wanted = ended.call.disabled_callbacks
    return bool(wanted) and name in {disabled.strip().lower() for disabled in wanted.split(",")}
