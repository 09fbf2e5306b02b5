"""Calls that have ended, made up: what observers are told."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

from app.auth.principal import Principal
from app.auth.roles import Role
from app.deployments.deployment import Deployment, build_deployment
from app.llm.call import Call
from app.llm.observers import EndedCall, FailedAttempt
from app.protocols.base import Usage
from app.protocols.openai.request import CHAT
from app.spend.budget import Reservation
from app.spend.events import SpendEvent
from app.spend.pricing import Cost

START = datetime(2026, 11, 22, 6, 0, tzinfo=UTC)  # fixed date: when calls began that are only told of


def target(name: str, model: str = "openai/gpt-4o-mini", **params: Any) -> Deployment:
    """A deployment with an id of the usual length, as those of a file get it."""
    written = {"model": model, "api_base": "https://models.example.com/v1", "api_key": "sk-provider-0123456789"}
    return build_deployment(name, {**written, **params}, None, {})


def caller(key_hash: str = "hash-of-a-key", **fields: Any) -> Principal:
    return Principal(role=Role.INTERNAL_USER, key_hash=key_hash, **fields)


def _call(principal: Principal, traceparent: str) -> Call:
    return Call(
        principal=principal,
        endpoint=CHAT,
        path="/v1/chat/completions",
        body=b"{}",
        call_id="call-1",
        traceparent=traceparent,
    )


def ended(
    deployment: Deployment | None,
    principal: Principal | None = None,
    *,
    model: str = "",
    failed: Sequence[FailedAttempt] = (),
    status: int = 200,
    error_class: str = "",
    seconds: float = 0.8,
    upstream_seconds: float = 0.797,
    first_chunk_seconds: float | None = None,
    cost: str = "0.002",
    usage: Usage | None = None,
    reservation: Reservation | None = None,
    fallbacks: int = 0,
    traceparent: str = "",
    **event: Any,
) -> EndedCall:
    """A call that used 10 tokens and answered 5, unless said otherwise."""
    principal = principal or caller()
    usage = usage or Usage(prompt_tokens=10, completion_tokens=5)
    model = model or (deployment.public_name if deployment else "nothing")
    return EndedCall(
        call=_call(principal, traceparent),
        model=model,
        deployment=deployment,
        failed=failed,
        fallbacks=fallbacks,
        event=SpendEvent(
            request_id="request-1",
            call_type="acompletion",
            endpoint="/chat/completions",
            start_time=START,
            end_time=START + timedelta(seconds=seconds),
            cost=Decimal(cost),
            key_hash=principal.key_hash,
            model_group=model,
            **event,
        ),
        usage=usage,
        cost=Cost(Decimal(cost), Decimal(cost), Decimal(0)),
        is_success=not error_class,
        status=status,
        error_class=error_class,
        total_seconds=seconds,
        upstream_seconds=upstream_seconds,
        first_chunk_seconds=first_chunk_seconds,
        answer=None,
        reservation=reservation,
    )
