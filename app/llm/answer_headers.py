"""The headers that tell a client about its call: who answered, how long it took, what it cost, what is left."""

from __future__ import annotations

from ..deployments.deployment import Deployment
from ..version import VERSION
from .call import Call
from .call_spend import CallSpend
from .call_timing import CallTiming

_NAME_LENGTH = 255


def answer_headers(
    call: Call, group: str, deployment: Deployment | None, timing: CallTiming, spend: CallSpend
) -> dict[str, str]:
    """Of a good answer. A stream's cost is not known yet when they are sent."""
    total_ms = timing.total_seconds * 1000
    headers = {
        "x-litellm-call-id": call.call_id,
        "x-litellm-version": VERSION,
        "x-litellm-model-group": _one_line(group),
        "x-litellm-response-duration-ms": f"{total_ms:.3f}",
        "x-litellm-overhead-duration-ms": f"{max(0.0, total_ms - timing.upstream_seconds * 1000):.3f}",
    }
    if deployment is not None:
        headers["x-litellm-model-id"] = _one_line(deployment.id)
        headers["x-litellm-model-name"] = _one_line(f"{deployment.provider.name}/{deployment.upstream_model}")
        headers["x-litellm-model-api-base"] = _one_line(deployment.api_base)
    spent = spend.reservation.spend_of("key")
    if spent is not None:
        headers["x-litellm-key-spend"] = f"{spent + (spend.cost.total if spend.cost else 0):f}"
    if call.principal.max_budget is not None:
        headers["x-litellm-key-max-budget"] = f"{call.principal.max_budget:f}"
    headers.update(spend.reservation.headers())
    if spend.cost is not None:
        headers["x-litellm-response-cost"] = f"{spend.cost.total:f}"
        headers["x-litellm-response-cost-original"] = f"{spend.cost.total:f}"
        headers["x-litellm-response-cost-input"] = f"{spend.cost.input:f}"
        headers["x-litellm-response-cost-output"] = f"{spend.cost.output:f}"
    return headers


def attempt_headers(*, retries: int, fallbacks: int) -> dict[str, str]:
    """Of answers and errors: how often groups were tried again, and how many were left for another one."""
    return {"x-litellm-attempted-retries": str(retries), "x-litellm-attempted-fallbacks": str(fallbacks)}


def _one_line(value: str) -> str:
    """Header values are ASCII on one line, without spaces around them; a model name may be anything."""
    if not (value.isascii() and value.isprintable()):
        value = ascii(value)[1:-1]
    return value[:_NAME_LENGTH].strip()
