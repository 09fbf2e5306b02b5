"""What can go wrong when the console talks to a worker.

WorkerError
├── WorkerUnreachable   no HTTP answer: refused, timeout, broken TLS, an answer over the size cap
├── SessionExpired      the worker no longer accepts this session's credential
└── WorkerRefused       the worker answered with an error; carries its message
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from jinja2 import UndefinedError

from .registry import Worker

# What reading raises when JSON is of another shape than the contract's: a list for an object, text for a number.
INVALID_ANSWER = (ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, UndefinedError, ValueError)


class WorkerError(Exception):
    def __init__(self, worker: Worker, message: str) -> None:
        super().__init__(f"{worker.worker_id}: {message}")
        self.worker = worker
        self.message = message


class WorkerUnreachable(WorkerError):
    """`message` is a short reason, as `connection refused`."""


class SessionExpired(WorkerError):
    """Sign in again at this worker; nothing else is wrong."""


class WorkerRefused(WorkerError):
    """`status` is the worker's. `fields` maps a field of the request to what is wrong with it."""

    def __init__(
        self,
        worker: Worker,
        message: str,
        *,
        status: int,
        type: str | None = None,
        fields: Mapping[str, str] | None = None,
        request_id: str | None = None,
        retry_after_seconds: int | None = None,
    ) -> None:
        super().__init__(worker, message)
        self.status = status
        self.type = type
        self.fields = dict(fields or {})
        self.request_id = request_id
        self.retry_after_seconds = retry_after_seconds


def read_refusal(body: Any) -> tuple[str, str | None, dict[str, str]]:
    """(message, type, field messages) out of any of the contract's envelopes: E1 `error`, E2 and E3 `detail`."""
    if not isinstance(body, Mapping):
        return "It gave no reason.", None, {}
    error = body.get("error")
    if isinstance(error, Mapping):
        message, param = str(error.get("message") or "It gave no reason."), error.get("param")
        has_param = isinstance(param, str) and param not in ("", "None")
        kind = error.get("type")
        return message, kind if isinstance(kind, str) else None, {str(param): message} if has_param else {}
    detail = body.get("detail", error)
    if isinstance(detail, list):
        problems = [item for item in detail if isinstance(item, Mapping)]
        fields = {_last(item.get("loc")): str(item.get("msg", "")) for item in problems}
        return "; ".join(f"{name}: {text}" for name, text in fields.items()), "validation_error", fields
    if isinstance(detail, Mapping):
        detail = detail.get("error") or detail.get("message")
    return str(detail or "It gave no reason."), None, {}


def _last(location: Any) -> str:
    return str(location[-1]) if isinstance(location, list) and location else ""
