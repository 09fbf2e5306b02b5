"""The record of one pass-through call: settles its reservation, logs its spend event, notifies observers."""

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
from ..call_spend import access_groups_of, call_event, windows_of
from ..observers import EndedCall, Observer
from .sources import Target
from .usage import UsageScanner


@dataclass(slots=True)
class Outcome:
    """How a call ended. `status` is the gateway's; `error_class` is empty for a success."""

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
        is_billable: bool = True,
    ) -> None:
        """`is_billable`: the provider generates for this call, instead of returning what was billed before."""
        self._call = call
        self._model = model
        self._is_billable = is_billable
        self._reservation = reservation
        self._ledger = ledger
        self._observer = observer
        self._started_at = datetime.now(UTC)
        self._started_clock = time.perf_counter()
        self._response_seconds: float | None = None
        self._first_chunk_at: datetime | None = None
        self._is_running = True
        self.target: Target | None = None

    def response_started(self) -> None:
        """The provider's status and headers have arrived."""
        self._response_seconds = time.perf_counter() - self._started_clock

    def first_chunk(self) -> None:
        if self._first_chunk_at is None:
            self._first_chunk_at = datetime.now(UTC)

    def end(self, outcome: Outcome, scanner: UsageScanner | None = None, usage: Usage | None = None) -> None:
        """Bill the usage and log the call. `usage` applies where the body has none, as from headers."""
        if not self._is_running:
            return
        self._is_running = False
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
        self._notify(event, used, cost if prices is not None or cost.total else None, outcome, is_stream=is_stream)

    def _used(self, scanner: UsageScanner | None, *, is_whole: bool) -> Usage | None:
        """The usage to bill. It is estimated only for a call that names a model: other streams are free."""
        if scanner is None or not (self._is_billable or scanner.is_background):
            return None
        return scanner.billed(len(self._call.body) // 4, is_whole=is_whole) if self._model else scanner.usage

    def _prices(self, response_model: str) -> Prices | None:
        target = self.target
        if target is None:
            return None
        source = target.source
        if source is not None and target.model in (source.model_name, source.upstream_model):
            return source.prices
        return prices_by_name(target.provider, target.model, response_model)

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
            access_groups=access_groups_of(self._reservation),
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

    def _notify(self, event: SpendEvent, usage: Usage, cost: Cost | None, outcome: Outcome, *, is_stream: bool) -> None:
        total = time.perf_counter() - self._started_clock
        first = self._first_chunk_at if is_stream else None
        self._observer.call_ended(
            EndedCall(
                call=self._call,
                # A name that was not checked is no model unless it was used: callers may send any name.
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
                upstream_seconds=total if self._response_seconds is None else self._response_seconds,
                first_chunk_seconds=(first - self._started_at).total_seconds() if first is not None else None,
                answer=None,
                reservation=self._reservation,
            )
        )


def prices_by_name(provider: str, *models: str) -> Prices | None:
    """The bundled prices of the first of these models that has any, under one of its spellings."""
    candidates = (listed_prices(provider, name) for model in models if model for name in _spellings(model))
    return next((prices for prices in candidates if prices is not None), None)


def _spellings(model: str) -> tuple[str, ...]:
    """A model as the price table may list it: as it is, without its path, without the region of a Bedrock profile."""
    last = model.rpartition("/")[2]
    region, _, rest = last.partition(".")
    names = [model, last, rest if region in ("us", "eu", "apac", "global", "us-gov") else last]
    return tuple(dict.fromkeys(names))
