"""What checks of deployments found."""

from __future__ import annotations

from typing import Any

from tortoise import fields
from tortoise.indexes import Index
from tortoise.models import Model

from . import columns

# Who made a check that nobody asked for, in `checked_by`.
BACKGROUND_CHECK = "background health check"


class HealthCheck(Model):
    """One check of one deployment. `error_message` never holds a credential."""

    health_check_id = columns.name(64, primary_key=True)
    model_name = columns.name()
    model_id = columns.name(null=True)
    status = columns.name(16)
    healthy_count = fields.IntField(default=0, db_default=0)
    unhealthy_count = fields.IntField(default=0, db_default=0)
    error_message = fields.TextField(null=True)
    response_time_ms = fields.FloatField(null=True)
    details = columns.json_object()
    checked_by = columns.name(null=True)
    checked_at = fields.DatetimeField(auto_now_add=True)

    class Meta:
        table = "health_check"
        indexes = (Index(fields=("model_name", "checked_at"), name="idx_health_check_model"),)

    def to_json(self) -> dict[str, Any]:
        """The row as the management API writes it."""
        return {name: columns.json_value(getattr(self, name)) for name in self._meta.fields_map}
