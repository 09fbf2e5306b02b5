"""References of the configuration file to the environment: `os.environ/NAME`, anywhere and at any depth."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_REFERENCE = "os.environ/"
# Below `litellm_params` or `credential_values`: what says where a call goes and as whom.
_TARGET_SECTIONS = ("litellm_params", "credential_values")
_TARGET_KEYS = frozenset(
    "model custom_llm_provider api_base base_url api_key extra_headers headers tenant_id client_id".split()
)
_TARGET_PREFIXES = ("aws_", "vertex_", "azure_")
_CREDENTIAL_ENDINGS = ("key", "token", "secret", "password", "credentials")


def resolve(value: Any, environ: Mapping[str, str], unset: dict[str, str], path: str = "") -> Any:
    """The value with the variables in place of the references; None for a variable that is not set, or is empty.

    `unset` gets such variables by the path of their reference, as `model_list[0].litellm_params.api_base`.
    """
    if isinstance(value, str) and value.strip().startswith(_REFERENCE):
        name = value.strip().removeprefix(_REFERENCE)
        text = environ.get(name, "")
        if text.strip():
            return text
        unset[path] = name
        return None
    if isinstance(value, dict):
        prefix = f"{path}." if path else ""
        return {key: resolve(item, environ, unset, f"{prefix}{key}") for key, item in value.items()}
    if isinstance(value, list):
        return [resolve(item, environ, unset, f"{path}[{index}]") for index, item in enumerate(value)]
    return value


def decides_target(path: str) -> bool:
    """Whether a value of a deployment or a credential, as `litellm_params.api_base`, says where calls go or as whom.

    Without it a prompt would go to another host, or a call would be made as somebody else.
    """
    section, _, key = path.partition(".")
    name = key.partition(".")[0].partition("[")[0]
    if section not in _TARGET_SECTIONS:
        return False
    return name in _TARGET_KEYS or name.startswith(_TARGET_PREFIXES) or name.endswith(_CREDENTIAL_ENDINGS)
