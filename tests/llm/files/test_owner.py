"""What a batch's metadata says: to this instance whose it is and who pays, to others nothing."""

from __future__ import annotations

import pytest

from app.llm.files.owner import Payer, owner_in, payer_in, signature_of

TAG, SALT = "0" * 24, "salt-key-of-a-test"
PAYER = Payer("a" * 64, "user", "team", "organization", models=("chat", "large"))


def test_a_stamp_says_whose_it_is_and_who_pays() -> None:
    signature = signature_of(TAG, PAYER, SALT)
    assert (owner_in(signature), payer_in(signature, SALT)) == (TAG, PAYER)
    assert "aaaa" not in signature


@pytest.mark.parametrize(
    ("payer", "kept"),
    [
        (Payer("a" * 64, "u", models=("m" * 400,)), Payer("a" * 64, "u")),
        (Payer("a" * 64, "u" * 255, "t" * 255), Payer("a" * 64)),
    ],
)
def test_what_makes_a_stamp_too_long_is_left_out(payer: Payer, kept: Payer) -> None:
    signature = signature_of(TAG, payer, SALT)
    assert len(signature) <= 512
    assert payer_in(signature, SALT) == kept


def test_a_stamp_of_somebody_else_names_nobody() -> None:
    signature = signature_of(TAG, PAYER, SALT)
    assert payer_in(signature, "another salt") is None
    for wrong in ("", TAG, f"{TAG}.", f"{TAG}.{'A' * 99}", signature[:-1], f"{TAG}.é", "." * 9999):
        assert payer_in(wrong, SALT) is None
