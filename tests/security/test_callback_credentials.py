"""Callbacks as metadata holds them: one ciphertext per callback, and masks in every answer."""

from __future__ import annotations

from typing import Any

import pytest

from app.security.callback_credentials import (
    decrypted_variables,
    encrypted_entry,
    entries_of_old_form,
    masked_metadata,
    stored_entries,
)
from app.settings.callbacks import refused_address

SALT = "salt-of-the-entries"


def test_only_the_right_salt_key_opens_an_entry() -> None:
    entry = encrypted_entry("langfuse", "success", {"secret": "hidden"}, SALT)
    assert "hidden" not in str(entry)
    assert (decrypted_variables(entry, SALT), decrypted_variables(entry, "other")) == ({"secret": "hidden"}, {})
    assert decrypted_variables(encrypted_entry("x", "success", {}, SALT), SALT) == {}


def test_entries_of_several_holders_stand_one_after_the_other() -> None:
    one, two = {"callback_name": "a"}, {"callback_name": "b"}
    assert stored_entries({"logging": [one, "odd", {}]}, None, {"logging": "odd"}, {"logging": [two]}) == (one, two)
    assert len(stored_entries({"logging": [one] * 100})) == 40


def test_stars_stand_where_values_were() -> None:
    encrypted = encrypted_entry("langfuse", "success", {"secret": "hidden"}, SALT)
    plain = {"callback_name": "x", "callback_vars": {"secret": "hidden"}}
    old = {"success_callback": ["x"], "callback_vars": {"secret": "hidden"}}
    masked = masked_metadata({"logging": [encrypted, plain, 1], "callback_settings": old, "a": "b"})
    assert "hidden" not in str(masked)
    assert encrypted["sealed_credentials"] not in str(masked)
    assert [entry["callback_vars"] for entry in masked["logging"][:2]] == [{"secret": "****"}] * 2
    assert (masked["callback_settings"]["success_callback"], masked["a"]) == (["x"], "b")


def test_the_older_form_names_each_callback_once() -> None:
    old = {"success_callback": ["a", "b"], "failure_callback": ["b", "c"], "callback_vars": {"k": "v"}}
    found = [(entry["callback_name"], entry["callback_type"]) for entry in entries_of_old_form(old)]
    assert found == [("a", "success"), ("b", "success_and_failure"), ("c", "failure")]
    cases: list[Any] = [None, [], "x", {"success_callback": "a"}]
    for wrong in cases:
        with pytest.raises(ValueError, match="mapping"):
            entries_of_old_form(wrong)


def test_addresses_are_found_by_name_and_by_look() -> None:
    allowed = {"https://logs.example"}
    fine = {"langfuse_host": "logs.example", "endpoint": "https://logs.example/in", "key": "pk-1", "host": ""}
    assert refused_address(fine, allowed) is None
    for name, value in (
        ("host", "evil.example"),
        ("note", "see https://evil.example"),
        ("url", "//x"),
        ("base", "x:y"),
    ):
        assert refused_address({**fine, name: value}, allowed) == name
