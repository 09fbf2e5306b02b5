"""Metrics of this instance: counts calls as they end, and answers a scrape for all of its processes."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress

import msgspec
import structlog

from ...auth.principal import Principal
from ...deployments.deployment import Deployment
from ...errors import GatewayError
from ...llm.call import Call
from ...llm.observers import EndedCall, Observer
from ...settings import Settings
from ...spend.budget import Reservation
from ...spend.events import SpendEvent
from .counts import MAX_CELLS, READERS, BudgetFact, Cell, Totals, observe
from .exposition import call_families
from .families import OVERHEAD_BUCKETS, Plan, plan_of
from .gauges import BUDGET_KINDS, state_families
from .shared_totals import TotalsFiles

log = structlog.get_logger(__name__)

_PUBLISH_SECONDS = 1.0
_MAX_CALLERS = 1000
# How providers say what is left of their own limits.
_REQUESTS_LEFT, _TOKENS_LEFT = "x-ratelimit-remaining-requests", "x-ratelimit-remaining-tokens"
_MAX_DIGITS = 15


class Metrics(Observer):
    """`clock` is the time of day. `watch` tells it how to read the present state: metric -> value."""

    def __init__(self, settings: Settings, clock: Callable[[], float] = time.time) -> None:
        self._plan: Plan = plan_of(settings)
        self._readers = tuple(READERS[name] for name in self._plan.labels)
        self._clock = clock
        self._totals = Totals()
        self._calls = self._refusals = 0
        # Model names that somebody got an answer for.
        self._answered: set[str] = set()
        # The newest call of each caller: what it was told of its budgets is looked at when somebody scrapes.
        self._callers: dict[str, tuple[Principal, Reservation, SpendEvent]] = {}
        self._files = TotalsFiles(settings) if settings.process_count > 1 else None
        self._read_state: Callable[[], Mapping[str, float]] = dict
        self._read_failures: Callable[[], Mapping[str, int]] = dict

    def watch(
        self, read_state: Callable[[], Mapping[str, float]], read_failures: Callable[[], Mapping[str, int]] = dict
    ) -> None:
        """Ask these for the gauges of the process, and for what receivers of logs could not be told since its start."""
        self._read_state, self._read_failures = read_state, read_failures

    # ---- counting --------------------------------------------------------------------------------------------------

    @property
    def calls_and_refusals(self) -> tuple[int, int]:
        """Calls that were admitted here and have ended, and calls that were not admitted."""
        return self._calls, self._refusals

    def call_refused(self, call: Call, error: GatewayError) -> None:
        """Without the model's name: nobody checked yet that there is such a model."""
        self._refusals += 1
        name = getattr(error, "error_class", type(error).__name__)
        cell = self._cell(call, "", None, error.status, name)
        cell.requests += 1
        cell.failures += 1

    def call_ended(self, ended: EndedCall) -> None:
        call, deployment, usage, event = ended.call, ended.deployment, ended.usage, ended.event
        model = ended.model
        if ended.is_success:
            if model not in self._answered and len(self._answered) < MAX_CELLS:
                self._answered.add(model)
        elif deployment is None or "*" in deployment.model_name:
            # A client may ask a wildcard or a provider for any name; only those that answered once are models.
            model = model if model in self._answered else deployment.model_name if deployment is not None else ""
        self._calls += 1
        cell = self._cell(call, model, deployment, ended.status, ended.error_class)
        cell.requests += 1
        cell.spend += event.cost
        cell.prompt_tokens += usage.prompt_tokens
        cell.completion_tokens += usage.completion_tokens
        if usage.cache_read_tokens or usage.cache_write_tokens or usage.reasoning_tokens:
            cell.cache_read_tokens += usage.cache_read_tokens
            cell.cache_write_tokens += usage.cache_write_tokens
            cell.reasoning_tokens += usage.reasoning_tokens
        if ended.is_success:
            self._observe(cell, ended)
        else:
            cell.failures += 1
        if event.cache_key is not None or event.is_cache_hit:
            cell.cache_hits += event.is_cache_hit
            cell.cache_misses += not event.is_cache_hit
            cell.cached_tokens += usage.total_tokens if event.is_cache_hit else 0
        if deployment is not None and not event.is_cache_hit:
            self._count_attempts(ended, deployment)
        self._remember_caller(ended)

    def _cell(self, call: Call, model: str, deployment: Deployment | None, status: int, error_class: str) -> Cell:
        key = tuple([read(call, model, deployment, status, error_class) for read in self._readers])
        return self._totals.cell(key, self._plan.labels)

    def _observe(self, cell: Cell, ended: EndedCall) -> None:
        bounds, total = self._plan.bounds, ended.total_seconds
        first = ended.first_chunk_seconds
        # What came before the first chunk and was not the provider's time is ours; after it nothing waits for us.
        own = max(0.0, (total if first is None else first) - ended.upstream_seconds)
        cell.latency = observe(cell.latency, bounds, total)
        cell.overhead = observe(cell.overhead, OVERHEAD_BUCKETS, own)
        if ended.event.is_cache_hit:
            return  # nobody was asked
        cell.upstream_latency = observe(cell.upstream_latency, bounds, total - own)
        if first is not None:
            cell.first_token = observe(cell.first_token, bounds, first)

    def _count_attempts(self, ended: EndedCall, deployment: Deployment) -> None:
        totals = self._totals
        for attempt in ended.failed:
            cell = totals.deployment(attempt.deployment.id)
            cause = f"{attempt.status} {attempt.error_class}"
            cell.failures[cause] = cell.failures.get(cause, 0) + 1
            cell.failed_at = self._clock()
        if ended.is_success:
            cell = totals.deployment(deployment.id)
            cell.successes += 1
            cell.succeeded_at = self._clock()
            headers = ended.upstream_headers
            requests, tokens = headers.get(_REQUESTS_LEFT), headers.get(_TOKENS_LEFT)
            if requests is not None or tokens is not None:
                cell.remaining_requests, cell.remaining_tokens = _count(requests), _count(tokens)
                cell.remaining_at = cell.succeeded_at
        if ended.fallbacks:
            totals.fell_back(ended.model, deployment.public_name, ended.error_class)

    def _remember_caller(self, ended: EndedCall) -> None:
        reservation, key_hash = ended.reservation, ended.event.key_hash
        if reservation is not None and reservation.scopes:
            if len(self._callers) >= _MAX_CALLERS and key_hash not in self._callers:
                self._callers.pop(next(iter(self._callers)))
            self._callers[key_hash] = ended.call.principal, reservation, ended.event

    def deployment_cooled(self, deployment: Deployment, status: int, seconds: float) -> None:
        cooldowns = self._totals.deployment(deployment.id).cooldowns
        cooldowns[str(status)] = cooldowns.get(str(status), 0) + 1

    # ---- answering -------------------------------------------------------------------------------------------------

    def text(self, deployments: Sequence[Deployment], cooling_down: Collection[str], *, shows_callers: bool) -> str:
        """All metrics of all processes. Without `shows_callers` nothing tells one caller from another."""
        totals = Totals()
        totals.add(self._current())
        for other in self._files.others() if self._files is not None else ():
            totals.add(other)
        families = (
            *call_families(self._plan, totals, shows_callers=shows_callers),
            *state_families(self._plan, totals, deployments, cooling_down, self._clock(), shows_callers=shows_callers),
        )
        return "".join(families)

    def _current(self) -> Totals:
        failures = dict(self._totals.callback_failures)  # of processes that are gone
        for name, count in self._read_failures().items():
            failures[name] = failures.get(name, 0) + count
        return msgspec.structs.replace(
            self._totals,
            gauges={name: float(value) for name, value in self._read_state().items()},
            callback_failures={name: count for name, count in failures.items() if count},
            budgets=self._budgets(),
        )

    def _budgets(self) -> dict[tuple[str, str], BudgetFact]:
        found: dict[tuple[str, str], BudgetFact] = {}
        for principal, reservation, event in self._callers.values():
            ended_at = event.end_time.timestamp()
            aliases = {"key": principal.key_alias, "team": principal.team_alias}
            for scope, spend in reservation.spends():
                if scope.kind not in BUDGET_KINDS or scope.is_window or scope.model or scope.max_budget is None:
                    continue
                known = found.get((scope.kind, scope.id))
                if known is None or known.at < ended_at:
                    found[scope.kind, scope.id] = BudgetFact(
                        alias=aliases.get(scope.kind) or "",
                        max_budget=scope.max_budget,
                        spend=spend + event.cost,
                        resets_at=scope.resets_at.timestamp() if scope.resets_at is not None else 0.0,
                        at=ended_at,
                    )
        return found

    # ---- several processes -----------------------------------------------------------------------------------------

    async def share_forever(self) -> None:
        """Let the other processes of this instance see the totals of this one, and take over those of dead ones."""
        if self._files is None:
            return
        while True:
            try:
                self._files.open()
                self._files.publish(self._current())
                self._files.adopt(self._totals)
            except OSError as problem:
                log.error("totals cannot be shared with the other processes", reason=problem.strerror)
            await asyncio.sleep(_PUBLISH_SECONDS)

    def close(self) -> None:
        """Leave the totals to the processes that go on."""
        if self._files is not None:
            with suppress(OSError):
                self._files.close(self._current())


def _count(said: str | None) -> int:
    """A provider's number, -1 for what is none."""
    return int(said) if said is not None and len(said) <= _MAX_DIGITS and said.isascii() and said.isdigit() else -1
