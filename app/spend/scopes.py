"""What bounds a caller: budgets and limits, each with the counter that tracks it. Pure values."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from hashlib import sha256

from .counters import BudgetCounter, Limit

ScopeName = tuple[str, str]

# Between the parts of a name; no id that a person writes holds it.
_UNIT_SEPARATOR = "\x1f"
_MAX_NAME = 700
# Whose budgets and limits are a team's own. What others share (organization, tag, end user, access group, provider,
# instance) is not for a team to bill by prices of its own.
_TEAM_SCOPES = frozenset(("key", "user", "team", "member"))
_TEAM_LIMITS = frozenset(
    ("api_key", "user", "team", "team_member", "model_per_key", "model_per_team", "tag_per_key"),
)
_ZERO = Decimal(0)


def member_id(team_id: str, user_id: str) -> str:
    """The scope id of one user in one team."""
    return f"{team_id}{_UNIT_SEPARATOR}{user_id}"


def team_and_user(member_id: str) -> tuple[str, str]:
    team_id, _, user_id = member_id.partition(_UNIT_SEPARATOR)
    return team_id, user_id


def counter_name(*parts: str) -> str:
    """One text for all parts, short enough for a column."""
    name = _UNIT_SEPARATOR.join(parts)
    return name if len(name) <= _MAX_NAME else sha256(name.encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class BudgetScope:
    """One ceiling that applies to a caller: whose it is, how errors name it, and how high it is (USD).

    `spend` is what the database said when the scope was read, for the period that ends at `resets_at`. `epoch` counts
    up when somebody starts the spend anew. `model`: only calls for it count. `period`: the length of a window that
    stands beside the holder's own budget, and began at `starts_at`.
    """

    kind: str
    id: str
    label: str
    max_budget: Decimal | None
    spend: Decimal = _ZERO
    soft_budget: Decimal | None = None
    epoch: int = 0
    resets_at: datetime | None = None
    model: str = ""
    period: str = ""
    starts_at: datetime | None = None
    counter: BudgetCounter = field(init=False)

    def __post_init__(self) -> None:
        moment = self.starts_at or self.resets_at
        stamp = str(int(moment.timestamp())) if moment is not None else ""
        name = counter_name(self.kind, self.id, self.model, self.period, str(self.epoch), stamp)
        object.__setattr__(self, "counter", BudgetCounter(name, self.max_budget, self.spend))

    @property
    def is_of_team(self) -> bool:
        """Whether it is the team's, or of somebody in it."""
        return self.kind in _TEAM_SCOPES

    @property
    def is_window(self) -> bool:
        """Whether its spend is kept apart from the holder's own."""
        return self.starts_at is not None


@dataclass(frozen=True, slots=True)
class RateLimit:
    """Limits per minute of a caller. `descriptor` is the contract's word for whose they are, None is no limit.

    `model`: only calls for it count.
    """

    descriptor: str
    id: str
    label: str
    rpm: int | None
    tpm: int | None
    parallel: int | None
    model: str = ""
    limit: Limit = field(init=False)

    def __post_init__(self) -> None:
        name = counter_name(self.descriptor, self.id, self.model)
        object.__setattr__(self, "limit", Limit(name, self.rpm, self.tpm, self.parallel))

    @property
    def is_of_team(self) -> bool:
        """Whether it is the team's, or of somebody in it."""
        return self.descriptor in _TEAM_LIMITS

    @property
    def says_something(self) -> bool:
        return (self.rpm, self.tpm, self.parallel) != (None, None, None)
