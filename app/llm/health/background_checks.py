"""Background health checks: every deployment is probed once per interval, and the results are stored for /health.

Of the processes that share a state directory one probes at a time, the one that holds a lock file. Results are rows of
the database, where every instance reads them.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import time
import uuid
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path

import structlog

from ...deployments.catalog import DeploymentCatalog
from ...deployments.deployment import Deployment
from ...models import BACKGROUND_CHECK, HealthCheck
from ...settings import Settings
from ...storage.database import DATABASE_AWAY, DATABASE_REFUSED, Database
from .probe import HealthProbe, can_be_probed

log = structlog.get_logger(__name__)

_RETENTION = timedelta(days=7)
_LOCK_POLL_SECONDS = 5.0


class BackgroundChecks:
    def __init__(self, settings: Settings, database: Database, catalog: DeploymentCatalog, probe: HealthProbe) -> None:
        self._settings = settings
        self._database = database
        self._catalog = catalog
        self._probe = probe
        self.last_round_at: datetime | None = None
        self.holds_lock = False

    async def run_forever(self) -> None:
        """Probe all deployments, again and again. Returns at once when the setting is off."""
        if not self._settings.background_health_checks or self._settings.is_control_plane:
            return
        name = sha256(self._settings.database_url.encode()).hexdigest()[:16]
        descriptor = await _acquire_lock(self._settings.state_dir / f"health-checks-{name}.lock")
        self.holds_lock = True
        try:
            while True:
                started = time.monotonic()
                try:
                    await self.run_once()
                except (*DATABASE_AWAY, *DATABASE_REFUSED) as problem:
                    log.warning("health check results not stored", reason=type(problem).__name__)
                except Exception as problem:  # noqa: BLE001 - a bug of ours must not end the checks for good
                    log.error("background health checks failed", reason=type(problem).__name__)
                await asyncio.sleep(max(1.0, started + self._settings.health_check_interval - time.monotonic()))
        finally:
            self.holds_lock = False
            os.close(descriptor)

    async def run_once(self) -> int:
        """Probe every deployment that can be probed; returns how many are unhealthy. Raises errors of the database."""
        slots = asyncio.Semaphore(max(1, self._settings.health_check_concurrency))
        deployments = [deployment for deployment in self._catalog.all() if can_be_probed(deployment)]
        rows = await asyncio.gather(*(self._check(deployment, slots) for deployment in deployments))
        with self._database.active():
            if rows:
                await HealthCheck.bulk_create(rows)
            await HealthCheck.filter(
                checked_by=BACKGROUND_CHECK, checked_at__lt=datetime.now(UTC) - _RETENTION
            ).delete()
        self.last_round_at = datetime.now(UTC)
        return sum(row.unhealthy_count for row in rows)

    async def _check(self, deployment: Deployment, slots: asyncio.Semaphore) -> HealthCheck:
        async with slots:
            started = time.perf_counter()
            try:
                error = await self._probe.probe(deployment)
            except Exception as problem:  # noqa: BLE001 - one odd deployment must not leave the others unchecked
                log.error("health check failed", deployment=deployment.id, reason=type(problem).__name__)
                error = "the check itself failed"
        if error is not None:
            log.warning("deployment unhealthy", deployment=deployment.id, model=deployment.model_name)
        return HealthCheck(
            health_check_id=str(uuid.uuid4()),
            model_name=deployment.model_name[:255],
            model_id=deployment.id[:255],
            status="healthy" if error is None else "unhealthy",
            healthy_count=int(error is None),
            unhealthy_count=int(error is not None),
            error_message=error,
            response_time_ms=round((time.perf_counter() - started) * 1000, 1),
            details={},
            checked_by=BACKGROUND_CHECK,
        )


async def _acquire_lock(path: Path) -> int:
    """Wait until no other process holds the lock; returns its descriptor, which the caller closes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return descriptor
            except BlockingIOError:
                await asyncio.sleep(_LOCK_POLL_SECONDS)
    except asyncio.CancelledError:
        os.close(descriptor)
        raise
