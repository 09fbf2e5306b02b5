"""Logging callbacks that a key or a team brings along, checked and encrypted before they are stored.

The API answers the names of their variables with stars as values. Stars that come back mean "as it was". They may send
to hosts that the operator named and to no others: a caller must not choose what this instance connects to.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ...security.callback_credentials import (
    CALLBACKS,
    OLD_CALLBACKS,
    TYPES,
    decrypted_variables,
    encrypted_entry,
    entries_of_old_form,
)
from ...security.masking import MASK
from ...services import services
from ...settings.callbacks import header_lines, refused_address
from ...web.fields import bad_request

_MAX_CALLBACKS = 20
_MAX_VARIABLES = 50


def with_encrypted_callbacks(metadata: Mapping[str, Any], stored: Mapping[str, Any]) -> dict[str, Any]:
    """Metadata that were sent, with their callbacks as they may be stored. Raises 400.

    The older form `callback_settings` becomes the newer one.
    """
    encrypted = dict(metadata)
    entries = encrypted.get(CALLBACKS)
    old = encrypted.pop(OLD_CALLBACKS, None)
    if old:
        try:
            entries = [*(entries or []), *entries_of_old_form(old)]
        except (ValueError, TypeError) as problem:
            raise bad_request(f"metadata.{OLD_CALLBACKS} {problem}", "metadata") from None
    if entries is not None:
        encrypted[CALLBACKS] = _encrypted_list(entries, _known(stored))
    return encrypted


def _known(stored: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The callbacks that are stored, in whichever form."""
    entries = stored.get(CALLBACKS)
    try:
        old = entries_of_old_form(stored[OLD_CALLBACKS]) if stored.get(OLD_CALLBACKS) else []
    except ValueError:
        old = []
    return [entry for entry in [*(entries if isinstance(entries, list) else []), *old] if isinstance(entry, Mapping)]


def _encrypted_list(sent: Any, known: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    if not isinstance(sent, list) or len(sent) > _MAX_CALLBACKS:
        raise bad_request(f"metadata.logging must be a list of at most {_MAX_CALLBACKS} callbacks", "metadata")
    return [_encrypted(entry, known) for entry in sent]


def _encrypted(entry: Any, known: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    name = entry.get("callback_name") if isinstance(entry, dict) else None
    if not isinstance(name, str) or not 0 < len(name) <= 255:
        raise bad_request("Each callback needs a callback_name", "metadata")
    kind = entry.get("callback_type") or "success_and_failure"
    if kind not in TYPES:
        raise bad_request(f"callback_type must be one of {', '.join(TYPES)}", "callback_type")
    before = next((old for old in known if old.get("callback_name") == name), {})
    return encrypted_callback(name, kind, entry.get("callback_vars") or {}, before)


def encrypted_callback(name: str, kind: str, variables: Any, before: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """One callback with its variables encrypted; `before` is where stars take their values from. Raises 400."""
    settings = services().settings
    old = decrypted_variables(before or {}, settings.salt_key)
    if variables == MASK:
        variables = old
    if not isinstance(variables, dict) or len(variables) > _MAX_VARIABLES:
        raise bad_request(f"callback_vars must be an object of at most {_MAX_VARIABLES} texts", "callback_vars")
    values = {}
    for variable, value in variables.items():
        if value == MASK and variable in old:
            value = old[variable]
        if not isinstance(value, str) or value.startswith("os.environ/"):
            raise bad_request(f"callback_vars.{variable[:80]} must be text, and no name of a variable", "callback_vars")
        values[variable] = value
    try:
        header_lines(values.get("headers", ""))
    except ValueError as problem:
        raise bad_request(f"callback_vars.headers {problem}", "callback_vars") from None
    _refuse_other_hosts(values, old)
    return encrypted_entry(name, kind, values, settings.salt_key)


def _refuse_other_hosts(values: Mapping[str, str], old: Mapping[str, str]) -> None:
    """Raises 400 for an address that is not the operator's choice. One that was stored before that rule may stay."""
    sent = {name: value for name, value in values.items() if old.get(name) != value}
    variable = refused_address(sent, services().settings.callback_origins)
    if variable is not None:
        raise bad_request(
            f"callback_vars.{variable[:80]}: this host is none of those that the operator allows "
            "(LANGFUSE_HOST, QUARTERDECK_CALLBACK_HOSTS)",
            "callback_vars",
        )
