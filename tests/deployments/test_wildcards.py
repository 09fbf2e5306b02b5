"""Names with a star: which fits, what the star stands for, and what it costs."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.deployments.deployment import Deployment, build_deployment
from app.deployments.wildcards import Patterns


def patterns(*groups: tuple[str, str], **params: Any) -> Patterns:
    """Groups of one deployment each: name, model."""
    made: dict[str, list[Deployment]] = {}
    for name, model in groups:
        made.setdefault(name, []).append(build_deployment(name, {"model": model, **params}, None, {}))
    return Patterns(made.items())


def behind(found: Patterns, model: str) -> list[str]:
    return [f"{one.provider.name}/{one.upstream_model}" for one in found.behind(model)]


@pytest.mark.parametrize(
    ("name", "model", "asked", "expected"),
    [
        ("openai/*", "openai/*", "openai/gpt-9", ["openai/gpt-9"]),
        ("openai/*", "openai/*", "openai/ft:gpt/x", ["openai/ft:gpt/x"]),
        ("*", "openai/*", "gpt-9", ["openai/gpt-9"]),
        ("team-a/*", "groq/llama-*", "team-a/70b", ["groq/llama-70b"]),
        ("gpt-*-fast", "openai/gpt-*", "gpt-9-fast", ["openai/gpt-9"]),
        ("any/*", "openai/gpt-4o", "any/thing", ["openai/gpt-4o"]),
        ("openai/*", "openai/*", "openai/", []),
        ("openai/*", "openai/*", "groq/llama", []),
        ("openai/*", "openai/*", "xopenai/gpt", []),
        ("a.b/*", "openai/*", "axb/gpt", []),
    ],
)
def test_the_star_stands_for_the_rest(name: str, model: str, asked: str, expected: list[str]) -> None:
    assert behind(patterns((name, model)), asked) == expected


def test_the_longest_pattern_that_fits_wins() -> None:
    found = patterns(("*", "openai/*"), ("openai/gpt-*", "openai/narrow-*"), ("openai/*", "openai/wide-*"))
    assert behind(found, "openai/gpt-9") == ["openai/narrow-9"]
    assert behind(found, "openai/o9") == ["openai/wide-o9"]
    assert behind(found, "o9") == ["openai/o9"]


def test_a_group_of_several_stays_one() -> None:
    assert behind(patterns(("x/*", "openai/*"), ("x/*", "groq/*")), "x/m") == ["openai/m", "groq/m"]


def test_without_a_star_nothing_is_a_pattern() -> None:
    assert patterns(("chat", "openai/gpt-4o")).behind("chat") == ()


def test_a_model_behind_a_star_costs_what_it_costs_by_its_own_name() -> None:
    (cheap,), (dear,) = (
        patterns(("openai/*", "openai/*")).behind(f"openai/{name}") for name in ("gpt-4o-mini", "gpt-4o")
    )
    assert cheap.input_cost_per_token == Decimal("0.15e-6")
    assert dear.input_cost_per_token == Decimal("2.5e-6")
    (unknown,) = patterns(("openai/*", "openai/*")).behind("openai/no-such-model-9000")
    assert unknown.prices is None


def test_prices_of_the_deployment_itself_stay() -> None:
    priced = patterns(("openai/*", "openai/*"), input_cost_per_token=1, output_cost_per_token=2)
    (one,) = priced.behind("openai/gpt-4o")
    assert (one.input_cost_per_token, one.output_cost_per_token) == (Decimal(1), Decimal(2))


@pytest.mark.parametrize(
    ("asked", "path"),
    [
        ("azure/gpt-9", "/openai/deployments/gpt-9"),
        ("azure/../../admin?x#y", "/openai/deployments/..%2F..%2Fadmin%3Fx%23y"),
    ],
)
def test_at_azure_the_name_is_one_part_of_the_path_whatever_a_client_writes(asked: str, path: str) -> None:
    found = patterns(("azure/*", "azure/*"), api_base="https://here.example", api_key="k")
    (one,) = found.behind(asked)
    assert one.url("/chat/completions").startswith(f"https://here.example{path}/chat/completions?api-version=")


@given(st.text(max_size=30))
def test_any_name_may_be_asked_for(model: str) -> None:
    found = patterns(("openai/*", "openai/*"), ("*-x", "groq/*"))
    assert found.behind(model) == found.behind(model)


def test_names_that_are_asked_for_do_not_fill_the_memory() -> None:
    found = patterns(("openai/*", "openai/*"))
    for number in range(5000):
        found.behind(f"openai/{number}")
        found.behind(f"nobody/{number}")
    assert len(found._remembered) <= 1000
