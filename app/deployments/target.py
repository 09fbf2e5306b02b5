"""Where a deployment's calls go, and with which key."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from ..protocols.providers import Provider
from ..security.masking import masked

# An empty value of one of these would send calls elsewhere, or without a credential, and say nothing.
_NEVER_EMPTY = ("api_base", "base_url", "api_key")


def target_of(provider: Provider, params: Mapping[str, Any], environment: Mapping[str, str]) -> tuple[str, str | None]:
    """The address of calls and their key. A key of the environment is sent to the environment's address only.

    Raises ValueError for an address that is none, for none at all, and for an empty address or key.
    """
    for name in _NEVER_EMPTY:
        if isinstance(params.get(name), str) and not params[name].strip():
            raise ValueError(f"litellm_params.{name} is empty; write a value, or take the line out")
    own_base = params.get("api_base") or params.get("base_url")
    variable = environment.get(provider.base_variable, "").strip() if provider.base_variable else ""
    # White space around comes with values that were copied, or read from a file; no header may contain it.
    base = str(own_base or variable or provider.base or "").strip()
    if not base and params.get("mock_response") is not None:
        base = "http://mock.invalid"
    if not base:
        raise ValueError(f"litellm_params.api_base is missing; {provider.name} has no address of its own")
    check_address(base)
    api_key = params.get("api_key")
    if api_key is None and not own_base and provider.key_variable:
        api_key = environment.get(provider.key_variable)
    return provider.with_path(base), str(api_key).strip() or None if api_key else None


def check_address(base: Any) -> None:
    """Raises ValueError for an `api_base` that is no address, or that holds a credential."""
    try:
        parts = urlsplit(str(base).strip())
        # An invalid port or a label that is too long would fail each call with an error that is not a provider's.
        _, labels = parts.port, (parts.hostname or "").rstrip(".").split(".")
    except ValueError:
        raise ValueError(f"litellm_params.api_base {masked(base)!r} is not an address; check its port") from None
    if parts.scheme not in ("http", "https") or not all(0 < len(label) < 64 for label in labels):
        raise ValueError(
            f"litellm_params.api_base {masked(base)!r} is not an address; it starts with http:// or https://"
        )
    if parts.username or parts.password or parts.query or parts.fragment:
        # The address is shown in headers and logs.
        raise ValueError("litellm_params.api_base holds more than an address; put a credential into api_key")
