"""Run an instance: prepare its database, say what it is, hand it to a server."""

from __future__ import annotations

import asyncio
import importlib
import importlib.util
import multiprocessing
import os
import resource
import signal
import socket
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import asyncpg
import hypercorn.asyncio
import hypercorn.config
import hypercorn.run
import structlog
from quart import Quart

from ..deployments.catalog import DeploymentCatalog, SkippedDeployment
from ..logs import configure_logging
from ..observability.metrics.shared_totals import TotalsFiles
from ..route_groups import ROUTE_GROUPS
from ..services import EXTENSION
from ..settings import Settings, export_settings, load_database_settings, load_settings
from ..settings.config_file import SettingsError
from ..storage.database import DATABASE_AWAY, DATABASE_REFUSED, Database, sqlite_path
from ..storage.postgres_url import unused_parameters
from ..storage.private_files import keep_state_private
from ..version import VERSION
from .asgi import build, create, spare_what_stays

log = structlog.get_logger(__name__)

_MAX_FILES = 65_536


@dataclass(frozen=True)
class ServeOptions:
    """What the command line says; None leaves a value to the file and the environment."""

    config: str | None = None
    host: str | None = None
    port: int | None = None
    workers: int | None = None
    server: str = "hypercorn"

    def overrides(self) -> Mapping[str, Any]:
        return {"host": self.host, "port": self.port, "process_count": self.workers}


def serve(options: ServeOptions) -> int:
    """Run until a signal stops it; returns the exit code. Raises SettingsError when it cannot start."""
    settings = load_settings(options.config, **options.overrides())
    configure_logging(settings.lowest_log_level, is_json=settings.json_logs)
    for warning in (*settings.warnings, *unused_parameters(settings.database_url)):
        print(f"WARNING  {warning}", file=sys.stderr)
    _refuse_busy_port(settings)
    _allow_many_files()
    # Before anything is written: strict settings refuse what cannot work.
    skipped = DeploymentCatalog(settings, Database(settings)).skipped()
    _keep_state_private(settings)
    _in_a_child(lambda: asyncio.run(_prepare_database(settings)))
    TotalsFiles(settings).clear()
    print(describe(settings, skipped), flush=True)
    if options.server == "granian":
        export_settings(options.config, options.overrides())
        return _run_granian(settings)
    config = hypercorn.config.Config()
    config.bind = [_bind_address(settings)]
    config.graceful_timeout = 3.0
    config.accesslog = None
    config.errorlog = None
    config.include_server_header = False
    config.keep_alive_timeout = settings.keepalive_timeout
    # A client that keeps its connection is not sent away in the middle of its work.
    config.keep_alive_max_requests = 1_000_000
    if settings.process_count > 1:
        export_settings(options.config, options.overrides())
        config.application_path = "app.server.asgi:create()"
        config.workers = settings.process_count
        return hypercorn.run.run(config)
    asyncio.run(_serve(build(settings), config))
    return 0


def _keep_state_private(settings: Settings) -> None:
    try:
        keep_state_private(settings.state_dir)
    except OSError as problem:
        # Who writes there says so as well, and an instance goes on without its journal.
        log.warning("state directory unusable", path=str(settings.state_dir), reason=problem.strerror)


async def _serve(app: Quart, config: hypercorn.config.Config) -> None:
    """Serve until a signal ends it. Readiness says so at once; a second signal ends the waiting."""
    stopping, services, loop = asyncio.Event(), app.extensions[EXTENSION], asyncio.get_running_loop()

    def stop() -> None:
        loop.call_later(0 if services.is_shutting_down else services.settings.drain_seconds, stopping.set)
        services.is_shutting_down = True

    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop)
    await hypercorn.asyncio.serve(app, config, shutdown_trigger=stopping.wait)


def _allow_many_files() -> None:
    """Each stream holds two sockets, and the usual limit of 1024 files would end at 500 of them."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _MAX_FILES if hard == resource.RLIM_INFINITY else min(hard, _MAX_FILES)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def describe(settings: Settings, skipped: Sequence[SkippedDeployment] = ()) -> str:
    """The block that a start prints: what runs here, on what, where to open it, and what of it does not serve."""
    role = f"control plane of {len(settings.workers)} workers" if settings.is_control_plane else "worker"
    groups = [group.name for group in ROUTE_GROUPS if group.is_open(settings)]
    database = f"SQLite {sqlite_path(settings.database_url)}" if _is_sqlite(settings) else "PostgreSQL"
    cache = "Redis" if settings.redis_url else "in memory"
    is_local = settings.host in ("0.0.0.0", "::", "127.0.0.1", "::1")
    url = settings.proxy_base_url or f"http://{f'localhost:{settings.port}' if is_local else _bind_address(settings)}"
    rows = {
        "role": role,
        "config": settings.config_path,
        "database": database,
        "cache": cache,
        "routes": ", ".join(groups),
        "url": url if settings.disable_admin_ui else f"{url}/ui/",
    }
    lines = [f"Quarterdeck {VERSION}", *(f"  {name:<9} {value}" for name, value in rows.items())]
    lines += [f"  LEFT OUT  {entry.place} ({entry.model_name}): {entry.reason}" for entry in skipped]
    return "\n".join(lines)


def _in_a_child(work: Callable[[], None]) -> None:
    """Do something once that needs much memory, which goes with the child: migrations load their whole history.

    Raises SettingsError as the work does, and with an exit code for a child that died.
    """
    if sys.platform != "linux":
        work()  # elsewhere a process that has loaded this much cannot be forked safely
        return
    receiver, sender = multiprocessing.Pipe(duplex=False)

    def run() -> None:
        try:
            work()
        except SettingsError as problem:
            sender.send(str(problem))
        else:
            sender.send(None)

    child = multiprocessing.get_context("fork").Process(target=run)
    child.start()
    sender.close()
    try:
        refusal = receiver.recv()
    except EOFError:
        child.join()
        raise SettingsError(f"database: preparing it ended with exit code {child.exitcode}") from None
    child.join()
    if refusal is not None:
        raise SettingsError(refusal)


async def _prepare_database(settings: Settings) -> None:
    """Migrate what may be migrated at start. An unreachable PostgreSQL is waited for by the running instance."""
    database = Database(settings)
    try:
        await database.open()
        applied = await database.prepare()
    except asyncpg.ClientConfigurationError as problem:
        raise SettingsError(f"DATABASE_URL: {problem}") from None
    except DATABASE_AWAY as problem:
        if database.is_sqlite:
            raise SettingsError(
                f"database: {settings.database_url} cannot be opened; check the path and its rights"
            ) from None
        log.warning("database unreachable at start", reason=type(problem).__name__)
        return
    except DATABASE_REFUSED as problem:
        raise _refusal(settings, problem) from None
    finally:
        await database.close()
    if applied:
        log.info("database migrated", migrations=", ".join(applied))


def migrate(config: str | None) -> int:
    """Apply pending migrations; the release phase of a deployment."""
    configure_logging()
    settings = load_database_settings(config)
    for warning in unused_parameters(settings.database_url):
        print(f"WARNING  {warning}", file=sys.stderr)
    applied = asyncio.run(_migrate(settings))
    print("\n".join(f"applied {name}" for name in applied) or "nothing to migrate")
    return 0


async def _migrate(settings: Settings) -> list[str]:
    database = Database(settings)
    try:
        await database.open()
        return await database.migrate()
    except asyncpg.ClientConfigurationError as problem:
        raise SettingsError(f"DATABASE_URL: {problem}") from None
    except DATABASE_AWAY as problem:
        raise SettingsError(f"database: cannot be reached ({type(problem).__name__}); check DATABASE_URL") from None
    except DATABASE_REFUSED as problem:
        raise _refusal(settings, problem) from None
    finally:
        await database.close()


def _refusal(settings: Settings, problem: Exception) -> SettingsError:
    """One line for a database that answers and says no: a wrong password, a folder in place of a file."""
    reason = " ".join(str(problem).split())[:200]
    if _is_sqlite(settings):
        return SettingsError(f"database: {sqlite_path(settings.database_url)}: {reason}; check DATABASE_URL")
    return SettingsError(f"database: {type(problem).__name__}: {reason}; check DATABASE_URL")


def _run_granian(settings: Settings) -> int:
    if importlib.util.find_spec("granian") is None:
        raise SettingsError("--server granian: is not installed; run: pip install 'quarterdeck[granian]'")
    server = importlib.import_module("granian").Granian(
        "app.server.asgi:create",
        factory=True,
        interface=importlib.import_module("granian.constants").Interfaces.ASGI,
        address=settings.host,
        port=settings.port,
        workers=settings.process_count,
        websockets=False,
        log_level=importlib.import_module("granian.log").LogLevels.warning,
    )
    # Where its workers are forked, what was imported and read here is theirs, and they start at once.
    is_forking = multiprocessing.get_start_method() == "fork"
    spare_what_stays()
    _end_workers_that_start()
    server.serve(target_loader=partial(build, settings) if is_forking else create, wrap_loader=False)
    return 0


def _end_workers_that_start() -> None:
    """Let SIGTERM and SIGINT end a forked worker that is still building its app.

    It inherits the handlers of the process that forks it, which would note the signal where nobody looks, and that
    process would wait for its end forever. No signal is taken between the fork and the change.
    """
    ending = (signal.SIGTERM, signal.SIGINT)

    def hold() -> None:
        signal.pthread_sigmask(signal.SIG_BLOCK, ending)

    def release() -> None:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, ending)

    def reset() -> None:
        for number in ending:
            signal.signal(number, signal.SIG_DFL)
        release()

    os.register_at_fork(before=hold, after_in_parent=release, after_in_child=reset)


def _refuse_busy_port(settings: Settings) -> None:
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((settings.host, settings.port))
        except OSError as problem:
            raise SettingsError(
                f"--port {settings.port}: cannot listen on {settings.host} ({problem.strerror}); "
                "stop the other program or choose another --port"
            ) from None


def _bind_address(settings: Settings) -> str:
    return f"[{settings.host}]:{settings.port}" if ":" in settings.host else f"{settings.host}:{settings.port}"


def _is_sqlite(settings: Settings) -> bool:
    return settings.database_url.startswith("sqlite://")
