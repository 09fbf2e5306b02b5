"""Structured logs: lines for people or JSON, each with the id of its request. Secrets are masked in every value."""

from __future__ import annotations

import logging
import sys
import traceback
from collections.abc import Mapping, MutableMapping
from contextvars import ContextVar
from typing import Any

import msgspec
import structlog

from .security.masking import MASK, is_log_secret, masked_text

# The id of the request that is being served, "" outside of one. Each request runs in a task of its own.
_REQUEST_ID: ContextVar[str] = ContextVar("request_id", default="")

_MAX_DEPTH = 6
_MAX_FRAMES = 8
_DROPPED_FIELDS = frozenset({"exc_info", "exception", "stack_info"})


def bind_request(id: str) -> None:
    """From here on, what this task logs belongs to this request."""
    _REQUEST_ID.set(id)


def redact(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Mask whatever looks like a key, a token or a header value, and what is named as one."""
    for name, value in event.items():
        event[name] = _masked(name, value, 0)
    return event


def _masked(name: str, value: Any, depth: int) -> Any:
    if isinstance(value, str):
        return MASK if value and is_log_secret(name) else masked_text(value)
    if depth >= _MAX_DEPTH:
        return MASK if isinstance(value, Mapping | list | tuple) else value
    if isinstance(value, Mapping):
        return {key: _masked(str(key), item, depth + 1) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_masked(name, item, depth + 1) for item in value]
    return value


def _name_request(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    id = _REQUEST_ID.get()
    if id:
        event.setdefault("request_id", id)
    return event


def _without_values(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """An exception as its type and where it happened. Its text may hold what a client sent."""
    problem = event.get("exc_info")
    if isinstance(problem, tuple):
        problem = problem[1]
    if problem is True:
        problem = sys.exc_info()[1]
    if isinstance(problem, BaseException):
        frames = traceback.extract_tb(problem.__traceback__)[-_MAX_FRAMES:]
        event["error"] = type(problem).__name__
        event["frames"] = [f"{frame.filename}:{frame.lineno} {frame.name}" for frame in frames]
    for name in _DROPPED_FIELDS:
        event.pop(name, None)
    return event


def _as_json(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> str:
    return msgspec.json.encode(event, enc_hook=str).decode()


def configure_logging(level: str = "INFO", *, is_json: bool = False) -> None:
    """Log lines to standard error: `2026-11-21T20:15:07Z [warning] event key=value`, or one JSON object each.

    `level`: DEBUG, INFO, WARNING, ERROR or CRITICAL. Lines of libraries pass the same way, from WARNING on.
    """
    lowest = logging.getLevelNamesMapping()[level]
    before: list[Any] = [
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        _name_request,
        _without_values,
        redact,
    ]
    renderer: Any = _as_json if is_json else structlog.dev.ConsoleRenderer(colors=False, pad_event_to=0)
    structlog.configure(
        processors=[*before, renderer],
        wrapper_class=structlog.make_filtering_bound_logger(lowest),
        logger_factory=structlog.WriteLoggerFactory(file=sys.stderr),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer],
            foreign_pre_chain=before,
        )
    )
    logging.basicConfig(handlers=[handler], level=max(lowest, logging.WARNING), force=True)
    # The server logs each failed request with its traceback; ours name the error without the values in it.
    logging.getLogger("quart.app").setLevel(logging.CRITICAL)
