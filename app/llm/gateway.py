"""The hot path, told once: admission, candidates, attempts, settlement.

Keys are in memory and spend goes to a journal; only a call that is bounded by a budget or a limit asks counters that
are shared. Where the caller's dialect is the provider's, bodies pass through with only the model name changed.

A call goes to a group of deployments, is tried again there while that may help, and then goes on to the group's
fallbacks: until something was sent to the client, every failure may be made good by somebody else.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field, replace
from decimal import Decimal
from typing import NamedTuple

from ..deployments.catalog import Deployment, DeploymentCatalog
from ..errors import GatewayError, UpstreamError
from ..protocols.call_options import USUAL
from ..protocols.dialect import ClientRequest
from ..protocols.dialects import client_dialect
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
from .observers import Observer
from .routing.fallbacks import fallbacks_for, possible_targets
from .routing.retries import pause_before, should_retry
from .routing.router import Router, RoutingRequest
from .streaming import kept_alive
from .upstream.client import Upstream


class Group(NamedTuple):
    """The deployments behind one model name."""

    name: str
    deployments: tuple[Deployment, ...]


@dataclass(slots=True, kw_only=True)
class RoutedCall:
    """One admitted call on its way from group to group. `tried`: groups that it came by. `controls`: of the cache."""

    call: Call
    request: ClientRequest
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
        request = call.read()
        self._observers.call_started(call)
        try:
            controls = None if self.answers is None else self.answers.controls_of(call, request)
            group, reservation = await self._admit(call, request)
        except GatewayError as error:
            self._observers.call_refused(call, error)
            raise
        record = CallRecord(
            call, request, reservation, self._ledger, self._observers, self.router.load, self._record_stream_failure
        )
        routed = RoutedCall(call=call, request=request, record=record, tried={group.name}, controls=controls)
        answering = self._answer(routed, group)
        if request.is_stream and self._settings.stream_keepalive is not None:
            return await kept_alive(answering, self._settings.stream_keepalive, client_dialect(request))
        return await answering

    async def _answer(self, routed: RoutedCall, group: Group) -> Reply:
        """Serve an admitted call and close its record whatever happens."""
        record = routed.record
        try:
            if self.answers is not None and routed.controls is not None:
                return await self._answer_from(self.answers, routed.controls, routed, group)
            return await self._serve(routed, group, routed.request)
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
        self, answers: ResponseCache, controls: CacheControls, routed: RoutedCall, group: Group
    ) -> Reply:
        """An earlier answer to the same request, else one of the providers."""

        async def serve(request: ClientRequest) -> Reply:
            return await self._serve(routed, group, request)

        return await answers.answer(
            CachedCall(
                controls=controls,
                call=routed.call,
                request=routed.request,
                group=group.name,
                deployments=group.deployments,
                record=routed.record,
                serve=serve,
            )
        )

    # ---- admission -------------------------------------------------------------------------------------------------

    async def _admit(self, call: Call, request: ClientRequest) -> tuple[Group, Reservation]:
        """Hold the call's estimate, for its model or for the first of `budget_fallbacks` whose budget has room."""
        principal = call.principal
        wanted = principal.aliases.get(request.model, request.model)
        models = [wanted, *principal.budget_fallbacks.get(wanted, ())]
        for number, model in enumerate(models, start=1):
            group = self._group_of(call, model)
            try:
                return group, await self._admission.admit(self._admission_request(call, request, model, group))
            except ModelBudgetExceeded:
                if number == len(models):
                    raise
        raise AssertionError("a call asks for at least one model")

    def _group_of(self, call: Call, model: str) -> Group:
        name = self._catalog.group_of(model, call.principal.team_id)
        return Group(name, self._catalog.deployments_of(name, call.principal.team_id))

    def _admission_request(self, call: Call, request: ClientRequest, model: str, group: Group) -> AdmissionRequest:
        team_id = call.principal.team_id
        return AdmissionRequest(
            principal=call.principal,
            model=group.name,
            path=call.path,
            deployments=group.deployments,
            groups=self._catalog.access_groups_of(group.name, team_id)
            | ({model} if model != group.name else frozenset()),
            is_own_model=self._catalog.belongs_to_team(group.name, team_id),
            tags=call.tags,
            end_user=call.end_user,
            estimate=_estimate(request, group.deployments),
            tokens=request.estimated_prompt_tokens,
        )

    # ---- candidates: groups and their fallbacks --------------------------------------------------------------------

    async def _serve(self, routed: RoutedCall, group: Group, request: ClientRequest) -> Reply:
        """An answer of this group or of those that take over from it. Raises the last failure."""
        try:
            return await self._try_group(routed, group, request)
        except UpstreamError as error:
            last = error
        plan = fallbacks_for(last, group.name, request.options, self._settings)
        # A team that names a model of its own like one with fallbacks gets no grant for these by it.
        is_granted = not plan.is_client_supplied and not any(member.is_team_made for member in group.deployments)
        for target in plan.targets:
            if not self._may_fall_back(routed, target):
                continue
            try:
                return await self._fall_back(routed, target, is_granted=is_granted)
            except UpstreamError as error:
                last = error
            except GatewayError:
                continue  # this caller may not, or has no budget there; what the provider said matters more
        raise last

    def _may_fall_back(self, routed: RoutedCall, target: FallbackTarget) -> bool:
        name = self._catalog.group_of(target.model, routed.call.principal.team_id)
        return name not in routed.tried and routed.record.fallbacks < self._settings.max_fallbacks

    async def _fall_back(self, routed: RoutedCall, target: FallbackTarget, *, is_granted: bool) -> Reply:
        """Let a fallback's group answer, within the budgets and limits that hold for it.

        `is_granted`: the configuration sends the call there, so the caller needs no grant of its own.
        """
        request = routed.request.replaced(target.fields)
        group = self._group_of(routed.call, target.model)
        asked = self._admission_request(routed.call, request, target.model, group)
        routed.tried.add(group.name)
        routed.record.fall_back(group.name, await self._admission.admit(asked, is_fallback=is_granted))
        return await self._serve(routed, group, request)

    async def _try_group(self, routed: RoutedCall, group: Group, request: ClientRequest) -> Reply:
        """Ask the deployments of a group, those of the first `order` before the others."""
        targets = possible_targets(group.name, request.options, self._settings)
        routing = RoutingRequest(
            group=group.name,
            tags=(*routed.call.principal.tags, *routed.call.tags),
            prompt_tokens=request.estimated_text_tokens if self._settings.enable_pre_call_checks else 0,
            is_stream=request.is_stream,
            has_fallback=any(self._may_fall_back(routed, target) for target in targets),
        )
        tiers = self.router.tiers(group.deployments, routing)
        for number, tier in enumerate(tiers, start=1):
            # A later tier takes over as a fallback does.
            is_last = number == len(tiers)
            here = routing if is_last or routing.has_fallback else replace(routing, has_fallback=True)
            try:
                return await self._try_tier(routed, here, tier, request)
            except UpstreamError:
                if is_last:
                    raise
        raise AssertionError("a group has at least one tier")

    # ---- attempts --------------------------------------------------------------------------------------------------

    async def _try_tier(
        self, routed: RoutedCall, routing: RoutingRequest, tier: list[Deployment], request: ClientRequest
    ) -> Reply:
        """Ask one deployment after the other, and the same ones again, as long as the failures leave hope."""
        tried: set[str] = set()
        failures = 0
        while True:
            deployment = self.router.next_of(tier, tried, routing)
            tried.add(deployment.id)
            try:
                return await self._attempt(routed, deployment, request)
            except NoRoom:
                # Nobody was asked: it counts neither against the deployment nor against the tries.
                if self.router.choose(tier, tried, routing) is None:
                    raise
            except UpstreamError as error:
                failures += 1
                has_others = self.router.choose(tier, tried, routing) is not None
                if not is_client_timeout(error, routed.call, request.options):
                    has_fallback = self._has_fallback_for_all(routing, request)
                    self._record_failure(deployment, error, is_alone=len(tier) == 1, has_fallback=has_fallback)
                if not should_retry(
                    error,
                    failures=failures,
                    group=routing.group,
                    has_others=has_others,
                    has_fallback=routing.has_fallback,
                    all_cooling_down=self.router.all_cooling_down(tier),
                    options=request.options,
                    settings=self._settings,
                    configured=deployment.num_retries,
                ):
                    raise
                await asyncio.sleep(self._pause_before(error, failures, has_others=has_others))

    def _pause_before(self, error: UpstreamError, failures: int, *, has_others: bool) -> float:
        least, chance = self._settings.retry_after, self.router.chance
        return pause_before(error, failures=failures, has_others=has_others, least=least, chance=chance)

    async def _attempt(self, routed: RoutedCall, deployment: Deployment, request: ClientRequest) -> Reply:
        record = routed.record
        reservation = await self._attempt_admission.admit(
            deployment,
            record.spend.reservation,
            lambda: _estimate(request, (deployment,)),
            request.estimated_prompt_tokens,
        )
        record.start_attempt(deployment, reservation)
        try:
            reply = await self._attempts.run(routed.call, request, deployment, record)
        except UpstreamError as error:
            record.end_attempt(error)
            raise
        self.router.cooldowns.record_success(deployment.id)
        return reply

    # ---- failures --------------------------------------------------------------------------------------------------

    def _has_fallback_for_all(self, routing: RoutingRequest, request: ClientRequest) -> bool:
        """What one client would fall back on is no reason to cool down the only deployment of all others."""
        if routing.has_fallback and request.options.fallbacks is None:
            return True
        return bool(possible_targets(routing.group, USUAL, self._settings))

    def _record_failure(
        self, deployment: Deployment, error: UpstreamError, *, is_alone: bool, has_fallback: bool
    ) -> None:
        seconds = self.router.failed(deployment, error, is_alone=is_alone, has_fallback=has_fallback)
        if seconds:
            self._observers.deployment_cooled(deployment, error.status, seconds)

    def _record_stream_failure(self, deployment: Deployment, error: UpstreamError) -> None:
        """A stream broke after the client had seen it begin."""
        group, team_id = deployment.public_name, deployment.team_id
        is_alone = len(self._catalog.deployments_of(group, team_id)) <= 1
        has_fallback = bool(possible_targets(group, USUAL, self._settings))
        self._record_failure(deployment, error, is_alone=is_alone, has_fallback=has_fallback)


def _estimate(request: ClientRequest, deployments: tuple[Deployment, ...]) -> Decimal:
    """What to hold for a call: the dearest of the deployments may be the one that answers."""
    size, most, choices, asked = request.body_bytes, request.max_tokens, request.choices, request.asked
    different = {id(deployment.prices): deployment.prices for deployment in deployments}.values()
    estimates = (estimate_of(size, most, prices, choices=choices, asked=asked) for prices in different)
    return max(estimates, default=Decimal(0))
