"""Configuration that the API stored, laid over what the file and the environment say: the database wins.

`Settings` is read once and frozen, so an override is a new `Settings`. Where a setting is declared it says whether it
may change while an instance runs or waits for its next start, and whether it is never read from the database.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import Field, replace
from types import MappingProxyType
from typing import Any

import structlog

from ..models import ConfigEntry
from ..protocols.providers import PROVIDERS
from ..security.encrypted_settings import decrypted
from ..security.masking import is_encrypted
from ..settings import Settings, declared_settings
from .database import DATABASE_AWAY, DATABASE_REFUSED, Database

log = structlog.get_logger(__name__)

SECTIONS = ("general_settings", "litellm_settings", "router_settings")
ENVIRONMENT = "environment_variables"

# Names of the settings that are declared with `runtime=True` and with `operator_only=True`.
RUNTIME_SETTINGS = frozenset(item.name for item in declared_settings() if item.metadata["runtime"])
OPERATOR_SETTINGS = frozenset(item.name for item in declared_settings() if item.metadata["operator_only"])

# Addresses of others than providers -> the credential that goes there.
_OTHER_ADDRESSES = {
    "LANGFUSE_HOST": "LANGFUSE_SECRET_KEY",
    "SMTP_HOST": "SMTP_PASSWORD",
    "ANTHROPIC_BASE_URL": "ANTHROPIC_API_KEY",
    "AWS_BEDROCK_RUNTIME_ENDPOINT": "AWS_SECRET_ACCESS_KEY",
}


async def stored_overrides() -> dict[str, dict[str, Any]]:
    """Section -> what the API stored in it, secrets still encrypted: the rows of `overridden`."""
    rows = await ConfigEntry.filter(param_name__in=[*SECTIONS, ENVIRONMENT]).order_by("param_name")
    return {row.param_name: dict(row.param_value) for row in rows}


def overridden(
    settings: Settings, rows: Mapping[str, Mapping[str, Any]], *, only: Collection[str] | None = None
) -> Settings:
    """`settings` of file and environment with the stored rows over them; a wrong value is logged and ignored.

    `only`: the names of the fields that may change, as RUNTIME_SETTINGS on a running instance; then `environment`
    stays as it is.
    """
    variables = _variables(settings, rows.get(ENVIRONMENT) or {})
    changes: dict[str, Any] = {}
    for item in declared_settings():
        if item.name in OPERATOR_SETTINGS or (only is not None and item.name not in only):
            continue
        raw, source = _stored(item, settings, rows, variables)
        if raw is None:
            continue
        try:
            changes[item.name] = item.metadata["parse"](raw)
        except (ValueError, TypeError) as problem:
            log.error("stored setting ignored", setting=source, reason=str(problem))
    if settings.is_control_plane:
        changes.pop("control_plane_url", None)  # the two exclude each other, as at start
    if variables and only is None:
        changes["environment"] = MappingProxyType({**settings.environment, **variables})
    return replace(settings, **changes) if changes else settings


def operator_variables() -> frozenset[str]:
    """Environment variables of OPERATOR_SETTINGS."""
    variables = {item.metadata["env"] for item in declared_settings() if item.name in OPERATOR_SETTINGS}
    return frozenset(name for name in variables if name)


def keys_of_addresses() -> dict[str, str]:
    """Variable of an address -> variable of the key that goes there.

    A stored address counts only beside a stored key: the operator's key goes to no address that was set over the API.
    """
    providers = PROVIDERS.values()
    pairs = {row.base_variable: row.key_variable for row in providers if row.base_variable and row.key_variable}
    return {**pairs, **_OTHER_ADDRESSES}


def _variables(settings: Settings, stored: Mapping[str, Any]) -> dict[str, str]:
    refused, keys = operator_variables(), keys_of_addresses()
    values = {name: value for name, value in decrypted(stored, settings.salt_key).items() if not is_encrypted(value)}
    return {
        name: str(value)
        for name, value in values.items()
        if value is not None and name not in refused and (name not in keys or values.get(keys[name]))
    }


def _stored(
    item: Field[Any], settings: Settings, rows: Mapping[str, Mapping[str, Any]], variables: Mapping[str, str]
) -> tuple[Any, str]:
    """(stored value, where it is stored) of one setting, or (None, "")."""
    env_name = item.metadata["env"]
    for yaml_key in (item.metadata["yaml"], item.metadata["also"]):
        if yaml_key is None:
            continue
        section, _, key = yaml_key.partition(".")
        value = (rows.get(section) or {}).get(key)
        if value is not None:
            return decrypted(value, settings.salt_key), f"database: {yaml_key}"
    if env_name in variables and variables[env_name] and not is_set_in_file(item, settings):
        return variables[env_name], f"database: {ENVIRONMENT}.{env_name}"
    return None, ""


def is_set_in_file(item: Field[Any], settings: Settings) -> bool:
    """Whether the value of a setting comes from the file: it is neither its default nor the environment's."""
    value = getattr(settings, item.name)
    if item.metadata["yaml"] is None or value == item.default:
        return False
    raw = settings.environment.get(item.metadata["env"]) if item.metadata["env"] else None
    if not raw:
        return True
    try:
        return bool(item.metadata["parse"](raw) != value)
    except ValueError:
        return True


def with_stored_overrides(settings: Settings) -> Settings:
    """Everything that was stored, for a process that starts. An outage of the database leaves the settings as they are.

    Runs in a thread with a loop of its own: servers make the app outside of any loop, and inside of one.
    """
    with ThreadPoolExecutor(max_workers=1) as thread:
        rows = thread.submit(asyncio.run, _read(settings)).result()
    return overridden(settings, rows) if rows else settings


async def _read(settings: Settings) -> dict[str, dict[str, Any]]:
    database = Database(settings)
    try:
        await database.open()
        with database.active():
            return await stored_overrides()
    except (*DATABASE_AWAY, *DATABASE_REFUSED) as problem:
        log.warning("stored settings not loaded", reason=type(problem).__name__)
        return {}
    finally:
        await database.close()
