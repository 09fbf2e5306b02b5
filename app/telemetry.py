"""Structured logs. Secrets are cut out of every value before it is written."""

from __future__ import annotations

import logging
import re
import sys
from collections.abc import MutableMapping
from typing import Any

import structlog

_SECRET = re.compile(r"\b(sk-|Bearer |Basic |eyJ)[A-Za-z0-9_\-.=+/]{8,}")


def redact(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Mask whatever looks like a key, a token or a header value."""
    for name, value in event.items():
        if isinstance(value, str):
            event[name] = _SECRET.sub(r"\1****", value)
    return event


def configure_logging() -> None:
    """Log lines to standard error: `2026-11-21T20:15:07Z [warning] event key=value`."""
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            redact,
            structlog.dev.ConsoleRenderer(colors=False, pad_event_to=0),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        logger_factory=structlog.WriteLoggerFactory(file=sys.stderr),
        cache_logger_on_first_use=True,
    )
    # The server logs each failed request with its traceback; ours name the error without the values in it.
    logging.getLogger("quart.app").setLevel(logging.CRITICAL)
