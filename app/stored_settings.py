"""Settings that the API stored, laid over those of file and environment at the start of a process."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import structlog

from .config_overrides import overridden, stored_overrides
from .db import DATABASE_AWAY, DATABASE_REFUSED, Database
from .settings import Settings

log = structlog.get_logger(__name__)


def with_stored_overrides(settings: Settings) -> Settings:
    """Everything that was stored, for a process that starts. A database that is away leaves the settings as they are.

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
        log.warning("stored settings could not be read", reason=type(problem).__name__)
        return {}
    finally:
        await database.close()
