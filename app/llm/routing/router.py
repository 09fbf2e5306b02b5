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

    def levels(self, deployments: Sequence[Deployment], route: RoutingRequest) -> list[list[Deployment]]:
        """The deployments that may be asked, by `order`: those of the first level before those of the next.

        Raises UpstreamError when all of them rest (429) or the prompt fits none (400), Unauthenticated when no tag
        of the call leads to one.
        """
        if len(deployments) == 1 and not self._has_filters(deployments[0]):
            return [list(deployments)]
        found = self._with_tags(deployments, route)
        found = self._with_room(found, route) if self._settings.enable_pre_call_checks else found
        found = self._available(found, route)
        if all(one.order is None for one in found):
            return [found]
        orders = sorted({_order(one) for one in found})
        return [[one for one in found if _order(one) == order] for order in orders]

    def _has_filters(self, deployment: Deployment) -> bool:
        return (
            self._settings.enable_tag_filtering
            or self._settings.enable_pre_call_checks
            or self.cooldowns.is_cooling_down(deployment.id)
        )

    def all_cooling_down(self, level: Sequence[Deployment]) -> bool:
        """Whether nobody of a level is to be asked now."""
        return all(self.cooldowns.is_cooling_down(one.id) for one in level)

    def choose(self, level: Sequence[Deployment], tried: set[str], route: RoutingRequest) -> Deployment | None:
        """The next of a level: one that was not tried and does not rest, or None."""
        left = [one for one in level if one.id not in tried and not self.cooldowns.is_cooling_down(one.id)]
        return choose(left, self.load, self._settings, self.chance, is_stream=route.is_stream) if left else None

    def failed(self, deployment: Deployment, error: UpstreamError, *, is_alone: bool, has_fallback: bool) -> float:
        """Learn from a failure; answers for how many seconds the deployment rests now.

        What is the client's own mistake does not count: one tenant must not make a deployment rest for all.
        """
        if is_its_fault(error):
            self.load.failed(deployment.id, is_timeout=error.error_class == "Timeout")
        return self.cooldowns.failed(deployment, error, is_alone=is_alone, has_fallback=has_fallback)

    # ---- filters ---------------------------------------------------------------------------------------------------

    def _with_tags(self, deployments: Sequence[Deployment], route: RoutingRequest) -> list[Deployment]:
        """Those that share a tag with the call; without one the deployments tagged `default`, else the untagged."""
        if not self._settings.enable_tag_filtering:
            return list(deployments)
        refused = {tag[1:] for tag in route.tags if tag.startswith("!")}
        required = {tag[1:] for tag in route.tags if tag.startswith("&")}
        asked = {tag for tag in route.tags if not tag.startswith(("!", "&"))}
        allowed = [one for one in deployments if refused.isdisjoint(one.tags) and required <= set(one.tags)]
        found: list[Deployment] = []
        if asked and self._settings.tag_filtering_match_any:
            found = [one for one in allowed if not asked.isdisjoint(one.tags)]
        elif asked:
            found = [one for one in allowed if asked <= set(one.tags)]
        elif required:
            found = allowed
        found = found or [one for one in allowed if _DEFAULT_TAG in one.tags]
        found = found or [one for one in allowed if not one.tags]
        if not found:
            raise Unauthenticated(
                "Not allowed to access model due to tags configuration. "
                f"Passed model={route.group} and tags={list(route.tags)}",
                type="internal_server_error",
                param=None,
            )
        return found

    def _with_room(self, deployments: Sequence[Deployment], route: RoutingRequest) -> list[Deployment]:
        fitting = [
            one for one in deployments if one.context_window is None or route.prompt_tokens <= one.context_window
        ]
        if not fitting:
            raise UpstreamError(
                "litellm.ContextWindowExceededError: ContextWindowExceededError: the prompt has about "
                f"{route.prompt_tokens} tokens, more than any deployment of model={route.group} takes",
                status=400,
                type="invalid_request_error",
                error_class="ContextWindowExceededError",
            )
        return [one for one in fitting if has_room(one, self.load, route.prompt_tokens)] or fitting

    def _available(self, deployments: Sequence[Deployment], route: RoutingRequest) -> list[Deployment]:
        available = [one for one in deployments if not self.cooldowns.is_cooling_down(one.id)]
        if available:
            return available
        ids = [one.id for one in deployments]
        seconds = max(1, math.ceil(self.cooldowns.seconds_left(ids)))
        raise UpstreamError(
            f"No deployments available for selected model, Try again in {seconds} seconds. "
            f"All deployments for selected model are in cooldown. Passed model={route.group}. "
            f"pre-call-checks={self._settings.enable_pre_call_checks}, cooldown_list={ids}",
            status=429,
            type="all_deployments_in_cooldown",
            error_class="RateLimitError",
            headers={"Retry-After": str(seconds)},
        )


def _order(deployment: Deployment) -> float:
    return deployment.order if deployment.order is not None else math.inf
