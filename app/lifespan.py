"""The life of one process of an instance: what is opened at its start, what runs beside the requests, what ends it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack, suppress
from dataclasses import replace

import structlog
from quart import Quart

from .backends import open_answer_store
from .llm.caching.response_cache import SETTINGS as CACHE_SETTINGS
from .llm.caching.response_cache import switch_cache
from .llm.upstream.client import Upstream
from .services import Services
from .settings import Settings
from .storage.cleanup import Cleanup, CleanupPlan
from .storage.database import DATABASE_AWAY, DATABASE_REFUSED
from .storage.stored_settings import RUNTIME_SETTINGS, overridden, stored_overrides
from .tasks import ended

log = structlog.get_logger(__name__)

# Deployments that another process stored appear here after this long, should its message get lost.
_RELOAD_SECONDS = 10.0


def add_lifespan(app: Quart, services: Services, upstream: Upstream, base: Settings) -> None:
    """Open and close the services of an app with its server. `base`: the settings of file and environment."""
    background: list[asyncio.Task[None]] = []
    stale = asyncio.Event()
    services.reload_soon = stale.set

    def on_message(message: str) -> None:
        services.keys.on_message(message)
        services.gateway.on_message(message)
        if message in ("all", "deployments", "config"):
            stale.set()

    def on_reconnect() -> None:
        services.keys.on_reconnect()
        stale.set()

    @app.before_serving
    async def start() -> None:
        await services.database.open()
        await _read_deployments(services)
        await services.counters.start()
        await services.announcer.start(on_message, on_reconnect)
        await services.ledger.start()
        await services.notifications.start()
        if services.traces is not None:
            await services.traces.start()
        background.append(asyncio.create_task(services.metrics.share_forever(), name="metrics of all processes"))
        background.append(asyncio.create_task(services.background_checks.run_forever(), name="health checks"))
        background.append(asyncio.create_task(services.batch_watcher.run_forever(), name="costs of batches"))
        reloading = _reload_forever(services, upstream, base, stale)
        background.append(asyncio.create_task(reloading, name="reload of deployments and settings"))
        background.append(asyncio.create_task(Cleanup(services.database, _plan(base)).run_forever(), name="cleanup"))

    @app.after_serving
    async def stop() -> None:
        services.is_shutting_down = True
        await asyncio.gather(*(ended(task) for task in background))
        await _close(services, upstream)


async def _close(services: Services, upstream: Upstream) -> None:
    """The last one first. One that fails does not keep the others from being closed."""
    async with AsyncExitStack() as closing:
        closing.push_async_callback(services.database.close)
        closing.push_async_callback(services.gateway.close)
        closing.push_async_callback(services.cache.close)
        closing.push_async_callback(services.registry.aclose)
        closing.callback(upstream.close)
        closing.push_async_callback(services.counters.stop)
        closing.push_async_callback(services.ledger.stop)
        if services.traces is not None:
            closing.push_async_callback(services.traces.stop)
        closing.push_async_callback(services.notifications.stop)
        closing.push_async_callback(services.announcer.stop)
        closing.callback(services.metrics.close)


def _plan(settings: Settings) -> CleanupPlan:
    return CleanupPlan(
        min_seconds=settings.cleanup_min_seconds,
        max_seconds=max(settings.cleanup_min_seconds, settings.cleanup_max_seconds),
        calendar=settings.budget_calendar,
        resets_budgets=not settings.disable_reset_budget,
        spend_logs_retention=settings.spend_logs_retention,
        audit_retention=settings.audit_log_retention,
        batch=max(1, settings.cleanup_batch_size),
        max_batches=settings.cleanup_max_batches,
    )


async def _reload_forever(services: Services, upstream: Upstream, base: Settings, stale: asyncio.Event) -> None:
    while True:
        with suppress(TimeoutError):
            await asyncio.wait_for(stale.wait(), _RELOAD_SECONDS)
        stale.clear()
        await _guarded(lambda: _read_deployments(services), "deployments")
        await _guarded(lambda: _read_settings(services, upstream, base), "stored settings")


async def _guarded(reload: Callable[[], Awaitable[None]], subject: str) -> None:
    try:
        await reload()
    except Exception as problem:  # noqa: BLE001 - a bug of ours must not end the work in the background for good
        log.error("reload failed", subject=subject, reason=type(problem).__name__)


async def _read_deployments(services: Services) -> None:
    """An outage of the database is logged, not fatal: the next reload reads them."""
    try:
        await services.deployments.reload()
    except (*DATABASE_AWAY, *DATABASE_REFUSED) as problem:
        log.warning("reload delayed", subject="deployments", reason=type(problem).__name__)


async def _read_settings(services: Services, upstream: Upstream, base: Settings) -> None:
    """Let what the API stored take effect, as far as it may while an instance runs."""
    try:
        with services.database.active():
            rows = await stored_overrides()
    except (*DATABASE_AWAY, *DATABASE_REFUSED) as problem:
        log.warning("reload delayed", subject="stored settings", reason=type(problem).__name__)
        return
    wanted = overridden(base, rows, only=RUNTIME_SETTINGS)
    current = services.settings
    changed = {
        name: getattr(wanted, name) for name in RUNTIME_SETTINGS if getattr(wanted, name) != getattr(current, name)
    }
    if not changed:
        return
    log.info("settings changed", settings=sorted(changed))
    services.settings = replace(current, **changed)
    if not CACHE_SETTINGS.isdisjoint(changed):
        await switch_cache(services.gateway, services.settings, services.announcer.announce, open_answer_store)
    services.gateway.reconfigure(services.settings)
    services.pass_through.reconfigure(services.settings)
    await services.notifications.reconfigure(services.settings)
    services.budgets.exceeded_status = services.settings.budget_exceeded_status_code
    upstream.reconfigure(services.settings)
