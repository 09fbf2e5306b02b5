"""Pass-through: a caller's request is sent to a provider as it is, but with the gateway's credential.

Admission and accounting are those of every call. Bytes are relayed as they arrive, and their usage is read on the way.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

import msgspec

from ...auth.model_access import allows
from ...deployments.catalog import DeploymentCatalog
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
from .path import Pairs, forward_response_headers, redacted, redacted_bytes, requested_models
from .sources import Target, source_of
from .targets import PREFIXES, configured_target, path_spellings, target_of
from .usage import UsageScanner
from .vertex_token import VertexTokens, read_service_account

_MAX_BUFFERED_BYTES = 64 * 1024
_TOKEN_SECONDS = 10.0
# The longest name that spend tables take.
_NAME_LENGTH = 255
# In a browser the response may do nothing: its content comes from another origin.
_SANDBOX_HEADERS = {"content-security-policy": "default-src 'none'; frame-ancestors 'none'; sandbox"}


@dataclass(slots=True, kw_only=True)
class RelayRequest:
    """One request to relay, as the routes read it: `name` is the prefix, or the path of `endpoint`.

    `segments` are what follows it, decoded and safe; `headers` those that may be sent upstream.
    """

    method: str
    name: str
    segments: tuple[str, ...]
    query: Pairs = field(repr=False)
    headers: Mapping[str, str] = field(repr=False)
    endpoint: PassThroughEndpoint | None = None


@dataclass(slots=True)
class RelayResponse:
    """What the routes send: the provider's status and headers, and its bytes as they arrive."""

    status: int
    headers: Pairs
    frames: AsyncGenerator[bytes]


class BrokenAnswer(Exception):
    """The provider's response broke off: the caller's connection is aborted as well, so that it notices."""


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
        self._configured = {endpoint.path: endpoint for endpoint in base.pass_through_endpoints}
        self._environment = base.environment
        self.reconfigure(settings)

    def reconfigure(self, settings: Settings) -> None:
        """Take settings that changed while running."""
        self._settings = settings
        configured = {path: endpoint.resolved(self._environment) for path, endpoint in self._configured.items()}
        # Only entries of the file may refer to variables: a stored entry is taken literally.
        stored = {
            endpoint.path: endpoint
            for endpoint in settings.pass_through_endpoints
            if self._configured.get(endpoint.path) != endpoint
        }
        self._endpoints = {**configured, **stored}

    def paths(self) -> list[str]:
        """The paths of the configured endpoints."""
        return list(self._endpoints)

    def endpoint_for(self, path: str) -> PassThroughEndpoint | None:
        """The configured endpoint that serves a path: its own, else the longest parent that includes subpaths."""
        if not self._endpoints:
            return None
        exact = self._endpoints.get(path.rstrip("/"))
        if exact is not None:
            return exact
        parent = path.rstrip("/").rpartition("/")[0]
        while parent:
            endpoint = self._endpoints.get(parent)
            if endpoint is not None and endpoint.has_subpaths:
                return endpoint
            parent = parent.rpartition("/")[0]
        return None

    async def run(self, call: Call, request: RelayRequest) -> RelayResponse:
        """Relay one call. Raises a GatewayError when nothing is relayed; its reservation is settled by then."""
        call.end_user = call.end_user[:_NAME_LENGTH]
        self._observer.call_started(call)
        provider = PREFIXES[request.name].provider if request.endpoint is None else ""
        try:
            call.principal.refuse_denied_pass_through(path_spellings(request.name, request.segments))
            models = requested_models(provider, request.segments, request.headers, call.body)
            reservation = await self._admission.admit_pass_through(self._admission_requests(call, provider, models))
        except GatewayError as error:
            self._observer.call_refused(call, error)
            raise
        model = models[0] if models else ""
        record = PassThroughRecord(
            call, model, reservation, self._ledger, self._observer, is_billable=request.method == "POST"
        )
        try:
            record.target = target = self._target(call, request, model)
            if request.endpoint is None:
                # Once more as it is sent: a project, a version or a model of ours was put into the path.
                sent = target.path.strip("/").split("/")
                call.principal.refuse_denied_pass_through(path_spellings(request.name, sent))
            target = await self._with_token(target)
            answer = await self._open(call, request, target)
        except GatewayError as error:
            record.end(Outcome(error.status, getattr(error, "error_class", type(error).__name__), error.message))
            raise
        except asyncio.CancelledError:
            record.end(Outcome(499, "ClientDisconnected", "the client left before the answer"))
            raise
        except BaseException:
            # A bug of ours must not leave a reservation open; the error handler logs it and answers 500.
            record.end(Outcome(500, "InternalServerError", "internal error"))
            raise
        record.response_started()
        headers = [
            *forward_response_headers(answer.headers, target.secrets),
            *_SANDBOX_HEADERS.items(),
            ("x-litellm-call-id", call.call_id),
        ]
        headers += _content_length(answer, request.method)
        frames = _relay(answer, target, record)
        await anext(frames)  # only a generator that has begun settles when it is dropped
        return RelayResponse(answer.status, headers, frames)

    # ---- admission -------------------------------------------------------------------------------------------------

    def _admission_requests(self, call: Call, provider: str, models: Sequence[str]) -> list[AdmissionRequest]:
        """One per model that the request names, each under the name that the caller is granted; one at least."""
        return [self._admission_request(call, provider, model) for model in models or ("",)]

    def _admission_request(self, call: Call, provider: str, model: str) -> AdmissionRequest:
        team_id = call.principal.team_id
        groups = self._catalog.access_groups_of(model, team_id) if model else frozenset()
        names = (model, f"{provider}/{model}") if model and provider else (model,)
        name = next((name for name in names if allows(call.principal, name, groups)), model)
        return AdmissionRequest(
            principal=call.principal,
            model=name,
            path=call.path,
            deployments=(),
            groups=groups,
            tags=call.tags,
            end_user=call.end_user,
            # Bytes of a file are no tokens.
            estimate=estimate_of(
                len(call.body) if "json" in call.content_type else 0, None, prices_by_name(provider, model)
            ),
        )

    # ---- target ----------------------------------------------------------------------------------------------------

    def _target(self, call: Call, request: RelayRequest, model: str) -> Target:
        if request.endpoint is not None:
            return replace(configured_target(request.endpoint, request.segments, request.query), model=model)
        source_providers = PREFIXES[request.name].source_providers
        sources = [
            source_of(deployment, self._catalog.params_of(deployment))
            for deployment in self._catalog.all()
            if deployment.provider.name in source_providers
            and not deployment.is_blocked
            and not deployment.is_team_made  # its address and its account's token_uri were chosen by a team
            and deployment.team_id in (None, call.principal.team_id)
            and str(deployment.params.get("use_in_pass_through", "")).lower() == "true"
        ]
        environment = self._settings.environment
        return target_of(request.name, request.segments, request.query, model, environment, sources)

    # ---- request ---------------------------------------------------------------------------------------------------

    async def _open(self, call: Call, request: RelayRequest, target: Target) -> RawAnswer:
        headers = {**target.defaults, **_forwarded_headers(request), **target.headers}
        if target.aws is not None:
            signed = {name: headers[name] for name in ("content-type",) if name in headers}
            headers |= signed_headers(
                request.method,
                target.base.partition("://")[2].partition("/")[0],
                f"/{target.base.partition('://')[2].partition('/')[2]}".rstrip("/") + target.path,
                target.query,
                call.body,
                target.aws,
                region=target.region,
                service="bedrock",
                timestamp=datetime.now(UTC),
                headers=signed,
            )
        return await self._upstream.open_raw(
            request.method,
            f"{target.base}{target.path}",
            target.query,
            headers=headers,
            body=_with_upstream_model(call.body, target),
            silence=call.timeout or target.timeout or self._settings.pass_through_timeout,
            owner=(request.name, target.connection_owner),
        )

    async def _with_token(self, target: Target) -> Target:
        """The target with an access token, where it has a service account."""
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
        # The form is the credential, and another one each time.
        answer = await self._upstream.open_raw(
            "POST", url, [], headers=headers, body=form, silence=_TOKEN_SECONDS, owner=form
        )
        try:
            body = b""
            while not answer.has_ended() and len(body) < _MAX_BUFFERED_BYTES:
                body += await answer.read()
            return answer.status, body
        finally:
            answer.close()


def _forwarded_headers(request: RelayRequest) -> Mapping[str, str]:
    """The caller's headers to forward: all of them to a provider, elsewhere only those that describe the body."""
    if request.endpoint is None or request.endpoint.forwards_headers:
        return request.headers
    return {name: request.headers[name] for name in ("content-type", "accept") if name in request.headers}


def _with_upstream_model(body: bytes, target: Target) -> bytes:
    """The body with the deployment's own model name, for a self-hosted server."""
    source = target.source
    if target.provider != "hosted_vllm" or source is None or target.model != source.model_name:
        return body
    try:
        fields = msgspec.json.decode(body, type=dict[str, msgspec.Raw])
    except (msgspec.DecodeError, ValueError, RecursionError):
        return body
    fields["model"] = msgspec.Raw(msgspec.json.encode(source.upstream_model))
    return msgspec.json.encode(fields)


def _content_length(answer: RawAnswer, method: str) -> Pairs:
    """The announced length, so that clients notice a truncated response; none for errors, which may be rewritten."""
    length, is_unchanged = answer.length, answer.status < 300 or method == "HEAD"
    return [("content-length", str(length))] if length is not None and is_unchanged else []


# ---- response ------------------------------------------------------------------------------------------------------


async def _relay(answer: RawAnswer, target: Target, record: PassThroughRecord) -> AsyncGenerator[bytes]:
    """Pass bytes on and record the call however it ends: complete, with an error, or because the client left."""
    scanner = UsageScanner(answer.header("content-type"))
    header_usage = _usage_in_headers(answer)
    try:
        yield b""
        if answer.status >= 300:
            async for chunk in _error_body(answer, target, record, scanner):
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
                # Recorded before the client sees the end: what it received must survive a crash of this process.
                _end_complete(record, scanner, header_usage)
            yield chunk
        _end_complete(record, scanner, header_usage)
    except UpstreamError as error:
        record.end(Outcome(error.status, "MidStreamError", error.message), scanner, header_usage)
        raise BrokenAnswer(error.message) from None
    finally:
        # Still open only when the client left: what it received is billed, and the provider is told to stop.
        scanner.end()
        record.end(Outcome(499, "ClientDisconnected", "the client left mid-stream"), scanner, header_usage)
        answer.close()


def _end_complete(record: PassThroughRecord, scanner: UsageScanner, header_usage: Usage | None) -> None:
    scanner.end()
    if scanner.has_failed and scanner.is_stream:
        record.end(
            Outcome(500, "MidStreamError", "the provider reported an error inside the stream"), scanner, header_usage
        )
    else:
        record.end(Outcome(200), scanner, header_usage)


async def _error_body(
    answer: RawAnswer, target: Target, record: PassThroughRecord, scanner: UsageScanner
) -> AsyncGenerator[bytes]:
    """The body of an error or a redirect, with credentials masked: some providers repeat them."""
    body = b""
    while not answer.has_ended() and len(body) < _MAX_BUFFERED_BYTES:
        body += await answer.read()
    scanner.feed(body)
    scanner.end()
    if answer.status < 400:
        record.end(Outcome(200), scanner)
    else:
        text = error_message(body) or f"the provider answered {answer.status}"
        record.end(Outcome(answer.status, _error_class(answer.status), redacted(text, target.secrets)), scanner)
    # Held back: as many bytes as may be the beginning of a credential.
    overlap = max((len(secret) for secret in target.secrets), default=1) - 1
    while True:
        body = redacted_bytes(body, target.secrets)
        safe = len(body) if answer.has_ended() else max(0, len(body) - overlap)
        if safe:
            yield body[:safe]
        if answer.has_ended():
            return
        body = body[safe:] + await answer.read()


def _error_class(status: int) -> str:
    """The error class that SDK users know for a status."""
    names = {400: "BadRequestError", 401: "AuthenticationError", 403: "PermissionDeniedError", 404: "NotFoundError"}
    names |= {408: "Timeout", 422: "UnprocessableEntityError", 429: "RateLimitError", 503: "ServiceUnavailableError"}
    return names.get(status, "InternalServerError" if status >= 500 else "APIError")


def _usage_in_headers(answer: RawAnswer) -> Usage | None:
    """The token counts that Bedrock sends in headers for invoked models."""
    counts = []
    for side in ("input", "output"):
        with suppress(ValueError):
            counts.append(int(answer.header(f"x-amzn-bedrock-{side}-token-count")[:12]))
    return Usage(prompt_tokens=max(0, counts[0]), completion_tokens=max(0, counts[1])) if len(counts) == 2 else None
