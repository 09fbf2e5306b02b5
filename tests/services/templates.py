"""Databases with all tables, each made once in a run by `quarterdeck migrate`; tests get copies.

An empty database costs whoever opens it first two seconds.
"""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.services.command import run_quarterdeck
from tests.services.postgres import PostgresServer
from tests.services.run_directory import RunDirectory

_TEMPLATE = "migrated"
_MIGRATIONS = "tortoise_migrations"
_MAX_ROWS = 2_000  # of which a test may leave dead ones behind in a database that goes to the next

# Whatever changes a table, an index or a function writes rows of these catalogs anew; rows of data do not touch them.
_CATALOGS = ("pg_class", "pg_attrdef", "pg_constraint", "pg_trigger", "pg_proc", "pg_type", "pg_namespace")
_MARKS = " UNION ALL ".join(
    [
        *(f"SELECT '{name}', oid, 0, xmin::text FROM {name} WHERE oid >= 16384" for name in _CATALOGS),
        "SELECT 'pg_attribute', attrelid, attnum, xmin::text FROM pg_attribute WHERE attrelid >= 16384",
        f"SELECT '{_MIGRATIONS}', 0, 0, migration::text FROM {_MIGRATIONS} AS migration",
        "SELECT 'setting', 0, 0, setting::text FROM pg_db_role_setting AS setting, pg_database AS here"
        " WHERE here.oid = setting.setdatabase AND here.datname = current_database()",
    ]
)
_SHAPE = f"SELECT md5(string_agg(mark::text, '|' ORDER BY mark::text)) FROM ({_MARKS}) AS mark"

_EMPTY = f"""
DO $$
DECLARE found record; is_filled boolean; deleted bigint; total bigint := 0;
BEGIN
  SET LOCAL lock_timeout = '2s';
  SET LOCAL session_replication_role = replica;
  PERFORM pg_terminate_backend(pid, 2000) FROM pg_stat_activity
    WHERE datname = current_database() AND pid <> pg_backend_pid();
  FOR found IN SELECT oid::regclass AS name FROM pg_class
    WHERE relkind = 'r' AND oid >= 16384 AND relnamespace = 'public'::regnamespace AND relname <> '{_MIGRATIONS}'
  LOOP
    EXECUTE format('SELECT EXISTS (SELECT 1 FROM %s)', found.name) INTO is_filled;
    IF is_filled THEN
      EXECUTE format('DELETE FROM %s', found.name);
      GET DIAGNOSTICS deleted = ROW_COUNT;
      total := total + deleted;
    END IF;
  END LOOP;
  FOR found IN SELECT schemaname, sequencename, start_value FROM pg_sequences
    WHERE last_value IS NOT NULL AND sequencename NOT LIKE '{_MIGRATIONS}%'
  LOOP
    PERFORM setval(format('%I.%I', found.schemaname, found.sequencename)::regclass, found.start_value, false);
  END LOOP;
  IF total > {_MAX_ROWS} THEN RAISE EXCEPTION '% rows', total; END IF;
END $$
"""


def copy_migrated_sqlite(run: RunDirectory, file: Path) -> None:
    """Make `file` a SQLite database with all tables."""
    template = run.path / "migrated.db"
    with run.locked("sqlite"):
        if not template.exists():
            fresh = run.path / "migrating.db"
            fresh.unlink(missing_ok=True)  # of a test that failed here
            _migrate(f"sqlite:///{fresh}", run)
            fresh.rename(template)
    shutil.copyfile(template, file)


class MigratedPostgres:
    """PostgreSQL databases with all tables and nothing else in them, each for one test at a time.

    To copy and drop one takes three times as long as to empty one. So one that a test gives back goes to a later test
    of this process when its tables, settings and migrations are what they were, and is dropped otherwise.
    """

    def __init__(self, run: RunDirectory, server: PostgresServer) -> None:
        self._run = run
        self._server = server
        self._free: list[str] = []
        self._shape = ""

    @contextmanager
    def lent(self) -> Iterator[str]:
        """URL of a database that nobody else has meanwhile."""
        name = self._free.pop() if self._free else self._copy()
        try:
            yield self._server.url(name)
        finally:
            if self._is_as_it_was(name):
                self._free.append(name)
            else:
                self._server.drop_database(name)

    def _copy(self) -> str:
        made = self._run.path / "migrated.postgres"
        with self._run.locked(_TEMPLATE):
            if not made.exists():
                self._server.execute(f"DROP DATABASE IF EXISTS {_TEMPLATE}")  # of a test that failed here
                self._server.execute(f"CREATE DATABASE {_TEMPLATE} TEMPLATE template0")
                _migrate(self._server.url(_TEMPLATE), self._run)
                made.touch()
        name = self._server.create_database(template=_TEMPLATE)
        self._shape = self._shape or self._server.execute(_SHAPE, database=name)
        return name

    def _is_as_it_was(self, name: str) -> bool:
        """Empty it and look at what is left. Whatever goes wrong here is a reason to drop it."""
        try:
            return self._server.execute(_EMPTY, _SHAPE, database=name) == self._shape
        except subprocess.CalledProcessError:
            return False


def _migrate(url: str, run: RunDirectory) -> None:
    finished = run_quarterdeck("migrate", environment={"DATABASE_URL": url}, directory=run.path)
    if finished.returncode != 0:
        raise subprocess.SubprocessError(f"quarterdeck migrate failed:\n{finished.stdout}")
