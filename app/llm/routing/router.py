"""Which deployments of a group a call may go to, in which order they are asked, and what their failures teach."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ...deployments.deployment import Deployment
from ...errors import Unauthenticated, UpstreamError
from ...settings.routing import RoutingSettings
from .cooldown import Cooldowns, is_its_fault
from .load import DeploymentLoad
from .strategies import choose, has_room

_DEFAULT_TAG = "default"


@dataclass(frozen=True, slots=True, kw_only=True)
class RoutingRequest:
    """What routing looks at: which group, and what the call says about itself. Tokens are estimates."""

    group: str
    tags: Sequence[str] = ()
    prompt_tokens: int = 0
    is_stream: bool = False
    has_fallback: bool = False


class Router:
    def __init__(self, settings: RoutingSettings, announce: Callable[[str], None]) -> None:
        self._settings = settings
        self.load = DeploymentLoad()
        self.cooldowns = Cooldowns(settings, self.load, announce)
        # Spreads load; nothing secret hangs on it.
        self.chance = random.Random()  # noqa: S311

    def reconfigure(self, settings: RoutingSettings) -> None:
        """Take settings that changed while running."""
        self._settings = settings
        self.cooldowns.reconfigure(settings)

    def tiers(self, deployments: Sequence[Deployment], routing: RoutingRequest) -> list[list[Deployment]]:
        """The deployments that may be asked, by `order`: those of the first tier before those of the next.

        Raises UpstreamError when all of them are cooling down (429) or the prompt fits none (400), Unauthenticated when
        no tag of the call leads to one.
        """
        if len(deployments) == 1 and not self._has_filters(deployments[0]):
            return [list(deployments)]
        candidates = self._with_tags(deployments, routing)
        candidates = self._with_room(candidates, routing) if self._settings.enable_pre_call_checks else candidates
        candidates = self._available(candidates, routing)
        if all(deployment.order is None for deployment in candidates):
            return [candidates]
        orders = sorted({_order(deployment) for deployment in candidates})
        return [[deployment for deployment in candidates if _order(deployment) == order] for order in orders]

    def _has_filters(self, deployment: Deployment) -> bool:
        return (
            self._settings.enable_tag_filtering
            or self._settings.enable_pre_call_checks
            or self.cooldowns.is_cooling_down(deployment.id)
        )

    def all_cooling_down(self, tier: Sequence[Deployment]) -> bool:
        """Whether nobody of a tier is to be asked now."""
        return all(self.cooldowns.is_cooling_down(deployment.id) for deployment in tier)

    def next_of(self, tier: Sequence[Deployment], tried: set[str], routing: RoutingRequest) -> Deployment:
        """The deployment of a tier to ask now. When all were tried, they are tried anew."""
        deployment = self.choose(tier, tried, routing)
        if deployment is None:
            tried.clear()
            deployment = self.choose(tier, tried, routing) or tier[0]
        return deployment

    def choose(self, tier: Sequence[Deployment], tried: set[str], routing: RoutingRequest) -> Deployment | None:
        """The next of a tier: one that was not tried and is not cooling down, or None."""
        untried = [
            deployment
            for deployment in tier
            if deployment.id not in tried and not self.cooldowns.is_cooling_down(deployment.id)
        ]
        return choose(untried, self.load, self._settings, self.chance, is_stream=routing.is_stream) if untried else None

    def failed(self, deployment: Deployment, error: UpstreamError, *, is_alone: bool, has_fallback: bool) -> float:
        """Learn from a failure; answers for how many seconds the deployment cools down now.

        What is the client's own mistake does not count: one tenant must not cool a deployment down for all.
        """
        if is_its_fault(error):
            self.load.failed(deployment.id, is_timeout=error.error_class == "Timeout")
        return self.cooldowns.failed(deployment, error, is_alone=is_alone, has_fallback=has_fallback)

    # ---- filters ---------------------------------------------------------------------------------------------------

    def _with_tags(self, deployments: Sequence[Deployment], routing: RoutingRequest) -> list[Deployment]:
        """Those that share a tag with the call; without one the deployments tagged `default`, else the untagged."""
        if not self._settings.enable_tag_filtering:
            return list(deployments)
        refused = {tag[1:] for tag in routing.tags if tag.startswith("!")}
        required = {tag[1:] for tag in routing.tags if tag.startswith("&")}
        asked = {tag for tag in routing.tags if not tag.startswith(("!", "&"))}
        allowed = [
            deployment
            for deployment in deployments
            if refused.isdisjoint(deployment.tags) and required <= set(deployment.tags)
        ]
        candidates: list[Deployment] = []
        if asked and self._settings.tag_filtering_match_any:
            candidates = [deployment for deployment in allowed if not asked.isdisjoint(deployment.tags)]
        elif asked:
            candidates = [deployment for deployment in allowed if asked <= set(deployment.tags)]
        elif required:
            candidates = allowed
        candidates = candidates or [deployment for deployment in allowed if _DEFAULT_TAG in deployment.tags]
        candidates = candidates or [deployment for deployment in allowed if not deployment.tags]
        if not candidates:
            raise Unauthenticated(
                "Not allowed to access model due to tags configuration. "
                f"Passed model={routing.group} and tags={list(routing.tags)}",
                type="internal_server_error",
                param=None,
            )
        return candidates

    def _with_room(self, deployments: Sequence[Deployment], routing: RoutingRequest) -> list[Deployment]:
        fitting = [
            deployment
            for deployment in deployments
            if deployment.context_window is None or routing.prompt_tokens <= deployment.context_window
        ]
        if not fitting:
            raise UpstreamError(
                "litellm.ContextWindowExceededError: ContextWindowExceededError: the prompt has about "
                f"{routing.prompt_tokens} tokens, more than any deployment of model={routing.group} takes",
                status=400,
                type="invalid_request_error",
                error_class="ContextWindowExceededError",
            )
        return [
            deployment for deployment in fitting if has_room(deployment, self.load, routing.prompt_tokens)
        ] or fitting

    def _available(self, deployments: Sequence[Deployment], routing: RoutingRequest) -> list[Deployment]:
        available = [deployment for deployment in deployments if not self.cooldowns.is_cooling_down(deployment.id)]
        if available:
            return available
        ids = [deployment.id for deployment in deployments]
        seconds = max(1, math.ceil(self.cooldowns.seconds_left(ids)))
        raise UpstreamError(
            f"No deployments available for selected model, Try again in {seconds} seconds. "
            f"All deployments for selected model are in cooldown. Passed model={routing.group}. "
            f"pre-call-checks={self._settings.enable_pre_call_checks}, cooldown_list={ids}",
            status=429,
            type="all_deployments_in_cooldown",
            error_class="RateLimitError",
            headers={"Retry-After": str(seconds)},
        )


def _order(deployment: Deployment) -> float:
    return deployment.order if deployment.order is not None else math.inf
