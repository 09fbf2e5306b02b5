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
from .delivery_queue import DeliveryQueue, Undelivered
from .http_post import post_json
from .langfuse_otlp import span, traces
from .standard_logging import client_metadata, standard_event

log = structlog.get_logger(__name__)

# What an event keeps alive beside its texts.
_EVENT_BYTES = 2048
_MAX_CALLER_TARGETS = 1000
# A receiver of a key that could not be reached is left alone for so long: those of others must not wait for it again.
_REST_SECONDS = 30.0
# Events that are made in a row before others get a turn of the loop.
_AT_ONCE = 10


class CallbackObserver(Observer):
    """Puts ended calls aside for each receiver that listens, and for those of the calling key and team."""

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
        # Fingerprint of a caller's entry -> moment until which it rests.
        self._resting: dict[str, float] = {}
        self._caller_targets: OrderedDict[str, Target | None] = OrderedDict()
        self._receivers = tuple((target, self._outbox(target)) for target in targets)
        # Nobody waits for another one's dead receiver: a batch goes to all of its receivers at once, and only once.
        self._callers = DeliveryQueue[EndedCall]("callbacks of keys and teams", self.deliver_to_callers, pauses=())

    def _outbox(self, target: Target) -> DeliveryQueue[EndedCall]:
        async def deliver(batch: Sequence[EndedCall]) -> None:
            await self.deliver(target, batch)

        return DeliveryQueue[EndedCall](target.name, deliver)

    def call_ended(self, ended: EndedCall) -> None:
        call = ended.call
        size = _EVENT_BYTES + len(call.body) + (len(ended.answer) if ended.answer else 0)
        for target, outbox in self._receivers:
            if target.hears(ended.is_success) and not (call.disabled_callbacks and _is_disabled(target.name, ended)):
                outbox.put(ended, size)
        if call.principal.callbacks:
            self._callers.put(ended, size)

    # ---- life ------------------------------------------------------------------------------------------------------

    def start(self) -> None:
        for outbox in self.outboxes:
            outbox.start()

    async def stop(self) -> None:
        await asyncio.gather(*(outbox.stop() for outbox in self.outboxes))

    @property
    def outboxes(self) -> tuple[DeliveryQueue[EndedCall], ...]:
        return (*(outbox for _, outbox in self._receivers), self._callers)

    @property
    def names(self) -> dict[str, list[str]]:
        return named(target for target, _ in self._receivers)

    # ---- sending ---------------------------------------------------------------------------------------------------

    async def deliver(self, target: Target, batch: Sequence[EndedCall]) -> None:
        """Send events to one receiver. Raises Undelivered."""
        pieces: list[bytes] = []
        for number, ended in enumerate(batch, start=1):
            event = standard_event(
                ended, is_redacted=target.is_redacted, hides_caller=self._settings.redact_user_api_key_info
            )
            if event is not None:
                pieces.append(encoded(target, event, ended.call.body))
            if number % _AT_ONCE == 0:
                await asyncio.sleep(0)
        if pieces:
            await post_json(self._http, target.url, body_of(target, pieces), target.headers)

    async def deliver_to_callers(self, batch: Sequence[EndedCall]) -> None:
        """Send events to the receivers of keys and teams, all at once. What one that rests would get is dropped."""
        batches: dict[str, tuple[Target, list[EndedCall]]] = {}
        for ended in batch:
            for entry in ended.call.principal.callbacks:
                target = self._caller_target(entry)
                if target is not None and target.hears(ended.is_success) and not _is_disabled(target.name, ended):
                    batches.setdefault(_fingerprint(entry), (target, []))[1].append(ended)
        now = self._clock()
        self._resting = {name: until for name, until in self._resting.items() if until > now}
        awake = {name: batch for name, batch in batches.items() if name not in self._resting}
        results = await asyncio.gather(
            *(self.deliver(target, calls) for target, calls in awake.values()), return_exceptions=True
        )
        for name, result in zip(awake, results, strict=True):
            if isinstance(result, Undelivered):
                if not result.is_final:
                    self._resting[name] = self._clock() + _REST_SECONDS
                log.warning("a callback of a key or team was not delivered", reason=str(result))
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
    """One event as this receiver takes it: encoded at once, so that a batch keeps no objects alive."""
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
    return bool(wanted) and name in {one.strip().lower() for one in wanted.split(",")}
