"""What every answer carries, and which error a caller reads when something was raised. Both ways in answer from here.

The ways in: the framework's views, and app/llm/fast_path.py, which answers the hottest routes without it.
"""

from __future__ import annotations

import traceback
from typing import Any

import structlog
from werkzeug.exceptions import HTTPException, RequestEntityTooLarge

from ..errors import GatewayError, PayloadTooLarge, PlainDenial, ServiceUnavailable
from ..protocols.dialects import dialect_of_path
from ..storage.database import DATABASE_AWAY

log = structlog.get_logger(__name__)

SECURITY_HEADERS = {
    "X-Frame-Options": "DENY",
    "Content-Security-Policy": "frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
}


def error_body(error: GatewayError, path: str) -> dict[str, Any]:
    """An error in the dialect that clients of a path speak."""
    return dialect_of_path(path).error_body(error)


def to_gateway_error(problem: Exception, path: str) -> GatewayError:
    """The error to render for whatever was raised. What only the operator may know goes to the log."""
    if isinstance(problem, GatewayError):
        return problem
    if isinstance(problem, HTTPException):
        return _of_framework(problem)
    if isinstance(problem, DATABASE_AWAY) and not (isinstance(problem, OSError) and problem.filename is not None):
        log.warning("the database cannot be reached", reason=type(problem).__name__)
        return ServiceUnavailable("The database cannot be reached; try again")
    # A bug of ours, or a file of ours that cannot be opened. The log says where, without the values that were in play;
    # the answer says nothing.
    frames = [f"{frame.filename}:{frame.lineno} {frame.name}" for frame in traceback.extract_tb(problem.__traceback__)]
    log.error("unexpected error", error=type(problem).__name__, path=path, frames=frames[-8:])
    return GatewayError("Internal server error")


def _of_framework(error: HTTPException) -> GatewayError:
    """Unknown paths and methods, in the shape of the framework that the contract was measured on."""
    if isinstance(error, RequestEntityTooLarge):
        return PayloadTooLarge("The request body is larger than this gateway accepts")
    denial = PlainDenial(error.name, status=error.code or 500)
    allowed = error.get_response().headers.get("Allow")
    if allowed is not None:
        denial.headers["Allow"] = allowed
    return denial
