"""Secrets and what is stored of them. Pure functions: no I/O, no settings.

Virtual keys are stored as SHA-256 (they are 128 random bits, so a slow hash would buy nothing and cost every call);
passwords as scrypt; provider credentials and sessions as ciphertext (Fernet) under a key derived from the salt key.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
import secrets
from datetime import datetime
from functools import lru_cache
from typing import Any

import jwt
from cryptography.fernet import Fernet, InvalidToken
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

KEY_PREFIX = "sk-"
_HASH = re.compile(r"^[0-9a-f]{64}$")
_SCRYPT_PREFIX = "scrypt:"
_ONBOARDING = "litellm_onboarding"
_SALT_BYTES, _DERIVED_BYTES = 16, 32
_SCRYPT_COST = {"n": 16384, "r": 8, "p": 1}


def new_virtual_key() -> str:
    """A fresh secret: `sk-` and 22 URL-safe characters (128 bits)."""
    return KEY_PREFIX + secrets.token_urlsafe(16)


def hash_key(key: str) -> str:
    """What the database stores of a key: the SHA-256 of the whole secret, in hex."""
    return hashlib.sha256(key.encode()).hexdigest()


def key_hash_of(key_or_hash: str) -> str:
    """The management API names a key by its secret or by its hash."""
    return key_or_hash if _HASH.match(key_or_hash) else hash_key(key_or_hash)


def key_name(key: str) -> str:
    """What a list shows of a key: `sk-...` and its last four characters."""
    return f"{KEY_PREFIX}...{key[-4:]}"


def same_secret(given: str, expected: str) -> bool:
    """Compare in constant time, whatever the lengths."""
    return hmac.compare_digest(given.encode(), expected.encode())


# ---- passwords -----------------------------------------------------------------------------------------------------


def hash_password(password: str) -> str:
    """`scrypt:` + base64(salt, key). About 50 ms of CPU: call it from a thread."""
    salt = secrets.token_bytes(_SALT_BYTES)
    return _SCRYPT_PREFIX + base64.b64encode(salt + _scrypt(password, salt)).decode()


def verify_password(password: str, stored: str | None) -> bool:
    """True only for a stored scrypt hash of this password. Takes as long for a user without one."""
    if stored is None or not stored.startswith(_SCRYPT_PREFIX):
        _scrypt(password, b"no such user has")
        return False
    try:
        raw = base64.b64decode(stored.removeprefix(_SCRYPT_PREFIX), validate=True)
    except ValueError:
        return False
    return hmac.compare_digest(_scrypt(password, raw[:_SALT_BYTES]), raw[_SALT_BYTES:])


def _scrypt(password: str, salt: bytes) -> bytes:
    return hashlib.scrypt(password.encode(), salt=salt, dklen=_DERIVED_BYTES, maxmem=64 * 1024 * 1024, **_SCRYPT_COST)


# ---- encryption at rest --------------------------------------------------------------------------------------------


@lru_cache(maxsize=16)
def _fernet(salt_key: str, purpose: str) -> Fernet:
    derived = HKDF(algorithm=SHA256(), length=32, salt=b"quarterdeck", info=purpose.encode()).derive(salt_key.encode())
    return Fernet(base64.urlsafe_b64encode(derived))


def encrypt(text: str, salt_key: str, *, purpose: str = "credentials") -> str:
    return _fernet(salt_key, purpose).encrypt(text.encode()).decode()


def decrypt(ciphertext: str, salt_key: str, *, purpose: str = "credentials") -> str:
    """Raises ValueError when the salt key is not the one that encrypted it."""
    try:
        return _fernet(salt_key, purpose).decrypt(ciphertext.encode()).decode()
    except InvalidToken:
        raise ValueError("was encrypted with another salt key; set LITELLM_SALT_KEY to the one used then") from None


# ---- sessions and login codes --------------------------------------------------------------------------------------


def session_token(claims: dict[str, Any], expires_at: datetime, master_key: str) -> str:
    """The session JWT of the contract (HS256). Clients read its claims; no route of ours accepts it as a credential."""
    return jwt.encode({**claims, "exp": int(expires_at.timestamp())}, _session_secret(master_key), algorithm="HS256")


def onboarding_token(invitation_link: str, user_id: str, expires_at: datetime, master_key: str) -> str:
    """A JWT (HS256) that lets its holder claim one invitation, and nothing else."""
    claims = {"token_type": _ONBOARDING, "invitation_link": invitation_link, "user_id": user_id}
    secret = hmac.digest(master_key.encode(), b"quarterdeck onboarding token", "sha256")
    return jwt.encode({**claims, "exp": int(expires_at.timestamp())}, secret, algorithm="HS256")


def read_onboarding_token(token: str, master_key: str) -> dict[str, Any] | None:
    """The claims `invitation_link` and `user_id`; None for a token that is not ours, was changed, or is too old."""
    secret = hmac.digest(master_key.encode(), b"quarterdeck onboarding token", "sha256")
    try:
        claims: dict[str, Any] = jwt.decode(token, secret, algorithms=["HS256"], options={"require": ["exp"]})
    except jwt.PyJWTError:
        return None
    return claims if claims.get("token_type") == _ONBOARDING else None


def _session_secret(master_key: str) -> bytes:
    # Not the master key itself: a captured token must not let anyone test guesses of it directly.
    return hmac.digest(master_key.encode(), b"quarterdeck session token", "sha256")


def new_invitation_id() -> str:
    """43 URL-safe characters (256 random bits): who knows it sets the user's first password."""
    return secrets.token_urlsafe(32)


def new_login_code() -> str:
    """43 URL-safe characters, good for one exchange."""
    return secrets.token_urlsafe(32)


def pkce_challenge(verifier: str) -> str:
    """RFC 7636 S256: what the page that starts a sign-in sends, so that only it can finish."""
    return base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).decode().rstrip("=")
