"""Secrets, and what is kept of them."""

from __future__ import annotations

import base64
import hashlib
import re
from datetime import UTC, datetime, timedelta

import jwt
import pytest
from cryptography.hazmat.primitives.kdf.scrypt import Scrypt
from hypothesis import given
from hypothesis import strategies as st

from app.security import credentials

_TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)


def test_a_virtual_key_is_128_random_bits_behind_sk() -> None:
    keys = {credentials.new_virtual_key() for _ in range(100)}
    assert len(keys) == 100
    assert all(re.fullmatch(r"sk-[A-Za-z0-9_-]{22}", key) for key in keys)


def test_a_key_is_kept_as_the_sha_256_of_the_whole_secret() -> None:
    assert credentials.hash_key("sk-abc") == hashlib.sha256(b"sk-abc").hexdigest()
    assert credentials.key_hash_of("sk-abc") == credentials.hash_key("sk-abc")
    assert credentials.key_hash_of(credentials.hash_key("sk-abc")) == credentials.hash_key("sk-abc")


def test_lists_show_the_last_four_characters_of_a_key() -> None:
    assert credentials.key_name("sk-abcdefghijkl") == "sk-...ijkl"


@given(given_secret=_TEXT, expected=_TEXT)
def test_secrets_compare_as_texts_do(given_secret: str, expected: str) -> None:
    assert credentials.same_secret(given_secret, expected) is (given_secret == expected)


# ---- passwords -----------------------------------------------------------------------------------------------------


def test_a_password_is_kept_in_the_format_of_the_contract() -> None:
    """`scrypt:` + base64 of a 16-byte salt and a 32-byte key; N = 16384, r = 8, p = 1."""
    stored = credentials.hash_password("correct horse")
    raw = base64.b64decode(stored.removeprefix("scrypt:"), validate=True)
    assert stored.startswith("scrypt:")
    assert len(raw) == 48
    assert Scrypt(salt=raw[:16], length=32, n=16384, r=8, p=1).derive(b"correct horse") == raw[16:]
    assert stored != credentials.hash_password("correct horse")


def test_a_hash_of_the_field_is_accepted() -> None:
    salt = bytes(range(16))
    key = Scrypt(salt=salt, length=32, n=16384, r=8, p=1).derive("pässwörd".encode())
    stored = "scrypt:" + base64.b64encode(salt + key).decode()
    assert credentials.verify_password("pässwörd", stored)
    assert not credentials.verify_password("passwort", stored)


@pytest.mark.parametrize(
    "stored",
    [None, "", "correct horse", "scrypt:", "scrypt:not base64!", "scrypt:" + base64.b64encode(b"x" * 10).decode()],
)
def test_what_is_no_hash_matches_nothing(stored: str | None) -> None:
    assert not credentials.verify_password("correct horse", stored)
    assert not credentials.verify_password("", stored)


# ---- encryption ----------------------------------------------------------------------------------------------------


@given(text=_TEXT)
def test_what_was_encrypted_can_be_read_with_the_same_salt_key_only(text: str) -> None:
    encrypted = credentials.encrypt(text, "salt")
    assert credentials.decrypt(encrypted, "salt") == text
    with pytest.raises(ValueError, match="LITELLM_SALT_KEY"):
        credentials.decrypt(encrypted, "another salt")


def test_ciphertext_of_one_purpose_is_worth_nothing_for_another() -> None:
    encrypted = credentials.encrypt("secret", "salt", purpose="login codes")
    assert "secret" not in encrypted
    with pytest.raises(ValueError, match="another salt key"):
        credentials.decrypt(encrypted, "salt", purpose="console sessions")


def test_garbage_is_no_ciphertext() -> None:
    with pytest.raises(ValueError, match="another salt key"):
        credentials.decrypt("plain text", "salt")


# ---- sessions and codes --------------------------------------------------------------------------------------------


def test_a_session_token_is_signed_and_ends() -> None:
    expires_at = datetime.now(UTC) + timedelta(hours=1)
    token = credentials.session_token({"user_id": "alice"}, expires_at, "sk-master-key-of-some-length")
    assert jwt.get_unverified_header(token)["alg"] == "HS256"
    claims = jwt.decode(token, options={"verify_signature": False})
    assert claims == {"user_id": "alice", "exp": int(expires_at.timestamp())}


def test_a_captured_token_does_not_confirm_a_guess_of_the_master_key() -> None:
    token = credentials.session_token({}, datetime.now(UTC) + timedelta(hours=1), "sk-1234" * 8)
    with pytest.raises(jwt.InvalidSignatureError):
        jwt.decode(token, "sk-1234" * 8, algorithms=["HS256"])


def test_a_login_code_is_43_characters_that_fit_into_an_address() -> None:
    assert re.fullmatch(r"[A-Za-z0-9_-]{43}", credentials.new_login_code())
    assert credentials.new_login_code() != credentials.new_login_code()


def test_the_challenge_is_that_of_rfc_7636() -> None:
    """Appendix B of the RFC."""
    verifier = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk"
    assert credentials.pkce_challenge(verifier) == "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM"


def test_an_onboarding_token_is_ours_unchanged_and_young() -> None:
    master_key, soon = "sk-master-key-of-some-length", datetime.now(UTC) + timedelta(minutes=5)
    token = credentials.onboarding_token("link", "alice", soon, master_key)
    claims = credentials.read_onboarding_token(token, master_key)
    assert claims is not None and (claims["invitation_link"], claims["user_id"]) == ("link", "alice")
    stale = credentials.onboarding_token("link", "alice", soon - timedelta(minutes=6), master_key)
    session = credentials.session_token({"token_type": "litellm_onboarding"}, soon, master_key)
    for bad in (stale, session, token[:-2], "", "a.b.c"):
        assert credentials.read_onboarding_token(bad, master_key) is None
    assert credentials.read_onboarding_token(token, "sk-another-master-key") is None
    unsigned = jwt.encode({"token_type": "litellm_onboarding", "exp": soon}, "", algorithm="none")
    assert credentials.read_onboarding_token(unsigned, master_key) is None


def test_an_invitation_id_is_256_random_bits() -> None:
    assert len(credentials.new_invitation_id()) == 43
    assert credentials.new_invitation_id() != credentials.new_invitation_id()
