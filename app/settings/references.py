"""References of the configuration file to the environment: `os.environ/NAME`, anywhere and at any depth."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from ..security.masking import is_provider_secret, is_secret, secret_texts, texts_in

_REFERENCE = "os.environ/"
_REFERENCE_IN_TEXT = re.compile(r"os\.environ/([A-Za-z_][A-Za-z0-9_]*)")
# Below `litellm_params` or `credential_values`: what says where a call goes and as whom.
_TARGET_SECTIONS = ("litellm_params", "credential_values")
_TARGET_KEYS = frozenset(
    "model custom_llm_provider api_base base_url api_key extra_headers headers tenant_id client_id".split()
)
_TARGET_PREFIXES = ("aws_", "vertex_", "azure_")


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
    return name in _TARGET_KEYS or name.startswith(_TARGET_PREFIXES) or is_provider_secret(name)


def secret_values_of(
    document: dict[str, Any], environment: Mapping[str, str], sections: Iterable[str]
) -> Iterator[str]:
    """What no message may repeat: values of variables that the file names, and those under the names of secrets."""
    resolved = resolve(document, environment, {})
    yield from _referenced(document, environment)
    yield from texts_in(resolved.get("environment_variables"))
    yield from secret_texts({section: resolved.get(section) for section in sections})
    for list_name, key in (("model_list", "litellm_params"), ("credential_list", "credential_values")):
        rows = resolved.get(list_name)
        for row in rows if isinstance(rows, list) else ():
            params = row.get(key) if isinstance(row, dict) else None
            yield from secret_texts(params, lambda name, value: is_provider_secret(name) or is_secret("", value))


def _referenced(value: Any, environment: Mapping[str, str]) -> Iterator[str]:
    """The values of all `os.environ/NAME` in a file, inside longer texts too."""
    for text in texts_in(value):
        for name in _REFERENCE_IN_TEXT.findall(text) if _REFERENCE in text else ():
            yield environment.get(name) or ""
