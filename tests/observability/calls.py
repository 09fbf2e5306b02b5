"""Calls that have ended, as the gateway tells of them, without a gateway."""

from __future__ import annotations

import json
from collections.abc import Mapping
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
from app.settings import Settings
from app.spend.events import SpendEvent

PROVIDER_KEY = "sk-provider-key-of-callbacks"
NOON = datetime(2026, 11, 22, 12, tzinfo=UTC)  # fixed date: when calls began that are only told of
ANSWER = b'{"id":"chatcmpl-1","choices":[{"message":{"role":"assistant","content":"Hello"}}]}'
MESSAGES = [{"role": "user", "content": "the prompt"}]


def settings(**fields: Any) -> Settings:
    return Settings(master_key="sk-master-key-of-callbacks-012345", **fields)


def deployment(id: str = "d1") -> Deployment:
    params = {"model": "openai/gpt-4o-mini", "api_base": "http://127.0.0.1:9/v1", "api_key": PROVIDER_KEY}
    return build_deployment("chat", params, {"id": id}, {})


def failed_attempt(status: int = 500, id: str = "d1") -> FailedAttempt:
    return FailedAttempt(deployment(id), status, "InternalServerError", "it broke", 0.1)


def ended_call(
    *,
    status: int = 200,
    callbacks: tuple[Mapping[str, Any], ...] = (),
    is_redacted: bool = False,
    redaction: str = "",
    disabled_callbacks: str = "",
    body: Mapping[str, Any] | None = None,
    answer: bytes | None = ANSWER,
    first_chunk: float | None = None,
    seconds: float = 0.5,
    attempts: int = 0,
    id: str = "call-1",
) -> EndedCall:
    """A call of Alice's key for `chat`, well unless `status` says otherwise; `attempts` failed before its end."""
    principal = _alice(callbacks, is_redacted)
    sent = {"model": "chat", "messages": MESSAGES, "temperature": 0.2, **(body or {})}
    call = Call(
        principal=principal,
        endpoint=CHAT,
        path="/v1/chat/completions",
        body=json.dumps(sent).encode(),
        call_id=id,
        redaction=redaction,
        disabled_callbacks=disabled_callbacks,
    )
    is_success = status == 200
    return EndedCall(
        call=call,
        model="chat",
        deployment=deployment(),
        failed=[failed_attempt(status if not is_success else 500) for _ in range(attempts)],
        fallbacks=0,
        event=_event(id, status, seconds, first_chunk),
        usage=Usage(prompt_tokens=7, completion_tokens=5),
        cost=None,
        is_success=is_success,
        status=status,
        error_class="" if is_success else "InternalServerError",
        total_seconds=seconds,
        upstream_seconds=seconds,
        first_chunk_seconds=first_chunk,
        answer=answer if is_success and first_chunk is None else None,
    )


def _alice(callbacks: tuple[Mapping[str, Any], ...], is_redacted: bool) -> Principal:
    return Principal(
        role=Role.INTERNAL_USER,
        key_hash="hash-of-the-key",
        key_alias="alice's key",
        user_id="alice",
        team_id="crew",
        team_alias="The crew",
        callbacks=callbacks,
        is_redacted=is_redacted,
    )


def _event(id: str, status: int, seconds: float, first_chunk: float | None) -> SpendEvent:
    error = {"error_code": str(status), "error_class": "InternalServerError", "error_message": "it broke"}
    return SpendEvent(
        request_id=id,
        call_id=id,
        call_type="acompletion",
        endpoint="/chat/completions",
        start_time=NOON,
        end_time=NOON + timedelta(seconds=seconds),
        first_chunk_time=NOON + timedelta(seconds=first_chunk) if first_chunk is not None else None,
        cost=Decimal("0.0125"),
        prompt_tokens=7,
        completion_tokens=5,
        key_hash="hash-of-the-key",
        user_id="alice",
        team_id="crew",
        model="gpt-4o-mini",
        model_id="d1",
        model_group="chat",
        provider="openai",
        api_base="http://127.0.0.1:9/v1",
        end_user="customer-1",
        tags=["blue"],
        metadata={} if status == 200 else {"error_information": error},
        status="success" if status == 200 else "failure",
    )
