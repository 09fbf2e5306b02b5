"""References to variables: what stands in their place, and which of them a deployment cannot do without."""

from __future__ import annotations

from typing import Any

import pytest

from app.settings.references import decides_target, resolve


def test_references_are_resolved_at_any_depth_and_those_without_a_value_are_noted() -> None:
    document: dict[str, Any] = {"a": [{"b": "os.environ/SET"}, "os.environ/UNSET"], "c": " os.environ/EMPTY", "d": 1}
    unset: dict[str, str] = {}
    resolved = resolve(document, {"SET": "v", "EMPTY": " "}, unset)
    assert resolved == {"a": [{"b": "v"}, None], "c": None, "d": 1}
    assert unset == {"a[1]": "UNSET", "c": "EMPTY"}


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("litellm_params.api_base", True),
        ("litellm_params.extra_headers.x-team", True),
        ("litellm_params.aws_region_name", True),
        ("credential_values.some_token", True),
        ("litellm_params.rpm", False),
        ("litellm_params.organization", False),
        ("model_info.api_base", False),
    ],
)
def test_what_says_where_calls_go_or_as_whom(path: str, expected: bool) -> None:
    assert decides_target(path) is expected
