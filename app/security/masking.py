"""What is a secret, and how it is masked: the one table for stored settings, audit rows, deployments and logs.

A secret is told by its name, by a password inside an address or, in a text, by its looks. Pure functions over JSON.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any
from urllib.parse import parse_qsl, urlsplit

# What stands in place of a secret. Sent back as the value of a setting it means: leave the secret as it is.
MASK = "****"
# How a stored value begins that is encrypted: a secret whatever its name.
ENCRYPTED_PREFIX = "encrypted:"

# Parts of a name, in lower case and with _ for -.
_SECRET_WORDS = (
    "password",
    "secret",
    "api_key",
    "apikey",
    "access_key",
    "private_key",
    "master_key",
    "salt_key",
    "credential",
    "authorization",
    "cookie",
    "_token",
    "headers",
    "extra_body",
    "query_params",
    "webhook",
    "database_url",
    "redis_url",
    "startup_nodes",
)
# Providers name their credentials as they like, so shorter parts count among the parameters of a deployment.
_PROVIDER_WORDS = ("key", "token")
_PLAIN_PARAMS = frozenset({"max_tokens", "input_cost_per_token", "output_cost_per_token", "litellm_credential_name"})
# Prices and numbers of tokens sound like secrets; among settings limits, times and names of headers do, too.
_PRICES = ("_per_token", "_token_cost", "_tokens")
_LIMITS = ("_ttl", "_limit", "_max_size", "_tag_headers")
# Whole names in log lines only: the `token` of a stored key is its hash, which rows show.
_LOG_NAMES = frozenset({"token"})
# Names in log lines that hold the name of a stored credential.
_PLAIN_LOG_NAMES = frozenset({"credential_name", "missing_credential"})

_SECRET_TEXTS = (
    # Ours, and what most providers hand out; header values; session tokens.
    re.compile(r"\b(sk-|Bearer |Basic |eyJ)[A-Za-z0-9_\-.=+/]{8,}"),
    re.compile(
        r"\b(AIza|gsk_|hf_|xai-|r8_|nvapi-|pplx-|pk-lf-|ya29\.|gh[pousr]_|glpat-|xox[abprs]-)[A-Za-z0-9_\-.]{12,}"
    ),
    re.compile(r"\b(AKIA|ASIA)[A-Z0-9]{16}\b"),
)
# Parameters of an address that say how to answer, and no more.
_PLAIN_PARAMETERS = frozenset({"api-version", "api_version", "version", "alt"})
_SECRET_PARAMETER = re.compile(r"([?&][^=&\s]*(?:key|auth|token|secret|sig|passw|pwd|code)[^=&\s]*=)[^&\s'\"]+", re.I)
_PASSWORD_IN_ADDRESS = re.compile(r"(\w://[^\s:/@]*:)[^\s@/]+@")


def is_secret(name: str, value: Any) -> bool:
    """Whether a setting of this name and value is kept encrypted and never shown.

    Numbers and flags are no secrets, whatever their name; an address with a password or a query in it is one.
    """
    if not value or isinstance(value, bool | int | float):
        return False
    return (isinstance(value, str) and _has_credential(value)) or _sounds_secret(name, (*_PRICES, *_LIMITS))


def is_audit_secret(name: str, value: Any) -> bool:
    """The same for the audit log, which anything may reach: a number under the name of a secret is one, too."""
    return is_secret(name, value) or bool(value and _sounds_secret(name, _PRICES))


def is_provider_secret(name: str) -> bool:
    """Whether a parameter of a deployment may hold a secret."""
    if name in _PLAIN_PARAMS or name.endswith("_token_cost"):
        return False
    return _sounds_secret(name) or any(word in name.lower() for word in _PROVIDER_WORDS)


def is_log_secret(name: str) -> bool:
    """Whether a text under this name is kept out of log lines, whatever it looks like."""
    lower = name.lower()
    return lower in _LOG_NAMES or (lower not in _PLAIN_LOG_NAMES and _sounds_secret(name, (*_PRICES, *_LIMITS)))


def _sounds_secret(name: str, unless: Iterable[str] = ()) -> bool:
    lower = name.lower()
    if any(word in lower for word in unless):
        return False
    return any(word in lower.replace("-", "_") for word in _SECRET_WORDS)


def _has_credential(address: str) -> bool:
    """Whether an address signs in, as `redis://user:password@host`, or has a query that may: `https://host/?key=…`."""
    authority = address.partition("://")[2].partition("/")[0]
    return ":" in authority.rpartition("@")[0] or bool(authority and secret_parameters(address))


def secret_parameters(address: str) -> list[str]:
    """The values of an address's query that may be credentials: all but those that are known to be none."""
    try:
        query = urlsplit(address).query if "?" in address else ""
    except ValueError:
        return [address.partition("?")[2]]
    return [value for name, value in parse_qsl(query) if not is_plain_parameter(name)]


def is_plain_parameter(name: str) -> bool:
    return name.lower() in _PLAIN_PARAMETERS


def is_encrypted(value: Any) -> bool:
    return isinstance(value, str) and value.startswith(ENCRYPTED_PREFIX)


def masked(value: Any, *, is_whole: bool = False, is_secret: Callable[[str, Any], bool] = is_secret) -> Any:
    """The same JSON with its secrets masked; `is_whole`: every value of the mapping is one.

    `is_secret`: what tells by name and value which they are, `is_audit_secret` for the audit log.
    """
    if isinstance(value, Mapping):
        return {
            name: MASK
            if is_whole or is_encrypted(item) or is_secret(str(name), item)
            else masked(item, is_secret=is_secret)
            for name, item in value.items()
        }
    return [masked(item, is_secret=is_secret) for item in value] if isinstance(value, list) else value


def masked_texts(value: Any) -> Any:
    """The same JSON with every text masked: numbers and flags are no secrets."""
    if isinstance(value, Mapping):
        return {name: masked_texts(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [masked_texts(item) for item in value]
    return MASK if isinstance(value, str) and value else value


def masked_text(text: str) -> str:
    """The same text with its keys, tokens, header values and passwords in addresses masked, told by their looks."""
    for pattern in _SECRET_TEXTS:
        text = pattern.sub(rf"\1{MASK}", text)
    if "://" not in text:
        return text
    return _SECRET_PARAMETER.sub(rf"\1{MASK}", _PASSWORD_IN_ADDRESS.sub(rf"\1{MASK}@", text))


# ---- values that are known -----------------------------------------------------------------------------------------

# A shorter value may be part of any word: it is masked in quotes only.
_MIN_UNQUOTED = 4


def texts_in(value: Any) -> Iterator[str]:
    """Every text of a JSON value."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from texts_in(item)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from texts_in(item)


def secret_texts(value: Any, is_secret: Callable[[str, Any], bool] = is_secret) -> Iterator[str]:
    """The texts of a JSON value that stand under the name of a secret, or are secrets themselves."""
    if isinstance(value, Mapping):
        for name, item in value.items():
            yield from texts_in(item) if is_secret(str(name), item) else secret_texts(item, is_secret)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from secret_texts(item, is_secret)


def without_values(text: str, values: Iterable[str]) -> str:
    """The same text with each of these values masked, in any of the spellings that a message may give it."""
    spellings = {form for value in values for form in (value, value.strip(), value.lower(), repr(value)[1:-1]) if form}
    # Of a value `provider/model` a message may name one half.
    parts = {part for form in spellings for part in form.split("/") if part} - spellings
    for spelling in sorted(spellings | parts, key=len, reverse=True):
        escaped = re.escape(spelling)
        is_word = len(spelling) >= _MIN_UNQUOTED and spelling not in parts
        pattern = rf"(?<!\w){escaped}(?!\w)" if is_word else rf"(?<=['\"]){escaped}(?=['\"])"
        text = re.sub(pattern, MASK, text)
    return text
