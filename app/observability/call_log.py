"""What the log says of calls: a line per failed one, and at level DEBUG one per good call too."""

from __future__ import annotations

import structlog

from ..errors import GatewayError
from ..llm.call import Call
from ..llm.observers import EndedCall, Observer

log = structlog.get_logger(__name__)

_CLIENT_LEFT = 499


class CallLog(Observer):
    """`is_verbose`: good calls get a line as well. Prompts, answers and error texts are never logged."""

    def __init__(self, *, is_verbose: bool) -> None:
        self._is_verbose = is_verbose

    def call_refused(self, call: Call, error: GatewayError) -> None:
        log.warning(
            "call refused",
            request_id=call.call_id,
            error=type(error).__name__,
            status=error.status,
            route=call.path,
            key=call.principal.key_hash[:16],
        )

    def call_ended(self, ended: EndedCall) -> None:
        if ended.is_success and not self._is_verbose:
            return
        deployment = ended.deployment
        facts = {
            "request_id": ended.call.call_id,
            "status": ended.status,
            "model": ended.model,
            "deployment": deployment.id if deployment is not None else None,
            "failed_attempts": len(ended.failed),
            "fallbacks": ended.fallbacks,
            "seconds": round(ended.total_seconds, 3),
        }
        if ended.is_success:
            log.debug("call answered", tokens=ended.usage.total_tokens, **facts)
        elif ended.status == _CLIENT_LEFT:
            log.info("client left", **facts)
        else:
            log.warning("call failed", error=ended.error_class, **facts)
