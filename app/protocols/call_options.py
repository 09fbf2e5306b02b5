"""What a client's body says to the gateway and not to the provider. All dialects share it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import msgspec
from msgspec import Raw

from ..errors import InvalidRequest
from ..settings.routing import Fallbacks, FallbackTarget, fallback_groups, fallback_targets

_any = msgspec.json.Decoder().decode
# Raw values are split off unread: their text may be no UTF-8, their numbers none that fit.
_BROKEN_JSON = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)
_MAX_SECONDS = 86_400.0
_MAX_RETRIES = 20

_NAMES = frozenset(
    "num_retries max_retries timeout stream_timeout disable_fallbacks fallbacks context_window_fallbacks "
    "content_policy_fallbacks".split()
)


@dataclass(frozen=True, slots=True, kw_only=True)
class CallOptions:
    """Seconds for times. None: what the gateway is set to. `fallbacks` stand before all that is configured."""

    num_retries: int | None = None
    timeout: float | None = None
    stream_timeout: float | None = None
    is_without_fallbacks: bool = False
    fallbacks: tuple[FallbackTarget, ...] | None = None
    context_window_fallbacks: Fallbacks | None = None
    content_policy_fallbacks: Fallbacks | None = None


USUAL = CallOptions()


def read_options(fields: Mapping[str, Raw]) -> CallOptions:
    """The options of a split body. Raises InvalidRequest (400) with what to change."""
    if _NAMES.isdisjoint(fields):
        return USUAL
    given: dict[str, Any] = {}
    for name in _NAMES.intersection(fields):
        try:
            value = _any(fields[name])
        except _BROKEN_JSON as problem:
            raise InvalidRequest(f"Invalid JSON payload: '{name}': {problem}", param=name) from None
        if value is not None:
            given[name] = value
    return CallOptions(
        num_retries=_retries(given),
        timeout=_seconds("timeout", given.get("timeout")),
        stream_timeout=_seconds("stream_timeout", given.get("stream_timeout")),
        is_without_fallbacks=given.get("disable_fallbacks") is True,
        fallbacks=_client_targets(given.get("fallbacks")),
        context_window_fallbacks=_groups("context_window_fallbacks", given.get("context_window_fallbacks")),
        content_policy_fallbacks=_groups("content_policy_fallbacks", given.get("content_policy_fallbacks")),
    )


def _retries(given: Mapping[str, Any]) -> int | None:
    """`max_retries` is another name of `num_retries`, which wins."""
    name = "num_retries" if "num_retries" in given else "max_retries"
    value = given.get(name)
    if value is None:
        return None
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= _MAX_RETRIES:
        raise InvalidRequest(f"'{name}' must be a whole number from 0 to {_MAX_RETRIES}.", param=name)
    return value


def _seconds(name: str, value: Any) -> float | None:
    if value is None:
        return None
    if not isinstance(value, int | float) or isinstance(value, bool) or not 0 < value <= _MAX_SECONDS:
        raise InvalidRequest(f"'{name}' must be a number of seconds above zero.", param=name)
    return float(value)


def _client_targets(value: Any) -> tuple[FallbackTarget, ...] | None:
    """`["other"]`, `[{"model": "other", …}]`, or the configured form `[{"chat": ["other"]}]`."""
    if value is None:
        return None
    try:
        entries = value if isinstance(value, list) else [value]
        targets: list[FallbackTarget] = []
        for entry in entries:
            if isinstance(entry, dict) and "model" not in entry:
                targets += [target for group in fallback_groups(entry).values() for target in group]
            else:
                targets += fallback_targets([entry])
        return tuple(targets)
    except ValueError as problem:
        raise InvalidRequest(f"'fallbacks' {problem}.", param="fallbacks") from None


def _groups(name: str, value: Any) -> Fallbacks | None:
    if value is None:
        return None
    try:
        return fallback_groups(value)
    except ValueError as problem:
        raise InvalidRequest(f"'{name}' {problem}.", param=name) from None
