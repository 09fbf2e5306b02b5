"""Pass-through: a caller's request goes to a provider as it is, with the gateway's credential in place of the caller's.

Admission and accounting are those of every call. Bytes are relayed as they come; what they used is read as they go by.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

import msgspec

from ...auth.model_access import allows
from ...deployments.catalog import Deployment, DeploymentCatalog
from ...errors import GatewayError, UpstreamError
from ...protocols.base import Usage
from ...protocols.json_fields import error_message
from ...settings import Settings
from ...settings.pass_through import PassThroughEndpoint
from ...spend.budget import Budgets
from ...spend.ledger import SpendLedger
from ...spend.pricing import estimate_of
from ...spend.shared_scopes import SharedScopes
from ..admission import Admission, AdmissionRequest
from ..call import Call
from ..observers import Observer
from ..upstream.client import Upstream
from ..upstream.raw_answer import RawAnswer
from .aws_signature import signed_headers
from .call_record import Outcome, PassThroughRecord, prices_by_name
from .path import Pairs, named_models, passed_back, redacted, redacted_bytes
from .sources import Source, Target
from .targets import PREFIXES, configured_target, target_of
from .usage import UsageScanner
from .vertex_token import VertexTokens, read_service_account

_MAX_ERROR_BYTES = 64 * 1024
_TOKEN_SECONDS = 10.0
# What the tables of spend take of a name.
_NAME_LENGTH = 255
# What the answer may do in a browser that somebody sends here: nothing. It comes from another origin.
_HARMLESS = {"content-security-policy": "default-src 'none'; frame-ancestors 'none'; sandbox"}


@dataclass(slots=True, kw_only=True)
class Passage:
    """One request to relay, as the edge read it: `name` is the prefix, or the path of `endpoint`.

    `segments` are what follows it, decoded and safe; `headers` those that may go upstream.
    """

    method: str
    name: str
    segments: tuple[str, ...]
    query: Pairs = field(repr=False)
    headers: Mapping[str, str] = field(repr=False)
    endpoint: PassThroughEndpoint | None = None


@dataclass(slots=True)
class Relayed:
    """What the edge sends: the provider's status and headers, and its bytes as they come."""

    status: int
    headers: Pairs
    frames: AsyncGenerator[bytes]


class BrokenAnswer(Exception):
    """The provider broke off in the middle of an answer: the caller's connection is cut as well, so that it sees it."""


class PassThrough:
    def __init__(
        self,
        settings: Settings,
        base: Settings,
        catalog: DeploymentCatalog,
        budgets: Budgets,
        shared: SharedScopes,
        ledger: SpendLedger,
        upstream: Upstream,
        observer: Observer,
    ) -> None:
        """`base`: the settings of file and environment; its endpoints are served beside those that the API stored."""
        self._catalog = catalog
        self._admission = Admission(budgets, shared)
        self._ledger = ledger
        self._upstream = upstream
        self._observer = observer
        self._tokens = VertexTokens(self._post_form)
        self._configured = {one.path: one for one in base.pass_through_endpoints}
        self._environment = base.environment
        self.reconfigure(settings)

    def reconfigure(self, settings: Settings) -> None:
        """Take settings that changed while running."""
        self._settings = settings
        own = {path: one.resolved(self._environment) for path, one in self._configured.items()}
        # Only what the file says may name variables: a stored entry is taken as it is written.
        stored = {one.path: one for one in settings.pass_through_endpoints if self._configured.get(one.path) != one}
        self._endpoints = {**own, **stored}

    def paths(self) -> list[str]:
        """The paths of the configured endpoints."""
        return list(self._endpoints)

    def endpoint_for(self, path: str) -> PassThroughEndpoint | None:
        """The configured endpoint that serves a path: its own, else the longest one above that has subpaths."""
        if not self._endpoints:
            return None
        exact = self._endpoints.get(path.rstrip("/"))
        if exact is not None:
            return exact
        above = path.rstrip("/").rpartition("/")[0]
        while above:
            found = self._endpoints.get(above)
            if found is not None and found.has_subpaths:
                return found
            above = above.rpartition("/")[0]
        return None

    async def run(self, call: Call, passage: Passage) -> Relayed:
        """Relay one call. Raises a GatewayError for what is not relayed; what was begun is settled by then."""
        call.end_user = call.end_user[:_NAME_LENGTH]
        self._observer.call_started(call)
        provider = PREFIXES[passage.name].provider if passage.endpoint is None else ""
        try:
            models = named_models(provider, passage.segments, passage.headers, call.body)
            reservation = await self._admission.admit_pass_through(self._applications(call, provider, models))
        except GatewayError as error:
            self._observer.call_refused(call, error)
            raise
        model = models[0] if models else ""
        record = PassThroughRecord(
            call, model, reservation, self._ledger, self._observer, is_asking=passage.method == "POST"
        )
        try:
            record.target = target = self._target(call, passage, model)
            target = await self._with_token(target)
            answer = await self._open(call, passage, target)
        except GatewayError as error:
            record.end(Outcome(error.status, getattr(error, "error_class", type(error).__name__), error.message))
            raise
        except asyncio.CancelledError:
            record.end(Outcome(499, "ClientDisconnected", "the client left before the answer"))
            raise
        except BaseException:
            # A bug of ours must not leave a place taken for ever; the edge logs it and answers 500.
            record.end(Outcome(500, "InternalServerError", "internal error"))
            raise
        record.answered()
        headers = [
            *passed_back(answer.headers, target.secrets),
            *_HARMLESS.items(),
            ("x-litellm-call-id", call.call_id),
        ]
        headers += _length_of(answer, passage.method)
        frames = _relay(answer, target, record)
        await anext(frames)  # only a generator that has begun settles when it is dropped
        return Relayed(answer.status, headers, frames)

    # ---- who may -------------------------------------------------------------------------------------------------

    def _applications(self, call: Call, provider: str, models: Sequence[str]) -> list[AdmissionRequest]:
        """One per model that the request names, each under the name by which the caller may have it; one at least."""
        return [self._admission_request(call, provider, model) for model in models or ("",)]

    def _admission_request(self, call: Call, provider: str, model: str) -> AdmissionRequest:
        team_id = call.principal.team_id
        groups = self._catalog.groups_of(model, team_id) if model else frozenset()
        names = (model, f"{provider}/{model}") if model and provider else (model,)
        name = next((one for one in names if allows(call.principal, one, groups)), model)
        return AdmissionRequest(
            principal=call.principal,
            model=name,
            path=call.path,
            deployments=(),
            groups=groups,
            tags=call.tags,
            end_user=call.end_user,
            # Bytes of a file are no words.
            estimate=estimate_of(
                len(call.body) if "json" in call.content_type else 0, None, prices_by_name(provider, model)
            ),
        )

    # ---- where to ------------------------------------------------------------------------------------------------

    def _target(self, call: Call, passage: Passage, model: str) -> Target:
        if passage.endpoint is not None:
            return replace(configured_target(passage.endpoint, passage.segments, passage.query), model=model)
        lenders = PREFIXES[passage.name].lenders
        sources = [
            self._source(one)
            for one in self._catalog.all()
            if one.provider.name in lenders
            and not one.is_blocked
            and one.team_id in (None, call.principal.team_id)
            and str(one.params.get("use_in_pass_through", "")).lower() == "true"
        ]
        environment = self._settings.environment
        return target_of(passage.name, passage.segments, passage.query, model, environment, sources)

    def _source(self, deployment: Deployment) -> Source:
        return Source(
            id=deployment.id,
            model_name=deployment.public_name,
            upstream_model=deployment.upstream_model,
            params=self._catalog.params_of(deployment),
            prices=deployment.prices,
            is_stored=deployment.is_stored,
        )

    # ---- asking --------------------------------------------------------------------------------------------------

    async def _open(self, call: Call, passage: Passage, target: Target) -> RawAnswer:
        headers = {**target.defaults, **_kept(passage), **target.headers}
        if target.aws is not None:
            signed = {name: headers[name] for name in ("content-type",) if name in headers}
            headers |= signed_headers(
                passage.method,
                target.base.partition("://")[2].partition("/")[0],
                f"/{target.base.partition('://')[2].partition('/')[2]}".rstrip("/") + target.path,
                target.query,
                call.body,
                target.aws,
                region=target.region,
                service="bedrock",
                moment=datetime.now(UTC),
                headers=signed,
            )
        return await self._upstream.open_raw(
            passage.method,
            f"{target.base}{target.path}",
            target.query,
            headers=headers,
            body=_own_model(call.body, target),
            silence=call.timeout or target.timeout or self._settings.pass_through_timeout,
        )

    async def _with_token(self, target: Target) -> Target:
        """The target with an access token of its service account, where it has one."""
        if target.service_account is None:
            return target
        token = await self._google_token(target)
        return replace(target, headers={**target.headers, "authorization": f"Bearer {token}"}, secrets=(token,))

    async def _google_token(self, target: Target) -> str:
        is_stored = target.source is not None and target.source.is_stored
        try:
            account = await asyncio.to_thread(
                read_service_account, target.service_account or "", may_read_files=not is_stored
            )
        except ValueError as problem:
            raise UpstreamError(
                f"The credentials that are configured for Vertex AI cannot be used: the value {problem}",
                status=401,
                type="authentication_error",
                error_class="AuthenticationError",
            ) from None
        return await self._tokens.token(account)

    async def _post_form(self, url: str, form: bytes) -> tuple[int, bytes]:
        headers = {"content-type": "application/x-www-form-urlencoded"}
        answer = await self._upstream.open_raw("POST", url, [], headers=headers, body=form, silence=_TOKEN_SECONDS)
        try:
            body = b""
            while not answer.has_ended() and len(body) < _MAX_ERROR_BYTES:
                body += await answer.read()
            return answer.status, body
        finally:
            answer.close()


def _kept(passage: Passage) -> Mapping[str, str]:
    """The caller's headers that go along: all of them to a provider, only those that describe the body elsewhere."""
    if passage.endpoint is None or passage.endpoint.forwards_headers:
        return passage.headers
    return {name: passage.headers[name] for name in ("content-type", "accept") if name in passage.headers}


def _own_model(body: bytes, target: Target) -> bytes:
    """For a server of our own: the body under the name that the model has there."""
    source = target.source
    if target.provider != "hosted_vllm" or source is None or target.model != source.model_name:
        return body
    try:
        fields = msgspec.json.decode(body, type=dict[str, msgspec.Raw])
    except (msgspec.DecodeError, ValueError, RecursionError):
        return body
    fields["model"] = msgspec.Raw(msgspec.json.encode(source.upstream_model))
    return msgspec.json.encode(fields)


def _length_of(answer: RawAnswer, method: str) -> Pairs:
    """The length that was announced, so that an answer that breaks off is seen as such. Refusals may be rewritten."""
    length, is_as_sent = answer.length, answer.status < 300 or method == "HEAD"
    return [("content-length", str(length))] if length is not None and is_as_sent else []


# ---- the answer ----------------------------------------------------------------------------------------------------


async def _relay(answer: RawAnswer, target: Target, record: PassThroughRecord) -> AsyncGenerator[bytes]:
    """Pass bytes on and account for the call however it ends: to its end, by a fault, or because the client left."""
    scanner = UsageScanner(answer.header("content-type"))
    said = _usage_in_headers(answer)
    try:
        yield b""
        if answer.status >= 300:
            async for chunk in _refusal(answer, target, record, scanner):
                yield chunk
            return
        received = 0
        while not answer.has_ended():
            chunk = await answer.read()
            if not chunk:
                continue
            record.first_chunk()
            scanner.feed(chunk)
            received += len(chunk)
            if scanner.is_finished or answer.has_ended() or received == answer.length:
                # Before the client sees the end: what it got must outlive us from that moment on.
                _end_well(record, scanner, said)
            yield chunk
        _end_well(record, scanner, said)
    except UpstreamError as error:
        record.end(Outcome(error.status, "MidStreamError", error.message), scanner, said)
        raise BrokenAnswer(error.message) from None
    finally:
        # Reached open only when the client left: what it received is billed, and the provider is told to stop.
        scanner.end()
        record.end(Outcome(499, "ClientDisconnected", "the client left mid-stream"), scanner, said)
        answer.close()


def _end_well(record: PassThroughRecord, scanner: UsageScanner, said: Usage | None) -> None:
    scanner.end()
    if scanner.has_failed and scanner.is_stream:
        record.end(Outcome(500, "MidStreamError", "the provider reported an error inside the stream"), scanner, said)
    else:
        record.end(Outcome(200), scanner, said)


async def _refusal(
    answer: RawAnswer, target: Target, record: PassThroughRecord, scanner: UsageScanner
) -> AsyncGenerator[bytes]:
    """A refusal or a redirect, without the credential that some providers repeat in it."""
    body = b""
    while not answer.has_ended() and len(body) < _MAX_ERROR_BYTES:
        body += await answer.read()
    scanner.feed(body)
    scanner.end()
    if answer.status < 400:
        record.end(Outcome(200), scanner)
    else:
        text = error_message(body) or f"the provider answered {answer.status}"
        record.end(Outcome(answer.status, _class_of(answer.status), redacted(text, target.secrets)), scanner)
    # So much is held back as might be the beginning of a credential.
    held = max((len(secret) for secret in target.secrets), default=1) - 1
    while True:
        body = redacted_bytes(body, target.secrets)
        safe = len(body) if answer.has_ended() else max(0, len(body) - held)
        if safe:
            yield body[:safe]
        if answer.has_ended():
            return
        body = body[safe:] + await answer.read()


def _class_of(status: int) -> str:
    """The name under which users know a refusal (contract llm.md §4.10)."""
    names = {400: "BadRequestError", 401: "AuthenticationError", 403: "PermissionDeniedError", 404: "NotFoundError"}
    names |= {408: "Timeout", 422: "UnprocessableEntityError", 429: "RateLimitError", 503: "ServiceUnavailableError"}
    return names.get(status, "InternalServerError" if status >= 500 else "APIError")


def _usage_in_headers(answer: RawAnswer) -> Usage | None:
    """What Bedrock counted for a model that was invoked in its own dialect."""
    counts = []
    for side in ("input", "output"):
        with suppress(ValueError):
            counts.append(int(answer.header(f"x-amzn-bedrock-{side}-token-count")[:12]))
    return Usage(prompt_tokens=max(0, counts[0]), completion_tokens=max(0, counts[1])) if len(counts) == 2 else None
