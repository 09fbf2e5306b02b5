"""The application for servers that start processes of their own (`--workers`, `--server granian`)."""

from __future__ import annotations

import gc

from quart import Quart

from .. import create_app
from ..logs import configure_logging
from ..settings import load_exported_settings
from ..storage.stored_settings import with_stored_overrides


def create() -> Quart:
    """Called once in each process, with the settings that the command line exported."""
    settings = load_exported_settings()
    configure_logging(settings.lowest_log_level, is_json=settings.json_logs)
    app = create_app(with_stored_overrides(settings), base=settings)
    spare_what_stays()
    return app


def spare_what_stays() -> None:
    """Take what was imported out of the garbage collector's sight: looking through it holds up every call for 80 ms."""
    gc.collect()
    gc.freeze()
