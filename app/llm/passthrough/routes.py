"""Pass-through routes: read the request, relay it, send the response.

There are two kinds: the prefixes of providers, which are routes, and the endpoints that an operator configured, which
may change while the instance runs. The latter are looked up when no route matches, so none of them shadows a route.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, cast

import structlog
from quart import Blueprint, Quart, Response, request
from werkzeug.exceptions import NotFound

from ...auth.guard import authenticate
from ...auth.policy import CALLS_OF_GOOGLE
from ...auth.principal import Principal, current_principal
from ...auth.roles import Role
from ...errors import Forbidden, GatewayError, InvalidRequest, PlainDenial
from ...protocols.openai.request import OpenAIEndpoint
from ...services import EXTENSION, Services, services
from ...settings.pass_through import METHODS, PassThroughEndpoint
from ...web.own_paths import is_own_path
from ...web.request_body import admit_body
from ..call import Call, add_call_headers, read_call
from .ownership import is_model_call, shared_reference
from .path import forward_request_headers, read_query, safe_segments
from .relay import RelayRequest, RelayResponse
from .targets import PREFIXES

log = structlog.get_logger(__name__)

passthrough_blueprint = Blueprint("passthrough", __name__)

_CALL_TYPE = "pass_through_endpoint"
# The caller of an endpoint without authentication.
_ANONYMOUS = Principal(role=Role.KEY_ONLY, key_hash="")


# ---- prefixes of providers -----------------------------------------------------------------------------------------


def _provider_view(name: str) -> Callable[..., Awaitable[Response]]:
    async def relay(rest: str) -> Response:
        segments = safe_segments(_raw_subpath(f"/{name}"))
        _refuse_shared_resources(current_principal(), PREFIXES[name].provider, segments)
        relay_request = RelayRequest(
            method=request.method,
            name=name,
            segments=segments,
            query=read_query(request.query_string),
            headers=_headers(),
        )
        call = await _call(current_principal(), f"/{name}/{{endpoint}}")
        _refuse_shared_references(call.principal, call.body)
        return await _run(call, relay_request)

    relay.__name__ = f"relay_to_{name.replace('-', '_dash_')}"
    relay.__doc__ = f"Relay a call below /{name} to its provider, with the gateway's credential."
    if PREFIXES[name].provider == "gemini":
        cast(Any, relay).access = CALLS_OF_GOOGLE
    return relay


for _name in PREFIXES:
    passthrough_blueprint.add_url_rule(f"/{_name}/<path:rest>", view_func=_provider_view(_name), methods=list(METHODS))


# ---- endpoints of the configuration --------------------------------------------------------------------------------


def serve_configured_endpoints(app: Quart) -> None:
    """Look a path that is no route of the app up among the configured endpoints."""
    services = cast(Services, app.extensions[EXTENSION])
    for path in services.pass_through.paths():
        if is_own_path(app.url_map, path):
            log.warning("pass-through endpoint shadowed by a route", path=path)

    @app.before_request
    async def relay_configured() -> Response | None:
        if request.url_rule is not None or not isinstance(request.routing_exception, NotFound):
            return None
        endpoint = services.pass_through.endpoint_for(request.path)
        return None if endpoint is None or request.method == "OPTIONS" else await _relay_configured(endpoint, services)


async def _relay_configured(endpoint: PassThroughEndpoint, services: Services) -> Response:
    methods = endpoint.methods or frozenset(METHODS)
    if request.method not in methods and not (request.method == "HEAD" and "GET" in methods):
        raise PlainDenial("Method Not Allowed", status=405, headers={"Allow": ", ".join(sorted(methods))})
    principal = _ANONYMOUS if endpoint.is_public else await authenticate(cast(Mapping[str, str], request.headers))
    admit_body(request)
    rest = _raw_subpath(endpoint.path)
    relay_request = RelayRequest(
        method=request.method,
        name=endpoint.path,
        segments=safe_segments(rest) if rest else (),
        query=read_query(request.query_string),
        headers=_headers(),
        endpoint=endpoint,
    )
    call = await _call(principal, endpoint.path)
    if endpoint.is_public:
        # The caller is unknown, so it may not name an end user or a tag that has a budget.
        call.end_user, call.tags = "", []
    return await _run(call, relay_request)


def _refuse_shared_resources(principal: Principal, provider: str, segments: tuple[str, ...]) -> None:
    """Only admins may reach what all callers share; /v1/files and /v1/batches keep tenants apart."""
    if not principal.is_admin and not is_model_call(provider, request.method, segments):
        raise Forbidden(
            f"{request.method} {request.path} is none of the calls of models that every key may relay: it can reach "
            "what all callers of the gateway's account at the provider share, which is for admins only. "
            "Use /v1/files and /v1/batches of the gateway.",
            param="path",
        )


def _refuse_shared_references(principal: Principal, body: bytes) -> None:
    """The same for what a body names by its id: an id that leaked must not open another tenant's conversation."""
    name = None if principal.is_admin else shared_reference(body)
    if name is not None:
        raise Forbidden(
            f"The field '{name}' names something that is stored in the gateway's account at the provider, which all "
            "callers share: for admins only. Send the content itself.",
            param=name,
        )


# ---- both ----------------------------------------------------------------------------------------------------------


def _raw_subpath(prefix: str) -> str:
    """The path below our prefix as the client encoded it, without slashes at its ends.

    Raises InvalidRequest where the encoded path and the one that was routed do not agree.
    """
    raw = (request.scope.get("raw_path") or b"").partition(b"?")[0].decode("ascii", "replace")
    root = request.root_path.rstrip("/")
    raw = raw.removeprefix(root) if root else raw
    if not raw.startswith(f"{prefix}/") and raw != prefix:
        raise InvalidRequest("Write the beginning of the path without percent-encoding", param="path")
    return raw.removeprefix(prefix).strip("/")


def _headers() -> dict[str, str]:
    settings = services().settings
    return forward_request_headers(request.headers.items(), (settings.key_header_name, settings.user_header_name))


async def _call(principal: Principal, label: str) -> Call:
    """`label`: the route, for logs and metrics, which must not have one entry per id in a path."""
    body = cast(bytes, await request.get_data(cache=False, as_text=False))
    task = asyncio.current_task()
    if task is not None and task.cancelling():
        # Quart loses a cancellation that arrives with the last byte of the body.
        raise asyncio.CancelledError
    return read_call(
        cast(Mapping[str, str], request.headers),
        principal=principal,
        endpoint=OpenAIEndpoint(label, _CALL_TYPE, ""),
        path=request.path,
        body=body,
        ip_address=request.remote_addr,
        user_header=services().settings.user_header_name,
    )


async def _run(call: Call, relay_request: RelayRequest) -> Response:
    try:
        return _to_response(await services().pass_through.run(call, relay_request))
    except GatewayError as error:
        add_call_headers(error, call)
        raise


def _to_response(relay_response: RelayResponse) -> Response:
    response = Response(relay_response.frames, status=relay_response.status)
    response.headers.clear()
    for name, value in relay_response.headers:
        response.headers.add(name, value)
    # Quart would abort a response that takes longer than its default.
    response.timeout = None
    return response
