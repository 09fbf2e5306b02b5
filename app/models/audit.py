"""Who changed what, when, on behalf of whom."""

from __future__ import annotations

from typing import Any

from tortoise import fields
from tortoise.indexes import Index
from tortoise.models import Model

from . import columns


class AuditLog(Model):
    """One change. `before_value` and `updated_values` never hold a secret."""

    id = columns.name(64, primary_key=True)
    updated_at = fields.DatetimeField(auto_now_add=True)
    changed_by = columns.name(null=True)
    changed_by_api_key = columns.name(64, null=True)
    action = columns.name(32)
    table_name = columns.name(64)
    object_id = columns.name()
    before_value: fields.JSONField[dict[str, Any] | None] = fields.JSONField(null=True)
    updated_values: fields.JSONField[dict[str, Any] | None] = fields.JSONField(null=True)

    class Meta:
        table = "audit_log"
        indexes = (
            Index(fields=("updated_at",), name="idx_audit_log_updated_at"),
            Index(fields=("table_name", "object_id"), name="idx_audit_log_object"),
            Index(fields=("object_id",), name="idx_audit_log_object_id"),
            Index(fields=("changed_by", "updated_at"), name="idx_audit_log_changed_by"),
        )
