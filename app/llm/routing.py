"""Which deployments a call tries, in which order."""

from __future__ import annotations

import random
from collections.abc import Sequence

from ..deployment import Deployment
from ..errors import UpstreamError

_RETRYABLE = frozenset({408, 409, 429})
# Another deployment may hold a better credential.
_RETRYABLE_ELSEWHERE = frozenset({401, 403})


def attempts(deployments: Sequence[Deployment], num_retries: int, chance: random.Random) -> list[Deployment]:
    """A weighted shuffle (`weight`, else `rpm`, else `tpm`, else even), cut to the first try and its retries.

    A deployment without the metric that the others have counts as the lightest of them, so that it is not forgotten.
    """
    if len(deployments) == 1:
        return [deployments[0]]
    weights = _weights(deployments)
    # Efraimidis-Spirakis: the order of these keys is a weighted draw without replacement.
    drawn = sorted(
        (member for member in zip(deployments, weights, strict=True) if member[1] > 0),
        key=lambda member: chance.random() ** (1 / member[1]),
        reverse=True,
    )
    return [deployment for deployment, _ in drawn][: num_retries + 1]


def _weights(deployments: Sequence[Deployment]) -> list[float]:
    for metric in ("weight", "rpm", "tpm"):
        values: list[float | None] = [getattr(deployment, metric) for deployment in deployments]
        positive = [value for value in values if value]
        if positive:
            lightest = min(positive)
            return [lightest if value is None else value for value in values]
    return [1.0] * len(deployments)


def may_try_another(error: UpstreamError, has_others: bool) -> bool:
    """Whether a failed attempt leaves hope for the next one."""
    if error.status in _RETRYABLE_ELSEWHERE:
        return has_others
    return error.is_retryable or error.status in _RETRYABLE
