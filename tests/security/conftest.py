"""The cast of the management API, for tests of what an attacker tries on it. One database suffices for them."""

from pathlib import Path

import pytest

from app.settings import Settings
from tests.admin.conftest import admin, alice, bob, client, instance
from tests.conftest import MASTER_KEY

__all__ = ["admin", "alice", "bob", "client", "instance", "settings"]


@pytest.fixture
def settings(migrated_sqlite_url: str, tmp_path: Path) -> Settings:
    return Settings(
        master_key=MASTER_KEY,
        database_url=migrated_sqlite_url,
        state_dir=tmp_path / "state",
        spend_flush_seconds=3600.0,
        permit_weak_master_key=True,
    )
