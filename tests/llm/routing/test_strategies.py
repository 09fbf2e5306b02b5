"""Which deployment gets the next call, by each strategy."""

from __future__ import annotations

import random
from collections import Counter
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.deployments.deployment import Deployment, build_deployment
from app.llm.routing.load import DeploymentLoad
from app.llm.routing.strategies import choose, has_room
from app.settings.routing import STRATEGIES, RoutingSettings

DRAWS = 6000


def deployments(*params: dict[str, Any]) -> list[Deployment]:
    return [
        build_deployment("group", {"model": "openai/m", **one}, {"id": str(number)}, {})
        for number, one in enumerate(params)
    ]


def chosen(
    group: list[Deployment], load: DeploymentLoad, strategy: str, *, is_stream: bool = False, **settings: Any
) -> Counter[str]:
    """Who is chosen how often in a hundred draws."""
    chance, by = random.Random(7), RoutingSettings(routing_strategy=strategy, **settings)
    return Counter(choose(group, load, by, chance, is_stream=is_stream).id for _ in range(100))


def shares(group: list[Deployment]) -> list[float]:
    chance, settings, load = random.Random(7), RoutingSettings(), DeploymentLoad()
    first = Counter(choose(group, load, settings, chance).id for _ in range(DRAWS))
    return [first[one.id] / DRAWS for one in group]


@pytest.mark.parametrize(
    ("params", "expected"),
    [
        ([{}, {}], [0.5, 0.5]),
        ([{"weight": 3}, {"weight": 1}], [0.75, 0.25]),
        ([{"rpm": 900}, {"rpm": 100}], [0.9, 0.1]),
        ([{"tpm": 1}, {"tpm": 1}, {"tpm": 2}], [0.25, 0.25, 0.5]),
        ([{"weight": 1, "rpm": 1}, {"weight": 1, "rpm": 1000}], [0.5, 0.5]),
        ([{"weight": 0}, {"weight": 1}], [0, 1]),
        ([{"weight": 0}, {"weight": 0}], [0.5, 0.5]),
        ([{"weight": 2}, {}, {"weight": 4}], [0.25, 0.25, 0.5]),
    ],
)
def test_the_shuffle_goes_by_weight_then_rpm_then_tpm(params: list[dict[str, Any]], expected: list[float]) -> None:
    assert shares(deployments(*params)) == pytest.approx(expected, abs=0.03)


def test_after_one_failed_the_others_share_by_their_own_weights() -> None:
    _, *left = deployments({"weight": 8}, {"weight": 1}, {"weight": 1})
    assert shares(left) == pytest.approx([0.5, 0.5], abs=0.03)


@given(
    st.sampled_from(STRATEGIES),
    st.lists(st.none() | st.floats(min_value=0, max_value=1e9), min_size=1, max_size=6),
    st.sampled_from(["weight", "rpm", "tpm"]),
    st.lists(st.tuples(st.integers(0, 5), st.integers(0, 10**6), st.floats(0, 1e4)), max_size=20),
    st.booleans(),
    st.randoms(use_true_random=False),
)
def test_every_strategy_chooses_one_of_them_whatever_is_known(
    strategy: str,
    values: list[float | None],
    metric: str,
    answers: list[tuple[int, int, float]],
    is_stream: bool,
    chance: random.Random,
) -> None:
    group, load = deployments(*({} if value is None else {metric: value} for value in values)), DeploymentLoad()
    for who, tokens, seconds in answers:
        load.begin(str(who))
        load.answered(str(who), tokens=tokens, completion_tokens=tokens, seconds=seconds, first_chunk=None)
    assert choose(group, load, RoutingSettings(routing_strategy=strategy), chance, is_stream=is_stream) in group


def test_the_least_busy_has_the_fewest_calls_running() -> None:
    group, load = deployments({}, {}, {}), DeploymentLoad()
    for id in ("0", "0", "1"):
        load.begin(id)
    assert chosen(group, load, "least-busy") == {"2": 100}
    load.begin("2")
    assert set(chosen(group, load, "least-busy")) == {"1", "2"}
    for _ in range(2):
        load.end("0")
    assert chosen(group, load, "least-busy") == {"0": 100}


def answered(load: DeploymentLoad, id: str, seconds: float, *, first_chunk: float | None = None) -> None:
    load.begin(id)
    load.answered(id, tokens=20, completion_tokens=10, seconds=seconds, first_chunk=first_chunk)
    load.end(id)


def test_the_fastest_is_chosen_and_those_that_nobody_asked_go_first() -> None:
    group, load = deployments({}, {}, {}), DeploymentLoad()
    answered(load, "0", 1.0)
    answered(load, "1", 2.0)
    assert chosen(group, load, "latency-based-routing") == {"2": 100}
    answered(load, "2", 1.1)
    assert chosen(group, load, "latency-based-routing") == {"0": 100}
    buffer = {"lowest_latency_buffer": 0.5}
    assert set(chosen(group, load, "latency-based-routing", routing_strategy_args=buffer)) == {"0", "2"}


def test_streams_go_by_the_time_to_the_first_chunk() -> None:
    group, load = deployments({}, {}), DeploymentLoad()
    answered(load, "0", 9.0, first_chunk=0.1)
    answered(load, "1", 1.0, first_chunk=0.9)
    assert chosen(group, load, "latency-based-routing", is_stream=True) == {"0": 100}
    assert chosen(group, load, "latency-based-routing") == {"1": 100}


def test_one_that_only_ever_failed_is_not_the_one_to_try_first() -> None:
    group, load = deployments({}, {}), DeploymentLoad()
    answered(load, "1", 5.0)
    load.begin("0")
    load.failed("0", is_timeout=False)
    assert chosen(group, load, "latency-based-routing") == {"1": 100}


def test_all_of_them_failing_leaves_a_choice() -> None:
    group, load = deployments({}, {}), DeploymentLoad()
    for id in ("0", "1"):
        load.failed(id, is_timeout=False)
    assert set(chosen(group, load, "latency-based-routing")) == {"0", "1"}


@pytest.mark.parametrize("strategy", ["usage-based-routing", "usage-based-routing-v2"])
def test_the_least_used_has_the_fewest_tokens_then_the_fewest_requests(strategy: str) -> None:
    group, load = deployments({}, {}, {}), DeploymentLoad()
    answered(load, "0", 1.0)
    load.begin("1")
    assert chosen(group, load, strategy) == {"2": 100}
    load.begin("2")
    load.begin("2")
    assert chosen(group, load, strategy) == {"1": 100}


@pytest.mark.parametrize("strategy", ["usage-based-routing", "cost-based-routing"])
def test_one_at_its_limit_is_passed_by_unless_all_are(strategy: str) -> None:
    group, load = deployments({"rpm": 1}, {"rpm": 3}), DeploymentLoad()
    for id in ("0", "1", "1"):
        load.begin(id)
    assert chosen(group, load, strategy) == {"1": 100}
    load.begin("1")
    assert sum(chosen(group, load, strategy).values()) == 100


def test_the_cheapest_is_chosen_and_unknown_prices_come_last() -> None:
    dear = {"input_cost_per_token": 0.1, "output_cost_per_token": 0.1}
    cheap = {"input_cost_per_token": 0.15, "output_cost_per_token": 0.01}
    unknown = {"model": "openai/no-such-model-9000"}
    assert chosen(deployments(dear, cheap, unknown), DeploymentLoad(), "cost-based-routing") == {"1": 100}


def test_room_is_what_this_minute_left_of_rpm_and_tpm() -> None:
    free, tight = deployments({}, {"rpm": 2, "tpm": 100})
    load = DeploymentLoad()
    assert has_room(free, load, 10**9)
    assert has_room(tight, load, 100) and not has_room(tight, load, 101)
    answered(load, "1", 1.0)
    assert has_room(tight, load, 80) and not has_room(tight, load, 81)
    load.begin("1")
    assert not has_room(tight, load)
