"""The money of a call: what is held for it while it runs, what it cost in the end, and its event for the ledger.

`spend_event` makes every event that the gateway records: of calls, pass-through, batches and health checks.
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from ..auth.principal import Principal
from ..protocols.base import Usage
from ..spend.budget import Reservation
from ..spend.events import SpendEvent, SpendWindow
from ..spend.pricing import Cost, Prices, price_of
from .call import Call

_NAME_LENGTH = 255
_PROVIDER_LENGTH = 64
FREE = Cost(Decimal(0), Decimal(0), Decimal(0))


class CallSpend:
    """What one call holds of budgets and limits, until it is settled by what it used.

    `cost` None: not known yet, or the model has no price. `windows` and `access_groups`: what the cost counts in beside
    own budgets.
    """

    __slots__ = ("_attempt", "access_groups", "cost", "reservation", "windows")

    def __init__(self, reservation: Reservation) -> None:
        self.reservation = reservation
        self.windows, self.access_groups = windows_of(reservation), access_groups_of(reservation)
        # What the running attempt holds of its provider's budget and its deployment's limits.
        self._attempt: Reservation | None = None
        self.cost: Cost | None = None

    def move(self, reservation: Reservation) -> None:
        """Another group takes over: what is held for the call is held there from now on."""
        self.reservation.settle(Decimal(0))
        self.reservation = reservation
        self.windows, self.access_groups = windows_of(reservation), access_groups_of(reservation)

    def hold_attempt(self, reservation: Reservation | None) -> None:
        """The next attempt holds this as well."""
        self._attempt = reservation

    def release_attempt(self) -> None:
        """The attempt failed: it used nothing."""
        self._settle_attempt(Decimal(0), 0)

    def settle(self, usage: Usage, prices: Prices | None, *, is_cached: bool) -> Decimal:
        """Replace what was held by what was used; answers the cost in USD. A cached answer used nothing."""
        self.cost = FREE if is_cached else price_of(usage, prices)
        total, tokens = (self.cost or FREE).total, 0 if is_cached else usage.total_tokens
        self.reservation.settle(total, tokens)
        self._settle_attempt(total, tokens)
        return total

    def _settle_attempt(self, cost: Decimal, tokens: int) -> None:
        if self._attempt is not None:
            if cost:
                self.windows = [*self.windows, *windows_of(self._attempt)]
                self.access_groups = [*self.access_groups, *access_groups_of(self._attempt)]
            self._attempt.settle(cost, tokens)
            self._attempt = None


def windows_of(reservation: Reservation) -> list[SpendWindow]:
    """The windows that a call's cost counts in, as the ledger writes them."""
    return [
        SpendWindow(scope.kind, scope.id, scope.model, scope.period, scope.starts_at)
        for scope in reservation.scopes
        if scope.starts_at is not None
    ]


def access_groups_of(reservation: Reservation) -> list[str]:
    """The access groups whose budgets a call's cost counts in."""
    return [scope.id for scope in reservation.scopes if scope.kind == "access_group"]


def call_event(call: Call, usage: Usage, **facts: Any) -> SpendEvent:
    """A call that ends now: who called and what was used; the rest are fields of the event."""
    return spend_event(
        usage,
        payer=call.principal,
        tags=call.tags,
        request_id=str(uuid.uuid4()),
        call_type=call.endpoint.call_type,
        endpoint=call.endpoint.path,
        end_time=datetime.now(UTC),
        end_user=call.end_user[:_NAME_LENGTH],
        session_id=call.session_id[:_NAME_LENGTH] if call.session_id else None,
        call_id=call.call_id[:_NAME_LENGTH],
        ip_address=call.ip_address,
        **facts,
    )


def spend_event(
    usage: Usage,
    *,
    payer: Principal | None = None,
    tags: Sequence[str] = (),
    model: str = "",
    model_id: str = "",
    model_group: str = "",
    provider: str = "",
    **facts: Any,
) -> SpendEvent:
    """What the ledger keeps of work that was paid for; `facts` are further fields of the event.

    `payer` None: the instance itself. Names are cut to what their columns hold.
    """
    who: dict[str, Any] = {}
    if payer is not None:
        who = {
            "key_hash": payer.key_hash,
            "user_id": payer.user_id,
            "team_id": payer.team_id,
            "is_session": payer.is_session,
            "organization_id": payer.organization_id,
            "tags": list(dict.fromkeys([*payer.tags, *tags])),
        }
    return SpendEvent(
        prompt_tokens=usage.prompt_tokens,
        completion_tokens=usage.completion_tokens,
        cache_read_tokens=usage.cache_read_tokens,
        cache_write_tokens=usage.cache_write_tokens,
        model=model[:_NAME_LENGTH],
        model_id=model_id[:_NAME_LENGTH],
        model_group=model_group[:_NAME_LENGTH],
        provider=provider[:_PROVIDER_LENGTH],
        **who,
        **facts,
    )
