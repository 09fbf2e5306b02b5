"""Checks of single deployments: one on demand, and what earlier ones found. Looking at them calls nobody."""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterator, Mapping
from typing import Any

from quart import Blueprint
from tortoise.functions import Max

from ...auth.principal import current_principal
from ...errors import GatewayError, InvalidRequest, ServiceUnavailable
from ...models import HealthCheck
from ...security.masking import MASK, is_secret
from ...services import services
from ...web.fields import Table, bad_request, identifier, json_object, one_of, read_body, read_query, takes, text, whole
from ..settings.fields import refuse_references

blueprint = Blueprint("admin_health_checks", __name__)

Answer = dict[str, Any]
_MAX_MODELS = 1000
_MAX_ERROR = 2000
# Shorter values are no secrets, and would be masked out of ordinary words.
_MIN_SECRET = 6
_FOR_READERS = ("error_message", "details", "checked_by")
_MODES = (
    "chat",
    "completion",
    "embedding",
    "audio_speech",
    "audio_transcription",
    "image_generation",
    "batch",
    "rerank",
    "realtime",
    "responses",
    "ocr",
)
_TEST: Table = {"mode": one_of(*_MODES), "litellm_params": json_object().required, "model_info": json_object()}
_HISTORY: Table = {
    "model": identifier(),
    "status_filter": one_of("healthy", "unhealthy"),
    "limit": whole(lowest=1, highest=1000),
    "offset": whole(highest=1_000_000),
}
# Receivers of alerts and logs that clients ask about.
_SERVICES = (
    "slack_budget_alerts slack webhook email langfuse langfuse_otel openmeter braintrust datadog "
    "datadog_llm_observability generic_api arize sqs s3 gcs prometheus otel langsmith helicone lago"
).split()


@blueprint.post("/health/test_connection")
@takes(body=_TEST)
async def test_connection() -> Answer:
    """Try a deployment with one small call to its provider, and keep what was found. No credential is answered."""
    sent = await read_body()
    params, mode = sent["litellm_params"], sent.get("mode") or "chat"
    model = params.get("model")
    if not isinstance(model, str) or not model or len(model) > 255:
        raise bad_request("litellm_params.model is missing; write provider/model, as openai/gpt-4o", "litellm_params")
    refuse_references(params, "litellm_params")
    started = time.perf_counter()
    error = await _error_of(model, params, mode)
    row = await HealthCheck.create(
        health_check_id=str(uuid.uuid4()),
        model_name=model,
        model_id=_text_or_none((sent.get("model_info") or {}).get("id")),
        status="healthy" if error is None else "unhealthy",
        healthy_count=int(error is None),
        unhealthy_count=int(error is not None),
        error_message=error,
        response_time_ms=round((time.perf_counter() - started) * 1000, 1),
        details={"mode": mode},
        checked_by=current_principal().user_id,
    )
    result: Answer = {"model": model, "mode": mode, "response_time_ms": row.response_time_ms}
    if error is None:
        return {"status": "success", "result": result}
    return {"status": "error", "result": {**result, "error": error}}


async def _error_of(model: str, params: Mapping[str, Any], mode: str) -> str | None:
    """What went wrong, without the credentials of the call; None when it went well. Raises 503 without a tester."""
    tester = services().connection_tester
    if tester is None:
        raise ServiceUnavailable("This instance makes no calls to providers")
    try:
        result = await tester.test(model, params, mode)
    except (ValueError, InvalidRequest) as problem:
        return _redacted(str(problem), params)
    except GatewayError as problem:
        return _redacted(problem.message, params)
    return None if result.get("status") == "success" else _redacted(str(result.get("error") or "It failed"), params)


def _redacted(text: str, params: Mapping[str, Any]) -> str:
    for secret in sorted(set(_secrets(params)), key=len, reverse=True):
        text = text.replace(secret, MASK)
    return text.replace("\x00", "")[:_MAX_ERROR]


def _secrets(value: Any, name: str = "", is_inside: bool = False) -> Iterator[str]:
    """Every text below a name that sounds like a secret, and what follows the scheme of a header."""
    is_inside = is_inside or is_secret(name, value)
    if isinstance(value, Mapping):
        for key, item in value.items():
            yield from _secrets(item, str(key), is_inside)
    elif isinstance(value, list):
        for item in value:
            yield from _secrets(item, name, is_inside)
    elif isinstance(value, str) and is_inside:
        yield from (part for part in (value, value.rpartition(" ")[2]) if len(part) >= _MIN_SECRET)


def _text_or_none(value: Any) -> str | None:
    return value[:255] if isinstance(value, str) and value else None


# ---- what was found ------------------------------------------------------------------------------------------------


@blueprint.get("/health/latest")
async def latest_checks() -> Answer:
    """The newest check of each model; its error is for those who may see everything."""
    newest = (
        await HealthCheck.annotate(newest_at=Max("checked_at"))
        .group_by("model_name")
        .order_by("model_name")
        .limit(_MAX_MODELS)
        .values("model_name", "newest_at")
    )
    times = {row["model_name"]: row["newest_at"] for row in newest}
    rows = await HealthCheck.filter(model_name__in=list(times), checked_at__in=list(times.values())) if times else []
    checks = {row.model_name: _to_json(row) for row in rows if row.checked_at == times[row.model_name]}
    return {"latest_health_checks": checks, "total_models": len(checks)}


@blueprint.get("/health/history")
@takes(query=_HISTORY)
async def check_history() -> Answer:
    """Checks, the newest first, by model and by outcome."""
    params = read_query(limit=100, offset=0)
    query = HealthCheck.all()
    if params["model"]:
        query = query.filter(model_name=params["model"])
    if params["status_filter"]:
        query = query.filter(status=params["status_filter"])
    rows = await query.order_by("-checked_at", "-health_check_id").offset(params["offset"]).limit(params["limit"])
    return {
        "health_checks": [_to_json(row) for row in rows],
        "total_records": await query.count(),
        "limit": params["limit"],
        "offset": params["offset"],
    }


def _to_json(row: HealthCheck) -> Answer:
    shown = row.to_json()
    return (
        shown if current_principal().can_read_all else {name: shown[name] for name in shown if name not in _FOR_READERS}
    )


@blueprint.get("/health/services")
@takes(query={"service": text().required})
async def check_service() -> Answer:
    """Send a test message to a receiver of alerts or logs.

    Raises 422 for one that is not configured, 400 for an unknown one, 503 when the message does not arrive.
    """
    service = read_query()["service"]
    watch = services().notifications
    if service not in (*_SERVICES, *watch.receivers):
        raise InvalidRequest(f"Service must be one of {', '.join(_SERVICES)}", type="auth_error", param="None")
    problem = await watch.test("slack" if service == "slack_budget_alerts" else service)
    if problem is None:
        return {"status": "success", "message": f"A test message was sent to {service}"}
    if not problem:
        raise InvalidRequest(f"{service} is not configured", status=422, type="auth_error", param="None")
    raise ServiceUnavailable(f"The test message did not reach {service}: {problem}")
