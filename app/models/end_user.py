"""End users: the customers of whoever holds a key, known by the `user` value of their calls."""

from __future__ import annotations

from typing import Any

from tortoise import fields

from . import columns
from .versioned import Versioned


class EndUser(Versioned):
    """Made by the API, or by the ledger with the first call that names it. Its budget is a row of `budget`."""

    user_id = columns.name(primary_key=True)
    alias = columns.name(null=True)
    spend = columns.spent()
    spend_epoch = columns.epoch()
    allowed_model_region = columns.name(16, null=True)
    default_model = columns.name(null=True)
    models = columns.json_list()
    budget_id = columns.name(null=True)
    budget_reset_at = fields.DatetimeField(null=True)
    blocked = fields.BooleanField(default=False, db_default=False)
    created_at = fields.DatetimeField(auto_now_add=True)
    updated_at = fields.DatetimeField(auto_now=True)

    class Meta:
        table = "end_user"

    def to_json(self) -> dict[str, Any]:
        """The row as the management API writes it."""
        row = {name: columns.json_value(getattr(self, name)) for name in self._meta.fields_map}
        return {**row, "object_permission": None, "object_permission_id": None}
