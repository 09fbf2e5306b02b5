"""The hot path: admit -> attempt -> settle.

Keys are in memory and spend goes to a journal; only a call that is bounded by a budget or a limit asks counters that
are shared. The caller's dialect is the provider's, so bodies pass through with only the model name changed.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from decimal import Decimal

import msgspec

from ..auth.principal import Principal
from ..deployments import Deployment, DeploymentCatalog
from ..errors import BudgetExceeded, UpstreamError
from ..protocols.mock import MOCK_ERRORS, mock_answer, mock_events
from ..protocols.openai import (
    BROKEN_JSON,
    DONE_FRAME,
    Endpoint,
    OpenAIRequest,
    StreamFault,
    StreamRestamper,
    error_frame,
    parse_request,
    restamp,
)
from ..protocols.sse import EventTooLarge, SSEDecoder
from ..settings import Settings
from ..spend.budget import BudgetBook, ModelBudgetExceeded, Reservation
from ..spend.ledger import SpendLedger
from ..spend.pricing import estimate_of
from ..spend.shared_scopes import SharedScopes
from .accounting import CallRecord
from .admission import Admission, Application
from .routing import attempts, may_try_another
from .upstream import Answer, Upstream, garbage_error, status_error

_NAME_LENGTH = 255
_BROKEN_EVENTS = (StreamFault, EventTooLarge, *BROKEN_JSON)


@dataclass(slots=True, kw_only=True)
class Call:
    """One call as the edge read it: who, which operation, the raw body, and what the headers said."""

    principal: Principal
    endpoint: Endpoint
    path: str
    body: bytes
    call_id: str
    path_model: str | None = None
    end_user: str = ""
    tags: list[str] = field(default_factory=list)
    session_id: str | None = None
    ip_address: str | None = None
    timeout: float | None = None


@dataclass(slots=True)
class Reply:
    """What the edge sends: one body, or frames as they come."""

    headers: dict[str, str]
    body: bytes = b""
    frames: AsyncIterator[bytes] | None = None


class Gateway:
    def __init__(
        self,
        settings: Settings,
        catalog: DeploymentCatalog,
        budgets: BudgetBook,
        ledger: SpendLedger,
        upstream: Upstream,
        shared: SharedScopes,
    ) -> None:
        self._settings = settings
        self._catalog = catalog
        self._budgets = budgets
        self._ledger = ledger
        self._upstream = upstream
        self._shared = shared
        self._admission = Admission(budgets, shared)
        # Spreads load; nothing secret hangs on it.
        self._chance = random.Random()  # noqa: S311

    def reconfigure(self, settings: Settings) -> None:
        """Take settings that changed while running."""
        self._settings = settings

    async def run(self, call: Call) -> Reply:
        """Answer one call. Raises a GatewayError that the edge renders; what a failed call cost is settled by then."""
        request = parse_request(call.endpoint, call.body, call.path_model)
        call.end_user = (call.end_user or request.end_user)[:_NAME_LENGTH]
        call.tags = list(dict.fromkeys([*request.tags, *call.tags]))
        reservation, deployments = await self._admit(call, request)
        record = CallRecord(call, request, reservation, self._ledger)
        try:
            return await self._attempt_all(call, request, deployments, record)
        except UpstreamError as error:
            record.fail(error.status, type(error).__name__, error.message)
            error.headers.update(record.headers_of_failure())
            raise
        except asyncio.CancelledError:
            record.fail(499, "ClientDisconnected", "the client left before the answer")
            raise
        except BaseException:
            # A bug of ours must not leave money held for ever; the edge logs it and answers 500.
            record.fail(500, "InternalServerError", "internal error")
            raise

    async def _admit(self, call: Call, request: OpenAIRequest) -> tuple[Reservation, tuple[Deployment, ...]]:
        """Hold the call's estimate, for its model or for the first of `budget_fallbacks` whose budget has room."""
        principal = call.principal
        wanted = principal.aliases.get(request.model, request.model)
        models = [wanted, *principal.budget_fallbacks.get(wanted, ())]
        for number, model in enumerate(models, start=1):
            deployments = self._catalog.behind(model, principal.team_id)
            application = Application(
                principal=principal,
                model=model,
                path=call.path,
                deployments=deployments,
                groups=self._catalog.groups_of(model, principal.team_id),
                is_own_model=self._catalog.belongs_to_team(model, principal.team_id),
                tags=call.tags,
                end_user=call.end_user,
                estimate=_estimate(request, deployments),
                tokens=request.estimated_prompt_tokens,
            )
            try:
                return await self._admission.admit(application), deployments
            except ModelBudgetExceeded:
                if number == len(models):
                    raise
        raise AssertionError("a call asks for at least one model")

    async def _attempt_all(
        self, call: Call, request: OpenAIRequest, deployments: tuple[Deployment, ...], record: CallRecord
    ) -> Reply:
        """Try deployments until one answers. Nothing was sent to the client yet, so every one may take over."""
        order = attempts(deployments, self._settings.num_retries, self._chance)
        for number, deployment in enumerate(order):
            record.start_attempt(deployment)
            try:
                record.attempt_reservation = await self._reserve_provider(deployment, request)
                if deployment.mock_response is not None:
                    return await self._mocked(request, deployment, record)
                if request.is_stream:
                    return await self._stream(call, request, deployment, record)
                return await self._whole(call, request, deployment, record)
            except UpstreamError as error:
                record.end_attempt(error)
                is_last = number + 1 == len(order)
                if is_last or not may_try_another(error, has_others=len(deployments) > 1):
                    raise
        raise AssertionError("a call has at least one attempt")

    async def _reserve_provider(self, deployment: Deployment, request: OpenAIRequest) -> Reservation | None:
        """Hold an attempt's estimate below the budget of its provider. Another provider may have room."""
        scope = self._shared.of_provider(deployment.provider.name)
        if scope is None:
            return None
        try:
            return await self._budgets.reserve([scope], estimate=_estimate(request, (deployment,)))
        except BudgetExceeded as full:
            raise UpstreamError(full.message, status=full.status, type=full.type, is_retryable=True) from None

    async def _whole(self, call: Call, request: OpenAIRequest, deployment: Deployment, record: CallRecord) -> Reply:
        body = request.upstream_body(deployment.upstream_model, deployment.defaults)
        answer = await self._upstream.post(deployment, call.endpoint.path, body, is_stream=False, seconds=call.timeout)
        async with answer:
            return self._settled(await answer.read(), answer.headers, request, deployment, record)

    def _settled(
        self,
        body: bytes,
        upstream_headers: Mapping[str, str],
        request: OpenAIRequest,
        deployment: Deployment,
        record: CallRecord,
    ) -> Reply:
        try:
            stamped, usage = restamp(body, request.model)
        except BROKEN_JSON:
            raise garbage_error(deployment) from None
        record.succeed(usage or request.estimated_usage(len(body)))
        return Reply({**upstream_headers, **record.headers()}, stamped)

    async def _stream(self, call: Call, request: OpenAIRequest, deployment: Deployment, record: CallRecord) -> Reply:
        """Open a stream and look at its first event: until it is good, another deployment may take over."""
        body = request.upstream_body(deployment.upstream_model, deployment.defaults)
        answer = await self._upstream.post(deployment, call.endpoint.path, body, is_stream=True, seconds=call.timeout)
        restamper = self._restamper(request)
        frames = _frames(answer, restamper, deployment)
        try:
            first = await anext(frames)
        except BaseException as problem:  # whatever ends the wait, the provider must be told to stop
            answer.close()
            if isinstance(problem, StopAsyncIteration):
                raise garbage_error(deployment) from None
            raise
        record.first_chunk()
        headers = {**answer.headers, **record.headers()}
        return Reply(headers, frames=await _started(_billed(first, frames, answer, restamper, record)))

    def _restamper(self, request: OpenAIRequest) -> StreamRestamper:
        wants_usage = request.wants_usage or self._settings.always_include_stream_usage
        return StreamRestamper(request.model, wants_usage=wants_usage)

    async def _mocked(self, request: OpenAIRequest, deployment: Deployment, record: CallRecord) -> Reply:
        text = deployment.mock_response or ""
        if text in MOCK_ERRORS:
            status, code = MOCK_ERRORS[text]
            body = msgspec.json.encode({"error": {"message": f"mock_response: {text}", "code": code}})
            raise status_error(status, body, {}, deployment)
        if not request.is_stream:
            return self._settled(mock_answer(request.endpoint, text), {}, request, deployment, record)
        restamper = self._restamper(request)
        frames = _mock_frames(mock_events(request.endpoint, text), restamper)
        return Reply(record.headers(), frames=await _started(_billed(b"", frames, None, restamper, record)))


def _estimate(request: OpenAIRequest, deployments: tuple[Deployment, ...]) -> Decimal:
    """What to hold for a call: the dearest of the deployments may be the one that answers."""
    size, most, choices = request.body_bytes, request.max_tokens, request.choices
    return max((estimate_of(size, most, one.prices, choices=choices) for one in deployments), default=Decimal(0))


async def _frames(answer: Answer, restamper: StreamRestamper, deployment: Deployment) -> AsyncIterator[bytes]:
    """The client's frames, one batch per piece that the network brought: nothing waits for a fuller buffer.

    Raises UpstreamError for an error event, for garbage, and for a stream that ends before it is finished. One that
    gave its reason to finish is finished, also without `[DONE]`.
    """
    decoder = SSEDecoder()
    async for chunk in answer.chunks():
        ready: list[bytes] = []
        try:
            for data in decoder.feed(chunk):
                frame = restamper.frame(data)
                if frame is not None:
                    ready.append(frame)
        except _BROKEN_EVENTS as problem:
            if ready:
                yield b"".join(ready)
            if isinstance(problem, StreamFault):
                raise status_error(500, msgspec.json.encode({"error": str(problem)}), {}, deployment) from None
            raise garbage_error(deployment) from None
        if ready:
            yield b"".join(ready)
        if restamper.finished:
            return
    if not decoder.has_partial_event and restamper.has_finish_reason:
        restamper.finished = True
        yield DONE_FRAME
    else:
        raise status_error(500, b'{"error": "the stream ended before it was finished"}', {}, deployment)


async def _mock_frames(events: list[bytes], restamper: StreamRestamper) -> AsyncIterator[bytes]:
    for event in events:
        frame = restamper.frame(event)
        if frame is not None:
            yield frame


async def _started(frames: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """Run a billed stream to its first, empty frame: only a generator that has begun settles when it is dropped."""
    await anext(frames)
    return frames


async def _billed(
    first: bytes, frames: AsyncIterator[bytes], answer: Answer | None, restamper: StreamRestamper, record: CallRecord
) -> AsyncIterator[bytes]:
    """Pass frames on and account for the stream however it ends: to its end, by a fault, or because the client left."""
    try:
        yield b""
        if first:
            record.end_of_stream(restamper)
            yield first
        async for frame in frames:
            # Before the client sees the end: what it got must outlive us from that moment on.
            record.end_of_stream(restamper)
            yield frame
    except UpstreamError as error:
        record.fail(error.status, "MidStreamError", error.message, record.usage_of(restamper))
        yield error_frame(error.message, str(error.status))
    finally:
        # Reached open only when the client left: what it received is billed, and the provider is told to stop.
        record.fail(499, "ClientDisconnected", "the client left mid-stream", record.usage_of(restamper))
        if answer is not None:
            answer.close()
