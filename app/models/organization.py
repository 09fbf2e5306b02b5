"""Organizations: they hold teams and members, and bound the models and the spend of all of them."""

from __future__ import annotations

from typing import Any

from tortoise import fields
from tortoise.indexes import Index
from tortoise.models import Model

from . import columns
from .versioned import Versioned


class Organization(Versioned):
    """Its budget is a row of `budget`, made with it."""

    organization_id = columns.name(primary_key=True)
    organization_alias = columns.name(null=True)
    budget_id = columns.name(null=True)
    metadata = columns.json_object()
    models = columns.json_list()
    spend = columns.spent()
    spend_epoch = columns.epoch()
    model_spend = columns.json_object()
    created_at = fields.DatetimeField(auto_now_add=True)
    created_by = columns.name(null=True)
    updated_at = fields.DatetimeField(auto_now=True)
    updated_by = columns.name(null=True)

    class Meta:
        table = "organization"
        indexes = (Index(fields=("organization_alias",), name="idx_organization_alias"),)

    def to_json(self) -> dict[str, Any]:
        """The row as the management API writes it."""
        row = {name: columns.json_value(getattr(self, name)) for name in self._meta.fields_map}
        return {**row, "object_permission": None, "object_permission_id": None}


class OrganizationMembership(Model):
    """One user in one organization. `user_role` is org_admin, internal_user or internal_user_viewer."""

    id = fields.BigIntField(primary_key=True)
    organization_id = columns.name()
    user_id = columns.name()
    user_role = columns.name(64, null=True)
    spend = columns.spent()
    budget_id = columns.name(null=True)
    created_at = fields.DatetimeField(auto_now_add=True)
    updated_at = fields.DatetimeField(auto_now=True)

    class Meta:
        table = "organization_membership"
        unique_together = (("organization_id", "user_id"),)
        indexes = (Index(fields=("user_id",), name="idx_organization_membership_user"),)

    def to_json(self) -> dict[str, Any]:
        names = ("user_id", "organization_id", "user_role", "spend", "budget_id", "created_at", "updated_at")
        return {name: columns.json_value(getattr(self, name)) for name in names}
