"""Probes: which deployments are asked at all; tests/llm/health/test_background_checks.py shows what they are asked."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from app.llm.health.probe import can_be_probed
from tests.llm.ended_calls import target


@pytest.mark.parametrize(
    ("model", "info", "expected"),
    [
        ("openai/gpt-4o", {}, True),
        ("openai/gpt-4o", {"mode": "embedding"}, True),
        ("openai/gpt-4o", {"mode": "image_generation"}, False),
        ("openai/gpt-4o", {"disable_background_health_check": True}, False),
        ("openai/*", {}, False),
        ("openai/*", {"health_check_model": "openai/gpt-4o"}, True),
    ],
)
def test_only_what_is_cheap_and_known_is_asked(model: str, info: dict[str, Any], expected: bool) -> None:
    assert can_be_probed(replace(target("chat", model), model_info=info)) is expected


def test_a_blocked_deployment_is_left_alone() -> None:
    assert not can_be_probed(replace(target("chat"), is_blocked=True))
