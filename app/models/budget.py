"""Budgets that keys, members and later other entities may share by `budget_id`."""

from __future__ import annotations

from typing import Any

from tortoise import fields
from tortoise.indexes import Index
from tortoise.models import Model

from . import columns
from .versioned import Versioned


class Budget(Versioned):
    """A ceiling in USD with optional limits. `max_budget` null: unlimited, 0: nothing may be spent."""

    budget_id = columns.name(primary_key=True)
    max_budget = columns.money(null=True)
    soft_budget = columns.money(null=True)
    max_parallel_requests = fields.IntField(null=True)
    tpm_limit = fields.BigIntField(null=True)
    rpm_limit = fields.BigIntField(null=True)
    tpd_limit = fields.BigIntField(null=True)
    model_max_budget = columns.json_object()
    budget_duration = columns.name(32, null=True)
    budget_reset_at = fields.DatetimeField(null=True)
    allowed_models = columns.json_list()
    temp_budget_increase = columns.money(null=True)
    temp_budget_expiry = fields.DatetimeField(null=True)
    created_at = fields.DatetimeField(auto_now_add=True)
    created_by = columns.name(null=True)
    updated_at = fields.DatetimeField(auto_now=True)
    updated_by = columns.name(null=True)

    class Meta:
        table = "budget"
        indexes = (Index(fields=("budget_reset_at",), name="idx_budget_reset"),)

    def to_json(self) -> dict[str, Any]:
        """The row as the management API writes it."""
        return {name: columns.json_value(getattr(self, name)) for name in self._meta.fields_map}


class BudgetWindow(Model):
    """What one scope spent in its current period of one length, for ceilings beside its own budget.

    `kind` and `id` name the scope as the ledger does, `period` is the length as written (`1h`, `30d`) and `model` the
    model of a per-model ceiling, else "". Spend counts from `starts_at` on, a row of an older period counts as zero.
    """

    pk_id = fields.BigIntField(primary_key=True)
    kind = columns.name(32)
    id = columns.name(512)
    model = columns.name(default="", db_default="")
    period = columns.name(32, default="", db_default="")
    starts_at = fields.DatetimeField()
    spend = columns.spent()

    class Meta:
        table = "budget_window"
        unique_together = (("kind", "id", "model", "period"),)


class Counter(Model):
    """What one budget has spent, for processes that share a database and no Redis. Its row is also their lock."""

    name = columns.name(768, primary_key=True)
    spend = columns.spent()
    touched_at = fields.DatetimeField(auto_now_add=True)

    class Meta:
        table = "counter"
        indexes = (Index(fields=("touched_at",), name="idx_counter_touched"),)


class RunningCalls(Model):
    """What the running calls of one process hold of one counter. A process that is gone holds nothing."""

    pk_id = fields.BigIntField(primary_key=True)
    name = columns.name(768)
    process_id = columns.name(64)
    held = columns.spent()
    running = fields.IntField(default=0, db_default=0)

    class Meta:
        table = "running_calls"
        unique_together = (("name", "process_id"),)
        indexes = (Index(fields=("process_id",), name="idx_running_calls_process"),)


class RateBucket(Model):
    """Calls and tokens of one limit in one second, for processes that share a database and no Redis."""

    pk_id = fields.BigIntField(primary_key=True)
    name = columns.name(768)
    second = fields.BigIntField()
    requests = fields.BigIntField(default=0, db_default=0)
    tokens = fields.BigIntField(default=0, db_default=0)

    class Meta:
        table = "rate_bucket"
        unique_together = (("name", "second"),)
        indexes = (Index(fields=("second",), name="idx_rate_bucket_second"),)


class GatewayProcess(Model):
    """A process that serves calls, as long as it says so every few seconds."""

    process_id = columns.name(64, primary_key=True)
    seen_at = fields.DatetimeField()

    class Meta:
        table = "gateway_process"
