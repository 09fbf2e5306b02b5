"""What this instance answers to, for clients that ask before they know it. Public, and nothing but names."""

from __future__ import annotations

import re
from typing import Any

from quart import Blueprint, current_app

blueprint = Blueprint("admin_route_list", __name__)

_PARAMETER = re.compile(r"<(?:[^:<>]+:)?([^<>]+)>")
_OWN_METHODS = frozenset({"HEAD", "OPTIONS"})


@blueprint.get("/routes")
async def list_routes() -> dict[str, list[dict[str, Any]]]:
    """Every route, with parameters in braces."""
    routes = [
        {
            "path": _PARAMETER.sub(r"{\1}", rule.rule),
            "methods": sorted((rule.methods or set()) - _OWN_METHODS),
            "name": rule.endpoint.rpartition(".")[2],
            "endpoint": rule.endpoint,
        }
        for rule in current_app.url_map.iter_rules()
    ]
    return {"routes": sorted(routes, key=lambda route: (route["path"], route["methods"]))}


@blueprint.get("/test")
async def answer_test() -> dict[str, str]:
    return {"route": "/test"}
