"""Pass-through routes: read the request, let it be relayed, answer with what came back.

Two ways in: the prefixes of providers, which are routes, and the endpoints that an operator configured, which may
change while the instance runs. The latter are looked up where a path is no route, so none of them hides a route.
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
from ...protocols.openai import OpenAIEndpoint
from ...services import EXTENSION, Services, services
from ...settings.pass_through import METHODS, PassThroughEndpoint
from ...web.own_paths import is_own_path
from ..call import Call, add_call_headers, read_call
from .ownership import resource_of_the_account
from .path import read_query, safe_segments, sent_on
from .relay import Passage, Relayed
from .targets import PREFIXES

log = structlog.get_logger(__name__)

passthrough_blueprint = Blueprint("passthrough", __name__)

_CALL_TYPE = "pass_through_endpoint"
# Who calls an endpoint that is open to everybody.
_NOBODY = Principal(role=Role.KEY_ONLY, key_hash="")


# ---- prefixes of providers -----------------------------------------------------------------------------------------


def _view(name: str) -> Callable[..., Awaitable[Response]]:
    async def relay(rest: str) -> Response:
        segments = safe_segments(_raw_rest(f"/{name}"))
        _refuse_what_all_share(current_principal(), PREFIXES[name].provider, segments)
        passage = Passage(
            method=request.method,
            name=name,
            segments=segments,
            query=read_query(request.query_string),
            headers=_headers(),
        )
        return await _run(await _call(current_principal(), f"/{name}/{{endpoint}}"), passage)

    relay.__name__ = f"relay_to_{name.replace('-', '_dash_')}"
    relay.__doc__ = f"Relay a call below /{name} to its provider, with the gateway's credential."
    if PREFIXES[name].provider == "gemini":
        cast(Any, relay).access = CALLS_OF_GOOGLE
    return relay


for _name in PREFIXES:
    passthrough_blueprint.add_url_rule(f"/{_name}/<path:rest>", view_func=_view(_name), methods=list(METHODS))


# ---- endpoints of the configuration --------------------------------------------------------------------------------


def serve_configured_endpoints(app: Quart) -> None:
    """Look a path that is no route of the app up among the configured endpoints."""
    services = cast(Services, app.extensions[EXTENSION])
    for path in services.pass_through.paths():
        if is_own_path(app.url_map, path):
            log.warning("a pass-through endpoint is hidden by a route of this instance", path=path)

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
    principal = _NOBODY if endpoint.is_public else await authenticate(cast(Mapping[str, str], request.headers))
    rest = _raw_rest(endpoint.path)
    passage = Passage(
        method=request.method,
        name=endpoint.path,
        segments=safe_segments(rest) if rest else (),
        query=read_query(request.query_string),
        headers=_headers(),
        endpoint=endpoint,
    )
    call = await _call(principal, endpoint.path)
    if endpoint.is_public:
        # Nobody is known, so nobody may speak for an end user or a tag that has a budget.
        call.end_user, call.tags = "", []
    return await _run(call, passage)


def _refuse_what_all_share(principal: Principal, provider: str, segments: tuple[str, ...]) -> None:
    """Files and batches of one tenant are no other tenant's business; /v1/files and /v1/batches keep them apart."""
    shared = resource_of_the_account(provider, request.method, segments)
    if shared is not None and not principal.is_admin:
        raise Forbidden(
            f"'{shared}' belong to the gateway's account at the provider, which all callers share: for admins only. "
            "Use /v1/files and /v1/batches of the gateway.",
            param="path",
        )


# ---- both ----------------------------------------------------------------------------------------------------------


def _raw_rest(prefix: str) -> str:
    """What follows our prefix as the client encoded it, without a slash at its ends.

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
    return sent_on(request.headers.items(), (settings.key_header_name, settings.user_header_name))


async def _call(principal: Principal, label: str) -> Call:
    """`label`: the route, for logs and totals, which must not have one entry per id in a path."""
    body = cast(bytes, await request.get_data(cache=False, as_text=False))
    task = asyncio.current_task()
    if task is not None and task.cancelling():
        # Quart waits for the body in a way that forgets a cancellation which meets its last byte.
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


async def _run(call: Call, passage: Passage) -> Response:
    try:
        return _response(await services().pass_through.run(call, passage))
    except GatewayError as error:
        add_call_headers(error, call)
        raise


def _response(relayed: Relayed) -> Response:
    response = Response(relayed.frames, status=relayed.status)
    response.headers.clear()
    for name, value in relayed.headers:
        response.headers.add(name, value)
    # Quart would cut an answer that takes longer than its default.
    response.timeout = None
    return response
