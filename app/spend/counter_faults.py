"""How shared counters fail, beyond being unreachable (`CacheAway` and the errors of the database)."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from ..storage.cache import CacheAway
from .counters import Claim, Hold


class CountersLost(CacheAway):
    """They answer, and have lost their figures, which are worth nothing until they were filled again."""


class CountersInDoubt(CacheAway):
    """Nobody knows whether this call was counted. Others may admit it, and whoever ends it settles it here as well.

    `hold` is what they may hold: settle it, with nothing if the call does not run. `claim` is for the others: what
    these know of the caller and those do not.
    """

    def __init__(self, reason: str, hold: Hold, claim: Claim) -> None:
        super().__init__(reason)
        self.hold = hold
        self.claim = claim


@runtime_checkable
class SettlesUncounted(Protocol):
    """Counters that settle the end of a call that they were never asked to admit."""

    def in_doubt(self, claim: Claim) -> CountersInDoubt: ...
