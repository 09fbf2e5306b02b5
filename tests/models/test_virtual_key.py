"""The rules of the table of keys: what a status means, what a list leaves out, what a deleted key leaves behind."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

import pytest
from tortoise.exceptions import IntegrityError

from app.models import DeletedVirtualKey, VirtualKey
from app.models.virtual_key import SESSION_TEAM_ID
from app.settings import Settings
from app.storage.database import Database


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    opened = Database(Settings(database_url=database_url))
    await opened.open()
    with opened.active():
        yield opened
    await opened.close()


@pytest.mark.usefixtures("database")
async def test_a_filter_by_status_finds_the_keys_that_show_it() -> None:
    now = datetime.now(UTC)
    for number, ends in enumerate((None, now - timedelta(hours=1), now + timedelta(hours=1))):
        for blocked in (False, True):
            await VirtualKey.create(token=f"{number}{blocked}", expires=ends, blocked=blocked)
    keys = await VirtualKey.all()
    for status in ("active", "expired", "revoked"):
        tokens = {key.token for key in await VirtualKey.filter(VirtualKey.with_status(status))}
        assert tokens == {key.token for key in keys if key.status == status}
        assert tokens


@pytest.mark.usefixtures("database")
async def test_a_list_of_keys_leaves_sessions_out() -> None:
    for token, team in {"own": None, "crew": "crew", "session": SESSION_TEAM_ID}.items():
        await VirtualKey.create(token=token, team_id=team)
    tokens = {key.token for key in await VirtualKey.filter(VirtualKey.not_of_sessions())}
    assert tokens == {"own", "crew"}


async def test_a_deleted_key_keeps_its_name_for_the_spend_that_it_left(database: Database) -> None:
    key = await VirtualKey.create(token="hash", key_alias="alias", key_name="sk-...abcd", models=["a"])
    async with database.transaction():
        await key.archive(deleted_by="alice", deleted_by_api_key="hash of alice", changed_by=None)
    assert await VirtualKey.all().count() == 0
    (tombstone,) = await DeletedVirtualKey.all()
    assert (tombstone.token, tombstone.key_alias, tombstone.key_name) == ("hash", "alias", "sk-...abcd")
    assert (tombstone.models, tombstone.deleted_by, tombstone.status) == (["a"], "alice", "deleted")
    await VirtualKey.create(token="hash", key_alias="alias")


@pytest.mark.usefixtures("database")
async def test_an_alias_belongs_to_one_key() -> None:
    await VirtualKey.create(token="one", key_alias="alias")
    with pytest.raises(IntegrityError):
        await VirtualKey.create(token="two", key_alias="alias")
    for token in ("three", "four"):
        await VirtualKey.create(token=token, key_alias=None)
