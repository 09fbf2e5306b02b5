"""Rate limits slide over sixty seconds, count nothing for a refused call, and give parallel places back."""

from __future__ import annotations

import pytest

from app.auth.principal import RateLimit
from app.errors import TooManyRequests
from app.llm.limits import RateLimiter


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def limiter(clock: Clock) -> RateLimiter:
    return RateLimiter(clock)


def of_key(*, rpm: int | None = None, tpm: int | None = None, parallel: int | None = None) -> RateLimit:
    return RateLimit("api_key", "alice", "sk-...abcd", rpm, tpm, parallel)


def of_team(*, rpm: int) -> RateLimit:
    return RateLimit("team", "crew", "crew", rpm, None, None)


def test_the_call_after_the_last_allowed_one_is_refused(limiter: RateLimiter) -> None:
    limits = (of_key(rpm=2),)
    for _ in range(2):
        limiter.admit(limits, 1).settle(1)
    with pytest.raises(TooManyRequests) as refusal:
        limiter.admit(limits, 1)
    assert refusal.value.status == 429
    assert refusal.value.headers == {"retry-after": "60", "rate_limit_type": "requests"}
    assert (
        "Rate limit exceeded for api_key: sk-...abcd. Limit type: requests. Current limit: 2" in refusal.value.message
    )


def test_no_sixty_seconds_hold_more_than_the_limit(limiter: RateLimiter, clock: Clock) -> None:
    limits, admitted = (of_key(rpm=60),), []
    for _ in range(500):
        clock.now += 0.5
        try:
            limiter.admit(limits, 1).settle(1)
        except TooManyRequests:
            continue
        admitted.append(clock.now)
    assert len(admitted) > 60
    for start in admitted:
        assert sum(start <= at < start + 60 for at in admitted) <= 60


def test_tokens_are_held_by_estimate_and_settled_by_usage(limiter: RateLimiter) -> None:
    limits = (of_key(tpm=100),)
    slot = limiter.admit(limits, 80)
    with pytest.raises(TooManyRequests):
        limiter.admit(limits, 30)
    slot.settle(20)
    limiter.admit(limits, 30)


def test_a_parallel_place_is_free_again_when_its_call_ends(limiter: RateLimiter) -> None:
    limits = (of_key(parallel=1),)
    slot = limiter.admit(limits, 1)
    with pytest.raises(TooManyRequests):
        limiter.admit(limits, 1)
    slot.settle(1)
    slot.settle(1)
    limiter.admit(limits, 1)
    with pytest.raises(TooManyRequests):
        limiter.admit(limits, 1)


def test_a_call_that_one_limit_refuses_uses_up_none_of_the_others(limiter: RateLimiter) -> None:
    limits = (of_key(rpm=5), of_team(rpm=1))
    limiter.admit(limits, 1)
    for _ in range(3):
        with pytest.raises(TooManyRequests):
            limiter.admit(limits, 1)
    assert limiter.admit((of_key(rpm=5),), 1).headers()["x-ratelimit-api_key-remaining-requests"] == "3"


def test_a_call_that_outlives_the_window_does_not_upset_it(limiter: RateLimiter, clock: Clock) -> None:
    limits = (of_key(tpm=100),)
    slot = limiter.admit(limits, 50)
    clock.now += 61
    limiter.admit(limits, 10).settle(10)
    slot.settle(1000)
    assert limiter.admit(limits, 10).headers()["x-ratelimit-api_key-remaining-tokens"] == "80"
