"""Requests to leave HTTP on a connection: this gateway speaks no WebSocket, and says so wherever one is asked for.

Whoever has left HTTP has also left the rules of a proxy in front of us. `Upgrade: h2c` is no request of its own: it is
not followed (app/server/upgrades.py), and the request is answered as it stands.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from typing import Any

from ..errors import NotFound
from .error_responses import SECURITY_HEADERS, error_body

ASGIApp = Callable[[Any, Any, Any], Awaitable[None]]


def refuse_websockets(app: ASGIApp) -> ASGIApp:
    """Wrap an ASGI app so that a WebSocket handshake is a 404 in HTTP, whichever way a server hands it on."""

    async def refusing(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "websocket":
            await _refuse(scope, send, "websocket.http.response")
        elif scope["type"] == "http" and _asks_for_websocket(scope["headers"]):
            await _refuse(scope, send, "http.response")
        else:
            await app(scope, receive, send)

    return refusing


def _asks_for_websocket(headers: Any) -> bool:
    return any(name.lower() == b"upgrade" and b"websocket" in value.lower() for name, value in headers)


async def _refuse(scope: Any, send: Any, kind: str) -> None:
    if kind.startswith("websocket") and "websocket.http.response" not in scope.get("extensions", {}):
        await send({"type": "websocket.close", "code": 1008})  # the server makes it a 403
        return
    error = NotFound("This gateway serves no WebSocket connections", param="upgrade")
    body = json.dumps(error_body(error, scope["path"])).encode()
    headers = {"content-type": "application/json", "content-length": str(len(body)), **SECURITY_HEADERS}
    raw = [(name.lower().encode(), value.encode()) for name, value in headers.items()]
    await send({"type": f"{kind}.start", "status": error.status, "headers": raw})
    await send({"type": f"{kind}.body", "body": body, "more_body": False})
