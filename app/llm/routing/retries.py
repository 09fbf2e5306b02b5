"""How often a failed call is tried again, and how long it waits before. Pure: values in, a decision out."""

from __future__ import annotations

import random

from ...errors import UpstreamError
from ...protocols.call_options import CallOptions
from ...settings.routing import DEFAULT_KIND, FailurePolicy, RoutingSettings
from .fallbacks import has_special_fallbacks

_FIRST_PAUSE = 0.5
_MAX_PAUSE = 8.0
_MAX_RETRY_AFTER = 60.0
_JITTER = 0.75

# Another deployment may hold a better credential.
_RETRYABLE_ELSEWHERE = frozenset({401, 403})

_KINDS = {
    "BadRequestError": "BadRequest",
    "UnprocessableEntityError": "BadRequest",
    "ContextWindowExceededError": "BadRequest",
    "AuthenticationError": "Authentication",
    "PermissionDeniedError": "Authentication",
    "Timeout": "Timeout",
    "RateLimitError": "RateLimit",
    "ContentPolicyViolationError": "ContentPolicyViolation",
    "InternalServerError": "InternalServer",
    "APIConnectionError": "InternalServer",
    "ServiceUnavailableError": "ServiceUnavailable",
    "BadGatewayError": "BadGateway",
    "NotFoundError": "NotFound",
}


def kind_of(error: UpstreamError) -> str:
    """The failure under the name that policies use; `Default` for what has none."""
    return _KINDS.get(error.error_class, DEFAULT_KIND)


def policy_limit(policy: FailurePolicy, error: UpstreamError) -> int | None:
    """What a policy says of this failure, else by default; None: nothing."""
    limit = policy.get(kind_of(error))
    return limit if limit is not None else policy.get(DEFAULT_KIND)


def should_retry(
    error: UpstreamError,
    *,
    failures: int,
    group: str,
    has_others: bool,
    has_fallback: bool,
    all_cooling_down: bool,
    options: CallOptions,
    settings: RoutingSettings,
    configured: int | None,
) -> bool:
    """Whether a group is tried again after its `failures`-th failure.

    Not while all of it is cooling down; a limit, and a failure that fallbacks are set for, is left to those at once.
    `has_others`: a deployment is left that was not tried yet. `configured`: the deployment's own number of retries.
    """
    if not has_others and ((has_fallback and error.status == 429) or all_cooling_down):
        return False
    if has_special_fallbacks(error, options, settings):
        return False
    return has_retries_left(
        error,
        failures=failures,
        group=group,
        has_others=has_others,
        settings=settings,
        asked=options.num_retries,
        configured=configured,
    )


def has_retries_left(
    error: UpstreamError,
    *,
    failures: int,
    group: str,
    has_others: bool,
    settings: RoutingSettings,
    asked: int | None,
    configured: int | None,
) -> bool:
    """Whether policies, the client and the deployment leave another try after the `failures`-th failure.

    `asked` is the client's number of retries, which no policy overrides when it is 0; `configured` the deployment's.
    """
    if asked == 0:
        return False
    policy = settings.model_group_retry_policy.get(group) or settings.retry_policy
    limit = policy_limit(policy, error) if policy else None
    if limit is not None:
        return failures <= limit
    if not (error.is_retryable or (error.status in _RETRYABLE_ELSEWHERE and has_others)):
        return False
    usual = configured if configured is not None else settings.num_retries
    return failures <= (asked if asked is not None else usual)


def pause_before(
    error: UpstreamError, *, failures: int, has_others: bool, least: float, chance: random.Random
) -> float:
    """Seconds to wait before the next try: none when another deployment can take over at once."""
    if has_others:
        return 0.0
    if error.retry_after is not None and error.retry_after <= _MAX_RETRY_AFTER:
        return max(least, error.retry_after + chance.random() * _JITTER)
    grown: float = min(_MAX_PAUSE, _FIRST_PAUSE * 2 ** (failures - 1))
    return max(least, grown * (1 - chance.random() * 0.25))
