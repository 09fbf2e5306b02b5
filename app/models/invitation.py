"""Invitations: a link with which a new user sets a first password."""

from __future__ import annotations

from typing import Any

from tortoise import fields
from tortoise.indexes import Index
from tortoise.models import Model

from ..security.credentials import hash_key
from . import columns


class Invitation(Model):
    """Good once, for seven days. The id is the hash of the link's secret, which is stored nowhere."""

    id = columns.name(64, primary_key=True)
    user_id = columns.name()
    is_accepted = fields.BooleanField(default=False, db_default=False)
    accepted_at = fields.DatetimeField(null=True)
    expires_at = fields.DatetimeField()
    created_at = fields.DatetimeField(auto_now_add=True)
    created_by = columns.name(null=True)
    updated_at = fields.DatetimeField(auto_now=True)
    updated_by = columns.name(null=True)

    class Meta:
        table = "invitation"
        indexes = (Index(fields=("user_id",), name="idx_invitation_user"),)

    @classmethod
    async def of_link(cls, secret: str) -> Invitation | None:
        """The invitation behind a link, by the secret that is in it."""
        return await cls.get_or_none(id=hash_key(secret))

    def to_json(self, secret: str) -> dict[str, Any]:
        """The row as the management API writes it: `id` is the secret, for a caller who gave it or just made it."""
        return {name: columns.json_value(getattr(self, name)) for name in self._meta.fields_map} | {"id": secret}
