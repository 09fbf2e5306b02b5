"""Virtual keys: `sk-…` secrets of which only the SHA-256 is stored."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from tortoise import fields
from tortoise.expressions import Q
from tortoise.indexes import Index
from tortoise.models import Model

from ..security.callback_credentials import masked_metadata
from . import columns
from .versioned import Versioned

# Sessions of the console are keys of this team; lists of keys leave them out.
SESSION_TEAM_ID = "litellm-dashboard"


class KeyColumns(Model):
    """What a key says, shared by the live table and the tombstones."""

    key_name = columns.name(64, null=True)
    spend = columns.spent()
    total_spend = columns.spent()
    spend_epoch = columns.epoch()
    expires = fields.DatetimeField(null=True)
    models = columns.json_list()
    aliases = columns.json_object()
    config = columns.json_object()
    router_settings = columns.json_object()
    permissions = columns.json_object()
    metadata = columns.json_object()
    user_id = columns.name(null=True)
    team_id = columns.name(null=True)
    organization_id = columns.name(null=True)
    project_id = columns.name(null=True)
    agent_id = columns.name(null=True)
    max_parallel_requests = fields.IntField(null=True)
    tpm_limit = fields.BigIntField(null=True)
    rpm_limit = fields.BigIntField(null=True)
    tpd_limit = fields.BigIntField(null=True)
    max_budget = columns.money(null=True)
    soft_budget = columns.money(null=True)
    budget_duration = columns.name(32, null=True)
    budget_reset_at = fields.DatetimeField(null=True)
    budget_limits = columns.json_list()
    budget_id = columns.name(null=True)
    budget_fallbacks = columns.json_object()
    model_spend = columns.json_object()
    model_max_budget = columns.json_object()
    blocked = fields.BooleanField(default=False, db_default=False)
    allowed_cache_controls = columns.json_list()
    allowed_routes = columns.json_list()
    key_type = columns.name(32, null=True)
    policies = columns.json_list()
    access_group_ids = columns.json_list()
    object_permission_id = columns.name(null=True)
    rotation_count = fields.IntField(default=0, db_default=0)
    auto_rotate = fields.BooleanField(default=False, db_default=False)
    rotation_interval = columns.name(32, null=True)
    last_rotation_at = fields.DatetimeField(null=True)
    key_rotation_at = fields.DatetimeField(null=True)
    last_active = fields.DatetimeField(null=True)
    created_at = fields.DatetimeField(auto_now_add=True)
    created_by = columns.name(null=True)
    updated_at = fields.DatetimeField(auto_now=True)
    updated_by = columns.name(null=True)

    class Meta:
        abstract = True

    @property
    def is_expired(self) -> bool:
        return self.expires is not None and self.expires <= datetime.now(UTC)

    @property
    def status(self) -> str:
        """`active`, `expired` or `revoked`, as lists filter by it."""
        if self.blocked:
            return "revoked"
        return "expired" if self.is_expired else "active"

    def to_json(self) -> dict[str, Any]:
        """The row as the management API writes it. It never held the secret."""
        row = {name: columns.json_value(getattr(self, name)) for name in self._meta.fields_map}
        row["metadata"] = masked_metadata(self.metadata)
        return {**row, "object_permission": None, "status": self.status}

    @classmethod
    def not_of_sessions(cls) -> Q:
        """All but the keys that the console signs people in with."""
        return Q(team_id__isnull=True) | ~Q(team_id=SESSION_TEAM_ID)

    @classmethod
    def with_status(cls, status: str) -> Q:
        """The condition of `active`, `expired` or `revoked`; the same rule as `status`."""
        now = datetime.now(UTC)
        if status == "revoked":
            return Q(blocked=True)
        if status == "expired":
            return Q(blocked=False, expires__lte=now)
        return Q(blocked=False) & (Q(expires__isnull=True) | Q(expires__gt=now))


class VirtualKey(KeyColumns, Versioned):
    """`token` is the SHA-256 of the whole `sk-…` secret in hex, the secret itself is never stored."""

    token = columns.name(64, primary_key=True)
    key_alias = columns.name(null=True, unique=True)

    class Meta:
        table = "virtual_key"
        indexes = (
            Index(fields=("user_id", "team_id"), name="idx_virtual_key_owner"),
            Index(fields=("team_id",), name="idx_virtual_key_team"),
            Index(fields=("created_at", "token"), name="idx_virtual_key_created_at"),
            Index(fields=("spend",), name="idx_virtual_key_spend"),
            Index(fields=("budget_reset_at", "expires"), name="idx_virtual_key_reset"),
            Index(fields=("organization_id",), name="idx_virtual_key_organization"),
            Index(fields=("created_by",), name="idx_virtual_key_creator"),
            Index(fields=("budget_id",), name="idx_virtual_key_budget"),
            Index(fields=("key_rotation_at",), name="idx_virtual_key_rotation"),
        )

    async def archive(self, *, deleted_by: str | None, deleted_by_api_key: str, changed_by: str | None) -> None:
        """Delete the key and leave a tombstone. Run it inside a transaction."""
        row = {name: getattr(self, name) for name in self._meta.fields_map if name != "version"}
        await DeletedVirtualKey.create(
            **row, deleted_by=deleted_by, deleted_by_api_key=deleted_by_api_key, litellm_changed_by=changed_by
        )
        await self.delete()


class DeprecatedKey(Model):
    """The secret that a key had before it was regenerated. It goes on working until `revoke_at`."""

    token = columns.name(64, primary_key=True)
    active_token = columns.name(64)
    revoke_at = fields.DatetimeField()

    class Meta:
        table = "deprecated_key"
        indexes = (Index(fields=("active_token",), name="idx_deprecated_key_active"),)


class DeletedVirtualKey(KeyColumns):
    """A tombstone, so that spend of a deleted key keeps its name."""

    id = fields.BigIntField(primary_key=True)
    token = columns.name(64)
    key_alias = columns.name(null=True)
    deleted_at = fields.DatetimeField(auto_now_add=True)
    deleted_by = columns.name(null=True)
    deleted_by_api_key = columns.name(64, null=True)
    litellm_changed_by = columns.name(null=True)

    class Meta:
        table = "deleted_virtual_key"
        indexes = (Index(fields=("token",), name="idx_deleted_virtual_key_token"),)

    @property
    def status(self) -> str:
        return "deleted"
