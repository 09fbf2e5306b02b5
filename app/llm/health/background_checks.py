"""Background health checks: every deployment is asked once per interval, and what is found is kept for /health.

Of the processes that share a state directory one does it at a time; what it finds stands in the database, where every
instance reads it.
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

_KEPT = timedelta(days=7)
_LOCK_LOOK_SECONDS = 5.0


class BackgroundChecks:
    def __init__(self, settings: Settings, database: Database, catalog: DeploymentCatalog, prober: HealthProbe) -> None:
        self._settings = settings
        self._database = database
        self._catalog = catalog
        self._prober = prober
        self.last_round_at: datetime | None = None
        self.is_working_here = False

    async def run_forever(self) -> None:
        """Ask all deployments, again and again. Comes back at once when the setting is off."""
        if not self._settings.background_health_checks or self._settings.is_control_plane:
            return
        name = sha256(self._settings.database_url.encode()).hexdigest()[:16]
        descriptor = await _lock_of(self._settings.state_dir / f"health-checks-{name}.lock")
        self.is_working_here = True
        try:
            while True:
                started = time.monotonic()
                try:
                    await self.run_once()
                except (*DATABASE_AWAY, *DATABASE_REFUSED) as problem:
                    log.warning("health checks could not be kept", reason=type(problem).__name__)
                except Exception as problem:  # noqa: BLE001 - a bug of ours must not end the checks for good
                    log.error("health checks failed", reason=type(problem).__name__)
                await asyncio.sleep(max(1.0, started + self._settings.health_check_interval - time.monotonic()))
        finally:
            self.is_working_here = False
            os.close(descriptor)

    async def run_once(self) -> int:
        """Ask every deployment that can be asked; answers how many are unhealthy. Raises what the database raises."""
        turns = asyncio.Semaphore(max(1, self._settings.health_check_concurrency))
        targets = [one for one in self._catalog.all() if can_be_probed(one)]
        rows = await asyncio.gather(*(self._checked(one, turns) for one in targets))
        with self._database.active():
            if rows:
                await HealthCheck.bulk_create(rows)
            await HealthCheck.filter(checked_by=BACKGROUND_CHECK, checked_at__lt=datetime.now(UTC) - _KEPT).delete()
        self.last_round_at = datetime.now(UTC)
        return sum(row.unhealthy_count for row in rows)

    async def _checked(self, deployment: Deployment, turns: asyncio.Semaphore) -> HealthCheck:
        async with turns:
            started = time.perf_counter()
            try:
                error = await self._prober.probe(deployment)
            except Exception as problem:  # noqa: BLE001 - one odd deployment must not leave the others unchecked
                log.error("a health check failed", deployment=deployment.id, reason=type(problem).__name__)
                error = "the check itself failed"
        if error is not None:
            log.warning("deployment is unhealthy", deployment=deployment.id, model=deployment.model_name)
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


async def _lock_of(path: Path) -> int:
    """Wait until no other process holds the lock; answers its descriptor, which is the receiver's to close."""
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return descriptor
            except BlockingIOError:
                await asyncio.sleep(_LOCK_LOOK_SECONDS)
    except asyncio.CancelledError:
        os.close(descriptor)
        raise
