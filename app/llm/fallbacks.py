"""Which groups take over from one that failed (contract llm.md §4.7). Pure."""

from __future__ import annotations

from collections.abc import Sequence

from ..errors import UpstreamError
from ..protocols.call_options import CallOptions
from ..routing_settings import ANY_GROUP, Fallbacks, FallbackTarget, RoutingSettings


def targets_after(
    error: UpstreamError, group: str, options: CallOptions, settings: RoutingSettings
) -> Sequence[FallbackTarget]:
    """The groups to try next, in order. Where fallbacks for a reason are set, only they serve it."""
    if options.is_without_fallbacks:
        return ()
    if options.fallbacks is not None:
        return options.fallbacks
    special = _for_reason(error, options, settings)
    if special:
        return special.get(group, special.get(ANY_GROUP, ()))
    return configured_targets(group, settings)


def configured_targets(group: str, settings: RoutingSettings) -> Sequence[FallbackTarget]:
    """What the configuration names for a group, whatever the failure is."""
    found = settings.fallbacks.get(group)
    return found if found is not None else settings.fallbacks.get(ANY_GROUP, settings.default_fallbacks)


def _for_reason(error: UpstreamError, options: CallOptions, settings: RoutingSettings) -> Fallbacks:
    if error.error_class == "ContextWindowExceededError":
        return options.context_window_fallbacks or settings.context_window_fallbacks
    if error.error_class == "ContentPolicyViolationError":
        return options.content_policy_fallbacks or settings.content_policy_fallbacks
    return {}
