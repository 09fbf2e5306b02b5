"""One small call to a deployment, to see whether it answers: one that serves already, or one that is not stored yet."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import msgspec

from ...deployments.deployment import Deployment, build_deployment, listed_price, named_credential
from ...errors import UpstreamError
from ...protocols.base import Usage
from ...protocols.dialect import Endpoint
from ...protocols.openai import BROKEN_JSON, CHAT, COMPLETIONS, EMBEDDINGS, restamp
from ...spend.events import SpendEvent
from ...spend.ledger import SpendLedger
from ...spend.pricing import cost_of
from ..call_spend import spend_event
from ..upstream.client import Upstream

# Whose calls probes are in the spend log (contract management.md).
PROBE_KEY_HASH = "litellm-internal-health-check"
_CHECK_SECONDS = 60.0
_TEST_SECONDS = 20.0
_MAX_TOKENS = 16
_MAX_ERROR = 500
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


class HealthProbe:
    def __init__(self, upstream: Upstream, ledger: SpendLedger) -> None:
        self._upstream = upstream
        self._ledger = ledger

    async def probe(self, deployment: Deployment) -> str | None:
        """None when it answers, else what is wrong, without any credential."""
        if deployment.mock_response is not None:
            return None
        info = deployment.model_info
        mode, model = str(info.get("mode") or "chat"), _model_of(deployment)
        limit = int(_positive(info.get("health_check_max_tokens"), _MAX_TOKENS))
        seconds = _positive(info.get("health_check_timeout"), _CHECK_SECONDS)
        started_at = datetime.now(UTC)
        try:
            answer = await _smallest_call(self._upstream, deployment, mode, model, max_tokens=limit, seconds=seconds)
            _, usage = restamp(answer, model)
        except UpstreamError as error:
            return deployment.redacted(error.message)[:_MAX_ERROR]
        except BROKEN_JSON:
            return "the answer is not valid JSON"
        self._ledger.record(_event(deployment, _KINDS[mode][0], model, usage or Usage(), started_at))
        return None


async def _smallest_call(
    upstream: Upstream, deployment: Deployment, mode: str, model: str, *, max_tokens: int, seconds: float
) -> bytes:
    """The answer to the cheapest call of a kind. Raises UpstreamError."""
    endpoint, body = _KINDS[mode]
    fields = {**body, "model": model} | ({} if endpoint is EMBEDDINGS else {"max_tokens": max_tokens})
    sent = msgspec.json.encode(fields)
    async with await upstream.post(deployment, endpoint.path, sent, is_stream=False, seconds=seconds) as answer:
        return await answer.read()


def _model_of(deployment: Deployment) -> str:
    """`health_check_model` may be written with its provider, as models are elsewhere."""
    named = deployment.model_info.get("health_check_model")
    return str(named).removeprefix(f"{deployment.provider.name}/") if named else deployment.upstream_model


def _positive(value: Any, default: float) -> float:
    return float(value) if isinstance(value, int | float) and value > 0 else default


def _event(deployment: Deployment, endpoint: Endpoint, model: str, usage: Usage, started_at: datetime) -> SpendEvent:
    is_own = model == deployment.upstream_model
    prices = deployment.prices if is_own else listed_price(deployment, model)
    return spend_event(
        usage,
        request_id=str(uuid.uuid4()),
        call_type=endpoint.call_type,
        endpoint=endpoint.path,
        start_time=started_at,
        end_time=datetime.now(UTC),
        cost=cost_of(usage, prices).total if prices is not None else Decimal(0),
        key_hash=PROBE_KEY_HASH,
        model=model,
        model_id=deployment.id,
        model_group=deployment.model_name,
        provider=deployment.provider.name,
        api_base=deployment.api_base,
        metadata={} if prices is not None else {"unpriced": True},
    )


class ConnectionTest:
    def __init__(self, upstream: Upstream, environment: Mapping[str, str]) -> None:
        self._upstream = upstream
        self._environment = environment

    async def test(self, model_name: str, litellm_params: Mapping[str, Any], mode: str) -> Mapping[str, Any]:
        """`{"status": "success"}`, or `{"status": "error", "error": text}` with what went wrong.

        Raises ValueError for parameters that no call can be made of. A stored credential is not used: its owner chose
        the address that it goes to, and the caller of a test chooses another.
        """
        if mode not in _KINDS:
            raise ValueError(f"mode {mode!r} cannot be tested; use {', '.join(_KINDS)}")
        if named_credential(litellm_params) is not None:
            raise ValueError("litellm_credential_name cannot be tested; send the credential itself")
        deployment = build_deployment(model_name, litellm_params, None, self._environment, is_stored=True)
        if deployment.mock_response is not None:
            return {"status": "success"}
        model = deployment.upstream_model
        try:
            await _smallest_call(self._upstream, deployment, mode, model, max_tokens=1, seconds=_TEST_SECONDS)
        except UpstreamError as error:
            return {"status": "error", "error": deployment.redacted(error.message)}
        return {"status": "success"}
