"""Follows one call from admission to its end: its attempts, and who is told how it ended.

Its parts are values of their own: times (call_timing.py), money (call_spend.py), headers (answer_headers.py).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import Any

from ..deployments.deployment import Deployment
from ..errors import UpstreamError
from ..protocols.base import Usage
from ..protocols.dialect import ClientRequest, StreamTranslation
from ..protocols.dialects import client_dialect
from ..spend.budget import Reservation
from ..spend.events import SpendEvent
from ..spend.ledger import SpendLedger
from .answer_headers import answer_headers, attempt_headers
from .call import Call, is_client_timeout
from .call_spend import CallSpend, call_event
from .call_timing import CallTiming
from .observers import EndedCall, FailedAttempt, Observer
from .routing.load import DeploymentLoad

# Of a stream's answer that is put together for those who watch.
_MAX_ANSWER_BYTES = 1024 * 1024


class CallRecord:
    """Ends exactly once: the first of `succeed` and `fail` counts.

    `on_stream_failure` is told of a deployment whose stream broke after the client had seen it begin.
    """

    def __init__(
        self,
        call: Call,
        request: ClientRequest,
        reservation: Reservation,
        ledger: SpendLedger,
        observers: Observer,
        load: DeploymentLoad,
        on_stream_failure: Callable[[Deployment, UpstreamError], None],
    ) -> None:
        self._call = call
        self._request = request
        self._ledger = ledger
        self._observers = observers
        self._load = load
        self._on_stream_failure = on_stream_failure
        self.timing = CallTiming()
        self.spend = CallSpend(reservation)
        # The name that was asked for, then the group that took over.
        self._group = request.model
        # Groups of deployments that were left for another one.
        self.fallbacks = 0
        self._attempts = 0
        # Groups of which a deployment was asked: not one that is cooling down as a whole.
        self._groups_asked = 0
        self._is_new_group = True
        # The deployment whose attempt runs.
        self._running = ""
        self._deployment: Deployment | None = None
        self._failed: list[FailedAttempt] = []
        # Under which the answer is cached, for a call that may use the cache.
        self.cache_key: str | None = None
        self._is_cache_hit = False
        # What a call that ended well used.
        self.usage: Usage | None = None
        # Of the provider's answer, as they are passed on.
        self.upstream_headers: Mapping[str, str] = {}
        # Puts a stream's answer together where somebody wants to see it.
        wants_answer = request.is_stream and observers.wants_answers
        self._assembler = client_dialect(request).assembler(call.endpoint) if wants_answer else None
        self._is_open = True

    def fall_back(self, group: str, reservation: Reservation) -> None:
        """Another group takes over."""
        self.fallbacks += 1
        self._group = group
        self._is_new_group = True
        self.spend.move(reservation)

    # ---- attempts --------------------------------------------------------------------------------------------------

    def start_attempt(self, deployment: Deployment, reservation: Reservation | None) -> None:
        """`reservation`: what the attempt holds of its provider's budget and its deployment's limits."""
        self.spend.hold_attempt(reservation)
        self._deployment = deployment
        self.timing.start_attempt()
        self._attempts += 1
        self._groups_asked += self._is_new_group
        self._is_new_group = False
        self._running = deployment.id
        self._load.begin(deployment.id)

    def end_attempt(self, error: UpstreamError) -> None:
        """Remember a failed try, for the log and the headers."""
        seconds = self.timing.end_attempt()
        self._stop_running()
        self.spend.release_attempt()
        if self._deployment is not None:
            offset = self.timing.attempt_offset
            failed = FailedAttempt(self._deployment, error.status, error.error_class, error.message, seconds, offset)
            self._failed.append(failed)

    def _stop_running(self) -> None:
        if self._running:
            self._load.end(self._running)
            self._running = ""

    @property
    def deployment_id(self) -> str:
        """Of the deployment that answered, or that was asked last."""
        return self._deployment.id if self._deployment is not None else ""

    # ---- ends ------------------------------------------------------------------------------------------------------

    def usage_of(self, stream: StreamTranslation) -> Usage:
        """What a stream used, as its provider says, else as it looks."""
        return stream.usage or stream.estimated_usage(self._request.body_bytes)

    def succeed(self, usage: Usage, answer: bytes | None = None) -> None:
        if self._is_open:
            if self.timing.first_chunk_at is None:
                self.timing.end_attempt()
            self._end(usage, {}, answer=answer)

    def succeed_from_cache(self, usage: Usage, deployment: Deployment | None, answer: bytes | None = None) -> None:
        """An earlier answer serves again: nothing was used. `usage` and `deployment` are those of the earlier call."""
        if self._is_open:
            self._is_cache_hit, self._deployment = True, deployment
            self._end(usage, {}, answer=answer)

    def pass_on(self, frames: bytes, stream: StreamTranslation) -> None:
        """See what a stream's client gets next, and settle the stream as soon as its end was read."""
        if self._assembler is not None and not self._assembler.is_given_up:
            self._assembler.feed(frames)
            if self._assembler.size > _MAX_ANSWER_BYTES:
                self._assembler.give_up()
        if stream.has_finished:
            self.succeed(self.usage_of(stream))

    def fail(self, status: int, error_class: str, message: str, usage: Usage | None = None) -> None:
        """Log a failure as one. Tokens that a stream delivered before it broke are billed."""
        if self._is_open:
            error = {"error_code": str(status), "error_class": error_class, "error_message": message[:1000]}
            self._end(usage or Usage(), {"error_information": error}, status=status, error_class=error_class)

    def break_off(self, error: UpstreamError, usage: Usage) -> None:
        """The stream broke after it had begun: too late for anybody to take over, but not for routing to learn."""
        is_by_client = is_client_timeout(error, self._call, self._request.options)
        if self._is_open and self._deployment is not None and not is_by_client:
            self._on_stream_failure(self._deployment, error)
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
        """Settle, record, tell."""
        self._is_open = False
        self.usage = usage if not error_class else None
        if not error_class and self._running:
            self._record_speed(usage)
        self._stop_running()
        prices = self._deployment.prices if self._deployment else None
        cost = self.spend.settle(usage, prices, is_cached=self._is_cache_hit)
        event = self._event("failure" if error_class else "success", usage, cost, self._with_details(facts, usage))
        self._ledger.record(event)
        if answer is None and self._assembler is not None:
            answer = self._assembler.so_far(usage)
        self._tell(event, usage, status, error_class, answer)

    def _tell(self, event: SpendEvent, usage: Usage, status: int, error_class: str, answer: bytes | None) -> None:
        timing = self.timing
        self._observers.call_ended(
            EndedCall(
                call=self._call,
                model=self._request.model,
                deployment=self._deployment,
                failed=self._failed,
                fallbacks=self.fallbacks,
                event=event,
                usage=usage,
                cost=self.spend.cost,
                is_success=not error_class,
                status=status,
                error_class=error_class,
                total_seconds=timing.total_seconds,
                upstream_seconds=timing.upstream_seconds,
                first_chunk_seconds=timing.first_chunk_seconds,
                answer=answer,
                reservation=self.spend.reservation,
                attempt_offset=timing.attempt_offset,
                upstream_headers=self.upstream_headers,
            )
        )

    def _with_details(self, facts: dict[str, Any], usage: Usage) -> dict[str, Any]:
        """The metadata of the log: besides the facts, what was counted and who failed before."""
        if self.spend.cost is None:
            facts["unpriced"] = True
        if usage.raw:
            facts["usage_object"] = dict(usage.raw)
        if self._failed:
            facts["failed_attempts"] = [
                {"model_id": attempt.deployment.id, "status": attempt.status, "error": attempt.message[:200]}
                for attempt in self._failed
            ]
        return facts

    def _record_speed(self, usage: Usage) -> None:
        """How fast the deployment answered, for routing that goes by it."""
        self._load.record_success(
            self._running,
            tokens=usage.total_tokens,
            completion_tokens=usage.completion_tokens,
            seconds=self.timing.attempt_seconds,
            first_chunk=self.timing.attempt_first_chunk,
        )

    def _event(self, status: str, usage: Usage, cost: Decimal, metadata: dict[str, Any]) -> SpendEvent:
        deployment = self._deployment
        return call_event(
            self._call,
            Usage() if self._is_cache_hit else usage,
            access_groups=self.spend.access_groups,
            start_time=self.timing.started_at,
            first_chunk_time=self.timing.first_chunk_at,
            cost=cost,
            model=deployment.upstream_model if deployment else "",
            model_id=deployment.id if deployment else "",
            model_group=self._group,
            provider=deployment.provider.name if deployment else "",
            api_base=deployment.api_base if deployment else None,
            windows=self.spend.windows,
            is_team_priced=deployment is not None and deployment.is_team_made,
            is_cache_hit=self._is_cache_hit,
            cache_key=self.cache_key,
            metadata=metadata,
            status=status,
        )

    # ---- headers ---------------------------------------------------------------------------------------------------

    def headers(self) -> dict[str, str]:
        """Of a good answer."""
        headers = answer_headers(self._call, self._group, self._deployment, self.timing, self.spend)
        headers.update(self.headers_of_attempts())
        if self._is_cache_hit and self.cache_key is not None:
            headers["x-litellm-cache-key"] = self.cache_key
        return headers

    def headers_of_attempts(self) -> dict[str, str]:
        """Of answers and errors."""
        return attempt_headers(retries=self._attempts - self._groups_asked, fallbacks=self.fallbacks)
