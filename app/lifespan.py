"""The life of one process of an instance: what is opened at its start, what runs beside the requests, what ends it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack, suppress
from dataclasses import replace

import structlog
from quart import Quart

from .backends import open_answer_store
from .llm.caching.response_cache import SETTINGS as SWITCHES_CACHE
from .llm.caching.response_cache import switch_cache
from .llm.upstream.client import Upstream
from .services import Services
from .settings import Settings
from .storage.cleanup import Janitor, JanitorPlan
from .storage.database import DATABASE_AWAY, DATABASE_REFUSED
from .storage.stored_settings import RUNTIME_SETTINGS, overridden, stored_overrides
from .tasks import ended

log = structlog.get_logger(__name__)

# Deployments that another process stored appear here after this long, should its word get lost.
_RELOAD_SECONDS = 10.0


def add_lifespan(app: Quart, house: Services, upstream: Upstream, base: Settings) -> None:
    """Open and close the services of an app with its server. `base`: the settings of file and environment."""
    background: list[asyncio.Task[None]] = []
    stale = asyncio.Event()
    house.reload_soon = stale.set

    def hear(message: str) -> None:
        house.keys.hear(message)
        house.gateway.hear(message)
        if message in ("all", "deployments", "config"):
            stale.set()

    def hear_gap() -> None:
        house.keys.hear_gap()
        stale.set()

    @app.before_serving
    async def start() -> None:
        await house.database.open()
        await _read_deployments(house)
        await house.counters.start()
        await house.announcer.start(hear, hear_gap)
        await house.ledger.start()
        await house.watch.start()
        if house.traces is not None:
            await house.traces.start()
        background.append(asyncio.create_task(house.metrics.share_forever(), name="metrics of all processes"))
        background.append(asyncio.create_task(house.health_rounds.run_forever(), name="health checks"))
        background.append(asyncio.create_task(house.batch_meter.run_forever(), name="costs of batches"))
        reloading = _reload_forever(house, upstream, base, stale)
        background.append(asyncio.create_task(reloading, name="reload of deployments and settings"))
        background.append(asyncio.create_task(Janitor(house.database, _plan(base)).run_forever(), name="janitor"))

    @app.after_serving
    async def stop() -> None:
        house.is_shutting_down = True
        await asyncio.gather(*(ended(task) for task in background))
        await _close(house, upstream)


async def _close(house: Services, upstream: Upstream) -> None:
    """The last one first. One that fails does not keep the others from being closed."""
    async with AsyncExitStack() as closing:
        closing.push_async_callback(house.database.close)
        closing.push_async_callback(house.gateway.close)
        closing.push_async_callback(house.cache.close)
        closing.push_async_callback(house.registry.aclose)
        closing.callback(upstream.close)
        closing.push_async_callback(house.counters.stop)
        closing.push_async_callback(house.ledger.stop)
        if house.traces is not None:
            closing.push_async_callback(house.traces.stop)
        closing.push_async_callback(house.watch.stop)
        closing.push_async_callback(house.announcer.stop)
        closing.callback(house.metrics.close)


def _plan(settings: Settings) -> JanitorPlan:
    return JanitorPlan(
        min_seconds=settings.janitor_min_seconds,
        max_seconds=max(settings.janitor_min_seconds, settings.janitor_max_seconds),
        calendar=settings.budget_calendar,
        resets_budgets=not settings.disable_reset_budget,
        spend_logs_kept=settings.spend_logs_retention,
        audit_kept=settings.audit_log_retention,
        batch=max(1, settings.cleanup_batch_size),
        most_batches=settings.cleanup_max_batches,
    )


async def _reload_forever(house: Services, upstream: Upstream, base: Settings, stale: asyncio.Event) -> None:
    while True:
        with suppress(TimeoutError):
            await asyncio.wait_for(stale.wait(), _RELOAD_SECONDS)
        stale.clear()
        await _guarded(lambda: _read_deployments(house), "deployments could not be read")
        await _guarded(lambda: _read_settings(house, upstream, base), "stored settings could not be read")


async def _guarded(step: Callable[[], Awaitable[None]], failure: str) -> None:
    try:
        await step()
    except Exception as problem:  # noqa: BLE001 - a bug of ours must not end the work in the background for good
        log.error(failure, reason=type(problem).__name__)


async def _read_deployments(house: Services) -> None:
    """An outage of the database is logged, not fatal: the next round reads them."""
    try:
        await house.deployments.reload()
    except (*DATABASE_AWAY, *DATABASE_REFUSED) as problem:
        log.warning("deployments could not be read", reason=type(problem).__name__)


async def _read_settings(house: Services, upstream: Upstream, base: Settings) -> None:
    """Let what the API stored take effect, as far as it may while an instance runs."""
    try:
        with house.database.active():
            rows = await stored_overrides()
    except (*DATABASE_AWAY, *DATABASE_REFUSED) as problem:
        log.warning("stored settings could not be read", reason=type(problem).__name__)
        return
    wanted = overridden(base, rows, only=RUNTIME_SETTINGS)
    current = house.settings
    changed = {
        name: getattr(wanted, name) for name in RUNTIME_SETTINGS if getattr(wanted, name) != getattr(current, name)
    }
    if not changed:
        return
    log.info("settings have changed", settings=sorted(changed))
    house.settings = replace(current, **changed)
    if not SWITCHES_CACHE.isdisjoint(changed):
        await switch_cache(house.gateway, house.settings, house.announcer.announce, open_answer_store)
    house.gateway.reconfigure(house.settings)
    house.pass_through.reconfigure(house.settings)
    await house.watch.reconfigure(house.settings)
    house.budgets.exceeded_status = house.settings.budget_exceeded_status_code
    upstream.reconfigure(house.settings)
