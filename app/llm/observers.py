"""Who watches calls: metrics, callbacks, alerts. They are told at a call's end, and may neither slow nor fail it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import msgspec
import structlog

from ..deployments.deployment import Deployment
from ..errors import GatewayError
from ..protocols.base import Usage
from ..spend.budget import Reservation
from ..spend.events import SpendEvent
from ..spend.pricing import Cost
from .call import Call

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class FailedAttempt:
    """One try that did not answer. `status` is the contract's, not the provider's; `seconds` until it failed."""

    deployment: Deployment
    status: int
    error_class: str
    message: str
    seconds: float
    # When it began, in seconds from the start of the call.
    offset: float = 0.0


class EndedCall(msgspec.Struct, frozen=True, kw_only=True):
    """A call that was admitted, once it has ended. `model` is what the client asked for.

    `deployment` is the one that answered, or that failed last. `answer` is JSON: a whole answer, or what
    came of a stream where a watcher wants that and it can be put together.
    `first_chunk_seconds` is counted from the start of the call, None for what is no stream. `is_success` False comes
    with the contract's status and error class. `reservation` is settled. `attempt_offset`: when the last attempt began,
    in seconds from the start of the call. `upstream_headers` are those of the provider's answer, as it is passed on.
    """

    call: Call
    model: str
    deployment: Deployment | None
    failed: Sequence[FailedAttempt]
    fallbacks: int
    event: SpendEvent
    usage: Usage
    cost: Cost | None
    is_success: bool
    status: int
    error_class: str
    total_seconds: float
    upstream_seconds: float
    first_chunk_seconds: float | None
    answer: bytes | None
    reservation: Reservation | None = None
    attempt_offset: float = 0.0
    upstream_headers: Mapping[str, str] = {}


class Observer:
    """What a watcher may hear. Each method takes microseconds, never waits and never raises: it puts aside, at most.

    `wants_answers`: it reads the texts of answers, so those of streams are put together on their way.
    """

    wants_answers = False

    def call_started(self, call: Call) -> None:
        """The gateway begins to work on a call."""

    def call_refused(self, call: Call, error: GatewayError) -> None:
        """A call was not admitted: no such model, no access, over a budget or a limit."""

    def call_ended(self, ended: EndedCall) -> None:
        """An admitted call has ended, well or badly."""

    def deployment_cooled(self, deployment: Deployment, status: int, seconds: float) -> None:
        """A failing deployment cools down for so long, in this process or because another one said so."""


class Observers(Observer):
    """Tells all of them. One that fails is logged and does not keep the others from hearing."""

    def __init__(self, *observers: Observer) -> None:
        self._tell(observers)

    def _tell(self, observers: tuple[Observer, ...]) -> None:
        self._observers = observers
        self.wants_answers = any(observer.wants_answers for observer in observers)

    def join(self, observer: Observer) -> None:
        """Tell this one too from now on."""
        self._tell((*self._observers, observer))

    def leave(self, observer: Observer) -> None:
        """Tell this one no more."""
        self._tell(tuple(other for other in self._observers if other is not observer))

    def call_started(self, call: Call) -> None:
        for observer in self._observers:
            try:
                observer.call_started(call)
            except Exception as problem:  # noqa: BLE001 - a bug of a watcher must not fail the call
                _report(observer, problem)

    def call_refused(self, call: Call, error: GatewayError) -> None:
        for observer in self._observers:
            try:
                observer.call_refused(call, error)
            except Exception as problem:  # noqa: BLE001 - the same
                _report(observer, problem)

    def call_ended(self, ended: EndedCall) -> None:
        for observer in self._observers:
            try:
                observer.call_ended(ended)
            except Exception as problem:  # noqa: BLE001 - the same
                _report(observer, problem)

    def deployment_cooled(self, deployment: Deployment, status: int, seconds: float) -> None:
        for observer in self._observers:
            try:
                observer.deployment_cooled(deployment, status, seconds)
            except Exception as problem:  # noqa: BLE001 - the same
                _report(observer, problem)


def _report(observer: Observer, problem: Exception) -> None:
    log.error("call observer failed", observer=type(observer).__name__, reason=type(problem).__name__)
