"""Wildcard model names: which matches, which model is called, and what it costs."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.deployments.deployment import Deployment, build_deployment
from app.deployments.wildcards import WildcardGroups


def wildcard_groups(*groups: tuple[str, str], **params: Any) -> WildcardGroups:
    """Groups of one deployment each: name, model."""
    members: dict[str, list[Deployment]] = {}
    for name, model in groups:
        members.setdefault(name, []).append(build_deployment(name, {"model": model, **params}, None, {}))
    return WildcardGroups(members.items())


def matching(groups: WildcardGroups, model: str) -> list[str]:
    return [f"{deployment.provider.name}/{deployment.upstream_model}" for deployment in groups.matching(model)]


@pytest.mark.parametrize(
    ("name", "model", "model_name", "expected"),
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
def test_the_wildcard_stands_for_the_rest_of_the_name(
    name: str, model: str, model_name: str, expected: list[str]
) -> None:
    assert matching(wildcard_groups((name, model)), model_name) == expected


def test_the_longest_pattern_that_matches_wins() -> None:
    groups = wildcard_groups(("*", "openai/*"), ("openai/gpt-*", "openai/narrow-*"), ("openai/*", "openai/wide-*"))
    assert matching(groups, "openai/gpt-9") == ["openai/narrow-9"]
    assert matching(groups, "openai/o9") == ["openai/wide-o9"]
    assert matching(groups, "o9") == ["openai/o9"]


def test_a_group_of_several_deployments_stays_a_group() -> None:
    assert matching(wildcard_groups(("x/*", "openai/*"), ("x/*", "groq/*")), "x/m") == ["openai/m", "groq/m"]


def test_a_name_without_a_wildcard_is_no_pattern() -> None:
    assert wildcard_groups(("chat", "openai/gpt-4o")).matching("chat") == ()


def test_a_model_behind_a_wildcard_has_its_own_price() -> None:
    (cheap,), (dear,) = (
        wildcard_groups(("openai/*", "openai/*")).matching(f"openai/{name}") for name in ("gpt-4o-mini", "gpt-4o")
    )
    assert cheap.input_cost_per_token == Decimal("0.15e-6")
    assert dear.input_cost_per_token == Decimal("2.5e-6")
    (unknown,) = wildcard_groups(("openai/*", "openai/*")).matching("openai/no-such-model-9000")
    assert unknown.prices is None


def test_prices_of_the_deployment_itself_stay() -> None:
    priced = wildcard_groups(("openai/*", "openai/*"), input_cost_per_token=1, output_cost_per_token=2)
    (deployment,) = priced.matching("openai/gpt-4o")
    assert (deployment.input_cost_per_token, deployment.output_cost_per_token) == (Decimal(1), Decimal(2))


@pytest.mark.parametrize(
    ("model_name", "path"),
    [
        ("azure/gpt-9", "/openai/deployments/gpt-9"),
        ("azure/../../admin?x#y", "/openai/deployments/..%2F..%2Fadmin%3Fx%23y"),
    ],
)
def test_at_azure_the_name_is_one_part_of_the_path_whatever_a_client_writes(model_name: str, path: str) -> None:
    groups = wildcard_groups(("azure/*", "azure/*"), api_base="https://here.example", api_key="k")
    (deployment,) = groups.matching(model_name)
    assert deployment.url("/chat/completions").startswith(f"https://here.example{path}/chat/completions?api-version=")


def test_the_known_models_behind_a_wildcard_have_the_names_that_clients_ask_for() -> None:
    groups = wildcard_groups(
        ("mine/*", "openai/gpt-4o*"), ("any/*", "openai/gpt-4o"), ("vllm/*", "vllm/*"), api_base="http://a"
    )
    known = groups.known_models("mine/*")
    assert {"mine/", "mine/-mini"} & set(known) == {"mine/-mini"}
    assert all(matching(groups, name) for name in known)
    assert groups.known_models("any/*") == groups.known_models("vllm/*") == groups.known_models("nobody") == []


@given(st.text(max_size=30))
def test_any_name_may_be_asked_for(model: str) -> None:
    groups = wildcard_groups(("openai/*", "openai/*"), ("*-x", "groq/*"))
    assert groups.matching(model) == groups.matching(model)


def test_the_cache_of_matches_is_bounded() -> None:
    groups = wildcard_groups(("openai/*", "openai/*"))
    for number in range(5000):
        groups.matching(f"openai/{number}")
        groups.matching(f"nobody/{number}")
    assert len(groups._matches) <= 1000
