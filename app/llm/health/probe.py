"""Probes: one small call to a deployment, to see whether it answers.

`HealthProbe` calls a deployment that serves already, `ConnectionTest` one that is not stored yet. Both send the same
call; only the health probe, which an instance repeats by itself, is entered into the spend log.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import msgspec

from ...deployments.deployment import Deployment, build_deployment, listed_price, named_credential
from ...errors import InvalidRequest, UpstreamError
from ...protocols.base import Usage
from ...protocols.dialect import Endpoint, Exchange, InvalidAnswer
from ...protocols.dialects import exchange_for
from ...protocols.json_fields import BROKEN_JSON
from ...protocols.openai.request import CHAT, COMPLETIONS, EMBEDDINGS
from ...spend.events import SpendEvent
from ...spend.ledger import SpendLedger
from ...spend.pricing import cost_of
from ..call_spend import spend_event
from ..upstream.client import Upstream

# The key that health probes are logged under. Clients that read spend logs know LiteLLM's checks by this name.
PROBE_KEY_HASH = "litellm-internal-health-check"

_DEFAULT_MODE = "chat"
_HEALTH_TIMEOUT_SECONDS = 60.0
_HEALTH_MAX_TOKENS = 16
_CONNECTION_TIMEOUT_SECONDS = 20.0
_CONNECTION_MAX_TOKENS = 1
_MAX_ERROR_LENGTH = 500
# `model_info.mode` -> the endpoint and the cheapest body that it takes.
_PROBES: Mapping[str, tuple[Endpoint, Mapping[str, Any]]] = {
    "chat": (CHAT, {"messages": [{"role": "user", "content": "Hi"}]}),
    "completion": (COMPLETIONS, {"prompt": "Hi"}),
    "embedding": (EMBEDDINGS, {"input": "Hi"}),
}


def can_be_probed(deployment: Deployment) -> bool:
    """Whether its mode is cheap to call, its model is known, and neither it nor its background check is disabled."""
    info = deployment.model_info
    if deployment.is_blocked or info.get("disable_background_health_check") is True:
        return False
    has_model = "*" not in deployment.upstream_model or bool(info.get("health_check_model"))
    return has_model and _mode_of(deployment) in _PROBES


class HealthProbe:
    def __init__(self, upstream: Upstream, ledger: SpendLedger) -> None:
        self._upstream = upstream
        self._ledger = ledger

    async def probe(self, deployment: Deployment) -> str | None:
        """None when a deployment that `can_be_probed` answers, else what is wrong, without any credential."""
        if deployment.mock_response is not None:
            return None
        info = deployment.model_info
        mode, model = _mode_of(deployment), _health_check_model(deployment)
        max_tokens = int(_positive(info.get("health_check_max_tokens"), _HEALTH_MAX_TOKENS))
        seconds = _positive(info.get("health_check_timeout"), _HEALTH_TIMEOUT_SECONDS)
        started_at = datetime.now(UTC)
        try:
            exchange = _smallest_exchange(deployment, mode, model, max_tokens=max_tokens)
            answer = await _answer_to(exchange, self._upstream, deployment, model, seconds=seconds)
            _, usage = exchange.answered(answer, "application/json")
        except (UpstreamError, InvalidRequest) as error:
            return deployment.redacted(error.message)[:_MAX_ERROR_LENGTH]
        except (InvalidAnswer, *BROKEN_JSON):
            return "the answer is not valid JSON"
        self._ledger.record(_probe_event(deployment, mode, model, usage or Usage(), started_at))
        return None


class ConnectionTest:
    def __init__(self, upstream: Upstream, environment: Mapping[str, str]) -> None:
        self._upstream = upstream
        self._environment = environment

    async def test(self, model_name: str, litellm_params: Mapping[str, Any], mode: str) -> Mapping[str, Any]:
        """`{"status": "success"}`, or `{"status": "error", "error": text}` with what went wrong.

        Raises ValueError for parameters that no call can be made of. A shared credential is not used: its owner chose
        the address that it goes to, and the caller of a test chooses another.
        """
        if mode not in _PROBES:
            raise ValueError(f"mode {mode!r} cannot be tested; use {', '.join(_PROBES)}")
        if named_credential(litellm_params) is not None:
            raise ValueError("litellm_credential_name cannot be tested; send the credential itself")
        deployment = build_deployment(model_name, litellm_params, None, self._environment, is_stored=True)
        if deployment.mock_response is not None:
            return {"status": "success"}
        try:
            model = deployment.upstream_model
            exchange = _smallest_exchange(deployment, mode, model, max_tokens=_CONNECTION_MAX_TOKENS)
            await _answer_to(exchange, self._upstream, deployment, model, seconds=_CONNECTION_TIMEOUT_SECONDS)
        except (UpstreamError, InvalidRequest) as error:
            return {"status": "error", "error": deployment.redacted(error.message)}
        return {"status": "success"}


def _smallest_exchange(deployment: Deployment, mode: str, model: str, *, max_tokens: int) -> Exchange:
    """The cheapest call of a mode, in the provider's dialect. Raises InvalidRequest where that has no words for it."""
    endpoint, body = _PROBES[mode]
    fields = {**body, "model": model} | ({} if endpoint is EMBEDDINGS else {"max_tokens": max_tokens})
    return exchange_for(endpoint.read(msgspec.json.encode(fields), None, "application/json"), deployment.dialect)


async def _answer_to(
    exchange: Exchange, upstream: Upstream, deployment: Deployment, model: str, *, seconds: float
) -> bytes:
    """Raises UpstreamError."""
    body = exchange.upstream_body(model, {})
    async with await upstream.post(deployment, exchange.path, body, is_stream=False, seconds=seconds) as answer:
        return await answer.read()


# ---- what a deployment says about its health checks ----------------------------------------------------------------


def _mode_of(deployment: Deployment) -> str:
    return str(deployment.model_info.get("mode") or _DEFAULT_MODE)


def _health_check_model(deployment: Deployment) -> str:
    """`health_check_model` may be written with its provider, as models are elsewhere."""
    configured = deployment.model_info.get("health_check_model")
    return str(configured).removeprefix(f"{deployment.provider.name}/") if configured else deployment.upstream_model


def _positive(value: Any, default: float) -> float:
    return float(value) if isinstance(value, int | float) and value > 0 else default


def _probe_event(deployment: Deployment, mode: str, model: str, usage: Usage, started_at: datetime) -> SpendEvent:
    endpoint, _ = _PROBES[mode]
    is_own_model = model == deployment.upstream_model
    prices = deployment.prices if is_own_model else listed_price(deployment, model)
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
