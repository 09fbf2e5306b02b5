"""Budgets in memory: hold an estimate before a call, settle its cost after, exactly once.

What a scope has spent is `known` (the database at the last look) + `unwritten` (settled here, not yet flushed)
+ `held` (running calls). A call is admitted while that is below the ceiling, so that calls which run at the same
time see each other. Figures of other processes arrive when a key is looked up again.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from decimal import Decimal

from ..auth.principal import BudgetScope
from ..errors import BudgetExceeded

ScopeName = tuple[str, str]

# Between the two ids of a membership; no id that a person writes holds it.
_UNIT_SEPARATOR = "\x1f"


def member_id(team_id: str, user_id: str) -> str:
    """The scope id of one user in one team."""
    return f"{team_id}{_UNIT_SEPARATOR}{user_id}"


def team_and_user(member_id: str) -> tuple[str, str]:
    team_id, _, user_id = member_id.partition(_UNIT_SEPARATOR)
    return team_id, user_id


@dataclass(slots=True)
class _Account:
    known: Decimal = Decimal(0)
    unwritten: Decimal = Decimal(0)
    held: Decimal = Decimal(0)

    @property
    def spend(self) -> Decimal:
        return self.known + self.unwritten


class Reservation:
    """Money that is held for one running call. `settle` or `release` it; the second of the two does nothing."""

    __slots__ = ("_accounts", "_amount", "_book", "_is_open", "_names")

    def __init__(self, book: BudgetBook, names: tuple[ScopeName, ...], amount: Decimal) -> None:
        self._book = book
        self._names = names
        self._accounts = [book.account(name) for name in names]
        self._amount = amount
        self._is_open = True
        for account in self._accounts:
            account.held += amount

    def settle(self, cost: Decimal) -> None:
        """Replace the estimate by the cost."""
        if not self._close():
            return
        for name in self._names:
            self._book.account(name).unwritten += cost

    def release(self) -> None:
        """Give the estimate back: the call cost nothing."""
        self._close()

    def _close(self) -> bool:
        if not self._is_open:
            return False
        self._is_open = False
        for account in self._accounts:
            account.held -= self._amount
        return True


class BudgetBook:
    def __init__(self, exceeded_status: int = 422) -> None:
        self._accounts: dict[ScopeName, _Account] = {}
        self._exceeded_status = exceeded_status
        self._writes = 0

    def account(self, name: ScopeName) -> _Account:
        account = self._accounts.get(name)
        if account is None:
            account = self._accounts[name] = _Account()
        return account

    def start_reading(self) -> int:
        """Mark the moment before spend is read from the database; hand it to `observe`."""
        return self._writes

    def observe(self, scope: BudgetScope, spend: Decimal, reading: int) -> None:
        """Take over what the database says, unless a flush came between reading and now: then the next look does."""
        name = (scope.kind, scope.id)
        if reading == self._writes or name not in self._accounts:
            self.account(name).known = spend

    def written(self, amounts: Mapping[ScopeName, Decimal]) -> None:
        """The ledger has flushed these amounts: they are in the database now."""
        self._writes += 1
        for name, amount in amounts.items():
            account = self._accounts.get(name)
            if account is not None:
                account.known += amount
                account.unwritten = max(Decimal(0), account.unwritten - amount)

    def spend_of(self, kind: str, id: str) -> Decimal:
        """What a scope has spent, calls that are not yet in the database included."""
        account = self._accounts.get((kind, id))
        return account.spend if account is not None else Decimal(0)

    def reserve(self, scopes: Iterable[BudgetScope], estimate: Decimal) -> Reservation:
        """Hold `estimate` USD below every ceiling. Raises the contract's refusal for the first that is reached."""
        scopes = tuple(scopes)
        for scope in scopes:
            if scope.max_budget is None:
                continue
            account = self.account((scope.kind, scope.id))
            if account.spend + account.held >= scope.max_budget:
                raise BudgetExceeded(
                    f"Budget has been exceeded! {scope.label} Current cost: {_plain(account.spend)}, "
                    f"Max budget: {_plain(scope.max_budget)}",
                    status=self._exceeded_status,
                )
        return Reservation(self, tuple((scope.kind, scope.id) for scope in scopes), estimate)


def _plain(amount: Decimal) -> str:
    """An amount for people: `0.013`, without the zeros that the database adds."""
    return format(amount.normalize(), "f")
