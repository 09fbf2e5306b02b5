"""Credentials of providers that several deployments share by name."""

from __future__ import annotations

from typing import Any

from tortoise import fields

from . import columns
from .versioned import Versioned


class Credential(Versioned):
    """`credential_values` holds ciphertext (see auth/credentials.py), never a plain credential."""

    credential_name = columns.name(primary_key=True)
    credential_values = fields.TextField()
    credential_info = columns.json_object()
    created_at = fields.DatetimeField(auto_now_add=True)
    created_by = columns.name(null=True)
    updated_at = fields.DatetimeField(auto_now=True)
    updated_by = columns.name(null=True)

    class Meta:
        table = "credential"

    def to_json(self) -> dict[str, Any]:
        """The row without its values, not even as ciphertext."""
        names = [name for name in self._meta.fields_map if name != "credential_values"]
        return {name: columns.json_value(getattr(self, name)) for name in names}
