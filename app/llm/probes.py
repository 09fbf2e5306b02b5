"""One small call to a deployment that serves already, to see whether it answers. It is paid for, and logged as such."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import msgspec

from ..deployment import Deployment, listed_price
from ..errors import UpstreamError
from ..protocols.base import Usage
from ..protocols.openai import BROKEN_JSON, CHAT, COMPLETIONS, EMBEDDINGS, Endpoint, restamp
from ..spend.events import SpendEvent
from ..spend.ledger import SpendLedger
from ..spend.pricing import cost_of
from .upstream import Upstream

# Whose calls probes are in the spend log (contract management.md).
PROBE_KEY_HASH = "litellm-internal-health-check"
_PATIENCE_SECONDS = 60.0
_MAX_TOKENS = 16
_LONGEST_ERROR = 500
_KINDS: Mapping[str, tuple[Endpoint, dict[str, Any]]] = {
    "chat": (CHAT, {"messages": [{"role": "user", "content": "Hi"}]}),
    "completion": (COMPLETIONS, {"prompt": "Hi"}),
    "embedding": (EMBEDDINGS, {"input": "Hi"}),
}


def can_be_probed(deployment: Deployment) -> bool:
    """Whether a probe makes sense: of a kind that is cheap to call, its model is known, and it is not switched off."""
    info = deployment.model_info
    if deployment.is_blocked or info.get("disable_background_health_check") is True:
        return False
    has_model = "*" not in deployment.upstream_model or bool(info.get("health_check_model"))
    return has_model and str(info.get("mode") or "chat") in _KINDS


class Prober:
    def __init__(self, upstream: Upstream, ledger: SpendLedger) -> None:
        self._upstream = upstream
        self._ledger = ledger

    async def probe(self, deployment: Deployment) -> str | None:
        """None when it answers, else what is wrong, without any credential."""
        if deployment.mock_response is not None:
            return None
        info = deployment.model_info
        endpoint, body = _KINDS[str(info.get("mode") or "chat")]
        model = _model_of(deployment)
        limit = _positive(info.get("health_check_max_tokens"), _MAX_TOKENS)
        fields = {**body, "model": model} | ({} if endpoint is EMBEDDINGS else {"max_tokens": int(limit)})
        started_at = datetime.now(UTC)
        try:
            answer = await self._upstream.post(
                deployment,
                endpoint.path,
                msgspec.json.encode(fields),
                is_stream=False,
                seconds=_positive(info.get("health_check_timeout"), _PATIENCE_SECONDS),
            )
            async with answer:
                _, usage = restamp(await answer.read(), model)
        except UpstreamError as error:
            return deployment.redacted(error.message)[:_LONGEST_ERROR]
        except BROKEN_JSON:
            return "the answer is not valid JSON"
        self._ledger.record(_event(deployment, endpoint, model, usage or Usage(), started_at))
        return None


def _model_of(deployment: Deployment) -> str:
    """`health_check_model` may be written with its provider, as models are elsewhere."""
    named = deployment.model_info.get("health_check_model")
    return str(named).removeprefix(f"{deployment.provider.name}/") if named else deployment.upstream_model


def _positive(value: Any, default: float) -> float:
    return float(value) if isinstance(value, int | float) and value > 0 else default


def _event(deployment: Deployment, endpoint: Endpoint, model: str, usage: Usage, started_at: datetime) -> SpendEvent:
    is_own = model == deployment.upstream_model
    prices = deployment.prices if is_own else listed_price(deployment, model)
    return SpendEvent(
        request_id=str(uuid.uuid4()),
        call_type=endpoint.call_type,
        endpoint=endpoint.path,
        start_time=started_at,
        end_time=datetime.now(UTC),
        cost=cost_of(usage, prices).total if prices is not None else Decimal(0),
        prompt_tokens=usage.prompt_tokens,
        completion_tokens=usage.completion_tokens,
        key_hash=PROBE_KEY_HASH,
        model=model,
        model_id=deployment.id,
        model_group=deployment.model_name,
        provider=deployment.provider.name,
        api_base=deployment.api_base,
        metadata={} if prices is not None else {"unpriced": True},
    )
