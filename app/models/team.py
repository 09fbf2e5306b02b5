"""Teams and who is in them. Membership is rows, not a JSON list, so that two changes at once cannot lose one."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from tortoise import fields
from tortoise.indexes import Index
from tortoise.models import Model

from . import columns
from .versioned import Versioned


class TeamColumns(Model):
    """What a team says, shared by the live table and the tombstones."""

    team_alias = columns.name(null=True)
    organization_id = columns.name(null=True)
    metadata = columns.json_object()
    models = columns.json_list()
    model_aliases = columns.json_object()
    default_team_member_models = columns.json_list()
    team_member_permissions = columns.json_list()
    access_group_ids = columns.json_list()
    router_settings = columns.json_object()
    max_budget = columns.money(null=True)
    soft_budget = columns.money(null=True)
    spend = columns.spent()
    spend_epoch = columns.epoch()
    budget_duration = columns.name(32, null=True)
    budget_reset_at = fields.DatetimeField(null=True)
    budget_limits = columns.json_list()
    model_spend = columns.json_object()
    model_max_budget = columns.json_object()
    tpm_limit = fields.BigIntField(null=True)
    rpm_limit = fields.BigIntField(null=True)
    tpd_limit = fields.BigIntField(null=True)
    max_parallel_requests = fields.IntField(null=True)
    blocked = fields.BooleanField(default=False, db_default=False)
    created_at = fields.DatetimeField(auto_now_add=True)
    updated_at = fields.DatetimeField(auto_now=True)

    class Meta:
        abstract = True

    def to_json(self, members: Iterable[dict[str, Any]] = ()) -> dict[str, Any]:
        """The row as the management API writes it; `members` are `{"user_id", "user_email", "role"}`."""
        members = list(members)
        row = {name: columns.json_value(getattr(self, name)) for name in self._meta.fields_map}
        return {
            **row,
            "admins": [member["user_id"] for member in members if member["role"] == "admin"],
            "members": [member["user_id"] for member in members if member["role"] != "admin"],
            "members_with_roles": members,
            "policies": [],
            "object_permission": None,
            "object_permission_id": None,
        }


class Team(TeamColumns, Versioned):
    """A group that shares models, a budget and limits."""

    team_id = columns.name(primary_key=True)

    class Meta:
        table = "team"
        indexes = (
            Index(fields=("created_at",), name="idx_team_created_at"),
            Index(fields=("team_alias",), name="idx_team_alias"),
            Index(fields=("organization_id",), name="idx_team_organization"),
            Index(fields=("budget_reset_at",), name="idx_team_reset"),
        )


class DeletedTeam(TeamColumns):
    """A tombstone, so that spend of a deleted team keeps its name. `members` is who was in it."""

    id = fields.BigIntField(primary_key=True)
    team_id = columns.name()
    members = columns.json_list()
    deleted_at = fields.DatetimeField(auto_now_add=True)
    deleted_by = columns.name(null=True)
    deleted_by_api_key = columns.name(64, null=True)
    litellm_changed_by = columns.name(null=True)

    class Meta:
        table = "deleted_team"
        indexes = (Index(fields=("team_id",), name="idx_deleted_team_team"),)


class TeamMembership(Model):
    """One user in one team. `role` is `admin` or `user`, the budget is a row of `budget`."""

    id = fields.BigIntField(primary_key=True)
    team_id = columns.name()
    user_id = columns.name()
    role = columns.name(32, default="user", db_default="user")
    spend = columns.spent()
    spend_epoch = columns.epoch()
    total_spend = columns.spent()
    budget_id = columns.name(null=True)
    budget_reset_at = fields.DatetimeField(null=True)
    created_at = fields.DatetimeField(auto_now_add=True)

    class Meta:
        table = "team_membership"
        unique_together = (("team_id", "user_id"),)
        indexes = (Index(fields=("user_id",), name="idx_team_membership_user"),)

    @property
    def is_admin(self) -> bool:
        return bool(self.role == "admin")

    def to_json(self) -> dict[str, Any]:
        names = ("user_id", "team_id", "budget_id", "spend", "total_spend")
        return {name: columns.json_value(getattr(self, name)) for name in names}
