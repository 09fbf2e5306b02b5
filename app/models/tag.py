"""Tags: words on requests and keys, with a description and a budget of their own."""

from __future__ import annotations

from typing import Any

from tortoise import fields

from . import columns
from .versioned import Versioned


class Tag(Versioned):
    """A tag that somebody declared. Tags that only traffic names have no row, their spend is in the daily totals."""

    tag_name = columns.name(primary_key=True)
    description = columns.name(2000, null=True)
    models = columns.json_list()
    model_info = columns.json_object()
    spend = columns.spent()
    spend_epoch = columns.epoch()
    budget_id = columns.name(null=True)
    budget_reset_at = fields.DatetimeField(null=True)
    created_at = fields.DatetimeField(auto_now_add=True)
    created_by = columns.name(null=True)
    updated_at = fields.DatetimeField(auto_now=True)

    class Meta:
        table = "tag"

    def to_json(self) -> dict[str, Any]:
        """The row as the management API writes it."""
        row = {name: columns.json_value(getattr(self, name)) for name in self._meta.fields_map if name != "tag_name"}
        return {"name": self.tag_name, **row}
