"""Access groups: names that stand for several models in a grant."""

from __future__ import annotations

from typing import Any

from tortoise import fields
from tortoise.models import Model

from . import columns
from .versioned import Versioned


class AccessGroup(Versioned):
    """A group that is a row (`/v1/access_group`): models, and the teams and keys that were given it."""

    access_group_id = columns.name(primary_key=True)
    access_group_name = columns.name(unique=True)
    description = columns.name(2000, null=True)
    access_model_names = columns.json_list()
    access_mcp_server_ids = columns.json_list()
    access_agent_ids = columns.json_list()
    assigned_team_ids = columns.json_list()
    assigned_key_ids = columns.json_list()
    created_at = fields.DatetimeField(auto_now_add=True)
    created_by = columns.name(null=True)
    updated_at = fields.DatetimeField(auto_now=True)
    updated_by = columns.name(null=True)

    class Meta:
        table = "access_group"

    def to_json(self) -> dict[str, Any]:
        """The row as the management API writes it."""
        return {name: columns.json_value(getattr(self, name)) for name in self._meta.fields_map}


class ModelAccessGroupBudget(Model):
    """The budget of a group that is a word in `model_info.access_groups` (`/access_group/{group}/budget`)."""

    access_group = columns.name(primary_key=True)
    budget_id = columns.name(null=True)
    spend = columns.spent()
    budget_reset_at = fields.DatetimeField(null=True)
    created_at = fields.DatetimeField(auto_now_add=True)
    updated_at = fields.DatetimeField(auto_now=True)

    class Meta:
        table = "model_access_group_budget"
