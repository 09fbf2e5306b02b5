"""What a process knows of each deployment: this minute's numbers, and what it measured in the last hour."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.llm.routing.load import DeploymentLoad


class Clock:
    def __init__(self) -> None:
        self.now = 600.0

    def __call__(self) -> float:
        return self.now


def test_numbers_are_those_of_the_minute_but_calls_run_on() -> None:
    clock = Clock()
    load = DeploymentLoad(clock)
    load.begin("a")
    load.failed("a", is_timeout=False)
    load.answered("a", tokens=30, completion_tokens=10, seconds=2, first_chunk=None)
    clock.now += 59
    assert (load.of("a").requests, load.of("a").failures, load.of("a").tokens) == (1, 1, 30)
    clock.now += 1
    assert (load.of("a").requests, load.of("a").failures, load.of("a").tokens) == (0, 0, 0)
    assert load.of("a").running == 1
    load.end("a")
    assert load.of("a").running == 0


@given(st.lists(st.sampled_from(["begin", "end"]), max_size=50))
def test_running_calls_are_never_fewer_than_none(steps: list[str]) -> None:
    load = DeploymentLoad()
    for step in steps:
        load.begin("a") if step == "begin" else load.end("a")
        assert load.of("a").running >= 0


def test_latency_is_per_token_for_answers_and_to_the_first_chunk_for_streams() -> None:
    load = DeploymentLoad()
    assert load.of("a").latency(is_stream=False) is None
    load.answered("a", tokens=0, completion_tokens=0, seconds=3, first_chunk=None)
    load.answered("a", tokens=30, completion_tokens=10, seconds=10, first_chunk=0.5)
    assert load.of("a").latency(is_stream=False) == pytest.approx(2)
    assert load.of("a").latency(is_stream=True) == pytest.approx(0.5)


def test_only_the_last_ten_measurements_count() -> None:
    load = DeploymentLoad()
    load.failed("a", is_timeout=True)
    assert load.of("a").latency(is_stream=True) == load.of("a").latency(is_stream=False) == 1000
    for _ in range(10):
        load.answered("a", tokens=1, completion_tokens=1, seconds=1, first_chunk=1)
    assert load.of("a").latency(is_stream=False) == 1


def test_a_timeout_is_forgotten_after_an_hour_so_that_the_deployment_gets_another_chance() -> None:
    clock = Clock()
    load = DeploymentLoad(clock)
    load.failed("a", is_timeout=True)
    clock.now += 59 * 60
    assert load.of("a").latency(is_stream=False) == 1000
    clock.now += 60
    assert load.of("a").latency(is_stream=False) is None


def test_what_is_remembered_is_bounded_and_running_calls_are_kept() -> None:
    load = DeploymentLoad()
    load.begin("running")
    for number in range(20_001):
        load.failed(str(number), is_timeout=False)
    assert load.of("running").running == 1
    assert load.of("0").failures == 0
