"""What admins and the console ask about an instance. Nothing here calls a provider: looking costs no money."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from quart import Blueprint, g

from ...auth.principal import current_principal
from ...deployments.catalog import Deployment
from ...models import BACKGROUND_CHECK, HealthCheck, SpendLog
from ...services import services
from ...version import VERSION
from ...web.fields import Table, identifier, read_query, takes
from ..models.rows import visible_deployments, visible_skipped

blueprint = Blueprint("admin_health", __name__)
# Open also where management is closed: whoever watches a worker asks it.
deployment_health_blueprint = Blueprint("deployment_health", __name__)

Answer = dict[str, Any]
_MAX_CALLS = 1000
_MAX_CHECKS = 5000
# A round takes its time; only what three of them did not renew is out of date.
_MAX_ROUNDS = 3
# Failures that say something about the target, not about what a client sent.
_FAULTS_OF_THE_TARGET = ("401", "403", "404", "408", "429")
_PARAMS: Table = {"model": identifier(), "model_id": identifier()}


@deployment_health_blueprint.get("/health")
@takes(query=_PARAMS)
async def health() -> tuple[Answer, int]:
    """The deployments by the newest that is known of them: a call, or a background check.

    One that nothing is known of counts as healthy. 503 when none is.
    """
    params = read_query()
    failures = _failures(await _last_calls(), await _last_checks())
    shows_details = services().settings.shows_health_details
    healthy, unhealthy = [], []
    for deployment in await visible_deployments(current_principal()):
        if params["model"] not in (None, deployment.model_name) or params["model_id"] not in (None, deployment.id):
            continue
        row = _endpoint(deployment)
        if deployment.id in failures:
            unhealthy.append({**row, "error": failures[deployment.id]} if shows_details else row)
        else:
            healthy.append(row)
    body = {
        "healthy_endpoints": healthy,
        "unhealthy_endpoints": unhealthy,
        "healthy_count": len(healthy),
        "unhealthy_count": len(unhealthy),
    }
    return body, 503 if unhealthy and not healthy else 200


@blueprint.get("/health/deployment_warnings")
async def deployment_warnings() -> Answer:
    """The deployments that were left out since they cannot be served, each with the reason."""
    warnings = [
        {"model_name": entry.model_name, "model_id": entry.id, "place": entry.place, "reason": entry.reason}
        for entry in visible_skipped(current_principal())
    ]
    return {"warnings": warnings, "count": len(warnings)}


def _endpoint(deployment: Deployment) -> Answer:
    """Names only: addresses and parameters are for /model/info."""
    target = f"{deployment.provider.name}/{deployment.upstream_model}"
    return {"model": target, "model_name": deployment.model_name, "model_id": deployment.id}


# Model id -> when something was found, and what is wrong; None when it was well.
_Findings = Mapping[str, tuple[datetime, str | None]]


def _failures(*sources: _Findings) -> dict[str, str]:
    """Deployment id -> what is wrong, for those that the newest finding is bad of."""
    newest: dict[str, tuple[datetime, str | None]] = {}
    for source in sources:
        for model_id, finding in source.items():
            if model_id not in newest or newest[model_id][0] < finding[0]:
                newest[model_id] = finding
    return {model_id: error for model_id, (_, error) in newest.items() if error is not None}


async def _last_calls() -> _Findings:
    """Of the newest calls, the last of each deployment that says something about it."""
    rows = SpendLog.all().order_by("-start_time", "-request_id").limit(_MAX_CALLS)
    newest: dict[str, tuple[datetime, str | None]] = {}
    for row in await rows.values("model_id", "status", "metadata", "end_time"):
        status = None if row["status"] == "success" else _error_code(row["metadata"])
        if status is None or status.startswith("5") or status in _FAULTS_OF_THE_TARGET:
            error = None if status is None else f"The newest call ended with status {status}"
            newest.setdefault(row["model_id"], (row["end_time"], error))
    return newest


async def _last_checks() -> _Findings:
    """What the last rounds of background checks found; older ones say nothing any more. Errors as on /health/latest."""
    settings = services().settings
    if not settings.background_health_checks:
        return {}
    since = datetime.now(UTC) - timedelta(seconds=_MAX_ROUNDS * settings.health_check_interval)
    rows = HealthCheck.filter(checked_by=BACKGROUND_CHECK, checked_at__gte=since).order_by("-checked_at")
    newest: dict[str, tuple[datetime, str | None]] = {}
    shows_errors = current_principal().can_read_all
    for row in await rows.limit(_MAX_CHECKS):
        error = None if row.status == "healthy" else "The health check failed"
        if error is not None and shows_errors:
            error = row.error_message or error
        newest.setdefault(row.model_id or "", (row.checked_at, error))
    return newest


def _error_code(metadata: Any) -> str:
    information = metadata.get("error_information") if isinstance(metadata, Mapping) else None
    return str(information.get("error_code", "500")) if isinstance(information, Mapping) else "500"


@blueprint.get("/health/readiness/details")
async def readiness_details() -> tuple[Answer, int]:
    """More than the public answer, for callers with a key."""
    if services().is_shutting_down:
        return {"status": "shutting_down"}, 503
    is_ready = await services().database.is_healthy()
    principal = getattr(g, "principal", None)
    body: Answer = {
        "status": "healthy" if is_ready else "unhealthy",
        "db": "connected" if is_ready else "Not connected",
        "cache": "redis" if services().cache.is_shared else "memory",
        "cache_status": "connected" if await services().cache.is_healthy() else "Not connected",
        "litellm_version": VERSION,
        "version": VERSION,
        "database": services().database.dialect,
        "spend_waiting": services().ledger.waiting if principal is not None and principal.can_read_all else None,
        "success_callbacks": [*services().settings.callbacks, *services().settings.success_callback],
        "use_aiohttp_transport": False,
        "log_level": services().settings.lowest_log_level,
        "is_detailed_debug": services().settings.lowest_log_level == "DEBUG",
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


@blueprint.get("/health/backlog")
async def backlog() -> Answer:
    """What this process is working on: nothing queues here, calls are admitted or refused at once."""
    calls, refused = services().metrics.calls_and_refusals
    return {
        "in_flight": services().gateway.router.load.running,
        "admitted": calls,
        "queued": 0,
        "rejected": refused,
        "spend_waiting": services().ledger.waiting,
    }


@blueprint.get("/health/drain")
async def drain() -> Answer:
    """How far this process is with its end. Asking does not begin it: a signal does."""
    status = "draining" if services().is_shutting_down else "serving"
    return {"status": status, "in_flight": services().gateway.router.load.running}


@blueprint.get("/health/shared-status")
async def shared_status() -> Answer:
    """Who does the background checks: one process for all that share a database and a state directory."""
    last = services().background_checks.last_round_at
    return {
        "shared_health_check_enabled": services().settings.background_health_checks,
        "is_checking_here": services().background_checks.holds_lock,
        "last_round_at": last.isoformat() if last is not None else None,
        "interval_seconds": services().settings.health_check_interval,
    }
