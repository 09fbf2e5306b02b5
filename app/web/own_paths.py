"""Which paths an app serves itself: what somebody configures besides must not hide behind them."""

from __future__ import annotations

from werkzeug.exceptions import MethodNotAllowed, NotFound
from werkzeug.routing import Map, RequestRedirect


def is_own_path(routes: Map, path: str) -> bool:
    """Whether a path leads to a route, with whatever method."""
    try:
        routes.bind("localhost").match(path, method="GET")
    except NotFound:
        return False
    except (MethodNotAllowed, RequestRedirect):
        return True
    return True
