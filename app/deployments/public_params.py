"""What of a deployment may be shown to who may see it: its parameters without anything that could hold a secret."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from ..security.masking import is_provider_secret, is_secret, masked, masked_texts


def public_defaults(defaults: Mapping[str, Any], secret_names: Collection[str]) -> dict[str, Any]:
    """Defaults for the request body, with the values masked that could be secrets; `secret_names`: these whole."""
    return {
        name: masked_texts(value) if name in secret_names else masked({name: value}, is_secret=_is_default_secret)[name]
        for name, value in defaults.items()
    }


def _is_default_secret(name: str, value: Any) -> bool:
    return is_secret(name, value) or (isinstance(value, str) and is_provider_secret(name))


def public_params(params: Mapping[str, Any]) -> dict[str, Any]:
    """Parameters of a deployment without anything that could hold a secret."""
    own = {name: masked(value) for name, value in params.items() if not is_provider_secret(name)}
    # A provider of one's own may want its credential in the body, under any name.
    extra = params.get("extra_body")
    return own if extra is None else {**own, "extra_body": masked_texts(extra)}
