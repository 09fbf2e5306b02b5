"""What an instance stores is for its own user: files and folders, and no link that sets a password."""

from __future__ import annotations

import asyncio
import os
import stat
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import pytest

from app.models import Invitation
from app.security.credentials import hash_key
from app.settings import Settings
from app.storage.database import Database
from app.storage.private_files import create_private, keep_state_private
from tests.auth.instance import Instance, bearer, serving
from tests.conftest import MASTER_KEY
from tests.llm.live_worker import FAST
from tests.services.quarterdeck import QuarterdeckFactory

OLD_LINKS = ["a" * 43, "Zx-_" * 10 + "123"]


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def open_to_others(folder: Path) -> list[str]:
    return [str(path) for path in (folder, *folder.rglob("*")) if mode(path) & 0o077]


# ---- files -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("arguments", [["--workers", "2"], ["--server", "granian", "--workers", "2"]])
async def test_all_that_an_instance_writes_is_private(
    quarterdeck_process: QuarterdeckFactory, tmp_path: Path, arguments: list[str]
) -> None:
    state = tmp_path / "state"
    (state / "journal" / "old").mkdir(parents=True)
    for file in ("journal/old/left.jsonl", "quarterdeck.db"):
        (state / file).touch()
    for path in (state, *state.rglob("*")):
        path.chmod(0o755 if path.is_dir() else 0o644)
    environment = {**FAST, "QUARTERDECK_STATE_DIR": str(state)}
    url = f"sqlite:///{state}/quarterdeck.db"
    instance = await asyncio.to_thread(
        lambda: quarterdeck_process({}, database_url=url, env=environment, arguments=arguments)
    )
    async with httpx.AsyncClient(base_url=instance.url, headers=bearer(MASTER_KEY), trust_env=False) as http:
        assert (await http.post("/key/generate", json={})).status_code == 200
    assert {path.name for path in state.iterdir()} >= {"journal", "metrics", "quarterdeck.db", "quarterdeck.db-wal"}
    assert open_to_others(state) == []
    assert "state directory" not in instance.log_text()


@pytest.fixture
def umask() -> Iterator[None]:
    before = os.umask(0o022)
    yield
    os.umask(before)


@pytest.mark.usefixtures("umask")
def test_a_folder_of_others_keeps_its_rights(tmp_path: Path) -> None:
    shared = tmp_path / "shared"
    shared.mkdir(mode=0o755)
    (shared / "config.yaml").touch(mode=0o644)
    (shared / "journal").mkdir()
    keep_state_private(shared)
    assert [mode(shared), mode(shared / "config.yaml"), mode(shared / "journal")] == [0o755, 0o644, 0o700]


@pytest.mark.usefixtures("umask")
def test_a_link_in_the_state_directory_leads_nowhere(tmp_path: Path) -> None:
    state, elsewhere = tmp_path / ".quarterdeck", tmp_path / "elsewhere"
    state.mkdir()
    elsewhere.mkdir(mode=0o755)
    (elsewhere / "file").touch(mode=0o644)
    (state / "journal").symlink_to(elsewhere)
    keep_state_private(state)
    assert [mode(state), mode(elsewhere), mode(elsewhere / "file")] == [0o700, 0o755, 0o644]


@pytest.mark.usefixtures("umask")
def test_a_database_file_is_private_before_anything_is_in_it(tmp_path: Path) -> None:
    create_private(tmp_path / "new" / "own.db")
    assert [mode(tmp_path / "new"), mode(tmp_path / "new" / "own.db")] == [0o700, 0o600]


# ---- invitations -----------------------------------------------------------------------------------------------------


@pytest.fixture(params=["sqlite", "postgres"])
def database_url(request: pytest.FixtureRequest) -> str:
    url: str = request.getfixturevalue(f"migrated_{request.param}_url")
    return url


@pytest.fixture
async def upgraded(database_url: str, tmp_path: Path) -> AsyncIterator[Instance]:
    """An instance on a database of the version before, with a user and two links, after `migrate`."""
    database = Database(Settings(database_url=database_url))
    await database.open()
    await database.fetch("DELETE FROM tortoise_migrations WHERE name = $1", ["0005_invitation_hashes"])
    with database.active():
        expires_at = datetime.now(UTC) + timedelta(days=1)
        await Invitation.bulk_create([Invitation(id=link, user_id="old", expires_at=expires_at) for link in OLD_LINKS])
    assert await database.migrate() == ["0005_invitation_hashes"]
    assert await database.migrate() == []
    await database.close()
    async with serving(database_url, state_dir=tmp_path) as instance:
        user = {"user_id": "old", "user_email": "old@example.com", "user_role": "internal_user"}
        assert (await instance.http.post("/user/new", json=user, headers=bearer(MASTER_KEY))).status_code == 200
        yield instance


async def test_links_of_before_work_and_are_stored_as_hashes(upgraded: Instance) -> None:
    rows = await upgraded.services.database.fetch("SELECT id FROM invitation")
    assert {row["id"] for row in rows} == {hash_key(link) for link in OLD_LINKS}
    opened = await upgraded.http.get("/onboarding/get_token", params={"invite_link": OLD_LINKS[0]})
    assert opened.status_code == 200, opened.text


async def test_what_the_database_holds_is_no_link(upgraded: Instance) -> None:
    made = await upgraded.http.post("/invitation/new", json={"user_id": "old"}, headers=bearer(MASTER_KEY))
    link = made.json()["id"]
    rows = await upgraded.services.database.fetch("SELECT * FROM invitation")
    assert len(rows) == 3
    assert not [row for row in rows if link in map(str, row.values())]
    for stored in (row["id"] for row in rows):
        refused = await upgraded.http.get("/onboarding/get_token", params={"invite_link": stored})
        assert refused.status_code == 401
    assert (await upgraded.http.get("/onboarding/get_token", params={"invite_link": link})).status_code == 200
