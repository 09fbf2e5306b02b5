"""Stored settings that hold secrets: encrypted at rest, and never moved elsewhere. Pure functions over plain JSON.

What is a secret, and how it is masked in answers: app/security/masking.py, for both alike.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import structlog

from .credentials import decrypt, encrypt
from .masking import ENCRYPTED_PREFIX, MASK, is_encrypted, is_secret

log = structlog.get_logger(__name__)


def encrypted(value: Any, salt_key: str, *, is_whole: bool = False) -> Any:
    """The same JSON with its secrets encrypted; `is_whole`: every value of the mapping is one."""
    if isinstance(value, Mapping):
        return {
            name: _encrypt(item, salt_key) if is_whole or is_secret(name, item) else encrypted(item, salt_key)
            for name, item in value.items()
        }
    return [encrypted(item, salt_key) for item in value] if isinstance(value, list) else value


def _encrypt(value: Any, salt_key: str) -> str:
    if is_encrypted(value):
        return str(value)  # could not be read; whoever has the right salt key still can
    return ENCRYPTED_PREFIX + encrypt(json.dumps(value), salt_key)


def decrypted(value: Any, salt_key: str) -> Any:
    """The same JSON with its secrets in the clear. One of another salt key stays as it is, and is logged."""
    if isinstance(value, Mapping):
        return {name: decrypted(item, salt_key) for name, item in value.items()}
    if isinstance(value, list):
        return [decrypted(item, salt_key) for item in value]
    if not is_encrypted(value):
        return value
    try:
        return json.loads(decrypt(value.removeprefix(ENCRYPTED_PREFIX), salt_key))
    except ValueError as problem:
        log.error("stored setting not decrypted", reason=str(problem))
        return value


def with_stored_secrets(sent: Any, stored: Any) -> Any:
    """What was sent, with each mask of an earlier answer replaced by the secret that it stands for.

    Raises ValueError where a secret would go elsewhere: beside an address that is another one now, or inside a list,
    where nobody knows which secret is meant.
    """
    if sent == MASK:
        return stored
    if isinstance(sent, list) and has_mask(sent):
        raise ValueError("a secret inside a list has to be sent again")
    if not isinstance(sent, Mapping):
        return sent
    was: Mapping[str, Any] = stored if isinstance(stored, Mapping) else {}
    moved = any(value not in (MASK, was.get(name)) for name, value in sent.items() if _is_address(name))
    if MASK in sent.values() and moved:
        raise ValueError("the address is another one now: send the secrets beside it again")
    return {name: with_stored_secrets(item, was.get(name)) for name, item in sent.items()}


def has_mask(value: Any) -> bool:
    """Whether a mask of an earlier answer stands anywhere in this JSON."""
    if isinstance(value, Mapping):
        return any(has_mask(item) for item in value.values())
    return any(has_mask(item) for item in value) if isinstance(value, list) else bool(value == MASK)


def _is_address(name: str) -> bool:
    return any(word in name.lower() for word in ("host", "url", "port", "target", "base", "endpoint", "nodes"))
