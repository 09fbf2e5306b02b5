"""Logging callbacks of keys and teams, as their metadata holds them under `logging`.

Names stand in the clear, the variables (they are credentials) as one ciphertext each. Answers show the names of the
variables with masks as values. Pure functions over plain JSON.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from .credentials import decrypt, encrypt
from .masking import MASK

CALLBACKS = "logging"
# An older form of the field: one list of names per event, one set of variables.
OLD_CALLBACKS = "callback_settings"
ENCRYPTED = "sealed_credentials"
TYPES = ("success", "failure", "success_and_failure")

_PURPOSE = "team callbacks"
_MAX_ENTRIES = 40


def encrypted_entry(name: str, kind: str, values: Mapping[str, str], salt_key: str) -> dict[str, Any]:
    """One callback as it may be stored."""
    encrypted = encrypt(json.dumps(dict(values)), salt_key, purpose=_PURPOSE) if values else ""
    return {"callback_name": name, "callback_type": kind, "variables": sorted(values), ENCRYPTED: encrypted}


def decrypted_variables(entry: Mapping[str, Any], salt_key: str) -> dict[str, str]:
    """The variables of a stored callback; none when they were encrypted under another salt key.

    Rows from before they were encrypted have them in the clear.
    """
    if not entry.get(ENCRYPTED):
        plain = entry.get("callback_vars")
        pairs = plain.items() if isinstance(plain, Mapping) else ()
        return {str(name): value for name, value in pairs if isinstance(value, str) and value != MASK}
    try:
        opened: dict[str, str] = json.loads(decrypt(str(entry[ENCRYPTED]), salt_key, purpose=_PURPOSE))
    except ValueError:
        return {}
    return opened


def stored_entries(*metadata: Mapping[str, Any] | None) -> tuple[Mapping[str, Any], ...]:
    """The callbacks of several holders, one after the other."""
    callbacks: list[Mapping[str, Any]] = []
    for holder in metadata:
        entries = holder.get(CALLBACKS) if holder else None
        if isinstance(entries, list):
            callbacks.extend(entry for entry in entries if isinstance(entry, Mapping) and "callback_name" in entry)
    return tuple(callbacks[:_MAX_ENTRIES])


def masked_metadata(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """Metadata without credentials of callbacks, encrypted or not: each value is masked."""
    masked = dict(metadata)
    if isinstance(masked.get(CALLBACKS), list):
        masked[CALLBACKS] = [_masked_entry(entry) for entry in masked[CALLBACKS]]
    old = masked.get(OLD_CALLBACKS)
    if isinstance(old, Mapping) and "callback_vars" in old:
        masked[OLD_CALLBACKS] = {**old, "callback_vars": _masked_variables(old["callback_vars"])}
    return masked


def _masked_entry(entry: Any) -> Any:
    if not isinstance(entry, Mapping):
        return entry
    others = {name: value for name, value in entry.items() if name not in (ENCRYPTED, "variables", "callback_vars")}
    names = entry["variables"] if isinstance(entry.get("variables"), list) else entry.get("callback_vars", [])
    return {**others, "callback_vars": _masked_variables(names)}


def _masked_variables(names: Any) -> Any:
    return dict.fromkeys(names, MASK) if isinstance(names, list | tuple | Mapping) else MASK


def entries_of_old_form(old: Any) -> list[dict[str, Any]]:
    """`{success_callback: […], failure_callback: […], callback_vars: {…}}` as a list of callbacks.

    Raises ValueError for what is no such mapping.
    """
    lists = [old.get(f"{kind}_callback") or [] for kind in ("success", "failure")] if isinstance(old, Mapping) else []
    if not lists or not all(
        isinstance(names, list) and all(isinstance(name, str) for name in names) for names in lists
    ):
        raise ValueError("is not a mapping with success_callback, failure_callback and callback_vars")
    success, failure = lists
    return [
        {
            "callback_name": name,
            "callback_type": TYPES[2] if name in success and name in failure else TYPES[int(name in failure)],
            "callback_vars": old.get("callback_vars") or {},
        }
        for name in dict.fromkeys([*success, *failure])
    ]
