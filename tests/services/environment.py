"""The developer's environment, without what would change how Quarterdeck behaves under test."""

from __future__ import annotations

import os

_NAMES = {
    "CONFIG_FILE_PATH",
    "DATABASE_URL",
    "HOST",
    "PORT",
    "PROXY_BASE_URL",
    "UI_PASSWORD",
    "UI_USERNAME",
}
_PREFIXES = ("AWS_", "AZURE_", "DISABLE_", "GOOGLE_", "LITELLM_", "OPENAI_", "PG", "QUARTERDECK_", "REDIS_", "VERTEX")
_SUFFIXES = ("_API_KEY", "_API_BASE", "_proxy", "_PROXY")


def clear_environment() -> None:
    """Remove provider keys, settings of an instance, and proxies from this process and those that it starts."""
    for name in list(os.environ):
        if name in _NAMES or name.startswith(_PREFIXES) or name.endswith(_SUFFIXES):
            del os.environ[name]
