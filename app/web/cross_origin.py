"""CORS: which answers a page on the control plane's origin may read in a browser. No other origin reads any.

A console that runs in the browser is served by the control plane and calls a worker's API directly, with credentials.
It needs every route that it calls, and the refusals of the ones that it is not given: an answer without these headers
looks to a script like a network failure. It does not need what only people and machines open, so a page of the control
plane that was taken over cannot read a worker's console, which knows its visitor by a cookie.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, cast

from quart import Quart, Response, request
from quart_cors import cors, cors_exempt

_METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE")
_REQUEST_HEADERS = ("Authorization", "Content-Type", "litellm-changed-by", "x-litellm-api-key")
_RESPONSE_HEADERS = ("Retry-After", "x-litellm-call-id", "x-quarterdeck-unknown-fields")
_PREFLIGHT_SECONDS = 600


def answer_origin(app: Quart, origin: str, *, closed_to: Collection[str]) -> None:
    """Let pages of `origin` (`scheme://host[:port]`) call `app`, but for the blueprints named in `closed_to`.

    Called before anything else that looks at requests: a preflight carries no key, and a browser asks for the answer
    behind it, be that a 401, a 403 of a closed group or a 404, only after a preflight that was accepted.
    """
    for endpoint, view in app.view_functions.items():
        if endpoint.partition(".")[0] in closed_to:
            cors_exempt(cast(Any, view))

    @app.before_request
    async def answer_preflight() -> Response | None:
        is_preflight = request.method == "OPTIONS" and request.access_control_request_method is not None
        if not is_preflight or request.origin != origin:
            return None
        is_closed = (request.blueprint or "").partition(".")[0] in closed_to
        return None if is_closed else await app.make_default_options_response()

    cors(
        app,
        allow_origin=[origin],
        allow_credentials=True,
        allow_headers=_REQUEST_HEADERS,
        allow_methods=_METHODS,
        expose_headers=_RESPONSE_HEADERS,
        max_age=_PREFLIGHT_SECONDS,
    )
