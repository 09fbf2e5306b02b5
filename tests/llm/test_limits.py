"""Requests, tokens and parallel calls of the last sixty seconds."""

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


def limit(
    descriptor: str = "api_key", *, rpm: int | None = None, tpm: int | None = None, parallel: int | None = None
) -> RateLimit:
    return RateLimit(descriptor, "k1", "sk-...aaaa", rpm, tpm, parallel)


def refusal(limiter: RateLimiter, *limits: RateLimit, tokens: int = 0) -> TooManyRequests:
    with pytest.raises(TooManyRequests) as refused:
        limiter.admit(limits, tokens)
    return refused.value


def test_requests_are_counted_over_a_sliding_minute(limiter: RateLimiter, clock: Clock) -> None:
    for _ in range(3):
        limiter.admit([limit(rpm=3)], 0).settle(0)
        clock.now += 10
    error = refusal(limiter, limit(rpm=3))
    assert (error.status, error.type, error.headers["rate_limit_type"]) == (429, "throttling_error", "requests")
    assert error.headers["retry-after"] == "30"
    assert error.message.startswith(
        "Rate limit exceeded for api_key: sk-...aaaa. Limit type: requests. Current limit: 3, Remaining: 0."
    )
    clock.now += 29.9
    refusal(limiter, limit(rpm=3))
    clock.now += 0.1
    limiter.admit([limit(rpm=3)], 0)
    refusal(limiter, limit(rpm=3))


def test_tokens_are_held_before_and_counted_after_the_call(limiter: RateLimiter, clock: Clock) -> None:
    slot = limiter.admit([limit(tpm=100)], 60)
    assert refusal(limiter, limit(tpm=100), tokens=60).headers["rate_limit_type"] == "tokens"
    slot.settle(10)
    slot.settle(100)  # the second end counts for nothing
    limiter.admit([limit(tpm=100)], 90).settle(90)
    refusal(limiter, limit(tpm=100), tokens=1)
    clock.now += 60
    limiter.admit([limit(tpm=100)], 100)


def test_a_call_that_outlives_its_window_leaves_nothing_behind(limiter: RateLimiter, clock: Clock) -> None:
    slot = limiter.admit([limit(tpm=100, parallel=1)], 60)
    clock.now += 120
    refusal(limiter, limit(tpm=100, parallel=1), tokens=100)
    slot.settle(500)
    limiter.admit([limit(tpm=100, parallel=1)], 100)


def test_parallel_calls_free_their_place_when_they_end(limiter: RateLimiter) -> None:
    slots = [limiter.admit([limit(parallel=2)], 0) for _ in range(2)]
    assert refusal(limiter, limit(parallel=2)).headers["rate_limit_type"] == "max_parallel_requests"
    slots[0].settle(0)
    limiter.admit([limit(parallel=2)], 0)


def test_a_refused_call_uses_nothing_up(limiter: RateLimiter) -> None:
    key, team = limit(rpm=10), limit("team", rpm=1)
    limiter.admit([key, team], 0)
    for _ in range(20):
        assert "for team:" in refusal(limiter, key, team).message
    for _ in range(9):
        limiter.admit([key], 0)
    assert "for api_key:" in refusal(limiter, key).message


def test_a_limit_of_zero_admits_nobody(limiter: RateLimiter) -> None:
    refusal(limiter, limit(rpm=0))
    refusal(limiter, limit(parallel=0))


def test_headers_say_what_is_left(limiter: RateLimiter) -> None:
    slot = limiter.admit([limit(rpm=10, tpm=100), limit("team", rpm=5)], 30)
    assert slot.headers() == {
        "x-ratelimit-api_key-limit-requests": "10",
        "x-ratelimit-api_key-remaining-requests": "9",
        "x-ratelimit-api_key-limit-tokens": "100",
        "x-ratelimit-api_key-remaining-tokens": "70",
        "x-ratelimit-team-limit-requests": "5",
        "x-ratelimit-team-remaining-requests": "4",
    }
    assert limiter.admit([], 30).headers() == {}


def test_a_call_of_many_callers_is_counted_in_all_of_its_windows() -> None:
    limiter = RateLimiter(clock=lambda: 1.0)
    for number in range(20_000):
        limiter.admit([RateLimit("api_key", str(number), "", 5, None, None)], 1)
    both = [RateLimit("api_key", "alice", "", None, None, 1), RateLimit("team", "crew", "", 9, None, None)]
    limiter.admit(both, 1)
    with pytest.raises(TooManyRequests):
        limiter.admit(both, 1)
