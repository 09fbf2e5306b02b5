"""Logging callbacks of a team, as its metadata keep them: names in the clear, variables as one ciphertext each.

The API answers the names of the variables with stars as values. Stars that come back mean "as it was".
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from ..auth.credentials import decrypt, encrypt
from ..services import services
from .body import bad_request
from .team_rows import MASK, SEALED

TYPES = ("success", "failure", "success_and_failure")

_MOST_CALLBACKS = 20
_MOST_VARIABLES = 50
_PURPOSE = "team callbacks"


def sealed_callbacks(sent: Any, stored: Any) -> list[dict[str, Any]]:
    """A list of callbacks as it may be stored. Raises 400 for what is none."""
    if not isinstance(sent, list) or len(sent) > _MOST_CALLBACKS:
        raise bad_request(f"metadata.logging must be a list of at most {_MOST_CALLBACKS} callbacks", "metadata")
    known = [entry for entry in stored if isinstance(entry, dict)] if isinstance(stored, list) else []
    return [_sealed_entry(entry, known) for entry in sent]


def _sealed_entry(entry: Any, known: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    name = entry.get("callback_name") if isinstance(entry, dict) else None
    if not isinstance(name, str) or not 0 < len(name) <= 255:
        raise bad_request("Each callback needs a callback_name", "metadata")
    kind = entry.get("callback_type") or "success_and_failure"
    if kind not in TYPES:
        raise bad_request(f"callback_type must be one of {', '.join(TYPES)}", "callback_type")
    before = next((old for old in known if old.get("callback_name") == name), {})
    return sealed_callback(name, kind, entry.get("callback_vars") or {}, before)


def sealed_callback(name: str, kind: str, variables: Any, before: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """One callback with its variables encrypted; `before` is where stars take their values from. Raises 400."""
    if not isinstance(variables, dict) or len(variables) > _MOST_VARIABLES:
        raise bad_request(f"callback_vars must be an object of at most {_MOST_VARIABLES} texts", "callback_vars")
    old = opened_variables(before or {})
    values = {}
    for variable, value in variables.items():
        if value == MASK and variable in old:
            value = old[variable]
        if not isinstance(value, str) or value.startswith("os.environ/"):
            raise bad_request(f"callback_vars.{variable[:80]} must be text, and no name of a variable", "callback_vars")
        values[variable] = value
    sealed = encrypt(json.dumps(values), services().settings.salt_key, purpose=_PURPOSE) if values else ""
    return {"callback_name": name, "callback_type": kind, "variables": sorted(values), SEALED: sealed}


def opened_variables(entry: Mapping[str, Any]) -> dict[str, str]:
    """The variables of a stored callback; none when they were sealed under another salt key."""
    if not entry.get(SEALED):
        return {}
    try:
        opened: dict[str, str] = json.loads(decrypt(entry[SEALED], services().settings.salt_key, purpose=_PURPOSE))
    except ValueError:
        return {}
    return opened
