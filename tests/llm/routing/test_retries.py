"""How often a failed call is tried again, and how long it waits before."""

from __future__ import annotations

import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.errors import UpstreamError
from app.llm.routing.retries import has_retries_left, kind_of, pause_before, policy_limit, should_retry
from app.protocols.call_options import USUAL
from app.settings.routing import RoutingSettings, fallback_groups, retry_policy

RETRYABLE = {408: "Timeout", 409: "APIError", 429: "RateLimitError", 500: "InternalServerError", 502: "BadGatewayError"}
FINAL = {400: "BadRequestError", 402: "APIError", 404: "NotFoundError", 422: "UnprocessableEntityError"}
CREDENTIAL = {401: "AuthenticationError", 403: "PermissionDeniedError"}


def failure(status: int, error_class: str = "APIError", retry_after: float | None = None) -> UpstreamError:
    return UpstreamError(
        "no", status=status, error_class=error_class, is_retryable=status in RETRYABLE, retry_after=retry_after
    )


def tries(
    error: UpstreamError,
    *,
    has_others: bool = False,
    asked: int | None = None,
    configured: int | None = None,
    group: str = "chat",
    **settings: Any,
) -> int:
    """How many attempts a group gets when all of them fail like this."""
    failures = 1
    while failures < 50 and has_retries_left(
        error,
        failures=failures,
        group=group,
        has_others=has_others,
        settings=RoutingSettings(**settings),
        asked=asked,
        configured=configured,
    ):
        failures += 1
    return failures


@pytest.mark.parametrize(("status", "name"), RETRYABLE.items())
def test_what_may_pass_is_tried_twice_more(status: int, name: str) -> None:
    assert tries(failure(status, name)) == 3
    assert tries(failure(status, name), num_retries=0) == 1


@pytest.mark.parametrize(("status", "name"), FINAL.items())
@pytest.mark.parametrize("has_others", [True, False])
def test_what_everybody_would_refuse_is_not(status: int, name: str, has_others: bool) -> None:
    assert tries(failure(status, name), has_others=has_others) == 1


@pytest.mark.parametrize(("status", "name"), CREDENTIAL.items())
def test_another_deployment_may_hold_a_better_credential(status: int, name: str) -> None:
    assert tries(failure(status, name)) == 1
    assert tries(failure(status, name), has_others=True) == 3


def test_the_client_s_number_wins_over_the_deployment_s_over_the_router_s() -> None:
    error = failure(500)
    assert tries(error, asked=5, configured=4, num_retries=3) == 6
    assert tries(error, configured=4, num_retries=3) == 5
    assert tries(error, configured=0, num_retries=3) == 1


POLICY = retry_policy({"BadRequestErrorRetries": 1, "RateLimitErrorRetries": 4, "TimeoutErrorRetries": 0})


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (failure(400, "BadRequestError"), 2),
        (failure(429, "RateLimitError"), 5),
        (failure(408, "Timeout"), 1),
        (failure(500, "InternalServerError"), 3),
        (failure(404, "NotFoundError"), 1),
    ],
)
def test_a_policy_stands_for_the_whole_question(error: UpstreamError, expected: int) -> None:
    assert tries(error, retry_policy=POLICY) == expected
    assert tries(error, retry_policy=POLICY, asked=0) == 1


def test_a_policy_may_say_what_all_others_get() -> None:
    policy = retry_policy({"DefaultRetries": 1, "RateLimitErrorRetries": 0})
    assert tries(failure(418), retry_policy=policy) == 2
    assert tries(failure(429, "RateLimitError"), retry_policy=policy) == 1


def test_a_group_s_own_policy_wins() -> None:
    own = {"chat": retry_policy({"RateLimitErrorRetries": 1})}
    error = failure(429, "RateLimitError")
    assert tries(error, retry_policy=POLICY, model_group_retry_policy=own) == 2
    assert tries(error, retry_policy=POLICY, model_group_retry_policy=own, group="other") == 5


def test_kinds_are_the_field_s() -> None:
    assert kind_of(failure(403, "PermissionDeniedError")) == "Authentication"
    assert kind_of(failure(400, "ContextWindowExceededError")) == "BadRequest"
    assert kind_of(failure(400, "ContentPolicyViolationError")) == "ContentPolicyViolation"
    assert kind_of(failure(500, "APIConnectionError")) == "InternalServer"
    assert kind_of(failure(418)) == "Default"
    assert policy_limit({}, failure(500)) is None


def pause(error: UpstreamError, failures: int = 1, *, has_others: bool = False, least: float = 0) -> float:
    return pause_before(error, failures=failures, has_others=has_others, least=least, chance=random.Random(3))


def test_nobody_waits_while_another_deployment_is_there() -> None:
    assert pause(failure(429, retry_after=30), has_others=True, least=5) == 0


@given(st.floats(0.001, 60), st.floats(0, 10), st.randoms(use_true_random=False))
def test_the_provider_s_time_is_kept(seconds: float, least: float, chance: random.Random) -> None:
    error = failure(429, retry_after=seconds)
    waited = pause_before(error, failures=1, has_others=False, least=least, chance=chance)
    assert max(seconds, least) <= waited <= max(seconds + 0.75, least)


@given(st.integers(1, 30), st.floats(0, 20), st.randoms(use_true_random=False))
def test_otherwise_the_wait_doubles_up_to_eight_seconds(failures: int, least: float, chance: random.Random) -> None:
    for error in (failure(500), failure(429, retry_after=61)):
        waited = pause_before(error, failures=failures, has_others=False, least=least, chance=chance)
        usual = min(8, 0.5 * 2 ** (failures - 1))
        assert max(least, usual * 0.75) <= waited <= max(least, usual)


_TOO_LONG = failure(500, "ContextWindowExceededError")
_LONGER = {"context_window_fallbacks": fallback_groups([{"chat": ["long"]}])}


# After a first failure: what failed, others untried, a fallback, the whole tier cooling down, settings: tried again?
@pytest.mark.parametrize(
    ("error", "has_others", "has_fallback", "all_cooling_down", "settings", "expected"),
    [
        (failure(500), False, False, False, {}, True),
        (failure(500), False, True, False, {}, True),
        (failure(500), False, False, True, {}, False),
        (failure(500), True, False, True, {}, True),
        (failure(429), False, False, False, {}, True),
        (failure(429), False, True, False, {}, False),
        (failure(429), True, True, False, {}, True),
        (failure(400), False, False, False, {}, False),
        (_TOO_LONG, False, False, False, {}, True),
        (_TOO_LONG, False, True, False, _LONGER, False),
        (_TOO_LONG, True, True, False, _LONGER, False),
        (failure(500), True, True, False, {"num_retries": 0}, False),
    ],
)
def test_a_group_is_tried_again_unless_it_is_cooling_down_or_a_fallback_serves_better(
    error: UpstreamError,
    has_others: bool,
    has_fallback: bool,
    all_cooling_down: bool,
    settings: dict[str, Any],
    expected: bool,
) -> None:
    again = should_retry(
        error,
        failures=1,
        group="chat",
        has_others=has_others,
        has_fallback=has_fallback,
        all_cooling_down=all_cooling_down,
        options=USUAL,
        settings=RoutingSettings(**settings),
        configured=None,
    )
    assert again is expected
