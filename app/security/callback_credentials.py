"""Logging callbacks of keys and teams, as their metadata keep them under `logging`.

Names stand in the clear, the variables (they are credentials) as one ciphertext each. Answers show the names of the
variables with stars as values. Pure functions over plain JSON.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from typing import Any

from ..settings.callbacks import origin
from .credentials import decrypt, encrypt
from .masking import MASK

CALLBACKS = "logging"
# An older form of the field: one list of names per event, one set of variables.
OLD_CALLBACKS = "callback_settings"
ENCRYPTED = "sealed_credentials"
TYPES = ("success", "failure", "success_and_failure")

_PURPOSE = "team callbacks"
_WORDS_OF_ADDRESSES = ("host", "url", "endpoint", "base", "address")
_MAX_ENTRIES = 40


def encrypted_entry(name: str, kind: str, values: Mapping[str, str], salt_key: str) -> dict[str, Any]:
    """One callback as it may be stored."""
    encrypted = encrypt(json.dumps(dict(values)), salt_key, purpose=_PURPOSE) if values else ""
    return {"callback_name": name, "callback_type": kind, "variables": sorted(values), ENCRYPTED: encrypted}


def opened_variables(entry: Mapping[str, Any], salt_key: str) -> dict[str, str]:
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
    found: list[Mapping[str, Any]] = []
    for holder in metadata:
        entries = holder.get(CALLBACKS) if holder else None
        if isinstance(entries, list):
            found.extend(one for one in entries if isinstance(one, Mapping) and "callback_name" in one)
    return tuple(found[:_MAX_ENTRIES])


def shown_metadata(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """Metadata without credentials of callbacks, encrypted or not: stars stand where values were."""
    shown = dict(metadata)
    if isinstance(shown.get(CALLBACKS), list):
        shown[CALLBACKS] = [_shown_entry(entry) for entry in shown[CALLBACKS]]
    old = shown.get(OLD_CALLBACKS)
    if isinstance(old, Mapping) and "callback_vars" in old:
        shown[OLD_CALLBACKS] = {**old, "callback_vars": _masked(old["callback_vars"])}
    return shown


def _shown_entry(entry: Any) -> Any:
    if not isinstance(entry, Mapping):
        return entry
    kept = {name: value for name, value in entry.items() if name not in (ENCRYPTED, "variables", "callback_vars")}
    names = entry["variables"] if isinstance(entry.get("variables"), list) else entry.get("callback_vars", [])
    return {**kept, "callback_vars": _masked(names)}


def _masked(names: Any) -> Any:
    return dict.fromkeys(names, MASK) if isinstance(names, list | tuple | Mapping) else MASK


def entries_of_old_form(old: Any) -> list[dict[str, Any]]:
    """`{success_callback: […], failure_callback: […], callback_vars: {…}}` as a list of callbacks.

    Raises ValueError for what is no such mapping.
    """
    lists = [old.get(f"{kind}_callback") or [] for kind in ("success", "failure")] if isinstance(old, Mapping) else []
    if not lists or not all(isinstance(one, list) and all(isinstance(name, str) for name in one) for one in lists):
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


def refused_address(values: Mapping[str, str], allowed: Collection[str]) -> str | None:
    """The first variable that points to a host which the operator did not name; None when there is none."""
    for name, value in values.items():
        is_address = "://" in value or any(word in name.lower() for word in _WORDS_OF_ADDRESSES)
        if is_address and value and not is_allowed(value, allowed):
            return name
    return None


def is_allowed(address: str, allowed: Collection[str]) -> bool:
    try:
        return origin(address) in allowed
    except ValueError:
        return False
