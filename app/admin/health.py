"""What admins and the console ask about an instance. Nothing here calls a provider: looking costs no money."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from quart import Blueprint

from ..auth.principal import current_principal
from ..deployments import Deployment
from ..models import SpendLog
from ..services import services
from ..version import VERSION
from .body import Table, identifier, read_query, takes
from .model_rows import visible_deployments

blueprint = Blueprint("admin_health", __name__)

Answer = dict[str, Any]
_CALLS_LOOKED_AT = 1000
# Failures that say something about the target, not about what a client sent.
_FAULTS_OF_THE_TARGET = ("401", "403", "404", "408", "429")
_ASKED: Table = {"model": identifier(), "model_id": identifier()}


@blueprint.get("/health")
@takes(query=_ASKED)
async def health() -> tuple[Answer, int]:
    """The deployments by the outcome of their newest call; one without calls counts as healthy. 503 when none is."""
    asked = read_query()
    failures = await _last_failures()
    healthy, unhealthy = [], []
    for deployment in await visible_deployments(current_principal()):
        if asked["model"] not in (None, deployment.model_name) or asked["model_id"] not in (None, deployment.id):
            continue
        row = _endpoint(deployment)
        if deployment.id in failures:
            unhealthy.append({**row, "error": f"The newest call ended with status {failures[deployment.id]}"})
        else:
            healthy.append(row)
    body = {
        "healthy_endpoints": healthy,
        "unhealthy_endpoints": unhealthy,
        "healthy_count": len(healthy),
        "unhealthy_count": len(unhealthy),
    }
    return body, 503 if unhealthy and not healthy else 200


def _endpoint(deployment: Deployment) -> Answer:
    """Names only: addresses and parameters are for /model/info."""
    target = f"{deployment.provider.name}/{deployment.upstream_model}"
    return {"model": target, "model_name": deployment.model_name, "model_id": deployment.id}


async def _last_failures() -> dict[str, str]:
    """Deployment id -> status of its newest call, for those whose newest call failed by their own fault."""
    rows = SpendLog.all().order_by("-start_time", "-request_id").limit(_CALLS_LOOKED_AT)
    newest: dict[str, str | None] = {}
    for row in await rows.values("model_id", "status", "metadata"):
        status = None if row["status"] == "success" else _error_code(row["metadata"])
        if status is None or status.startswith("5") or status in _FAULTS_OF_THE_TARGET:
            newest.setdefault(row["model_id"], status)
    return {model_id: status for model_id, status in newest.items() if status is not None}


def _error_code(metadata: Any) -> str:
    information = metadata.get("error_information") if isinstance(metadata, Mapping) else None
    return str(information.get("error_code", "500")) if isinstance(information, Mapping) else "500"


@blueprint.get("/health/readiness/details")
async def readiness_details() -> tuple[Answer, int]:
    """More than the public answer, for callers with a key."""
    house = services()
    is_ready = await house.database.is_healthy()
    body: Answer = {
        "status": "healthy" if is_ready else "unhealthy",
        "db": "connected" if is_ready else "Not connected",
        "cache": "redis" if house.cache.is_shared else "memory",
        "cache_status": "connected" if await house.cache.is_healthy() else "Not connected",
        "litellm_version": VERSION,
        "version": VERSION,
        "database": house.database.dialect,
        "spend_waiting": house.ledger.waiting if current_principal().can_read_all else None,
        "success_callbacks": [],
        "use_aiohttp_transport": False,
        "log_level": "INFO",
        "is_detailed_debug": False,
        "show_no_redis_warning": False,
        "show_env_credential_login_warning": False,
    }
    return body, 200 if is_ready else 503


@blueprint.get("/health/license")
async def license_details() -> Answer:
    """Everything is free here; a dashboard finds the fields that it asks for."""
    return {
        "has_license": True,
        "license_type": "free",
        "expiration_date": None,
        "allowed_features": [],
        "limits": {"max_users": None, "max_teams": None},
    }
