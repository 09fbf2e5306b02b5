"""`quarterdeck rotate-salt-key`: encrypt everything that is stored encrypted under the new salt key.

One transaction, so that a stop in the middle leaves the old state. Running it again changes nothing: what opens with
the new key already is left as it is. Sessions and login codes are dropped, whoever was signed in signs in again.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tortoise.models import Model

from ..logs import configure_logging
from ..models import AuditLog, ConfigEntry, ConsoleSession, Credential, LoginCode, StoredDeployment, Team, VirtualKey
from ..security.callback_credentials import CALLBACKS, ENCRYPTED
from ..security.credentials import decrypt, encrypt
from ..security.masking import ENCRYPTED_PREFIX
from ..settings import load_settings, process_environment
from ..settings.config_file import SettingsError
from .database import DATABASE_AWAY, DATABASE_REFUSED, Database

_BATCH = 500
_MAX_NAMED = 20
_DEFAULT_VARIABLE = "OLD_LITELLM_SALT_KEY"
_PURPOSES = ("credentials", "team callbacks")

# What a value becomes; the value itself when nothing in it has to change.
Reencrypt = Callable[[Any], Any]


class Unreadable(ValueError):
    """A ciphertext that neither key opens."""


@dataclass(frozen=True)
class RotateOptions:
    """What the command line says. The old key itself is never an argument."""

    config: str | None = None
    variable: str | None = None
    file: str | None = None
    is_dry_run: bool = False


@dataclass
class Rotation:
    """What was done: rows per table that changed (or would), rows that neither key opens, what was dropped."""

    changed: dict[str, int] = field(default_factory=dict)
    unreadable: list[str] = field(default_factory=list)
    dropped: int = 0


def rotate_salt_key(options: RotateOptions) -> str:
    """Run the command; returns what it did, for people. Raises SettingsError with one line for what is wrong."""
    configure_logging()
    settings = load_settings(options.config)
    old_key = _old_key(options)
    if old_key == settings.salt_key:
        raise SettingsError("rotate-salt-key: the old salt key is the one in use; set LITELLM_SALT_KEY to the new one")
    database = Database(settings)
    done = asyncio.run(_run(database, old_key, settings.salt_key, is_dry_run=options.is_dry_run))
    would_be = "would be " if options.is_dry_run else ""
    lines = [f"{table}: {count} row(s) {would_be}encrypted anew" for table, count in done.changed.items()]
    return "\n".join([*lines, f"sessions and login codes: {done.dropped} {would_be}dropped"])


def _old_key(options: RotateOptions) -> str:
    """From the environment or a file: arguments of a command are seen by every user of the machine."""
    if options.file is not None:
        try:
            key, source = Path(options.file).read_text(encoding="utf-8").strip(), options.file
        except (OSError, UnicodeDecodeError) as problem:
            raise SettingsError(f"--old-key-file {options.file}: cannot be read ({type(problem).__name__})") from None
    else:
        source = options.variable or _DEFAULT_VARIABLE
        key = process_environment().get(source, "")
    if not key:
        raise SettingsError(f"rotate-salt-key: {source} is empty; put the old salt key there")
    return key


async def _run(database: Database, old_key: str, new_key: str, *, is_dry_run: bool) -> Rotation:
    try:
        await database.open()
        done = await rotate(database, old_key, new_key, is_dry_run=is_dry_run)
    except DATABASE_AWAY as problem:
        raise SettingsError(f"database: cannot be reached ({type(problem).__name__}); check DATABASE_URL") from None
    except DATABASE_REFUSED as problem:
        reason = " ".join(str(problem).split())[:200]
        raise SettingsError(f"database: {reason}; run `quarterdeck migrate` first") from None
    finally:
        await database.close()
    return done


async def rotate(database: Database, old_key: str, new_key: str, *, is_dry_run: bool = False) -> Rotation:
    """Encrypt every stored ciphertext under `new_key`, in one transaction. A dry run writes nothing.

    Raises SettingsError that names the rows which neither key opens; then nothing has changed.
    """

    def reencrypt(ciphertext: str) -> str:
        return _reencrypted(ciphertext, old_key, new_key)

    columns: tuple[tuple[type[Model], str, Reencrypt], ...] = (
        (StoredDeployment, "litellm_params", reencrypt),
        (Credential, "credential_values", reencrypt),
        (ConfigEntry, "param_value", lambda value: _settings_reencrypted(value, reencrypt)),
        (Team, "metadata", lambda value: _callbacks_reencrypted(value, reencrypt)),
        (VirtualKey, "metadata", lambda value: _callbacks_reencrypted(value, reencrypt)),
    )
    done = Rotation()
    async with database.transaction():
        for table, column, change in columns:
            await _change_table(table, column, change, done, is_dry_run=is_dry_run)
        if done.unreadable:
            raise SettingsError(_refusal(done.unreadable))
        for table in (ConsoleSession, LoginCode):
            done.dropped += await table.all().count()
            if not is_dry_run:
                await table.all().delete()
        if not is_dry_run and any(done.changed.values()):
            await _record_rotation(done)
    return done


async def _change_table(
    table: type[Model], column: str, change: Reencrypt, done: Rotation, *, is_dry_run: bool
) -> None:
    name, key = str(table._meta.db_table), str(table._meta.pk_attr)
    done.changed[name] = 0
    last = ""
    while rows := await table.filter(**{f"{key}__gt": last}).select_for_update().order_by(key).limit(_BATCH):
        for row in rows:
            last, value = getattr(row, key), getattr(row, column)
            try:
                fresh = change(value)
            except Unreadable:
                done.unreadable.append(f"{name} {last}")
                continue
            if fresh != value:
                done.changed[name] += 1
                if not is_dry_run:
                    await table.filter(pk=row.pk).update(**{column: fresh})


def _reencrypted(ciphertext: str, old_key: str, new_key: str) -> str:
    """The same secret under the new key; the same text when it is that already. Raises Unreadable."""
    for purpose in _PURPOSES:
        if _decrypted(ciphertext, new_key, purpose) is not None:
            return ciphertext
    for purpose in _PURPOSES:
        secret = _decrypted(ciphertext, old_key, purpose)
        if secret is not None:
            return encrypt(secret, new_key, purpose=purpose)
    raise Unreadable


def _decrypted(ciphertext: str, salt_key: str, purpose: str) -> str | None:
    try:
        return decrypt(ciphertext, salt_key, purpose=purpose)
    except ValueError:
        return None


def _settings_reencrypted(value: Any, reencrypt: Callable[[str], str]) -> Any:
    """A section of stored configuration: its secrets are texts with a prefix, at any depth."""
    if isinstance(value, Mapping):
        return {name: _settings_reencrypted(item, reencrypt) for name, item in value.items()}
    if isinstance(value, list):
        return [_settings_reencrypted(item, reencrypt) for item in value]
    if isinstance(value, str) and value.startswith(ENCRYPTED_PREFIX):
        return ENCRYPTED_PREFIX + reencrypt(value.removeprefix(ENCRYPTED_PREFIX))
    return value


def _callbacks_reencrypted(metadata: Any, reencrypt: Callable[[str], str]) -> Any:
    """A team's or key's metadata: each logging callback has the ciphertext of its variables."""
    entries = metadata.get(CALLBACKS) if isinstance(metadata, Mapping) else None
    if not isinstance(entries, list):
        return metadata
    fresh = [
        {**entry, ENCRYPTED: reencrypt(str(entry[ENCRYPTED]))}
        if isinstance(entry, Mapping) and entry.get(ENCRYPTED)
        else entry
        for entry in entries
    ]
    return {**metadata, CALLBACKS: fresh}


def _refusal(rows: list[str]) -> str:
    listed, more = ", ".join(rows[:_MAX_NAMED]), len(rows) - _MAX_NAMED
    rest = f" and {more} more" if more > 0 else ""
    return f"rotate-salt-key: neither key opens {listed}{rest}; nothing was changed. Delete them, or find their key"


async def _record_rotation(done: Rotation) -> None:
    """One row of the audit log for the whole rotation."""
    await AuditLog.create(
        id=str(uuid.uuid4()),
        changed_by="quarterdeck rotate-salt-key",
        action="rotated",
        table_name="LiteLLM_CredentialsTable",
        object_id="salt key",
        updated_values={"rows": done.changed},
    )
