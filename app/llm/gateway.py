"""The hot path: admit -> attempt -> settle.

Keys are in memory and spend goes to a journal; only a call that is bounded by a budget or a limit asks counters that
are shared. The caller's dialect is the provider's, so bodies pass through with only the model name changed.

A call goes to a group of deployments, is tried again there while that may help, and then goes on to the group's
fallbacks: until something was sent to the client, every failure may be made good by somebody else.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field, replace
from decimal import Decimal

from ..deployments.catalog import Deployment, DeploymentCatalog
from ..errors import GatewayError, UpstreamError
from ..protocols.call_options import USUAL
from ..protocols.openai import OpenAIRequest
from ..settings import Settings
from ..settings.routing import FallbackTarget
from ..spend.budget import Budgets, ModelBudgetExceeded, Reservation
from ..spend.ledger import SpendLedger
from ..spend.pricing import estimate_of
from ..spend.shared_scopes import SharedScopes
from .admission import Admission, AdmissionRequest, AttemptAdmission, NoRoom
from .attempt import AttemptRunner
from .caching.cache_keys import CacheControls
from .caching.response_cache import CachedCall, ResponseCache
from .call import Call, Reply, is_client_timeout
from .call_record import CallRecord
from .keepalive import kept_alive
from .observers import Observer
from .routing.fallbacks import fallbacks_for, has_special_fallbacks, possible_targets
from .routing.retries import pause_before, tries_again
from .routing.router import Router, RoutingRequest
from .upstream.client import Upstream

_NAME_LENGTH = 255
_NOTHING = Decimal(0)


@dataclass(slots=True, kw_only=True)
class RoutedCall:
    """One call on its way from group to group. `tried` are the groups that it came by; `controls`: of the cache."""

    call: Call
    request: OpenAIRequest
    record: CallRecord
    tried: set[str] = field(default_factory=set)
    controls: CacheControls | None = None


class Gateway:
    def __init__(
        self,
        settings: Settings,
        catalog: DeploymentCatalog,
        budgets: Budgets,
        ledger: SpendLedger,
        upstream: Upstream,
        shared: SharedScopes,
        router: Router,
        observers: Observer,
        answers: ResponseCache | None = None,
    ) -> None:
        self._settings = settings
        self._catalog = catalog
        self._ledger = ledger
        self._attempts = AttemptRunner(settings, upstream)
        self._observers = observers
        self.answers = answers
        self._admission = Admission(budgets, shared)
        self._attempt_admission = AttemptAdmission(settings, budgets, shared)
        self.router = router

    def reconfigure(self, settings: Settings) -> None:
        """Take settings that changed while running."""
        self._settings = settings
        self._attempts.reconfigure(settings)
        self._attempt_admission.reconfigure(settings)
        self.router.reconfigure(settings)
        self._catalog.reconfigure(settings)
        if self.answers is not None:
            self.answers.reconfigure(settings)

    def on_message(self, message: str) -> None:
        """Another process says what it learned or dropped."""
        self.router.cooldowns.on_message(message)
        if self.answers is not None:
            self.answers.on_message(message)

    async def close(self) -> None:
        """Send what still waits on its way."""
        if self.answers is not None:
            await self.answers.close()

    async def run(self, call: Call) -> Reply:
        """Answer one call. Raises a GatewayError that the edge renders; what a failed call cost is settled by then."""
        request = call.endpoint.read(call.body, call.path_model, call.content_type)
        if call.num_retries is not None and request.options.num_retries is None:
            request.options = replace(request.options, num_retries=call.num_retries)
        call.end_user = (call.end_user or request.end_user)[:_NAME_LENGTH]
        call.tags = list(dict.fromkeys([*request.tags, *call.tags]))
        self._observers.call_started(call)
        try:
            controls = None if self.answers is None else self.answers.controls_of(call, request)
            group, deployments, reservation = await self._admit(call, request)
        except GatewayError as error:
            self._observers.call_refused(call, error)
            raise
        record = CallRecord(
            call, request, reservation, self._ledger, self._observers, self.router.load, self._record_stream_failure
        )
        routed = RoutedCall(call=call, request=request, record=record, tried={group}, controls=controls)
        answering = self._answer(routed, group, deployments)
        if request.is_stream and self._settings.stream_keepalive is not None:
            return await kept_alive(answering, self._settings.stream_keepalive)
        return await answering

    async def _answer(self, routed: RoutedCall, group: str, deployments: tuple[Deployment, ...]) -> Reply:
        """Serve an admitted call and close its record whatever happens."""
        record = routed.record
        try:
            if self.answers is not None and routed.controls is not None:
                return await self._answer_from(self.answers, routed.controls, routed, group, deployments)
            return await self._serve(routed, group, deployments, routed.request)
        except GatewayError as error:
            record.fail(error.status, getattr(error, "error_class", type(error).__name__), error.message)
            error.headers.update(record.headers_of_attempts())
            raise
        except asyncio.CancelledError:
            record.fail(499, "ClientDisconnected", "the client left before the answer")
            raise
        except BaseException:
            # A bug of ours must not leave money held for ever; the edge logs it and answers 500.
            record.fail(500, "InternalServerError", "internal error")
            raise

    async def _answer_from(
        self,
        answers: ResponseCache,
        controls: CacheControls,
        routed: RoutedCall,
        group: str,
        deployments: tuple[Deployment, ...],
    ) -> Reply:
        """An earlier answer to the same request, else one of the providers."""

        async def serve(request: OpenAIRequest) -> Reply:
            return await self._serve(routed, group, deployments, request)

        return await answers.answer(
            CachedCall(
                controls=controls,
                call=routed.call,
                request=routed.request,
                group=group,
                deployments=deployments,
                record=routed.record,
                serve=serve,
            )
        )

    # ---- admission -------------------------------------------------------------------------------------------------

    async def _admit(self, call: Call, request: OpenAIRequest) -> tuple[str, tuple[Deployment, ...], Reservation]:
        """Hold the call's estimate, for its model or for the first of `budget_fallbacks` whose budget has room."""
        principal = call.principal
        wanted = principal.aliases.get(request.model, request.model)
        models = [wanted, *principal.budget_fallbacks.get(wanted, ())]
        for number, model in enumerate(models, start=1):
            application = self._admission_request(call, request, model)
            try:
                return application.model, tuple(application.deployments), await self._admission.admit(application)
            except ModelBudgetExceeded:
                if number == len(models):
                    raise
        raise AssertionError("a call asks for at least one model")

    def _admission_request(self, call: Call, request: OpenAIRequest, model: str) -> AdmissionRequest:
        team_id = call.principal.team_id
        group = self._catalog.group_behind(model, team_id)
        deployments = self._catalog.behind(group, team_id)
        return AdmissionRequest(
            principal=call.principal,
            model=group,
            path=call.path,
            deployments=deployments,
            groups=self._catalog.groups_of(group, team_id) | ({model} if model != group else frozenset()),
            is_own_model=self._catalog.belongs_to_team(group, team_id),
            tags=call.tags,
            end_user=call.end_user,
            estimate=_estimate(request, deployments),
            tokens=request.estimated_prompt_tokens,
        )

    # ---- groups ----------------------------------------------------------------------------------------------------

    async def _serve(
        self, routed: RoutedCall, group: str, deployments: tuple[Deployment, ...], request: OpenAIRequest
    ) -> Reply:
        """An answer of this group or of those that take over from it. Raises the last failure."""
        try:
            return await self._try_group(routed, group, deployments, request)
        except UpstreamError as error:
            last = error
        plan = fallbacks_for(last, group, request.options, self._settings)
        for target in plan.targets:
            if not self._may_fall_back(routed, target):
                continue
            try:
                return await self._fall_back(routed, target, is_configured=not plan.is_client_supplied)
            except UpstreamError as error:
                last = error
            except GatewayError:
                continue  # this caller may not, or has no budget there; what the provider said matters more
        raise last

    def _may_fall_back(self, routed: RoutedCall, target: FallbackTarget) -> bool:
        group = self._catalog.group_behind(target.model, routed.call.principal.team_id)
        return group not in routed.tried and routed.record.fallbacks < self._settings.max_fallbacks

    async def _fall_back(self, routed: RoutedCall, target: FallbackTarget, *, is_configured: bool) -> Reply:
        """Let a fallback's group answer, within the budgets and limits that hold for it."""
        request = routed.request.replaced(target.fields)
        application = self._admission_request(routed.call, request, target.model)
        routed.tried.add(application.model)
        routed.record.fall_back(application.model, await self._admission.admit(application, is_fallback=is_configured))
        return await self._serve(routed, application.model, tuple(application.deployments), request)

    async def _try_group(
        self, routed: RoutedCall, group: str, deployments: tuple[Deployment, ...], request: OpenAIRequest
    ) -> Reply:
        """Ask the deployments of a group, those of the first `order` before the others."""
        targets = possible_targets(group, request.options, self._settings)
        route = RoutingRequest(
            group=group,
            tags=(*routed.call.principal.tags, *routed.call.tags),
            prompt_tokens=request.estimated_text_tokens if self._settings.enable_pre_call_checks else 0,
            is_stream=request.is_stream,
            has_fallback=any(self._may_fall_back(routed, target) for target in targets),
        )
        levels = self.router.levels(deployments, route)
        for number, level in enumerate(levels, start=1):
            # A later level takes over as a fallback does.
            here = route if number == len(levels) or route.has_fallback else replace(route, has_fallback=True)
            try:
                return await self._try_tier(routed, here, level, request)
            except UpstreamError:
                if number == len(levels):
                    raise
        raise AssertionError("a group has at least one level")

    async def _try_tier(
        self, routed: RoutedCall, route: RoutingRequest, level: list[Deployment], request: OpenAIRequest
    ) -> Reply:
        """Ask one deployment after the other, and the same ones again, as long as the failures leave hope."""
        tried: set[str] = set()
        failures = 0
        while True:
            deployment = self.router.choose(level, tried, route)
            if deployment is None:
                tried.clear()
                deployment = self.router.choose(level, tried, route) or level[0]
            tried.add(deployment.id)
            try:
                return await self._attempt(routed, deployment, request)
            except UpstreamError as error:
                others = self.router.choose(level, tried, route)
                if isinstance(error, NoRoom):
                    # Nobody was asked: it counts neither against the deployment nor against the tries.
                    if others is None:
                        raise
                    continue
                failures += 1
                if not is_client_timeout(error, routed.call, request.options):
                    has_fallback = self._has_fallback_for_all(route, request)
                    self._record_failure(deployment, error, is_alone=len(level) == 1, has_fallback=has_fallback)
                if not self._should_retry(
                    error, failures, route, request, deployment, level, has_others=others is not None
                ):
                    raise
                pause = pause_before(
                    error,
                    failures=failures,
                    has_others=others is not None,
                    least=self._settings.retry_after,
                    chance=self.router.chance,
                )
                await asyncio.sleep(pause)

    def _has_fallback_for_all(self, route: RoutingRequest, request: OpenAIRequest) -> bool:
        """What one client would fall back on is no reason to rest the only deployment of all others."""
        if route.has_fallback and request.options.fallbacks is None:
            return True
        return bool(possible_targets(route.group, USUAL, self._settings))

    def _record_failure(
        self, deployment: Deployment, error: UpstreamError, *, is_alone: bool, has_fallback: bool
    ) -> None:
        seconds = self.router.failed(deployment, error, is_alone=is_alone, has_fallback=has_fallback)
        if seconds:
            self._observers.deployment_cooled(deployment, error.status, seconds)

    def _record_stream_failure(self, deployment: Deployment, error: UpstreamError) -> None:
        """A stream broke after the client had seen it begin."""
        group, team_id = deployment.public_name, deployment.team_id
        is_alone = len(self._catalog.behind(group, team_id)) <= 1
        has_fallback = bool(possible_targets(group, USUAL, self._settings))
        self._record_failure(deployment, error, is_alone=is_alone, has_fallback=has_fallback)

    def _should_retry(
        self,
        error: UpstreamError,
        failures: int,
        route: RoutingRequest,
        request: OpenAIRequest,
        deployment: Deployment,
        level: list[Deployment],
        *,
        has_others: bool,
    ) -> bool:
        """Whether the group is tried again: not while all of it rests, and a limit is left to a fallback at once."""
        if not has_others and ((route.has_fallback and error.status == 429) or self.router.all_cooling_down(level)):
            return False
        if has_special_fallbacks(error, request.options, self._settings):
            return False
        return tries_again(
            error,
            failures=failures,
            group=route.group,
            has_others=has_others,
            settings=self._settings,
            asked=request.options.num_retries,
            configured=deployment.num_retries,
        )

    async def _attempt(self, routed: RoutedCall, deployment: Deployment, request: OpenAIRequest) -> Reply:
        record = routed.record
        record.attempt_reservation = await self._attempt_admission.admit(
            deployment, lambda: _estimate(request, (deployment,)), request.estimated_prompt_tokens
        )
        record.start_attempt(deployment)
        try:
            reply = await self._attempts.run(routed.call, request, deployment, record)
        except UpstreamError as error:
            record.end_attempt(error)
            raise
        self.router.cooldowns.answered(deployment.id)
        return reply


def _estimate(request: OpenAIRequest, deployments: tuple[Deployment, ...]) -> Decimal:
    """What to hold for a call: the dearest of the deployments may be the one that answers."""
    size, most, choices, asked = request.body_bytes, request.max_tokens, request.choices, request.asked
    different = {id(one.prices): one.prices for one in deployments}.values()
    estimates = (estimate_of(size, most, prices, choices=choices, asked=asked) for prices in different)
    return max(estimates, default=_NOTHING)
