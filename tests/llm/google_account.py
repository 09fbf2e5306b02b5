"""A service account of Google that exists nowhere, with a key that can sign."""

from __future__ import annotations

from functools import cache

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa


@cache
def _private_key() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


def public_key() -> rsa.RSAPublicKey:
    """What a signature of the account is checked with."""
    return _private_key().public_key()


def service_account(token_uri: str) -> dict[str, str]:
    """The facts of the account's file."""
    pem = _private_key().private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return {
        "type": "service_account",
        "project_id": "project-one",
        "private_key_id": "key-1",
        "private_key": pem.decode(),
        "client_email": "gateway@project-one.example",
        "token_uri": token_uri,
    }
