"""What is counted of calls, kept small: one cell per combination of label values, added to when a call ends.

Adding up at the call's end costs about two microseconds, less than putting the call aside for later would. Metrics are
read out of the cells when somebody asks for them (text.py), and cells of several processes are summed.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal

import msgspec

from ...deployments.deployment import Deployment
from ...llm.call import Call

# Combinations of label values that are kept apart; what comes beyond is summed under `other`.
MAX_CELLS = 2000
OTHER = "other"
_MAX_DEPLOYMENTS = 1000
_MAX_PAIRS = 1000
_MAX_VALUE = 200

# What a label says of one call: (call, its model name, deployment, status, error class) -> value; "" is no label.
Reader = Callable[[Call, str, Deployment | None, int, str], str]

READERS: Mapping[str, Reader] = {
    "requested_model": lambda call, model, target, status, error: model,
    "model_group": lambda call, model, target, status, error: target.public_name if target else "",
    "model": lambda call, model, target, status, error: target.upstream_model if target else "",
    "litellm_model_name": lambda call, model, target, status, error: target_name(target) if target else "",
    "model_id": lambda call, model, target, status, error: target.id if target else "",
    "api_provider": lambda call, model, target, status, error: target.provider.name if target else "",
    "api_base": lambda call, model, target, status, error: target.api_base if target else "",
    "route": lambda call, model, target, status, error: call.endpoint.path,
    "status_code": lambda call, model, target, status, error: str(status),
    "exception_status": lambda call, model, target, status, error: str(status) if error else "",
    "exception_class": lambda call, model, target, status, error: error,
    "hashed_api_key": lambda call, model, target, status, error: call.principal.key_hash,
    "api_key_alias": lambda call, model, target, status, error: call.principal.key_alias or "",
    "team": lambda call, model, target, status, error: call.principal.team_id or "",
    "team_alias": lambda call, model, target, status, error: call.principal.team_alias or "",
    "user": lambda call, model, target, status, error: call.principal.user_id or "",
    "org_id": lambda call, model, target, status, error: call.principal.organization_id or "",
    "end_user": lambda call, model, target, status, error: call.end_user,
}
# Labels that tell callers apart. They are off unless configured, and hidden from who may not see everybody's spend.
CALLER_LABELS = frozenset({"hashed_api_key", "api_key_alias", "team", "team_alias", "user", "org_id", "end_user"})


def target_name(deployment: Deployment) -> str:
    """`provider/model`, as the contract names a deployment's target."""
    return f"{deployment.provider.name}/{deployment.upstream_model}"


class Cell(msgspec.Struct, gc=False):
    """Sums of the calls that share their labels. A histogram is counts per bucket, then the sum of what was seen."""

    requests: int = 0
    failures: int = 0
    spend: Decimal = Decimal(0)
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cache_read_tokens: int = 0
    cache_write_tokens: int = 0
    reasoning_tokens: int = 0
    cache_hits: int = 0
    cache_misses: int = 0
    cached_tokens: int = 0
    latency: list[float] = []
    upstream_latency: list[float] = []
    first_token: list[float] = []
    overhead: list[float] = []

    def add(self, other: Cell) -> None:
        """Sum another cell into this one."""
        for name in _NUMBERS:
            setattr(self, name, getattr(self, name) + getattr(other, name))
        for name in _HISTOGRAMS:
            setattr(self, name, added(getattr(self, name), getattr(other, name)))


_HISTOGRAMS = ("latency", "upstream_latency", "first_token", "overhead")
_NUMBERS = tuple(name for name in Cell.__struct_fields__ if name not in _HISTOGRAMS)


def added(one: Sequence[float], other: Sequence[float]) -> list[float]:
    """The sum of two histograms with the same buckets; an empty one is nothing."""
    if not one or not other:
        return list(one or other)
    return [left + right for left, right in zip(one, other, strict=True)]


def observe(histogram: list[float], bounds: Sequence[float], value: float) -> list[float]:
    """Count one value; answers the histogram, made when it was empty."""
    if not histogram:
        histogram = [0.0] * (len(bounds) + 2)
    histogram[bisect_left(bounds, value)] += 1
    histogram[-1] += value
    return histogram


class DeploymentCell(msgspec.Struct, gc=False):
    """Attempts at one deployment. `failures` are by `status class`; times are seconds since 1970, 0 is never."""

    successes: int = 0
    failures: dict[str, int] = {}
    cooldowns: dict[str, int] = {}
    succeeded_at: float = 0.0
    failed_at: float = 0.0
    # What its provider said last of the room that is left, -1 for nothing, and when.
    remaining_requests: int = -1
    remaining_tokens: int = -1
    remaining_at: float = 0.0

    def add(self, other: DeploymentCell) -> None:
        """Sum another process's attempts into these."""
        self.successes += other.successes
        for mine, theirs in ((self.failures, other.failures), (self.cooldowns, other.cooldowns)):
            for name, count in theirs.items():
                mine[name] = mine.get(name, 0) + count
        self.succeeded_at = max(self.succeeded_at, other.succeeded_at)
        self.failed_at = max(self.failed_at, other.failed_at)
        if other.remaining_at > self.remaining_at:
            self.remaining_requests, self.remaining_tokens = other.remaining_requests, other.remaining_tokens
            self.remaining_at = other.remaining_at


class BudgetFact(msgspec.Struct, gc=False):
    """A ceiling in USD as the newest call found it. `at` and `resets_at` are seconds since 1970, 0 is never."""

    alias: str
    max_budget: Decimal
    spend: Decimal
    resets_at: float
    at: float

    @property
    def remaining(self) -> Decimal:
        return self.max_budget - self.spend


class Totals(msgspec.Struct):
    """All that one process counted. Keys of `cells` are label values, in the order of the plan's labels.

    `fallbacks`: (requested model, fallback model, "" or the error class) -> how often. `gauges` are its present state.
    `budgets`: (kind, id) -> the ceiling of somebody who called lately.
    """

    cells: dict[tuple[str, ...], Cell] = {}
    deployments: dict[str, DeploymentCell] = {}
    fallbacks: dict[tuple[str, str, str], int] = {}
    callback_failures: dict[str, int] = {}
    folded: int = 0
    gauges: dict[str, float] = {}
    budgets: dict[tuple[str, str], BudgetFact] = {}

    def add(self, other: Totals) -> None:
        """Sum what another process counted into this."""
        for key, cell in other.cells.items():
            self.cells.setdefault(key, Cell()).add(cell)
        for id, attempts in other.deployments.items():
            self.deployments.setdefault(id, DeploymentCell()).add(attempts)
        for pair, count in other.fallbacks.items():
            self.fallbacks[pair] = self.fallbacks.get(pair, 0) + count
        for name, count in other.callback_failures.items():
            self.callback_failures[name] = self.callback_failures.get(name, 0) + count
        for name, value in other.gauges.items():
            self.gauges[name] = self.gauges.get(name, 0.0) + value
        self.folded += other.folded
        for owner, fact in other.budgets.items():
            known = self.budgets.get(owner)
            if known is None or known.at < fact.at:
                self.budgets[owner] = fact

    def without_state(self) -> Totals:
        """The sums alone: what outlives the process that counted them."""
        return msgspec.structs.replace(self, gauges={}, budgets={})

    # ---- counting --------------------------------------------------------------------------------------------------

    def cell(self, key: tuple[str, ...], labels: Sequence[str]) -> Cell:
        """The cell of a combination. Once there are too many, callers become `other`, and in the end everything."""
        cell = self.cells.get(key)
        if cell is None:
            cell = self._new_cell(tuple(value[:_MAX_VALUE] for value in key), labels)
        return cell

    def _new_cell(self, key: tuple[str, ...], labels: Sequence[str]) -> Cell:
        if key in self.cells:
            return self.cells[key]
        if len(self.cells) >= MAX_CELLS:
            self.folded += 1
            key = tuple(OTHER if name in CALLER_LABELS else value for name, value in zip(labels, key, strict=True))
            if key not in self.cells and len(self.cells) >= MAX_CELLS + MAX_CELLS // 10:
                key = (OTHER,) * len(key)
        return self.cells.setdefault(key, Cell())

    def deployment(self, id: str) -> DeploymentCell:
        """The attempts at one deployment; beyond a thousand of them, at all others."""
        found = self.deployments.get(id)
        if found is None:
            id = id if len(self.deployments) < _MAX_DEPLOYMENTS else OTHER
            found = self.deployments.setdefault(id, DeploymentCell())
        return found

    def fell_back(self, requested: str, fallback: str, error_class: str) -> None:
        """A call went on to another group."""
        pair = (requested, fallback, error_class)
        if pair not in self.fallbacks and len(self.fallbacks) >= _MAX_PAIRS:
            pair = (OTHER, OTHER, error_class if error_class in ("", OTHER) else OTHER)
        self.fallbacks[pair] = self.fallbacks.get(pair, 0) + 1
