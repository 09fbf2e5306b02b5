"""Budgets that depend on what a call says, not on its key: tags, end users, access groups, and the whole instance.

The few that were declared are cached in memory and read again every few seconds; end users are looked up one by one.
"""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal

import structlog

from ..models import Budget, EndUser, ModelAccessGroupBudget, Tag
from ..models.budget_period import start_new_period
from ..settings import Settings
from ..storage.database import DATABASE_AWAY, DATABASE_REFUSED, Database
from .scopes import BudgetScope, RateLimit
from .windows import WindowCeiling, budget_windows, window_scopes

log = structlog.get_logger(__name__)

_MAX_DECLARED = 10_000
_MAX_END_USERS = 20_000
_OUTAGE_TTL_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class EndUserFacts:
    """What bounds the calls of one end user."""

    is_blocked: bool = False
    models: tuple[str, ...] = ()
    scope: BudgetScope | None = None
    limit: RateLimit | None = None


class SharedScopes:
    def __init__(self, settings: Settings, database: Database) -> None:
        self._settings = settings
        self._database = database
        self._ttl = settings.key_cache_ttl
        self._tags: dict[str, tuple[BudgetScope, RateLimit]] = {}
        self._groups: dict[str, BudgetScope] = {}
        self._instance: tuple[BudgetScope, ...] = ()
        self._providers: dict[str, BudgetScope] = {}
        self._end_users: OrderedDict[tuple[str, str], tuple[EndUserFacts, float]] = OrderedDict()
        self._fresh_until = 0.0
        self._changes = 0
        self._reading: asyncio.Task[None] | None = None

    def forget(self) -> None:
        """Something declared has changed: look again before the next call."""
        self._fresh_until = 0.0
        self._changes += 1
        # Served in an outage of the database, but no longer fresh.
        self._end_users = OrderedDict((key, (facts, 0.0)) for key, (facts, _) in self._end_users.items())

    async def refresh(self) -> None:
        """Read what was declared, unless it was read just now. An outage leaves what is known.

        One reading at a time, however many calls wait for it, and it goes on when the first of them leaves.
        """
        for _ in range(2):  # the first that is waited for may have begun before something changed
            if time.monotonic() < self._fresh_until:
                return
            if self._reading is None or self._reading.done():
                self._reading = asyncio.create_task(self._refresh())
            await asyncio.shield(self._reading)

    async def _refresh(self) -> None:
        changes, ttl = self._changes, _OUTAGE_TTL_SECONDS
        try:
            with self._database.active():
                await self._read()
            ttl = _seconds_to_serve(self._all_scopes(), self._ttl)
        except (*DATABASE_AWAY, *DATABASE_REFUSED) as problem:
            log.warning("shared budgets refresh failed", reason=type(problem).__name__)
        if changes == self._changes:
            self._fresh_until = time.monotonic() + ttl

    def _all_scopes(self) -> Iterator[BudgetScope]:
        yield from (scope for scope, _ in self._tags.values())
        yield from self._groups.values()
        yield from self._instance
        yield from self._providers.values()

    def of_call(self, tags: Iterable[str], groups: Iterable[str]) -> Iterator[BudgetScope]:
        """The budgets of a call's tags, of its model's access groups, and of the instance."""
        for tag in dict.fromkeys(tags):
            if tag in self._tags:
                yield self._tags[tag][0]
        for group in sorted(groups):
            if group in self._groups:
                yield self._groups[group]
        yield from self._instance

    def limits_of_tags(self, tags: Iterable[str]) -> Iterator[RateLimit]:
        for tag in dict.fromkeys(tags):
            if tag in self._tags and self._tags[tag][1].says_something:
                yield self._tags[tag][1]

    def of_provider(self, provider: str) -> BudgetScope | None:
        return self._providers.get(provider)

    @property
    def has_provider_budgets(self) -> bool:
        return bool(self._providers)

    async def end_user(self, user_id: str, budget_id: str | None) -> EndUserFacts:
        """What bounds an end user; `budget_id` is what the caller's key gives those without a budget of their own."""
        key = (user_id, budget_id or "")
        known = self._end_users.get(key)
        if known is not None and known[1] > time.monotonic():
            return known[0]
        changes = self._changes
        try:
            with self._database.active():
                facts = await self._read_end_user(user_id, budget_id)
        except (*DATABASE_AWAY, *DATABASE_REFUSED) as problem:
            log.warning("end user lookup failed", reason=type(problem).__name__)
            return known[0] if known is not None else EndUserFacts()
        ttl = _seconds_to_serve([facts.scope] if facts.scope is not None else [], self._ttl)
        self._end_users[key] = (facts, time.monotonic() + ttl if changes == self._changes else 0.0)
        self._end_users.move_to_end(key)
        while len(self._end_users) > _MAX_END_USERS:
            self._end_users.popitem(last=False)
        return facts

    async def _read_end_user(self, user_id: str, budget_id: str | None) -> EndUserFacts:
        row = await EndUser.get_or_none(user_id=user_id)
        its_budget_id = (
            (row.budget_id if row is not None else None) or budget_id or self._settings.max_end_user_budget_id
        )
        budget = await Budget.get_or_none(budget_id=its_budget_id) if its_budget_id else None
        if row is not None:
            await self._start_period(row, budget)
        ceiling = budget.max_budget if budget is not None else self._settings.max_end_user_budget
        scope = BudgetScope(
            "end_user",
            user_id,
            f"End User={user_id}",
            ceiling,
            row.spend if row is not None else Decimal(0),
            budget.soft_budget if budget is not None else None,
            row.spend_epoch if row is not None else 0,
            row.budget_reset_at if row is not None else None,
        )
        limit = _limit("end_user", user_id, budget)
        return EndUserFacts(
            is_blocked=row.blocked if row is not None else False,
            models=tuple(row.models) if row is not None else (),
            scope=scope if ceiling is not None else None,
            limit=limit if limit.says_something else None,
        )

    async def _read(self) -> None:
        tags = await Tag.filter(budget_id__isnull=False).limit(_MAX_DECLARED)
        groups = await ModelAccessGroupBudget.filter(budget_id__isnull=False).limit(_MAX_DECLARED)
        ids = {row.budget_id for row in tags} | {row.budget_id for row in groups}
        budgets = {row.budget_id: row async for row in Budget.filter(budget_id__in=list(ids))} if ids else {}
        of_tags: dict[str, tuple[BudgetScope, RateLimit]] = {}
        for tag in tags:
            budget = budgets.get(tag.budget_id or "")
            await self._start_period(tag, budget)
            scope = _shared_scope("tag", tag.tag_name, f"Tag={tag.tag_name}", tag, budget, tag.spend_epoch)
            of_tags[tag.tag_name] = (scope, _limit("tag", tag.tag_name, budget))
        of_groups: dict[str, BudgetScope] = {}
        for group in groups:
            budget = budgets.get(group.budget_id or "")
            await self._start_period(group, budget)
            name = group.access_group
            of_groups[name] = _shared_scope("access_group", name, f"AccessGroup={name}", group, budget, 0)
        calendar = self._settings.budget_calendar
        windows = await window_scopes(list(_declared(self._settings)), calendar, datetime.now(UTC))
        self._tags, self._groups = of_tags, of_groups
        self._instance = tuple(scope for scope in windows if scope.kind == "proxy")
        self._providers = {scope.id: scope for scope in windows if scope.kind == "provider"}

    async def _start_period(self, row: Tag | ModelAccessGroupBudget | EndUser, budget: Budget | None) -> None:
        try:
            await start_new_period(row, budget, calendar=self._settings.budget_calendar)
        except ValueError as problem:
            # One period that cannot be read must not stop the calls of all others; its budget never starts anew.
            log.error("budget period invalid", budget=budget.budget_id if budget else None, reason=str(problem))


def _seconds_to_serve(scopes: Iterable[BudgetScope], ttl: float) -> float:
    """How long these may be served: what was spent in an old period must not bound the new one."""
    now = datetime.now(UTC)
    ends = [scope.resets_at for scope in scopes if scope.resets_at is not None and scope.resets_at > now]
    return min(ttl, (min(ends) - now).total_seconds()) if ends else ttl


def _shared_scope(
    kind: str, id: str, label: str, row: Tag | ModelAccessGroupBudget, budget: Budget | None, epoch: int
) -> BudgetScope:
    ceiling, soft = (budget.max_budget, budget.soft_budget) if budget is not None else (None, None)
    return BudgetScope(kind, id, label, ceiling, row.spend, soft, epoch, row.budget_reset_at)


def _limit(descriptor: str, id: str, budget: Budget | None) -> RateLimit:
    if budget is None:
        return RateLimit(descriptor, id, id, None, None, None)
    return RateLimit(descriptor, id, id, budget.rpm_limit, budget.tpm_limit, budget.max_parallel_requests)


def _declared(settings: Settings) -> Iterator[WindowCeiling]:
    """Ceilings that the settings declare: of the whole instance, and of providers."""
    if settings.max_budget is not None:
        yield WindowCeiling("proxy", "proxy", "Proxy", settings.budget_duration or "", settings.max_budget)
    for provider, facts in (settings.provider_budget_config or {}).items():
        if isinstance(facts, dict):
            declared = {
                "max_budget": facts.get("budget_limit", facts.get("max_budget")),
                "budget_duration": facts.get("time_period", facts.get("budget_duration")),
            }
            yield from budget_windows("provider", provider, f"Provider={provider}", [declared])
