"""Budgets that hang on what a call says instead of on its key: tags, end users, access groups, and the whole instance.

The few that were declared are kept in memory and read again every few seconds; end users are looked up one by one.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal

import structlog

from ..db import DATABASE_AWAY, DATABASE_REFUSED, Database
from ..models import Budget, EndUser, ModelAccessGroupBudget, Tag
from ..models.budget_period import start_new_period
from ..settings import Settings
from .scopes import BudgetScope, RateLimit
from .windows import WindowCeiling, budget_windows, window_scopes

log = structlog.get_logger(__name__)

_MOST_DECLARED = 10_000
_MOST_END_USERS = 20_000
_NOT_WHILE_AWAY_SECONDS = 1.0


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

    def forget(self) -> None:
        """Something declared has changed: look again before the next call."""
        self._fresh_until = 0.0
        self._end_users.clear()

    async def refresh(self) -> None:
        """Read what was declared, unless it was read just now. An outage leaves what is known."""
        if time.monotonic() < self._fresh_until:
            return
        self._fresh_until = time.monotonic() + self._ttl
        try:
            with self._database.active():
                await self._read()
        except (*DATABASE_AWAY, *DATABASE_REFUSED) as problem:
            self._fresh_until = time.monotonic() + _NOT_WHILE_AWAY_SECONDS
            log.warning("shared budgets served from last known state", reason=type(problem).__name__)

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
        try:
            with self._database.active():
                facts = await self._read_end_user(user_id, budget_id)
        except (*DATABASE_AWAY, *DATABASE_REFUSED) as problem:
            log.warning("an end user is served from last known state", reason=type(problem).__name__)
            return known[0] if known is not None else EndUserFacts()
        self._end_users[key] = (facts, time.monotonic() + self._ttl)
        self._end_users.move_to_end(key)
        while len(self._end_users) > _MOST_END_USERS:
            self._end_users.popitem(last=False)
        return facts

    async def _read_end_user(self, user_id: str, budget_id: str | None) -> EndUserFacts:
        row = await EndUser.get_or_none(user_id=user_id)
        wanted = (row.budget_id if row is not None else None) or budget_id or self._settings.max_end_user_budget_id
        budget = await Budget.get_or_none(budget_id=wanted) if wanted else None
        if row is not None:
            await start_new_period(row, budget, calendar=self._settings.budget_calendar)
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
        calendar, now = self._settings.budget_calendar, datetime.now(UTC)
        tags = await Tag.filter(budget_id__isnull=False).limit(_MOST_DECLARED)
        groups = await ModelAccessGroupBudget.filter(budget_id__isnull=False).limit(_MOST_DECLARED)
        ids = {row.budget_id for row in tags} | {row.budget_id for row in groups}
        budgets = {row.budget_id: row async for row in Budget.filter(budget_id__in=list(ids))} if ids else {}
        found: dict[str, tuple[BudgetScope, RateLimit]] = {}
        for tag in tags:
            budget = budgets.get(tag.budget_id or "")
            await start_new_period(tag, budget, calendar=calendar)
            scope = _shared_scope("tag", tag.tag_name, f"Tag={tag.tag_name}", tag, budget, tag.spend_epoch)
            found[tag.tag_name] = (scope, _limit("tag", tag.tag_name, budget))
        self._tags = found
        self._groups = {}
        for group in groups:
            budget = budgets.get(group.budget_id or "")
            await start_new_period(group, budget, calendar=calendar)
            name = group.access_group
            self._groups[name] = _shared_scope("access_group", name, f"AccessGroup={name}", group, budget, 0)
        windows = await window_scopes(list(_declared(self._settings)), calendar, now)
        self._instance = tuple(scope for scope in windows if scope.kind == "proxy")
        self._providers = {scope.id: scope for scope in windows if scope.kind == "provider"}


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
