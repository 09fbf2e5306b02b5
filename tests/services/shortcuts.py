"""Work of libraries that a process of tests would do thousands of times, and that answers the same each time."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import httpx._transports.default
from werkzeug.routing import Rule

_Builder = Callable[..., tuple[str, str]]
_COMPILE = Rule._compile_builder


def take_shortcuts() -> None:
    """For all apps and HTTP clients of this process from now on. Processes that it starts take none."""
    _compile_url_builders_when_needed()
    _read_certificates_once()


def _compile_url_builders_when_needed() -> None:
    """Werkzeug compiles two functions for each route that is added, to build its URL: 110 ms of each app.

    Tests make thousands of apps that build few URLs or none. How a request is matched is not touched.
    """
    Rule._compile_builder = _on_first_call  # type: ignore[method-assign, assignment]


def _on_first_call(rule: Rule, append_unknown: bool = True) -> _Builder:
    """Werkzeug binds what this answers to `rule`, as `rule._build_unknown` or `rule._build`."""

    def build(rule: Rule, **values: Any) -> tuple[str, str]:
        compiled = _COMPILE(rule, append_unknown).__get__(rule)
        setattr(rule, "_build_unknown" if append_unknown else "_build", compiled)
        answer: tuple[str, str] = compiled(**values)
        return answer

    return build


def _read_certificates_once() -> None:
    """httpx reads all certificate authorities for each client: 20 ms, also for one that never uses TLS."""
    transports: Any = httpx._transports.default
    if not hasattr(transports.create_ssl_context, "cache_info"):
        transports.create_ssl_context = functools.cache(transports.create_ssl_context)
