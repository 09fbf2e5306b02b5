"""What a Prometheus server scrapes. Served by every instance, so that a control plane can be watched too."""

from __future__ import annotations

from quart import Blueprint, Response, g

from .services import services

metrics_blueprint = Blueprint("metrics", __name__)

_CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


@metrics_blueprint.get("/metrics")
async def metrics() -> Response:
    """Callers who may not see everybody's spend get sums in which nobody can be told from another.

    Where no key is asked for (`require_auth_for_metrics_endpoint: false`), the operator has opened it as a whole.
    """
    house, principal = services(), getattr(g, "principal", None)
    text = house.metrics.text(
        house.deployments.all(),
        house.gateway.router.cooldowns.resting(),
        shows_callers=principal is None or principal.can_read_all,
    )
    return Response(text, content_type=_CONTENT_TYPE)
