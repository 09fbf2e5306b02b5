"""Deployments that rest after failures, until an absolute moment that every process knows (contract llm.md §4.6)."""

from __future__ import annotations

import time
from collections.abc import Callable

from ...deployments.deployment import Deployment
from ...errors import UpstreamError
from ...settings.routing import RoutingSettings
from .load import DeploymentLoad
from .retries import policy_limit

# Words of announcements: `cooldown:<seconds since 1970>:<deployment id>`.
WORD = "cooldown"
_MAX_SECONDS = 3600.0
_MAX_COOLING_DOWN = 10_000
_ENOUGH_REQUESTS = 5
_TOO_MANY_FAILURES = 0.5
_FAULTS_OF_THE_DEPLOYMENT = frozenset({401, 402, 404, 408, 429})
# Another failure while it rests is news for others when it rests so much longer for it.
_WORTH_TELLING_SECONDS = 1.0
_MAX_ID = 400


def is_its_fault(error: UpstreamError) -> bool:
    """Whether a failure says something about the deployment, and not about what a client sent. A 403 may be either;
    it counts, but is no reason to rest."""
    return error.status >= 500 or error.status in _FAULTS_OF_THE_DEPLOYMENT or error.status == 403


class Cooldowns:
    """`clock` is the time of day: processes compare moments."""

    def __init__(
        self,
        settings: RoutingSettings,
        load: DeploymentLoad,
        announce: Callable[[str], None],
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._settings = settings
        self._load = load
        self._announce = announce
        self._clock = clock
        self._until: dict[str, float] = {}
        # Rested and did not answer well since: one more failure is enough.
        self._half_open: set[str] = set()

    def reconfigure(self, settings: RoutingSettings) -> None:
        """Take settings that changed while running."""
        self._settings = settings

    # ---- asking ----------------------------------------------------------------------------------------------------

    def is_cooling_down(self, id: str) -> bool:
        """Whether a deployment is not to be asked now. Costs nothing while none rests."""
        until = self._until.get(id) if self._until else None
        if until is None:
            return False
        if until > self._clock():
            return True
        del self._until[id]
        return False

    def seconds_left(self, ids: list[str]) -> float:
        """Until the first of them may be asked again."""
        now = self._clock()
        return max(0.0, min((self._until.get(id, now) - now for id in ids), default=0.0))

    def cooling_down(self) -> dict[str, float]:
        """Deployment id -> moment (seconds since 1970) until which it rests."""
        now = self._clock()
        return {id: until for id, until in self._until.items() if until > now}

    # ---- telling ---------------------------------------------------------------------------------------------------

    def answered(self, id: str) -> None:
        """A good answer ends a deployment's trial."""
        if self._half_open:
            self._half_open.discard(id)

    def failed(self, deployment: Deployment, error: UpstreamError, *, is_alone: bool, has_fallback: bool) -> float:
        """Count a failure; answers for how many seconds the deployment rests now, 0 when it does not.

        `is_alone`: no other deployment of its group could take over. Resting it would only turn the provider's own
        error into ours, so it does not rest unless a fallback exists or `allowed_fails` says so.
        """
        seconds = self._duration(deployment, error)
        if seconds <= 0 or not self._should_cool_down(deployment, error, is_alone=is_alone, has_fallback=has_fallback):
            return 0.0
        until = self._clock() + seconds
        is_news = until - self._until.get(deployment.id, 0.0) > _WORTH_TELLING_SECONDS
        self._rest(deployment.id, until)
        if is_news and len(deployment.id) <= _MAX_ID and deployment.id.isprintable():
            # Once for all calls that fail together: too many words, or an odd one, would make everybody forget all.
            self._announce(f"{WORD}:{until:.3f}:{deployment.id}")
        return seconds

    def on_message(self, message: str) -> None:
        """Take over what another process found out. Words that are no cooldown are not for us."""
        word, _, rest = message.partition(":")
        moment, _, id = rest.partition(":")
        if word != WORD or not id:
            return
        try:
            until = float(moment)
        except ValueError:
            return
        if self._clock() < until < self._clock() + _MAX_SECONDS:
            self._rest(id, until)

    def _rest(self, id: str, until: float) -> None:
        if len(self._until) >= _MAX_COOLING_DOWN:
            self._until = self.cooling_down()
        if len(self._half_open) >= _MAX_COOLING_DOWN:
            self._half_open.intersection_update(self._until)
        if len(self._until) < _MAX_COOLING_DOWN:
            self._until[id] = max(until, self._until.get(id, 0.0))
            self._half_open.add(id)

    def _allowed_fails(self, deployment: Deployment, error: UpstreamError) -> int | None:
        """Failures in a minute without a rest: the deployment's own number by kind, then for all, then the router's."""
        for limits in (deployment, self._settings):
            by_kind = policy_limit(limits.allowed_fails_policy, error)
            if by_kind is not None or limits.allowed_fails is not None:
                return by_kind if by_kind is not None else limits.allowed_fails
        return None

    def _duration(self, deployment: Deployment, error: UpstreamError) -> float:
        if self._settings.disable_cooldowns:
            return 0.0
        own = deployment.cooldown_seconds
        if own is not None:
            return min(own, _MAX_SECONDS)
        if not self._settings.cooldown_seconds:
            return 0.0
        return min(error.retry_after or self._settings.cooldown_seconds, _MAX_SECONDS)

    def _should_cool_down(
        self, deployment: Deployment, error: UpstreamError, *, is_alone: bool, has_fallback: bool
    ) -> bool:
        if error.status < 500 and error.status not in _FAULTS_OF_THE_DEPLOYMENT:
            return False  # the client's own mistake
        if error.status == 404 and "*" in deployment.model_name:
            return False  # one name among all that the star stands for
        load = self._load.of(deployment.id)
        allowed = self._allowed_fails(deployment, error)
        if allowed is not None:
            return load.failures > allowed
        if is_alone and not has_fallback:
            return False
        if error.status < 500 and error.status != 408:
            return True  # it will refuse the next call too
        if deployment.id in self._half_open:
            return True
        return load.requests >= _ENOUGH_REQUESTS and load.failures / load.requests > _TOO_MANY_FAILURES
