"""Deployments of a model in a weighted shuffle, each at most once."""

from __future__ import annotations

import random
from collections import Counter
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.deployments import Deployment, build_deployment
from app.errors import UpstreamError
from app.llm.routing import attempts, may_try_another

DRAWS = 6000


def deployments(*params: dict[str, Any]) -> list[Deployment]:
    return [
        build_deployment("group", {"model": "openai/m", **one}, {"id": str(number)}, {})
        for number, one in enumerate(params)
    ]


def shares(*params: dict[str, Any]) -> list[float]:
    """How often each is tried first."""
    group, chance = deployments(*params), random.Random(7)
    first = Counter(attempts(group, 0, chance)[0].id for _ in range(DRAWS))
    return [first[str(number)] / DRAWS for number in range(len(params))]


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
def test_the_first_try_goes_by_weight_then_rpm_then_tpm(params: list[dict[str, Any]], expected: list[float]) -> None:
    assert shares(*params) == pytest.approx(expected, abs=0.03)


def test_the_second_try_goes_by_the_weights_that_are_left() -> None:
    group, chance = deployments({"weight": 8}, {"weight": 1}, {"weight": 1}), random.Random(7)
    orders = [[one.id for one in attempts(group, 2, chance)] for _ in range(DRAWS)]
    after_the_heavy_one = Counter(order[1] for order in orders if order[0] == "0")
    assert after_the_heavy_one["1"] / sum(after_the_heavy_one.values()) == pytest.approx(0.5, abs=0.03)
    assert sum(order[1] == "0" for order in orders if order[0] == "1") > sum(order[0] == "1" for order in orders) * 0.8


@given(
    st.lists(st.none() | st.floats(min_value=0, max_value=1e9), min_size=1, max_size=6),
    st.integers(min_value=0, max_value=10),
    st.randoms(use_true_random=False),
)
def test_nobody_is_tried_twice_and_retries_are_counted(
    weights: list[float | None], num_retries: int, chance: random.Random
) -> None:
    group = deployments(*({} if weight is None else {"weight": weight} for weight in weights))
    order = [one.id for one in attempts(group, num_retries, chance)]
    assert 1 <= len(order) <= num_retries + 1
    assert len(set(order)) == len(order)


def test_a_single_deployment_is_tried_once_whatever_its_weight() -> None:
    (alone,) = deployments({"weight": 0})
    assert attempts([alone], 5, random.Random(7)) == [alone]


@pytest.mark.parametrize("status", [408, 409, 429, 500, 502, 503])
def test_what_another_one_may_do_better(status: int) -> None:
    error = UpstreamError("no", status=status, is_retryable=status >= 500)
    assert may_try_another(error, has_others=True)


@pytest.mark.parametrize("status", [401, 403])
def test_a_bad_credential_is_one_deployment_s_own(status: int) -> None:
    error = UpstreamError("no", status=status)
    assert may_try_another(error, has_others=True)
    assert not may_try_another(error, has_others=False)


@pytest.mark.parametrize("status", [400, 402, 404, 413, 422])
def test_what_every_one_would_refuse(status: int) -> None:
    assert not may_try_another(UpstreamError("no", status=status), has_others=True)
