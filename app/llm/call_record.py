"""What one call leaves behind: its settled reservation, its spend event, and the headers that tell the client."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from ..deployments.deployment import Deployment
from ..errors import UpstreamError
from ..protocols.base import Usage
from ..protocols.openai import OpenAIRequest, StreamRestamper
from ..protocols.openai_assembly import StreamAssembler, usage_of_answer
from ..spend.budget import Reservation
from ..spend.events import SpendEvent, SpendWindow
from ..spend.ledger import SpendLedger
from ..spend.pricing import Cost, price_of
from ..version import VERSION
from .call import Call, is_client_timeout
from .observers import EndedCall, FailedAttempt, Observer
from .routing.load import DeploymentLoad

_NAME_LENGTH = 255
# Of a stream's answer that is put together for those who watch.
_MAX_ANSWER_BYTES = 1024 * 1024
_FREE = Cost(Decimal(0), Decimal(0), Decimal(0))


class CallRecord:
    """Follows one call from admission to its end. Ends exactly once: the first of `succeed` and `fail` counts."""

    def __init__(
        self,
        call: Call,
        request: OpenAIRequest,
        reservation: Reservation,
        ledger: SpendLedger,
        observers: Observer,
        load: DeploymentLoad,
        learn: Callable[[Deployment, UpstreamError], None],
    ) -> None:
        self._call = call
        self._request = request
        self._reservation = reservation
        self._ledger = ledger
        self._observers = observers
        self._load = load
        self._record_failure = learn
        # The deployment whose attempt runs.
        self._running = ""
        # The name that was asked for, then the group that took over.
        self._group = request.model
        # Groups of deployments that were left for another one.
        self.fallbacks = 0
        self._attempts = 0
        # Groups of which a deployment was asked: not one that rests as a whole.
        self._groups_asked = 0
        self._is_new_group = True
        # What the running attempt holds of its provider's budget.
        self.attempt_reservation: Reservation | None = None
        self._started_at = datetime.now(UTC)
        self._clock = time.perf_counter()
        self._attempt_clock = self._clock
        self._upstream_seconds = 0.0
        self._first_chunk_at: datetime | None = None
        self._first_chunk_seconds: float | None = None
        self._deployment: Deployment | None = None
        self._failed: list[FailedAttempt] = []
        self._cost: Cost | None = None
        self._windows = windows_of(reservation)
        # Under which the answer is cached, for a call that may use the cache.
        self.cache_key: str | None = None
        self._is_cache_hit = False
        # What a call that ended well used.
        self.usage: Usage | None = None
        # Of the provider's answer, as they are passed on.
        self.upstream_headers: Mapping[str, str] = {}
        # Puts a stream's answer together where somebody wants to see it.
        self._assembler = StreamAssembler(call.endpoint) if request.is_stream and observers.wants_answers else None
        self._is_open = True

    def fall_back(self, group: str, reservation: Reservation) -> None:
        """Another group takes over: what is held for the call is held there from now on."""
        self.fallbacks += 1
        self._group = group
        self._is_new_group = True
        self._reservation.settle(Decimal(0))
        self._reservation, self._windows = reservation, windows_of(reservation)

    # ---- attempts --------------------------------------------------------------------------------------------------

    def start_attempt(self, deployment: Deployment) -> None:
        self._deployment = deployment
        self._attempt_clock = time.perf_counter()
        self._attempts += 1
        self._groups_asked += self._is_new_group
        self._is_new_group = False
        self._running = deployment.id
        self._load.begin(deployment.id)

    def end_attempt(self, error: UpstreamError) -> None:
        """Remember a failed try, for the log and the headers."""
        seconds = time.perf_counter() - self._attempt_clock
        self._upstream_seconds += seconds
        self._stop_running()
        self._settle_attempt(Decimal(0))
        if self._deployment is not None:
            offset = self._attempt_clock - self._clock
            failed = FailedAttempt(self._deployment, error.status, error.error_class, error.message, seconds, offset)
            self._failed.append(failed)

    def _stop_running(self) -> None:
        if self._running:
            self._load.end(self._running)
            self._running = ""

    def _settle_attempt(self, cost: Decimal, tokens: int = 0) -> None:
        if self.attempt_reservation is not None:
            self._windows = [*self._windows, *windows_of(self.attempt_reservation)] if cost else self._windows
            self.attempt_reservation.settle(cost, tokens)
            self.attempt_reservation = None

    def first_chunk(self) -> None:
        self._first_chunk_at = datetime.now(UTC)
        self._first_chunk_seconds = time.perf_counter() - self._attempt_clock
        self._upstream_seconds += self._first_chunk_seconds

    # ---- ends ------------------------------------------------------------------------------------------------------

    def usage_of(self, restamper: StreamRestamper) -> Usage:
        """What a stream used, as its provider says, else as it looks."""
        return restamper.usage or restamper.estimated_usage(self._request.body_bytes)

    def succeed(self, usage: Usage, answer: bytes | None = None) -> None:
        if self._is_open:
            if self._first_chunk_at is None:
                self._upstream_seconds += time.perf_counter() - self._attempt_clock
            self._end(usage, {}, answer=answer)

    def succeed_from_cache(self, usage: Usage, deployment: Deployment | None, answer: bytes | None = None) -> None:
        """An earlier answer serves again: nothing was used. `usage` and `deployment` are those of the earlier call."""
        if self._is_open:
            self._is_cache_hit, self._deployment = True, deployment
            self._end(usage, {}, answer=answer)

    @property
    def deployment_id(self) -> str:
        """Of the deployment that answered, or that was asked last."""
        return self._deployment.id if self._deployment is not None else ""

    def pass_on(self, frames: bytes, restamper: StreamRestamper) -> None:
        """See what a stream's client gets next, and settle the stream as soon as its end was read."""
        if self._assembler is not None and not self._assembler.is_given_up:
            self._assembler.feed(frames)
            if self._assembler.size > _MAX_ANSWER_BYTES:
                self._assembler.give_up()
        if restamper.finished:
            self.succeed(self.usage_of(restamper))

    def fail(self, status: int, error_class: str, message: str, usage: Usage | None = None) -> None:
        """Log a failure as one. Tokens that a stream delivered before it broke are billed."""
        if self._is_open:
            error = {"error_code": str(status), "error_class": error_class, "error_message": message[:1000]}
            self._end(usage or Usage(), {"error_information": error}, status=status, error_class=error_class)

    def break_off(self, error: UpstreamError, usage: Usage) -> None:
        """The stream broke after it had begun: too late for anybody to take over, but not for routing to learn."""
        hurried = is_client_timeout(error, self._call, self._request.options)
        if self._is_open and self._deployment is not None and not hurried:
            self._record_failure(self._deployment, error)
        self.fail(error.status, "MidStreamError", error.message, usage)

    def _end(
        self,
        usage: Usage,
        facts: dict[str, Any],
        *,
        status: int = 200,
        error_class: str = "",
        answer: bytes | None = None,
    ) -> None:
        self._is_open = False
        self.usage = usage if not error_class else None
        billed = Usage() if self._is_cache_hit else usage
        if not error_class and self._running:
            self._note_speed(usage)
        self._stop_running()
        prices = self._deployment.prices if self._deployment else None
        self._cost = _FREE if self._is_cache_hit else price_of(usage, prices)
        cost = (self._cost or _FREE).total
        self._reservation.settle(cost, billed.total_tokens)
        self._settle_attempt(cost, billed.total_tokens)
        event = self._event("failure" if error_class else "success", billed, cost, self._with_details(facts, usage))
        self._ledger.record(event)
        first_chunk = self._first_chunk_at
        self._observers.call_ended(
            EndedCall(
                call=self._call,
                model=self._request.model,
                deployment=self._deployment,
                failed=self._failed,
                fallbacks=self.fallbacks,
                event=event,
                usage=usage,
                cost=self._cost,
                is_success=not error_class,
                status=status,
                error_class=error_class,
                total_seconds=time.perf_counter() - self._clock,
                upstream_seconds=self._upstream_seconds,
                first_chunk_seconds=(first_chunk - self._started_at).total_seconds() if first_chunk else None,
                answer=self._streamed_answer(usage) if answer is None else answer,
                reservation=self._reservation,
                attempt_offset=self._attempt_clock - self._clock,
                upstream_headers=self.upstream_headers,
            )
        )

    def _streamed_answer(self, usage: Usage) -> bytes | None:
        return None if self._assembler is None else self._assembler.so_far(usage_of_answer(usage))

    def _with_details(self, facts: dict[str, Any], usage: Usage) -> dict[str, Any]:
        """The metadata of the log: besides the facts, what was counted and who failed before."""
        if self._cost is None:
            facts["unpriced"] = True
        if usage.raw:
            facts["usage_object"] = dict(usage.raw)
        if self._failed:
            facts["failed_attempts"] = [
                {"model_id": one.deployment.id, "status": one.status, "error": one.message[:200]}
                for one in self._failed
            ]
        return facts

    def _note_speed(self, usage: Usage) -> None:
        """How fast the deployment answered, for routing that goes by it."""
        seconds = time.perf_counter() - self._attempt_clock
        first = self._first_chunk_seconds
        self._load.answered(
            self._running,
            tokens=usage.total_tokens,
            completion_tokens=usage.completion_tokens,
            seconds=seconds,
            first_chunk=first,
        )

    def _event(self, status: str, usage: Usage, cost: Decimal, metadata: dict[str, Any]) -> SpendEvent:
        deployment = self._deployment
        return event_of(
            self._call,
            usage,
            self._reservation,
            start_time=self._started_at,
            first_chunk_time=self._first_chunk_at,
            cost=cost,
            model=deployment.upstream_model[:_NAME_LENGTH] if deployment else "",
            model_id=deployment.id[:_NAME_LENGTH] if deployment else "",
            model_group=self._group[:_NAME_LENGTH],
            provider=deployment.provider.name if deployment else "",
            api_base=deployment.api_base if deployment else None,
            windows=self._windows,
            is_cache_hit=self._is_cache_hit,
            cache_key=self.cache_key,
            metadata=metadata,
            status=status,
        )

    # ---- headers (contract llm.md §4.9) ----------------------------------------------------------------------------

    def headers(self) -> dict[str, str]:
        """Headers of a good answer. A stream's cost is not known yet when they are sent."""
        deployment = self._deployment
        total_ms = (time.perf_counter() - self._clock) * 1000
        headers = {
            "x-litellm-call-id": self._call.call_id,
            "x-litellm-version": VERSION,
            "x-litellm-model-group": _header_text(self._group),
            **self.headers_of_attempts(),
            "x-litellm-response-duration-ms": f"{total_ms:.3f}",
            "x-litellm-overhead-duration-ms": f"{max(0.0, total_ms - self._upstream_seconds * 1000):.3f}",
        }
        if deployment is not None:
            headers["x-litellm-model-id"] = _header_text(deployment.id)
            headers["x-litellm-model-name"] = _header_text(f"{deployment.provider.name}/{deployment.upstream_model}")
            headers["x-litellm-model-api-base"] = _header_text(deployment.api_base)
        spend = self._reservation.spend_of("key")
        if spend is not None:
            headers["x-litellm-key-spend"] = f"{spend + (self._cost.total if self._cost else 0):f}"
        if self._call.principal.max_budget is not None:
            headers["x-litellm-key-max-budget"] = f"{self._call.principal.max_budget:f}"
        headers.update(self._reservation.headers())
        if self._is_cache_hit and self.cache_key is not None:
            headers["x-litellm-cache-key"] = self.cache_key
        if self._cost is not None:
            headers["x-litellm-response-cost"] = f"{self._cost.total:f}"
            headers["x-litellm-response-cost-original"] = f"{self._cost.total:f}"
            headers["x-litellm-response-cost-input"] = f"{self._cost.input:f}"
            headers["x-litellm-response-cost-output"] = f"{self._cost.output:f}"
        return headers

    def headers_of_attempts(self) -> dict[str, str]:
        """How often groups were tried again, and how many of them were left for another one."""
        return {
            "x-litellm-attempted-retries": str(self._attempts - self._groups_asked),
            "x-litellm-attempted-fallbacks": str(self.fallbacks),
        }


def event_of(call: Call, usage: Usage, reservation: Reservation, **facts: Any) -> SpendEvent:
    """A call that ends now, as the ledger keeps it: who called and what was used; the rest are fields of the event."""
    principal = call.principal
    return SpendEvent(
        request_id=str(uuid.uuid4()),
        call_type=call.endpoint.call_type,
        endpoint=call.endpoint.path,
        end_time=datetime.now(UTC),
        prompt_tokens=usage.prompt_tokens,
        completion_tokens=usage.completion_tokens,
        cache_read_tokens=usage.cache_read_tokens,
        cache_write_tokens=usage.cache_write_tokens,
        key_hash=principal.key_hash,
        user_id=principal.user_id,
        team_id=principal.team_id,
        is_session=principal.is_session,
        organization_id=principal.organization_id,
        access_groups=[scope.id for scope in reservation.scopes if scope.kind == "access_group"],
        end_user=call.end_user[:_NAME_LENGTH],
        session_id=call.session_id[:_NAME_LENGTH] if call.session_id else None,
        call_id=call.call_id[:_NAME_LENGTH],
        ip_address=call.ip_address,
        tags=list(dict.fromkeys([*principal.tags, *call.tags])),
        **facts,
    )


def windows_of(reservation: Reservation) -> list[SpendWindow]:
    """The windows that a call's cost counts in, as the ledger writes them."""
    return [
        SpendWindow(scope.kind, scope.id, scope.model, scope.period, scope.starts_at)
        for scope in reservation.scopes
        if scope.starts_at is not None
    ]


def _header_text(value: str) -> str:
    """Header values are ASCII on one line, without spaces around them; a model name may be anything."""
    if not (value.isascii() and value.isprintable()):
        value = ascii(value)[1:-1]
    return value[:_NAME_LENGTH].strip()
