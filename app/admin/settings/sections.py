"""Sections of stored configuration: read in the clear, written encrypted, each change with its audit row.

Two writers at once both win: a change is a function of what is stored, applied again when somebody was faster.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from copy import deepcopy
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from tortoise.exceptions import IntegrityError

from ...errors import Conflict
from ...models import ConfigEntry
from ...security.encrypted_settings import decrypted, encrypted, with_stored_secrets
from ...security.masking import masked
from ...services import services
from ...storage.stored_settings import ENVIRONMENT
from ...web.fields import Field, bad_request, json_object
from ..audit.trail import CONFIG, record_change
from ..changes import create_row, transaction, update_rows

Section = dict[str, Any]
Change = Callable[[Section], Section]


@dataclass(frozen=True, slots=True)
class Stored:
    """A section in the clear. `version` counts its changes, None while nothing is stored."""

    values: Section
    version: int | None


_TRIES = 8
_MAX_BYTES = 256 * 1024


def anything(**schema: Any) -> Field:
    """Any JSON value that the database can keep."""
    read_object = json_object().read
    return Field(lambda value: read_object({"value": value})["value"], schema=schema)


async def read_section(name: str) -> Section:
    """What the API stored in a section, secrets in the clear: `masked` before it is answered."""
    return (await read_stored(name)).values


async def read_stored(name: str) -> Stored:
    """The same with its version."""
    return _clear(await ConfigEntry.get_or_none(param_name=name))


async def change_section(name: str, change: Change, *, version: int | None = None) -> Stored:
    """Store `change(what is stored)`, and tell the other processes. An error that `change` raises stores nothing.

    Raises 409 when `version` is given and is not the section's, or when others keep being faster; 400 for more than a
    section may hold.
    """
    for _ in range(_TRIES):
        row = await ConfigEntry.get_or_none(param_name=name)
        before = _clear(row)
        if version is not None and version != before.version:
            raise Conflict(
                f"Somebody else changed this meanwhile: you sent version {version}, the current one is "
                f"{before.version}. Read it again and repeat your change.",
                param="version",
            )
        after = change(deepcopy(before.values))
        if after == before.values:
            return before
        if await _is_written(name, row, before.values, after):
            return Stored(after, (before.version or 0) + 1)
    raise Conflict("Others are changing these settings at the same time; repeat your change", param=name)


async def _is_written(name: str, row: ConfigEntry | None, before: Section, after: Section) -> bool:
    is_whole = name == ENVIRONMENT
    stored = encrypted(after, services().settings.salt_key, is_whole=is_whole)
    if len(json.dumps(stored)) > _MAX_BYTES:
        raise bad_request(f"{name} would hold more than {_MAX_BYTES // 1024} KB", name)
    differs = {key: value for key, value in after.items() if key not in before or before[key] != value}
    # A key that is gone is null now.
    differs.update({key: None for key in before if key not in after})
    was = {key: before.get(key) for key in differs}
    try:
        async with transaction():
            if row is None:
                await create_row(ConfigEntry, param_name=name, param_value=stored)
            elif not await update_rows(
                ConfigEntry.filter(param_name=name, revision=row.revision),
                param_value=stored,
                revision=row.revision + 1,
                updated_at=datetime.now(UTC),
            ):
                return False
            await record_change(
                "updated", CONFIG, name, before=masked(was, is_whole=is_whole), after=masked(differs, is_whole=is_whole)
            )
    except IntegrityError:
        return False  # somebody else made the row
    return True


def _clear(row: ConfigEntry | None) -> Stored:
    if row is None:
        return Stored({}, None)
    return Stored(decrypted(row.param_value, services().settings.salt_key), row.revision)


def merged(stored: Mapping[str, Any], sent: Mapping[str, Any]) -> Section:
    """What is stored with what was sent over it; null takes a key out, so that the file's value counts again."""
    return {name: value for name, value in {**stored, **sent}.items() if value is not None}


def kept(sent: Any, stored: Any, name: str) -> Any:
    """What was sent, with the stored secret where it has the stars of an answer. Raises 400 where that is unsafe."""
    try:
        return with_stored_secrets(sent, stored)
    except ValueError as problem:
        raise bad_request(f"{name}: {problem}", name) from None
