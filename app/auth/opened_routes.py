"""Routes that the policy table keeps for callers with a key, and that an operator may open to everybody."""

from __future__ import annotations

from ..settings.observability import ObservabilitySettings
from .policy import PUBLIC, Access


def opened_routes(settings: ObservabilitySettings) -> dict[tuple[str, str], Access]:
    """(method, rule) -> the policy that stands in place of the table's."""
    opened: dict[tuple[str, str], Access] = {}
    if not settings.requires_auth_for_metrics:
        opened["GET", "/metrics"] = PUBLIC
    if settings.allow_public_readiness_details:
        opened["GET", "/health/readiness/details"] = PUBLIC
    return opened
