"""Whether this instance lives, is ready, or serves from its last known state. Cheap, public, without secrets."""

from __future__ import annotations

from quart import Blueprint, Response, g, jsonify

from ..services import services
from ..version import VERSION

health_blueprint = Blueprint("health", __name__)


@health_blueprint.get("/health/liveliness")
@health_blueprint.get("/health/liveness")
async def liveliness() -> Response:
    return jsonify("I'm alive!")


@health_blueprint.get("/health/readiness")
async def readiness() -> tuple[Response, int]:
    """503 while the database is away: new keys cannot be checked. Known keys go on working. Also 503 near the end."""
    if services().is_shutting_down:
        return jsonify({"status": "shutting_down"}), 503
    is_ready = await services().database.is_healthy()
    cache = "memory"
    if services().cache.is_shared:
        cache = "connected" if await services().cache.is_healthy() else "Not connected"
    body = {
        "status": "healthy" if is_ready else "unhealthy",
        "db": "connected" if is_ready else "Not connected",
        "cache": cache,
        "version": VERSION,
    }
    return jsonify(body), 200 if is_ready else 503


metrics_blueprint = Blueprint("metrics", __name__)

_CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


@metrics_blueprint.get("/metrics")
async def metrics() -> Response:
    """Callers who may not see everybody's spend get sums in which nobody can be told from another.

    Where no key is asked for (`require_auth_for_metrics_endpoint: false`), the operator has opened it as a whole.
    """
    principal = getattr(g, "principal", None)
    text = services().metrics.text(
        services().deployments.all(),
        services().gateway.router.cooldowns.cooling_down(),
        shows_callers=principal is None or principal.can_read_all,
    )
    return Response(text, content_type=_CONTENT_TYPE)
