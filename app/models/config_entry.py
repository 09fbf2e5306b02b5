"""Configuration that was set by the API: it lies over the file's, section by section."""

from __future__ import annotations

from tortoise import fields
from tortoise.models import Model

from . import columns


class ConfigEntry(Model):
    """One section, as `general_settings` or `ui_settings`. `environment_variables` holds ciphertexts."""

    param_name = columns.name(primary_key=True)
    param_value = columns.json_object()
    revision = fields.IntField(default=1, db_default=1)
    updated_at = fields.DatetimeField(auto_now=True)

    class Meta:
        table = "config_entry"
