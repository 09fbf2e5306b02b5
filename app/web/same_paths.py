"""Two ways to write one path: with a slash at its end, and with slashes twice. Clients and proxies write both.

Answered by the route itself and not by a redirect: clients do not follow one with a body, and behind a proxy that
speaks TLS its address would begin with http://.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from typing import Any
from urllib.parse import unquote

from werkzeug.exceptions import MethodNotAllowed, NotFound
from werkzeug.routing import Map, RequestRedirect

ASGIApp = Callable[[Any, Any, Any], Awaitable[None]]
_SLASHES = re.compile(rb"/{2,}")


def with_same_paths(app: ASGIApp, routes: Map) -> ASGIApp:
    """Wrap an ASGI app so that it sees the path of its route. A path that may end in a slash keeps it."""

    async def routed(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http" and (scope["path"].endswith("/") or "//" in scope["path"]) and scope["path"] != "/":
            scope = _rewritten(scope, routes)
        await app(scope, receive, send)

    return routed


def _rewritten(scope: Any, routes: Map) -> Any:
    """The same request for its route; as it came where there is none. A slash that is written as %2F is no slash."""
    given = (scope.get("raw_path") or scope["path"].encode()).partition(b"?")[0]
    raw = _SLASHES.sub(b"/", given)
    shorter = raw.rstrip(b"/") or b"/"
    if shorter != raw:
        own = _route_of(routes, shorter, scope["method"])
        # Where both lead to one route, as below a pass-through prefix, the slash may mean something there.
        if own is not None and own != _route_of(routes, raw, scope["method"]):
            raw = shorter
    return scope if raw == given else {**scope, "raw_path": raw, "path": _decoded(raw)}


def _route_of(routes: Map, raw: bytes, method: str) -> str | None:
    """The name of the route that a path leads to, "" for one with other methods; None for none."""
    try:
        endpoint, _ = routes.bind("localhost").match(_decoded(raw), method=method)
    except NotFound:
        return None
    except (MethodNotAllowed, RequestRedirect):
        return ""
    return str(endpoint)


def _decoded(raw: bytes) -> str:
    return unquote(raw.decode("latin-1"))
