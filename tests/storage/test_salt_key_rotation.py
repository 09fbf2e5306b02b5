"""The salt key is changed in one go: everything is readable under the new one, or nothing has changed."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from app.models import AuditLog, ConfigEntry, ConsoleSession, Credential, LoginCode, StoredDeployment, Team, VirtualKey
from app.security.credentials import decrypt, encrypt
from app.settings import Settings
from app.settings.config_file import SettingsError
from app.storage.database import Database
from app.storage.salt_key_rotation import rotate
from tests.conftest import MASTER_KEY
from tests.services.command import run_quarterdeck

OLD, NEW = "salt-of-before-0123456789", "salt-of-today-0123456789"
SECRET = "sk-provider-secret"
CALLBACK = "team callbacks"


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    opened = Database(Settings(master_key=MASTER_KEY, database_url=database_url))
    await opened.open()
    with opened.active():
        yield opened
    await opened.close()


async def _store(salt_key: str, id: str = "one") -> None:
    """One of everything that is kept as ciphertext."""
    encrypted = encrypt(json.dumps({"api_key": SECRET}), salt_key)
    await StoredDeployment.create(model_id=id, model_name="m", litellm_params=encrypted)
    await Credential.create(credential_name=id, credential_values=encrypted)
    variables = {"OPENAI_API_KEY": "encrypted:" + encrypt('"x"', salt_key), "PLAIN": "kept"}
    await ConfigEntry.create(param_name=f"environment_variables-{id}", param_value=variables)
    callback = {"callback_name": "langfuse", "sealed_credentials": encrypt("{}", salt_key, purpose=CALLBACK)}
    await Team.create(team_id=id, metadata={"logging": [callback, {"callback_name": "x"}], "cost": 1})
    await VirtualKey.create(token=id, metadata={"logging": [callback]})
    ends = datetime.now(UTC) + timedelta(hours=1)
    await ConsoleSession.create(session_hash=id, data="sealed", expires_at=ends)
    await LoginCode.create(code_hash=id, payload="sealed", expires_at=ends)


async def _opens_with(salt_key: str, id: str = "one") -> bool:
    deployment, credential = await StoredDeployment.get(model_id=id), await Credential.get(credential_name=id)
    team, key = await Team.get(team_id=id), await VirtualKey.get(token=id)
    entry = await ConfigEntry.get(param_name=f"environment_variables-{id}")
    assert (entry.param_value["PLAIN"], team.metadata["cost"]) == ("kept", 1)
    assert team.metadata["logging"][1] == {"callback_name": "x"}
    encrypted: list[tuple[Any, str]] = [
        (deployment.litellm_params, "credentials"),
        (credential.credential_values, "credentials"),
        (entry.param_value["OPENAI_API_KEY"].removeprefix("encrypted:"), "credentials"),
        (team.metadata["logging"][0]["sealed_credentials"], CALLBACK),
        (key.metadata["logging"][0]["sealed_credentials"], CALLBACK),
    ]
    opened = []
    for ciphertext, purpose in encrypted:
        try:
            opened.append(bool(decrypt(ciphertext, salt_key, purpose=purpose)))
        except ValueError:
            opened.append(False)
    assert len(set(opened)) == 1
    return opened[0]


async def test_everything_is_readable_under_the_new_key_and_only_under_it(database: Database) -> None:
    await _store(OLD)
    done = await rotate(database, OLD, NEW)
    assert set(done.changed.values()) == {1}
    assert (await _opens_with(NEW), await _opens_with(OLD)) == (True, False)
    assert (done.dropped, await ConsoleSession.all().count(), await LoginCode.all().count()) == (2, 0, 0)
    row = await AuditLog.get(action="rotated")
    assert row.updated_values == {"rows": done.changed}


async def test_a_second_run_changes_nothing(database: Database) -> None:
    await _store(OLD)
    await rotate(database, OLD, NEW)
    before = (await StoredDeployment.get(model_id="one")).litellm_params
    again = await rotate(database, OLD, NEW)
    assert set(again.changed.values()) == {0}
    assert (await StoredDeployment.get(model_id="one")).litellm_params == before
    assert await AuditLog.filter(action="rotated").count() == 1


async def test_a_run_that_was_half_done_by_somebody_else_is_finished(database: Database) -> None:
    await _store(OLD)
    await _store(NEW, "two")
    assert set((await rotate(database, OLD, NEW)).changed.values()) == {1}
    assert await _opens_with(NEW) and await _opens_with(NEW, "two")


async def test_a_dry_run_says_what_it_would_do_and_does_not(database: Database) -> None:
    await _store(OLD)
    done = await rotate(database, OLD, NEW, is_dry_run=True)
    assert (set(done.changed.values()), done.dropped) == ({1}, 2)
    assert await _opens_with(OLD)
    assert (await ConsoleSession.all().count(), await AuditLog.all().count()) == (1, 0)


async def test_a_ciphertext_that_neither_key_opens_stops_all_of_it(database: Database) -> None:
    await _store(OLD)
    await Credential.create(credential_name="zz-lost", credential_values=encrypt("{}", "a third key"))
    for is_dry_run in (True, False):
        with pytest.raises(SettingsError, match=r"neither key opens credential zz-lost; nothing was changed"):
            await rotate(database, OLD, NEW, is_dry_run=is_dry_run)
    assert await _opens_with(OLD)
    assert await ConsoleSession.all().count() == 1


async def test_more_rows_than_one_batch(database: Database) -> None:
    encrypted = encrypt("{}", OLD)
    rows = [Credential(credential_name=f"c{number:04}", credential_values=encrypted) for number in range(1203)]
    await Credential.bulk_create(rows)
    assert (await rotate(database, OLD, NEW)).changed["credential"] == 1203


# ---- the command ---------------------------------------------------------------------------------------------------


async def _prepared(url: str) -> None:
    database = Database(Settings(master_key=MASTER_KEY, database_url=url))
    await database.open()
    with database.active():
        await _store(OLD)
    await database.close()


async def test_the_command_takes_the_old_key_from_the_environment_or_a_file(
    migrated_sqlite_url: str, tmp_path: Path
) -> None:
    await _prepared(migrated_sqlite_url)
    file = tmp_path / "old-key"
    file.write_text(f"{OLD}\n", encoding="utf-8")
    settings = {"DATABASE_URL": migrated_sqlite_url, "LITELLM_MASTER_KEY": MASTER_KEY, "LITELLM_SALT_KEY": NEW}

    def run(*arguments: str, **more: str) -> tuple[int, str]:
        finished = run_quarterdeck("rotate-salt-key", *arguments, environment={**settings, **more}, directory=tmp_path)
        assert SECRET not in finished.stdout and OLD not in finished.stdout
        return finished.returncode, finished.stdout

    assert run() == (2, "quarterdeck: rotate-salt-key: OLD_LITELLM_SALT_KEY is empty; put the old salt key there\n")
    assert run(OLD_LITELLM_SALT_KEY=NEW)[0] == 2
    assert run("--old-key-file", str(tmp_path / "nowhere"))[0] == 2
    code, text = run("--old-key-file", str(file), "--dry-run")
    assert (code, "deployment: 1 row(s) would be encrypted anew" in text) == (0, True)
    code, text = run("--old-key-env", "MINE", MINE=OLD)
    assert (code, "credential: 1 row(s) encrypted anew" in text) == (0, True)
    assert "credential: 0 row(s)" in run(OLD_LITELLM_SALT_KEY=OLD)[1]
