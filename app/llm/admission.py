"""May this call run? Checked in the order in which clients expect refusals; the first is the answer."""

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

    async def admit(self, request: AdmissionRequest, *, is_fallback: bool = False) -> Reservation:
        """Refuse, or hold the call's estimate below every budget and its place within every limit.

        `is_fallback`: the configuration sends the call to this model, so the caller needs no grant for it.
        """
        if is_fallback:
            return await self._reserve(request)
        principal = request.principal
        principal.refuse_route(request.path, "llm")
        principal.refuse_blocked()
        refuse_model_of_key(principal, request.model, request.groups)
        principal.refuse_expired()
        principal.refuse_blocked_team()
        refuse_model_of_others(principal, request.model, request.groups, is_own_model=request.is_own_model)
        return await self._reserve(request)

    async def admit_pass_through(self, requests: Sequence[AdmissionRequest]) -> Reservation:
        """The same for a call that no deployment of ours answers, so that nothing but its place is held.

        One request per model that it names, all of which must be granted; the first is held to budgets and limits.
        One request with the model "" names none.
        """
        first, named = requests[0], [request for request in requests if request.model]
        principal = first.principal
        principal.refuse_route(first.path, "pass_through")
        principal.refuse_pass_through(first.path)
        principal.refuse_blocked()
        for request in named:
            refuse_model_of_key(principal, request.model, request.groups)
        principal.refuse_expired()
        principal.refuse_blocked_team()
        for request in named:
            refuse_model_of_others(principal, request.model, request.groups, is_own_model=request.is_own_model)
        await self._shared.refresh()
        end_user = await self._end_user(first)
        return await self._budgets.reserve(
            self._scopes(first, end_user), self._limits(first, end_user), first.estimate, first.tokens
        )

    async def _reserve(self, request: AdmissionRequest) -> Reservation:
        if not request.deployments:
            raise InvalidRequest(
                f"litellm.BadRequestError: You passed in model={request.model}. "
                "There are no healthy deployments for this model",
                param="model",
            )
        await self._shared.refresh()
        end_user = await self._end_user(request)
        is_free = all(_is_free(deployment) for deployment in request.deployments)
        scopes = () if is_free else self._scopes(request, end_user)
        limits = self._limits(request, end_user)
        if any(deployment.is_team_made for deployment in request.deployments):
            return await self._reserve_for_team(request, scopes, limits)
        return await self._budgets.reserve(scopes, limits, request.estimate, request.tokens)

    async def _reserve_for_team(
        self, request: AdmissionRequest, scopes: Sequence[BudgetScope], limits: Sequence[RateLimit]
    ) -> Reservation:
        """Hold what is the team's own: prices and usage are what the team says, so that no others may pay by them.

        Where another deployment of the group answers, its attempt holds the rest.
        """
        own_scopes = [scope for scope in scopes if scope.is_of_team]
        own_limits = [limit for limit in limits if limit.is_of_team]
        reservation = await self._budgets.reserve(own_scopes, own_limits, request.estimate, request.tokens)
        reservation.shared_scopes = [scope for scope in scopes if not scope.is_of_team]
        reservation.shared_limits = [limit for limit in limits if not limit.is_of_team]
        return reservation

    async def _end_user(self, request: AdmissionRequest) -> EndUserFacts:
        if not request.end_user:
            return _NOBODY
        facts = await self._shared.end_user(request.end_user, request.principal.end_user_budget_id)
        if facts.is_blocked:
            raise Forbidden(f"End User={request.end_user} is blocked.", type="customer_blocked", param="user")
        if facts.models and not _is_granted(facts.models, request):
            raise Forbidden(
                f"The model '{request.model}' is not available for End User={request.end_user}.",
                type="customer_model_access_denied",
                param="model",
            )
        return facts

    def _scopes(self, request: AdmissionRequest, end_user: EndUserFacts) -> tuple[BudgetScope, ...]:
        principal = request.principal
        scopes = [scope for scope in principal.scopes if not scope.model or scope.model == request.model]
        scopes += self._shared.of_call((*principal.tags, *request.tags), request.groups)
        if end_user.scope is not None:
            scopes.append(end_user.scope)
        return tuple(scopes)

    def _limits(self, request: AdmissionRequest, end_user: EndUserFacts) -> tuple[RateLimit, ...]:
        principal = request.principal
        limits = [limit for limit in principal.limits if not limit.model or limit.model == request.model]
        limits += self._shared.limits_of_tags((*principal.tags, *request.tags))
        for tag in dict.fromkeys(request.tags):
            if tag in principal.tag_limits:
                id = counter_name(principal.key_hash, tag)
                limits.append(RateLimit("tag_per_key", id, tag, principal.tag_limits[tag], None, None))
        if end_user.limit is not None:
            limits.append(end_user.limit)
        return tuple(limits)


def _is_granted(models: Sequence[str], request: AdmissionRequest) -> bool:
    return request.model in models or "*" in models or any(group in models for group in request.groups)


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

    async def admit(
        self, deployment: Deployment, call: Reservation, estimate: Callable[[], Decimal], tokens: int
    ) -> Reservation | None:
        """Hold an attempt's estimate and its place, None where nothing bounds it. Raises NoRoom.

        `call`: what the call holds. Its shared part is for attempts to hold, unless the team prices this deployment.
        """
        limit = self._limit(deployment)
        scopes: list[BudgetScope] = []
        limits = [limit] if limit is not None else []
        if not deployment.is_team_made:
            provider = self._shared.of_provider(deployment.provider.name)
            scopes = [*([provider] if provider is not None else ()), *call.shared_scopes]
            limits += call.shared_limits
        if not scopes and not limits:
            return None
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
