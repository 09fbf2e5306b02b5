"""Retention: deleting what is older than it has to be, in bounded batches, found by index, oldest first.

Each batch is a statement and a transaction of its own, so that writers wait for one batch at most and a process that
dies loses none of its deletions. The totals of days are never deleted: they are small, and reports need them.
"""

from __future__ import annotations

from datetime import datetime

from tortoise.models import Model

from .audit import AuditLog
from .spend import SpendLog

BATCH = 1000


async def delete_spend_logs_before(moment: datetime, *, batch: int = BATCH, max_batches: int = 500) -> int:
    """Delete calls that started before `moment`; answers how many. More may be left when all batches were used."""
    return await _delete_before(SpendLog, "start_time", moment, batch, max_batches)


async def delete_audit_before(moment: datetime, *, batch: int = BATCH, max_batches: int = 500) -> int:
    """The same for changes that were written down before `moment`."""
    return await _delete_before(AuditLog, "updated_at", moment, batch, max_batches)


async def _delete_before(model: type[Model], column: str, moment: datetime, batch: int, max_batches: int) -> int:
    """Two processes that do this at once delete different rows or none; neither waits for long."""
    key, deleted = model._meta.pk_attr, 0
    for _ in range(max_batches):
        old = model.filter(**{f"{column}__lt": moment}).order_by(column).limit(batch).values_list(key, flat=True)
        ids = [str(id) for id in await old]
        if ids:
            deleted += await model.filter(pk__in=ids).delete()
        if len(ids) < batch:
            break
    return deleted
