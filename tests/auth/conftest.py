"""A worker with a control plane, and the state directory of each test."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.auth.instance import CONSOLE, Instance, serving


@pytest.fixture
async def worker(migrated_sqlite_url: str, tmp_path: Path) -> AsyncIterator[Instance]:
    """A worker that lets the console at https://deck.example.com sign people in."""
    async with serving(migrated_sqlite_url, state_dir=tmp_path / "state", control_plane_url=CONSOLE) as instance:
        yield instance
