"""Budgets that keys, members and later other entities may share by `budget_id`."""

from __future__ import annotations

from typing import Any

from tortoise import fields
from tortoise.models import Model

from . import columns


class Budget(Model):
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

    def as_wire(self) -> dict[str, Any]:
        """The row as the management API writes it."""
        return {name: columns.wire_value(getattr(self, name)) for name in self._meta.fields_map}
