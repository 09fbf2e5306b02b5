"""What one pass-through call leaves behind: its settled reservation, its spend event, and what watchers are told."""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from ...protocols.base import Usage
from ...spend.budget import Reservation
from ...spend.events import SpendEvent
from ...spend.ledger import SpendLedger
from ...spend.pricing import Cost, Prices, cost_of, listed_prices
from ..call import Call
from ..call_spend import call_event, windows_of
from ..observers import EndedCall, Observer
from .sources import Target
from .usage import UsageScanner


@dataclass(slots=True)
class Outcome:
    """How a call ended. `status` is ours; `error_class` is empty for a success."""

    status: int
    error_class: str = ""
    message: str = ""


class PassThroughRecord:
    """Follows one call from admission to its end. Ends exactly once: the first `end` counts."""

    def __init__(
        self,
        call: Call,
        model: str,
        reservation: Reservation,
        ledger: SpendLedger,
        observer: Observer,
        *,
        is_asking: bool = True,
    ) -> None:
        """`is_asking`: the provider works for this call. Otherwise it reads what an earlier one was billed for."""
        self._call = call
        self._model = model
        self._is_asking = is_asking
        self._reservation = reservation
        self._ledger = ledger
        self._observer = observer
        self._started_at = datetime.now(UTC)
        self._clock = time.perf_counter()
        self._answered_seconds: float | None = None
        self._first_chunk_at: datetime | None = None
        self._is_open = True
        self.target: Target | None = None

    def answered(self) -> None:
        """The provider's status is here."""
        self._answered_seconds = time.perf_counter() - self._clock

    def first_chunk(self) -> None:
        if self._first_chunk_at is None:
            self._first_chunk_at = datetime.now(UTC)

    def end(self, outcome: Outcome, scanner: UsageScanner | None = None, usage: Usage | None = None) -> None:
        """Bill what was used and log the call, a failure as one. `usage` is what no body said."""
        if not self._is_open:
            return
        self._is_open = False
        used = self._used(scanner, is_whole=not outcome.error_class) or usage or Usage()
        prices = self._prices(scanner.model if scanner is not None else "")
        cost = self._cost(used, prices, is_failure=bool(outcome.error_class))
        self._reservation.settle(cost.total, used.total_tokens)
        is_stream = scanner is not None and scanner.is_stream
        facts: dict[str, Any] = {"pass_through_path": self._call.path[:1000]}
        if used.total_tokens and prices is None:
            facts["unpriced"] = True
        if used.raw:
            facts["usage_object"] = dict(used.raw)
        if outcome.error_class:
            facts["error_information"] = {
                "error_code": str(outcome.status),
                "error_class": outcome.error_class,
                "error_message": outcome.message[:1000],
            }
        event = self._event(used, cost.total, facts, outcome, is_stream=is_stream)
        self._ledger.record(event)
        self._tell(event, used, cost if prices is not None or cost.total else None, outcome, is_stream=is_stream)

    def _used(self, scanner: UsageScanner | None, *, is_whole: bool) -> Usage | None:
        """Only what names a model is estimated: other streams say words that nobody pays for."""
        if scanner is None or not (self._is_asking or scanner.is_of_background):
            return None
        return scanner.billed(len(self._call.body) // 4, is_whole=is_whole) if self._model else scanner.usage

    def _prices(self, answered_model: str) -> Prices | None:
        target = self.target
        if target is None:
            return None
        source = target.source
        if source is not None and target.model in (source.model_name, source.upstream_model):
            return source.prices
        return prices_by_name(target.provider, target.model, answered_model)

    def _cost(self, usage: Usage, prices: Prices | None, *, is_failure: bool) -> Cost:
        tokens = cost_of(usage, prices) if prices is not None else Cost(Decimal(0), Decimal(0), Decimal(0))
        fee = self.target.cost_per_request if self.target is not None and not is_failure else Decimal(0)
        return Cost(tokens.total + fee, tokens.input, tokens.output)

    def _event(
        self, usage: Usage, cost: Decimal, facts: dict[str, Any], outcome: Outcome, *, is_stream: bool
    ) -> SpendEvent:
        target = self.target
        source = target.source if target is not None else None
        return call_event(
            self._call,
            usage,
            self._reservation,
            start_time=self._started_at,
            first_chunk_time=self._first_chunk_at if is_stream else None,
            cost=cost,
            model=target.model if target is not None else self._model,
            model_id=source.id if source is not None else "",
            model_group=self._model,
            provider=target.provider if target is not None else "",
            api_base=target.base if target is not None else None,
            windows=windows_of(self._reservation),
            metadata=facts,
            status="failure" if outcome.error_class else "success",
        )

    def _tell(self, event: SpendEvent, usage: Usage, cost: Cost | None, outcome: Outcome, *, is_stream: bool) -> None:
        total = time.perf_counter() - self._clock
        first = self._first_chunk_at if is_stream else None
        self._observer.call_ended(
            EndedCall(
                call=self._call,
                # A name that nobody checked is no model because of an answer that used nothing: anybody may write any.
                model=self._model if usage.total_tokens or outcome.error_class else "",
                deployment=None,
                failed=(),
                fallbacks=0,
                event=event,
                usage=usage,
                cost=cost,
                is_success=not outcome.error_class,
                status=outcome.status,
                error_class=outcome.error_class,
                total_seconds=total,
                upstream_seconds=total if self._answered_seconds is None else self._answered_seconds,
                first_chunk_seconds=(first - self._started_at).total_seconds() if first is not None else None,
                answer=None,
                reservation=self._reservation,
            )
        )


def prices_by_name(provider: str, *models: str) -> Prices | None:
    """What the first of these models costs that the table knows under some spelling."""
    found = (listed_prices(provider, name) for model in models if model for name in _spellings(model))
    return next((prices for prices in found if prices is not None), None)


def _spellings(model: str) -> tuple[str, ...]:
    """A model as the price table may know it: as it is, without its path, without the region of a Bedrock profile."""
    last = model.rpartition("/")[2]
    region, _, rest = last.partition(".")
    names = [model, last, rest if region in ("us", "eu", "apac", "global", "us-gov") else last]
    return tuple(dict.fromkeys(names))
