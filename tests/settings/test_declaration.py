"""Settings say where they are declared what they mean, when a stored value counts, and who may set them."""

from __future__ import annotations

import pytest

from app.settings import declared_settings
from app.settings.declaration import setting, text


def test_a_setting_is_stored_for_the_next_start_unless_it_says_otherwise() -> None:
    declared = [setting("x", text), setting("x", text, runtime=True), setting("x", text, operator_only=True)]
    assert [(item.metadata["runtime"], item.metadata["operator_only"]) for item in declared] == [
        (False, False),
        (True, False),
        (False, True),
    ]


def test_a_setting_of_the_operator_never_changes_while_an_instance_runs() -> None:
    with pytest.raises(ValueError, match="operator"):
        setting("x", text, runtime=True, operator_only=True)


def test_secrets_stay_out_of_the_representation() -> None:
    assert not setting("x", text, is_secret=True).repr
    assert {item.name for item in declared_settings() if item.metadata["is_secret"] and item.repr} == set()
