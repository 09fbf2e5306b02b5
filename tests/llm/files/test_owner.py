"""The signature of a batch: owner and payer to this instance, nothing to others."""

from __future__ import annotations

import pytest

from app.llm.files.owner import Payer, owner_of_signature, payer_of_signature, signature_of

TAG, SALT = "0" * 24, "salt-key-of-a-test"
PAYER = Payer("a" * 64, "user", "team", "organization", models=("chat", "large"))


def test_a_signature_names_owner_and_payer() -> None:
    signature = signature_of(TAG, PAYER, SALT)
    assert (owner_of_signature(signature), payer_of_signature(signature, SALT)) == (TAG, PAYER)
    assert "aaaa" not in signature


@pytest.mark.parametrize(
    ("payer", "expected"),
    [
        (Payer("a" * 64, "u", models=("m" * 400,)), Payer("a" * 64, "u")),
        (Payer("a" * 64, "u" * 255, "t" * 255), Payer("a" * 64)),
    ],
)
def test_what_makes_a_signature_too_long_is_left_out(payer: Payer, expected: Payer) -> None:
    signature = signature_of(TAG, payer, SALT)
    assert len(signature) <= 512
    assert payer_of_signature(signature, SALT) == expected


def test_a_forged_signature_names_no_payer() -> None:
    signature = signature_of(TAG, PAYER, SALT)
    assert payer_of_signature(signature, "another salt") is None
    for wrong in ("", TAG, f"{TAG}.", f"{TAG}.{'A' * 99}", signature[:-1], f"{TAG}.é", "." * 9999):
        assert payer_of_signature(wrong, SALT) is None
