"""People and services that own keys and sign in to the console."""

from __future__ import annotations

from typing import Any

from tortoise import fields
from tortoise.indexes import Index

from . import columns
from .versioned import Versioned

# The built-in admin's user id, and the id that the master key acts as.
ADMIN_USER_ID = "default_user_id"


class User(Versioned):
    """One user of this worker. `user_email` is kept in lower case, so that sign-in can compare it plainly."""

    user_id = columns.name(primary_key=True)
    user_alias = columns.name(null=True)
    user_email = columns.name(null=True, unique=True)
    user_role = columns.name(64, null=True)
    sso_user_id = columns.name(null=True, unique=True)
    password = columns.name(null=True)
    organization_id = columns.name(null=True)
    models = columns.json_list()
    metadata = columns.json_object()
    max_budget = columns.money(null=True)
    soft_budget = columns.money(null=True)
    spend = columns.spent()
    spend_epoch = columns.epoch()
    budget_duration = columns.name(32, null=True)
    budget_reset_at = fields.DatetimeField(null=True)
    tpm_limit = fields.BigIntField(null=True)
    rpm_limit = fields.BigIntField(null=True)
    max_parallel_requests = fields.IntField(null=True)
    model_spend = columns.json_object()
    model_max_budget = columns.json_object()
    created_at = fields.DatetimeField(auto_now_add=True)
    updated_at = fields.DatetimeField(auto_now=True)

    class Meta:
        table = "user_account"
        indexes = (
            Index(fields=("created_at",), name="idx_user_created_at"),
            Index(fields=("budget_reset_at",), name="idx_user_reset"),
        )

    def to_json(self) -> dict[str, Any]:
        """The row as the management API writes it, without the password."""
        row = {name: columns.json_value(getattr(self, name)) for name in self._meta.fields_map if name != "password"}
        return {**row, "object_permission": None}
