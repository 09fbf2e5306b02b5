"""Rows that two admins may edit at the same time: each change counts the row's version up by one.

Who sends the version that they read writes only if nobody was faster; who sends none writes the columns that they
sent and leaves the others as they are.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from tortoise import fields
from tortoise.expressions import F
from tortoise.models import Model


class ChangedMeanwhile(Exception):
    """The row has another version than the one that was read. `version` is the current one."""

    def __init__(self, version: int) -> None:
        super().__init__(f"version {version}")
        self.version = version


class Versioned(Model):
    version = fields.IntField(default=1, db_default=1)

    class Meta:
        abstract = True

    async def write(self, columns: Mapping[str, Any], *, expected_version: int | None = None) -> None:
        """Write these columns, and only those, and read the row again.

        Raises ChangedMeanwhile when `expected_version` is not the row's, DoesNotExist when the row is gone,
        IntegrityError for what the table refuses.
        """
        rows = type(self).filter(pk=self.pk)
        if expected_version is not None:
            rows = rows.filter(version=expected_version)
        # An instance checks the values and fills in `auto_now`, a query does not.
        self.update_from_dict(dict(columns))
        values = {name: getattr(self, name) for name in columns}
        if "spend" in values and "spend_epoch" in self._meta.fields_map:
            values["spend_epoch"] = F("spend_epoch") + 1
        stamps = {"updated_at": datetime.now(UTC)} if "updated_at" in self._meta.fields_map else {}
        written = await rows.update(**values, **stamps, version=F("version") + 1)
        fresh = await type(self).get(pk=self.pk)
        if not written:
            raise ChangedMeanwhile(fresh.version)
        for name in self._meta.fields_map:
            setattr(self, name, getattr(fresh, name))
