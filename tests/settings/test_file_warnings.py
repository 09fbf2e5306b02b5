"""Keys without effect: the walk over a file whose lists are wrong must not fail on them."""

from __future__ import annotations

from typing import Any

from app.settings.file_warnings import drop_unknown_kinds, warn_of_keys, warn_of_unset


def test_entries_that_cannot_be_read_are_passed_over() -> None:
    document: dict[str, Any] = {
        "model_list": ["chat", {"model_name": 5}, {"model_name": "a", "litellm_params": {"model": "x"}, 5: 1}]
    }
    (warning,) = warn_of_keys("c.yaml", document)
    assert warning.startswith("c.yaml: unknown and without effect: model_list.5")
    assert drop_unknown_kinds("c.yaml", document) == []


def test_variables_that_are_not_set_are_one_warning() -> None:
    assert warn_of_unset("c.yaml", {}) == []
    (warning,) = warn_of_unset("c.yaml", {"a.b": "ONE", "c": "TWO"})
    assert warning.endswith("ONE (a.b), TWO (c)")
