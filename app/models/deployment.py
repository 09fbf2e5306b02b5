"""Deployments that were added by the API; those of the configuration file live in memory only."""

from __future__ import annotations

from typing import Any

from tortoise import fields
from tortoise.indexes import Index

from . import columns
from .versioned import Versioned


class StoredDeployment(Versioned):
    """One provider target. `litellm_params` holds ciphertext (see security/credentials.py), never a plain credential.

    `is_team_made`: an admin of its team made it. Only such rows are for admins of the team to change, and what those
    say of prices, mocks and usage bills nobody beside their team. False for what an admin of the instance made.
    """

    model_id = columns.name(primary_key=True)
    model_name = columns.name()
    litellm_params = fields.TextField()
    model_info = columns.json_object()
    blocked = fields.BooleanField(default=False, db_default=False)
    is_team_made = fields.BooleanField(default=False, db_default=False)
    created_at = fields.DatetimeField(auto_now_add=True)
    created_by = columns.name(null=True)
    updated_at = fields.DatetimeField(auto_now=True)
    updated_by = columns.name(null=True)

    class Meta:
        table = "deployment"
        indexes = (Index(fields=("model_name",), name="idx_deployment_model_name"),)

    def to_json(self) -> dict[str, Any]:
        """The row without its parameters, not even as ciphertext."""
        names = [name for name in self._meta.fields_map if name != "litellm_params"]
        return {name: columns.json_value(getattr(self, name)) for name in names}
