"""Budgets and limits of one call: hold an estimate before it, settle what it used after it, exactly once."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import structlog

from ..errors import BudgetExceeded, TooManyRequests
from .counters import Claim, Counters, Hold, Refusal
from .scopes import BudgetScope, RateLimit

log = structlog.get_logger(__name__)

_ZERO = Decimal(0)
# A soft budget that was passed is logged once in this time, by each process.
_WARNING_INTERVAL_SECONDS = 24 * 3600.0
_MAX_WARNINGS = 10_000


class ModelBudgetExceeded(BudgetExceeded):
    """The budget of one model is used up; others of the same caller may have room (`budget_fallbacks`)."""


@dataclass(slots=True)
class Reservation:
    """What one running call holds. `settle` it; only the first time counts.

    `shared_scopes`, `shared_limits`: not held here, but by each attempt that others than the caller's team pay for.
    """

    scopes: Sequence[BudgetScope]
    limits: Sequence[RateLimit]
    _hold: Hold | None
    _is_open: bool = True
    shared_scopes: Sequence[BudgetScope] = ()
    shared_limits: Sequence[RateLimit] = ()

    def settle(self, cost: Decimal, tokens: int = 0) -> None:
        """Replace what was held by what was used; nothing for a call that never ran."""
        if self._hold is not None and self._is_open:
            self._is_open = False
            self._hold.counters.settle(self._hold, cost, tokens)

    def spend_of(self, kind: str) -> Decimal | None:
        """What the first scope of a kind had spent when the call was admitted."""
        hold = self._hold
        for index, scope in enumerate(self.scopes):
            if scope.kind == kind and not scope.is_window:
                return hold.spends[index] if hold is not None else scope.spend
        return None

    def spends(self) -> Iterator[tuple[BudgetScope, Decimal]]:
        """Each scope and what it had spent when the call was admitted, this call and others that ran left out."""
        spends = self._hold.spends if self._hold is not None else [scope.spend for scope in self.scopes]
        return zip(self.scopes, spends, strict=False)

    def headers(self) -> dict[str, str]:
        """What is left of each limit, in the headers by which client libraries throttle themselves."""
        headers: dict[str, str] = {}
        used = self._hold.used if self._hold is not None else ()
        for limit, (requests, tokens) in zip(self.limits, used, strict=False):
            prefix = f"x-ratelimit-{limit.descriptor}"
            if limit.rpm is not None:
                headers[f"{prefix}-limit-requests"] = str(limit.rpm)
                headers[f"{prefix}-remaining-requests"] = str(max(0, limit.rpm - requests))
            if limit.tpm is not None:
                headers[f"{prefix}-limit-tokens"] = str(limit.tpm)
                headers[f"{prefix}-remaining-tokens"] = str(max(0, limit.tpm - tokens))
        return headers


class Budgets:
    """Admits calls by counters, and refuses them with the messages that clients match."""

    def __init__(self, counters: Counters, exceeded_status: int = 422) -> None:
        self._counters = counters
        self.exceeded_status = exceeded_status
        # Called with each budget of a caller: its spend, and whether it refuses the call.
        self.listener: Callable[[BudgetScope, Decimal, bool], None] | None = None
        self._warned: dict[str, float] = {}

    async def reserve(
        self,
        scopes: Sequence[BudgetScope],
        limits: Sequence[RateLimit] = (),
        estimate: Decimal = _ZERO,
        tokens: int = 0,
    ) -> Reservation:
        """Hold `estimate` USD below every ceiling and one request with `tokens` within every limit, all or nothing.

        Raises BudgetExceeded or TooManyRequests for the first that is in the way.
        """
        if not scopes and not limits:
            return Reservation((), (), None)
        claim = Claim([scope.counter for scope in scopes], [limit.limit for limit in limits], estimate, tokens)
        verdict = await self._counters.admit(claim)
        if isinstance(verdict, Refusal):
            raise self._budget_error(scopes, verdict) if verdict.unit == "budget" else _limit_error(limits, verdict)
        for scope, spend in zip(scopes, verdict.spends, strict=True):
            if scope.soft_budget is not None and spend >= scope.soft_budget:
                self._warn(scope, spend)
            if self.listener is not None:
                self.listener(scope, spend, False)
        return Reservation(scopes, limits, verdict)

    def _budget_error(self, scopes: Sequence[BudgetScope], refusal: Refusal) -> BudgetExceeded:
        scope = scopes[refusal.index]
        if self.listener is not None:
            self.listener(scope, refusal.used, True)
        kind = ModelBudgetExceeded if scope.model else BudgetExceeded
        return kind(_exceeded(scope, refusal.used), status=self.exceeded_status)

    def _warn(self, scope: BudgetScope, spend: Decimal) -> None:
        now = time.monotonic()
        if now - self._warned.get(scope.counter.name, -_WARNING_INTERVAL_SECONDS) < _WARNING_INTERVAL_SECONDS:
            return
        if len(self._warned) >= _MAX_WARNINGS:
            self._warned.clear()
        self._warned[scope.counter.name] = now
        log.warning("soft budget reached", scope=scope.label, spend=plain(spend), soft_budget=str(scope.soft_budget))


def _exceeded(scope: BudgetScope, spend: Decimal) -> str:
    ceiling = scope.max_budget or _ZERO
    if scope.is_window and not scope.model:
        return f"ExceededBudget: {scope.label} over {scope.period} budget. Spend=${spend:.4f}, Limit=${ceiling:.2f}"
    if scope.model:
        return (
            f"Budget has been exceeded! {scope.label} over budget for model={scope.model}. "
            f"Current cost: {plain(spend)}, Max budget: {plain(ceiling)}"
        )
    if scope.kind in ("user", "end_user"):
        return f"ExceededBudget: {scope.label} over budget. Spend={plain(spend)}, Budget={plain(ceiling)}"
    return f"Budget has been exceeded! {scope.label} Current cost: {plain(spend)}, Max budget: {plain(ceiling)}"


def _limit_error(limits: Sequence[RateLimit], refusal: Refusal) -> TooManyRequests:
    limit, unit = limits[refusal.index], refusal.unit
    ceiling = {"requests": limit.rpm, "tokens": limit.tpm, "max_parallel_requests": limit.parallel}[unit] or 0
    remaining = max(0, ceiling - int(refusal.used)) if unit == "tokens" else 0
    resets_at = datetime.now(UTC) + timedelta(seconds=refusal.seconds)
    return TooManyRequests(
        f"Rate limit exceeded for {limit.descriptor}: {limit.label}. Limit type: {unit}. "
        f"Current limit: {ceiling}, Remaining: {remaining}. "
        f"Limit resets at: {resets_at:%Y-%m-%d %H:%M:%S} UTC",
        headers={"retry-after": str(refusal.seconds), "rate_limit_type": unit},
    )


def plain(amount: Decimal) -> str:
    """An amount for people: `0.013`, without the zeros that the database adds."""
    return format(amount.normalize(), "f")
