"""May this call run? Checked in the contract's order (management.md §4); the first refusal is the answer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from decimal import Decimal

import msgspec

from ..auth.model_access import Groups, refuse_model_of_key, refuse_model_of_others
from ..auth.principal import Principal
from ..deployments.deployment import Deployment
from ..errors import BudgetExceeded, Forbidden, InvalidRequest, TooManyRequests, UpstreamError
from ..settings.routing import RoutingSettings
from ..spend.budget import Budgets, Reservation
from ..spend.scopes import BudgetScope, RateLimit, counter_name
from ..spend.shared_scopes import EndUserFacts, SharedScopes

_NOBODY = EndUserFacts()


class AdmissionRequest(msgspec.Struct, frozen=True, kw_only=True):
    """What admission looks at: who asks for which model, and what the call says about itself.

    `is_own_model`: the model was made for the caller's team, whose own list need not name it.
    """

    principal: Principal
    model: str
    path: str
    deployments: Sequence[Deployment]
    groups: Groups = frozenset()
    is_own_model: bool = False
    tags: Sequence[str] = ()
    end_user: str = ""
    estimate: Decimal = Decimal(0)
    tokens: int = 0


class Admission:
    def __init__(self, budgets: Budgets, shared: SharedScopes) -> None:
        self._budgets = budgets
        self._shared = shared

    async def admit(self, call: AdmissionRequest, *, is_fallback: bool = False) -> Reservation:
        """Refuse, or hold the call's estimate below every budget and its place within every limit.

        `is_fallback`: the configuration sends the call to this model, so the caller needs no grant for it.
        """
        if is_fallback:
            return await self._reserve(call)
        principal = call.principal
        principal.refuse_route(call.path, "llm")
        principal.refuse_blocked()
        refuse_model_of_key(principal, call.model, call.groups)
        principal.refuse_expired()
        principal.refuse_blocked_team()
        refuse_model_of_others(principal, call.model, call.groups, is_own_model=call.is_own_model)
        return await self._reserve(call)

    async def admit_pass_through(self, calls: Sequence[AdmissionRequest]) -> Reservation:
        """The same for a call that no deployment of ours answers, so that nothing but its place is held.

        One application per model that it names, all of which must be granted; the first is held to budgets and limits.
        One application with the model "" names none.
        """
        call, named = calls[0], [one for one in calls if one.model]
        principal = call.principal
        principal.refuse_route(call.path, "pass_through")
        principal.refuse_pass_through(call.path)
        principal.refuse_blocked()
        for one in named:
            refuse_model_of_key(principal, one.model, one.groups)
        principal.refuse_expired()
        principal.refuse_blocked_team()
        for one in named:
            refuse_model_of_others(principal, one.model, one.groups, is_own_model=one.is_own_model)
        await self._shared.refresh()
        end_user = await self._end_user(call)
        return await self._budgets.reserve(
            self._scopes(call, end_user), self._limits(call, end_user), call.estimate, call.tokens
        )

    async def _reserve(self, call: AdmissionRequest) -> Reservation:
        if not call.deployments:
            raise InvalidRequest(
                f"litellm.BadRequestError: You passed in model={call.model}. "
                "There are no healthy deployments for this model",
                param="model",
            )
        await self._shared.refresh()
        end_user = await self._end_user(call)
        is_free = all(_is_free(deployment) for deployment in call.deployments)
        scopes = () if is_free else self._scopes(call, end_user)
        return await self._budgets.reserve(scopes, self._limits(call, end_user), call.estimate, call.tokens)

    async def _end_user(self, call: AdmissionRequest) -> EndUserFacts:
        if not call.end_user:
            return _NOBODY
        facts = await self._shared.end_user(call.end_user, call.principal.end_user_budget_id)
        if facts.is_blocked:
            raise Forbidden(f"End User={call.end_user} is blocked.", type="customer_blocked", param="user")
        if facts.models and not _is_granted(facts.models, call):
            raise Forbidden(
                f"The model '{call.model}' is not available for End User={call.end_user}.",
                type="customer_model_access_denied",
                param="model",
            )
        return facts

    def _scopes(self, call: AdmissionRequest, end_user: EndUserFacts) -> tuple[BudgetScope, ...]:
        principal = call.principal
        found = [scope for scope in principal.scopes if not scope.model or scope.model == call.model]
        found += self._shared.of_call((*principal.tags, *call.tags), call.groups)
        if end_user.scope is not None:
            found.append(end_user.scope)
        return tuple(found)

    def _limits(self, call: AdmissionRequest, end_user: EndUserFacts) -> tuple[RateLimit, ...]:
        principal = call.principal
        found = [limit for limit in principal.limits if not limit.model or limit.model == call.model]
        found += self._shared.limits_of_tags((*principal.tags, *call.tags))
        for tag in dict.fromkeys(call.tags):
            if tag in principal.tag_limits:
                id = counter_name(principal.key_hash, tag)
                found.append(RateLimit("tag_per_key", id, tag, principal.tag_limits[tag], None, None))
        if end_user.limit is not None:
            found.append(end_user.limit)
        return tuple(found)


def _is_granted(models: Sequence[str], call: AdmissionRequest) -> bool:
    return call.model in models or "*" in models or any(group in models for group in call.groups)


def _is_free(deployment: Deployment) -> bool:
    return deployment.prices is not None and deployment.prices.are_free


class NoRoom(UpstreamError):
    """A deployment that was not asked: its provider's budget or its own limit is used up. Another may have room."""


class AttemptAdmission:
    """May this attempt run? What holds for a provider or a deployment, whoever calls."""

    def __init__(self, settings: RoutingSettings, budgets: Budgets, shared: SharedScopes) -> None:
        self._budgets = budgets
        self._shared = shared
        self.reconfigure(settings)

    def reconfigure(self, settings: RoutingSettings) -> None:
        """Take settings that changed while running."""
        self._holds_to_limits = (
            settings.enforces_deployment_limits or settings.routing_strategy == "usage-based-routing-v2"
        )

    async def admit(self, deployment: Deployment, estimate: Callable[[], Decimal], tokens: int) -> Reservation | None:
        """Hold an attempt's estimate and its place, None where nothing bounds it. Raises NoRoom."""
        scope = self._shared.of_provider(deployment.provider.name)
        limit = self._limit(deployment)
        if scope is None and limit is None:
            return None
        scopes, limits = ([scope] if scope else []), ([limit] if limit else [])
        try:
            return await self._budgets.reserve(scopes, limits, estimate(), tokens)
        except (BudgetExceeded, TooManyRequests) as full:
            message = full.message
            if isinstance(full, TooManyRequests):
                message = f"Deployment over defined limit: {full.message}"
            raise NoRoom(
                message, status=full.status, type=full.type, error_class="RateLimitError", headers=full.headers
            ) from None

    def _limit(self, deployment: Deployment) -> RateLimit | None:
        rpm, tpm = (deployment.rpm, deployment.tpm) if self._holds_to_limits else (None, None)
        parallel = deployment.max_parallel_requests
        if rpm is None and tpm is None and parallel is None:
            return None
        return RateLimit("deployment", deployment.id, deployment.model_name, _floor(rpm), _floor(tpm), parallel)


def _floor(limit: float | None) -> int | None:
    return None if limit is None else int(limit)
