"""Which failures start a cooldown, for how long, and how processes share cooldowns."""

from __future__ import annotations

from typing import Any

import pytest

from app.deployments.deployment import Deployment, build_deployment
from app.errors import UpstreamError
from app.llm.routing.cooldown import Cooldowns, is_deployment_failure
from app.llm.routing.load import DeploymentLoad
from app.settings.routing import FAILURE_KINDS, RoutingSettings

NOON = 1_800_000_000.0  # fixed date: the clock of every book here


def deployment(id: str = "a", name: str = "group", **params: Any) -> Deployment:
    return build_deployment(name, {"model": "openai/m", **params}, {"id": id}, {})


def failure(status: int, *, retry_after: float | None = None, error_class: str = "APIError") -> UpstreamError:
    return UpstreamError("no", status=status, retry_after=retry_after, error_class=error_class)


class Process:
    """One process with a clock of the test's; `announced` are the messages that it sent."""

    def __init__(self, **settings: Any) -> None:
        self.now = NOON
        self.announced: list[str] = []
        self.load = DeploymentLoad(lambda: self.now)
        self.cooldowns = Cooldowns(RoutingSettings(**settings), self.load, self.announced.append, lambda: self.now)

    def fail(
        self,
        error: UpstreamError,
        target: Deployment | None = None,
        *,
        is_alone: bool = False,
        has_fallback: bool = False,
    ) -> float:
        target = target or deployment()
        self.load.begin(target.id)
        self.load.record_failure(target.id, is_timeout=False)
        return self.cooldowns.record_failure(target, error, is_alone=is_alone, has_fallback=has_fallback)


@pytest.mark.parametrize("status", [401, 402, 404, 429])
def test_a_refusal_that_the_next_call_would_get_too_starts_a_cooldown_at_once(status: int) -> None:
    process = Process()
    assert process.fail(failure(status)) == 5
    assert process.cooldowns.is_cooling_down("a") and not process.cooldowns.is_cooling_down("b")


@pytest.mark.parametrize("status", [400, 403, 409, 413, 422])
def test_a_client_error_never_starts_a_cooldown(status: int) -> None:
    process = Process()
    assert [process.fail(failure(status)) for _ in range(20)] == [0] * 20


@pytest.mark.parametrize("status", [408, 500, 502, 503])
def test_an_outage_starts_a_cooldown_once_more_than_half_of_five_calls_failed(status: int) -> None:
    process = Process()
    assert [process.fail(failure(status)) for _ in range(5)] == [0, 0, 0, 0, 5]


def test_a_few_failures_among_many_successes_start_none() -> None:
    process = Process()
    for _ in range(10):
        process.load.begin("a")
    assert [process.fail(failure(500)) for _ in range(9)] == [0] * 9
    assert process.fail(failure(500)) == 0
    assert process.fail(failure(500)) == 5


@pytest.mark.parametrize("status", [401, 429, 500])
def test_the_only_deployment_cools_down_only_when_a_fallback_can_answer(status: int) -> None:
    alone, with_fallback = Process(), Process()
    assert {alone.fail(failure(status), is_alone=True) for _ in range(10)} == {0}
    assert 5 in {with_fallback.fail(failure(status), is_alone=True, has_fallback=True) for _ in range(10)}


def test_allowed_fails_count_for_the_only_one_too() -> None:
    process = Process(allowed_fails=2)
    assert [process.fail(failure(500), is_alone=True) for _ in range(3)] == [0, 0, 5]


def test_failures_of_the_last_minute_are_forgiven() -> None:
    process = Process(allowed_fails=1)
    assert process.fail(failure(500)) == 0
    process.now += 60
    assert process.fail(failure(500)) == 0


def test_allowed_fails_by_kind_win_over_the_number_for_all() -> None:
    process = Process(allowed_fails=0, allowed_fails_policy={"RateLimit": 1})
    assert process.fail(failure(429, error_class="RateLimitError")) == 0
    assert process.fail(failure(429, error_class="RateLimitError")) == 5
    assert process.fail(failure(500, error_class="InternalServerError"), deployment("b")) == 5
    assert set(process.cooldowns.cooling_down()) == {"a", "b"}
    assert "RateLimit" in FAILURE_KINDS


def test_how_long_is_the_deployment_s_own_then_the_provider_s_then_the_router_s() -> None:
    process = Process(cooldown_seconds=30)
    retry_later = failure(429, retry_after=7)
    assert process.fail(retry_later, deployment("own", cooldown_time=2)) == 2
    assert process.fail(retry_later, deployment("retry-after")) == 7
    assert process.fail(failure(429), deployment("usual")) == 30
    assert process.fail(failure(429, retry_after=10**9), deployment("absurd")) == 3600


def with_model_info(id: str = "a", params: dict[str, Any] | None = None, **info: Any) -> Deployment:
    return build_deployment("group", {"model": "openai/m", **(params or {})}, {"id": id, **info}, {})


def test_how_long_may_stand_in_the_model_s_information_and_its_parameters_win() -> None:
    process = Process(cooldown_seconds=30)
    assert process.fail(failure(429), with_model_info("info", cooldown_time=3)) == 3
    assert process.fail(failure(429), with_model_info("text", cooldown_time="4.5")) == 4.5
    assert process.fail(failure(429), with_model_info("both", {"cooldown_time": 2}, cooldown_time=3)) == 2
    assert process.fail(failure(429), with_model_info("never", cooldown_time=0)) == 0


def test_a_deployment_s_own_allowed_fails_win_over_the_router_s() -> None:
    process = Process(allowed_fails=0, allowed_fails_policy={"Timeout": 0})
    own = with_model_info(allowed_fails=2)
    assert [process.fail(failure(500), own, is_alone=True) for _ in range(3)] == [0, 0, 5]
    slow = with_model_info("slow", allowed_fails=1)
    timeout = failure(408, error_class="Timeout")
    assert [process.fail(timeout, slow, is_alone=True) for _ in range(2)] == [0, 5]


def test_a_deployment_s_own_policy_counts_by_kind_and_leaves_other_kinds_as_they_are() -> None:
    process = Process(allowed_fails=0)
    limited, broken = failure(429, error_class="RateLimitError"), failure(500, error_class="InternalServerError")
    policy = {"RateLimitErrorAllowedFails": 1}
    assert [process.fail(limited, with_model_info("a", allowed_fails_policy=policy)) for _ in range(2)] == [0, 5]
    assert process.fail(broken, with_model_info("b", allowed_fails_policy=policy)) == 5
    both = with_model_info("c", allowed_fails_policy=policy, allowed_fails=2)
    assert [process.fail(broken, both) for _ in range(3)] == [0, 0, 5]


@pytest.mark.parametrize(
    ("info", "problem"),
    [
        ({"cooldown_time": "soon"}, "model_info.cooldown_time 'soon' is not a number"),
        ({"cooldown_time": -1}, "model_info.cooldown_time must be zero or more"),
        ({"allowed_fails": "few"}, "model_info.allowed_fails 'few' is not a number"),
        ({"allowed_fails_policy": {"OddErrorAllowedFails": 1}}, "model_info.allowed_fails_policy has"),
        ({"allowed_fails_policy": 3}, "model_info.allowed_fails_policy"),
    ],
)
def test_invalid_cooldown_settings_are_refused_when_the_deployment_is_built(info: dict[str, Any], problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        with_model_info(**info)


@pytest.mark.parametrize("settings", [{"disable_cooldowns": True}, {"cooldown_seconds": 0.0}])
def test_cooldowns_can_be_turned_off(settings: dict[str, Any]) -> None:
    assert Process(**settings).fail(failure(429)) == 0
    assert Process().fail(failure(429), deployment(cooldown_time=0)) == 0


def test_a_cooldown_ends_by_itself_at_its_time() -> None:
    process = Process()
    process.fail(failure(429, retry_after=7))
    process.now += 6.9
    assert process.cooldowns.is_cooling_down("a")
    assert process.cooldowns.seconds_left(["a"]) == pytest.approx(0.1)
    process.now += 0.2
    assert not process.cooldowns.is_cooling_down("a")
    assert process.cooldowns.seconds_left(["a"]) == 0
    assert process.cooldowns.cooling_down() == {}


def test_the_seconds_left_of_a_group_are_those_of_the_first_to_be_available() -> None:
    process = Process()
    process.fail(failure(429, retry_after=7), deployment("a"))
    process.fail(failure(429, retry_after=3), deployment("b"))
    assert process.cooldowns.seconds_left(["a", "b"]) == 3


def test_a_shorter_cooldown_does_not_end_a_longer_one() -> None:
    process = Process()
    process.fail(failure(429, retry_after=60))
    process.fail(failure(429, retry_after=1))
    assert process.cooldowns.seconds_left(["a"]) == 60


def test_after_a_cooldown_one_more_failure_is_enough_until_a_success() -> None:
    process = Process()
    process.fail(failure(429, retry_after=1))
    process.now += 61
    assert process.fail(failure(500)) == 5
    process.now += 61
    process.cooldowns.record_success("a")
    assert process.fail(failure(500)) == 0


# ---- several processes ---------------------------------------------------------------------------------------------


def test_another_process_takes_over_the_end_of_a_cooldown_not_its_length() -> None:
    here, there = Process(), Process()
    here.fail(failure(429, retry_after=7))
    there.now += 2  # how long the message took
    there.cooldowns.on_message(here.announced[0])
    assert there.cooldowns.seconds_left(["a"]) == pytest.approx(5)
    assert there.announced == []


def test_calls_that_fail_together_are_announced_once() -> None:
    process = Process()
    for _ in range(100):
        process.fail(failure(429, retry_after=7))
    assert len(process.announced) == 1
    process.now += 2
    process.fail(failure(429, retry_after=7))
    assert len(process.announced) == 2


@pytest.mark.parametrize("id", ["x" * 500, "a\nb", "a\0"])
def test_an_id_that_no_message_can_hold_is_not_announced(id: str) -> None:
    """The announcer would make all processes drop their caches instead."""
    process = Process()
    process.fail(failure(429), deployment(id))
    assert process.cooldowns.is_cooling_down(id) and process.announced == []


def test_an_id_may_hold_colons() -> None:
    here, there = Process(), Process()
    here.fail(failure(429), deployment("a:b:c"))
    there.cooldowns.on_message(here.announced[0])
    assert there.cooldowns.is_cooling_down("a:b:c")


@pytest.mark.parametrize(
    "message",
    [
        *("all", "key:abc", "cooldown", "cooldown:", "cooldown:soon:a", "cooldown:nan:a", "cooldown:inf:a"),
        *("cooldown:1:a", f"cooldown:{NOON + 10**6}:a", f"cooldown:{NOON + 5}:"),
    ],
)
def test_messages_that_are_no_cooldown_are_ignored(message: str) -> None:
    process = Process()
    process.cooldowns.on_message(message)
    assert process.cooldowns.cooling_down() == {}


def test_the_number_of_cooldowns_is_bounded() -> None:
    process = Process()
    for number in range(10_100):
        process.cooldowns.on_message(f"cooldown:{NOON + 5}:{number}")
    assert len(process.cooldowns.cooling_down()) == 10_000
    process.now += 6
    process.cooldowns.on_message(f"cooldown:{process.now + 5}:new")
    assert set(process.cooldowns.cooling_down()) == {"new"}


# ---- which failures count ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [400, 409, 413, 418, 422])
def test_a_client_s_mistake_does_not_count_against_a_deployment(status: int) -> None:
    assert not is_deployment_failure(failure(status))


@pytest.mark.parametrize("status", [401, 402, 403, 404, 408, 429, 500, 503, 599])
def test_a_failure_of_the_provider_counts(status: int) -> None:
    assert is_deployment_failure(failure(status))


def test_an_unknown_model_behind_a_wildcard_cools_down_no_other() -> None:
    process = Process()
    assert process.fail(failure(404), deployment(name="openai/*")) == 0
    assert process.fail(failure(429), deployment(name="openai/*")) == 5
