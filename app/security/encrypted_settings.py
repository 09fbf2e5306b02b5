"""Stored settings that hold secrets: encrypted at rest, masked out in every answer. Pure functions over plain JSON.

What is a secret is told by its name, for the two directions alike. Numbers and flags are none, whatever their name; an
address with a password in it is one.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import structlog

from .credentials import decrypt, encrypt

log = structlog.get_logger(__name__)

# What an answer shows for a secret. Sent back as a value it means: leave the secret as it is.
MASK = "****"

_PREFIX = "encrypted:"
_SECRET_WORDS = (
    "password",
    "secret",
    "api_key",
    "apikey",
    "access_key",
    "private_key",
    "credential",
    "authorization",
    "_token",
    "headers",
    "webhook",
    "database_url",
    "redis_url",
    "startup_nodes",
)
# Limits, times, names and kinds that sound like one.
_NO_SECRETS = ("_per_token", "_token_cost", "_tokens", "_ttl", "_limit", "_max_size", "_tag_headers")


def is_secret(name: str, value: Any) -> bool:
    """Whether a setting of this name and value has to be kept secret."""
    if value is None or isinstance(value, bool | int | float) or not value:
        return False
    if isinstance(value, str) and _has_password(value):
        return True
    lower = name.lower()
    return any(word in lower for word in _SECRET_WORDS) and not any(word in lower for word in _NO_SECRETS)


def _has_password(address: str) -> bool:
    """Whether an address names somebody who signs in, as `redis://user:word@host`."""
    authority = address.partition("://")[2].partition("/")[0]
    return ":" in authority.rpartition("@")[0]


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
    return _PREFIX + encrypt(json.dumps(value), salt_key)


def is_encrypted(value: Any) -> bool:
    return isinstance(value, str) and value.startswith(_PREFIX)


def decrypted(value: Any, salt_key: str) -> Any:
    """The same JSON with its secrets in the clear. One of another salt key stays as it is, and is logged."""
    if isinstance(value, Mapping):
        return {name: decrypted(item, salt_key) for name, item in value.items()}
    if isinstance(value, list):
        return [decrypted(item, salt_key) for item in value]
    if not is_encrypted(value):
        return value
    try:
        return json.loads(decrypt(value.removeprefix(_PREFIX), salt_key))
    except ValueError as problem:
        log.error("a stored setting cannot be read", reason=str(problem))
        return value


def shown(value: Any, *, is_whole: bool = False) -> Any:
    """The same JSON with its secrets masked out, for answers and the audit log."""
    if isinstance(value, Mapping):
        return {
            name: MASK if is_encrypted(item) or is_whole or is_secret(name, item) else shown(item)
            for name, item in value.items()
        }
    return [shown(item) for item in value] if isinstance(value, list) else value


def with_kept_secrets(sent: Any, stored: Any) -> Any:
    """What was sent, with each star of an earlier answer replaced by the secret that it stands for.

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
    return {name: with_kept_secrets(item, was.get(name)) for name, item in sent.items()}


def has_mask(value: Any) -> bool:
    """Whether a star of an earlier answer stands anywhere in this JSON."""
    if isinstance(value, Mapping):
        return any(has_mask(item) for item in value.values())
    return any(has_mask(item) for item in value) if isinstance(value, list) else bool(value == MASK)


def _is_address(name: str) -> bool:
    return any(word in name.lower() for word in ("host", "url", "port", "target", "base", "endpoint", "nodes"))
