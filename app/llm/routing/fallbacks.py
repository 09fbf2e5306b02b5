"""Which groups take over from one that failed. Pure: values in, a plan out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ...errors import UpstreamError
from ...protocols.call_options import CallOptions
from ...settings.routing import ANY_GROUP, Fallbacks, FallbackTarget, RoutingSettings


@dataclass(frozen=True, slots=True)
class FallbackPlan:
    """The groups to try next, in order. Those that the client names need its own access to them."""

    targets: Sequence[FallbackTarget] = ()
    is_client_supplied: bool = False


def fallbacks_for(error: UpstreamError, group: str, options: CallOptions, settings: RoutingSettings) -> FallbackPlan:
    """Who takes over after a failure. Where fallbacks for a reason are set, only they serve it."""
    if options.is_without_fallbacks:
        return FallbackPlan()
    if options.fallbacks is not None:
        return FallbackPlan(options.fallbacks, is_client_supplied=True)
    own, configured = _for_reason(error, options, settings)
    if own:
        return FallbackPlan(_of_group(own, group), is_client_supplied=True)
    return FallbackPlan(_of_group(configured, group) if configured else _configured(group, settings))


def possible_targets(group: str, options: CallOptions, settings: RoutingSettings) -> Sequence[FallbackTarget]:
    """Who would take over from a group whatever the failure is."""
    if options.is_without_fallbacks:
        return ()
    return options.fallbacks if options.fallbacks is not None else _configured(group, settings)


def has_special_fallbacks(error: UpstreamError, options: CallOptions, settings: RoutingSettings) -> bool:
    """Whether fallbacks for just this reason are set: trying the same group again would only cost time."""
    return not options.is_without_fallbacks and any(_for_reason(error, options, settings))


def _configured(group: str, settings: RoutingSettings) -> Sequence[FallbackTarget]:
    own = settings.fallbacks.get(group)
    return own if own is not None else settings.fallbacks.get(ANY_GROUP, settings.default_fallbacks)


def _of_group(fallbacks: Fallbacks, group: str) -> Sequence[FallbackTarget]:
    return fallbacks.get(group, fallbacks.get(ANY_GROUP, ()))


def _for_reason(error: UpstreamError, options: CallOptions, settings: RoutingSettings) -> tuple[Fallbacks, Fallbacks]:
    """The client's fallbacks for a reason, and the configured ones."""
    if error.error_class == "ContextWindowExceededError":
        return options.context_window_fallbacks or {}, settings.context_window_fallbacks
    if error.error_class == "ContentPolicyViolationError":
        return options.content_policy_fallbacks or {}, settings.content_policy_fallbacks
    return {}, {}
