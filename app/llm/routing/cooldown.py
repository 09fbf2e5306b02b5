"""Cooldowns: deployments that get no calls after failures, until an absolute time that all processes share."""

from __future__ import annotations

import time
from collections.abc import Callable

from ...deployments.deployment import Deployment
from ...errors import UpstreamError
from ...settings.routing import RoutingSettings
from .load import DeploymentLoad
from .retries import policy_limit

# Announced as `cooldown:<seconds since 1970>:<deployment id>`.
_MESSAGE = "cooldown"
_MAX_SECONDS = 3600.0
_MAX_COOLING_DOWN = 10_000
_MIN_REQUESTS = 5
_MAX_FAILURE_RATE = 0.5
_COOLDOWN_STATUSES = frozenset({401, 402, 404, 408, 429})
# A cooldown that grows by less is not announced again.
_MIN_ANNOUNCED_SECONDS = 1.0
_MAX_ANNOUNCED_ID = 400


def is_deployment_failure(error: UpstreamError) -> bool:
    """Whether a failure is the deployment's, and not that of what a client sent. A 403 may be either: it counts as a
    failure, but starts no cooldown."""
    return error.status >= 500 or error.status in _COOLDOWN_STATUSES or error.status == 403


class Cooldowns:
    """`clock` is the time of day, in seconds since 1970: processes compare times."""

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
        # Cooled down and no success since: one more failure starts the next cooldown.
        self._half_open: set[str] = set()

    def reconfigure(self, settings: RoutingSettings) -> None:
        """Take settings that changed while running."""
        self._settings = settings

    # ---- reading ---------------------------------------------------------------------------------------------------

    def is_cooling_down(self, id: str) -> bool:
        """Whether a deployment gets no calls now. Costs nothing while none is cooling down."""
        until = self._until.get(id) if self._until else None
        if until is None:
            return False
        if until > self._clock():
            return True
        del self._until[id]
        return False

    def seconds_left(self, ids: list[str]) -> float:
        """Until the first of them is available again; 0 when one is."""
        now = self._clock()
        return max(0.0, min((self._until.get(id, now) - now for id in ids), default=0.0))

    def cooling_down(self) -> dict[str, float]:
        """Deployment id -> end of its cooldown, in seconds since 1970."""
        now = self._clock()
        return {id: until for id, until in self._until.items() if until > now}

    # ---- recording -------------------------------------------------------------------------------------------------

    def record_success(self, id: str) -> None:
        """Record a success: the deployment is half-open no more."""
        if self._half_open:
            self._half_open.discard(id)

    def record_failure(
        self, deployment: Deployment, error: UpstreamError, *, is_alone: bool, has_fallback: bool
    ) -> float:
        """Record a failure; returns for how many seconds the deployment cools down now, 0 when it does not.

        `is_alone`: no other deployment of its group could take over. A cooldown would only turn the provider's own
        error into ours, so it gets none unless a fallback exists or `allowed_fails` says so.
        """
        seconds = self._duration(deployment, error)
        if seconds <= 0 or not self._should_cool_down(deployment, error, is_alone=is_alone, has_fallback=has_fallback):
            return 0.0
        until = self._clock() + seconds
        is_longer = until - self._until.get(deployment.id, 0.0) > _MIN_ANNOUNCED_SECONDS
        self._start(deployment.id, until)
        if is_longer and len(deployment.id) <= _MAX_ANNOUNCED_ID and deployment.id.isprintable():
            # Once for all calls that fail together: too many or malformed messages make processes drop all caches.
            self._announce(f"{_MESSAGE}:{until:.3f}:{deployment.id}")
        return seconds

    def on_message(self, message: str) -> None:
        """Take over a cooldown of another process. Other messages are ignored."""
        kind, _, parameters = message.partition(":")
        moment, _, id = parameters.partition(":")
        if kind != _MESSAGE or not id:
            return
        try:
            until = float(moment)
        except ValueError:
            return
        if self._clock() < until < self._clock() + _MAX_SECONDS:
            self._start(id, until)

    def _start(self, id: str, until: float) -> None:
        if len(self._until) >= _MAX_COOLING_DOWN:
            self._until = self.cooling_down()
        if len(self._half_open) >= _MAX_COOLING_DOWN:
            self._half_open.intersection_update(self._until)
        if len(self._until) < _MAX_COOLING_DOWN:
            self._until[id] = max(until, self._until.get(id, 0.0))
            self._half_open.add(id)

    def _allowed_fails(self, deployment: Deployment, error: UpstreamError) -> int | None:
        """Failures in a minute without a cooldown: by kind, then for all kinds; the deployment's, then the router's."""
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
        if error.status < 500 and error.status not in _COOLDOWN_STATUSES:
            return False  # the client's own mistake
        if error.status == 404 and "*" in deployment.model_name:
            return False  # one model among all that the wildcard serves
        load = self._load.of(deployment.id)
        allowed = self._allowed_fails(deployment, error)
        if allowed is not None:
            return load.failures > allowed
        if is_alone and not has_fallback:
            return False
        if error.status < 500 and error.status != 408:
            return True  # the next call would be refused too
        if deployment.id in self._half_open:
            return True
        return load.requests >= _MIN_REQUESTS and load.failures / load.requests > _MAX_FAILURE_RATE
