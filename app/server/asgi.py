"""The application, built once in each process that serves: whichever server it is, and however it came to be."""

from __future__ import annotations

import gc

from quart import Quart

from .. import create_app
from ..logs import configure_logging
from ..settings import Settings, load_exported_settings
from ..storage.stored_settings import with_stored_overrides
from .upgrades import ignore_h2c_upgrades


def create() -> Quart:
    """For a process that inherits nothing (`--workers`): from the settings that the command line exported."""
    settings = load_exported_settings()
    configure_logging(settings.lowest_log_level, is_json=settings.json_logs)
    return build(settings)


def build(settings: Settings) -> Quart:
    """The application of this process, from the settings of file and environment and what the API stored over them.

    Needs a database that is prepared. Raises SettingsError for a deployment that cannot work.
    """
    ignore_h2c_upgrades()
    app = create_app(with_stored_overrides(settings), base=settings)
    spare_what_stays()
    return app


def spare_what_stays() -> None:
    """Take what was imported out of the garbage collector's sight: looking through it holds up every call for 80 ms."""
    gc.collect()
    gc.freeze()
