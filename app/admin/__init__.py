"""The management API of one instance: one blueprint per resource, JSON in and out, on the contract's paths."""

from __future__ import annotations

from quart import Blueprint

from . import (
    activity,
    global_spend,
    health,
    key_list,
    keys,
    models,
    spend_logs,
    team_list,
    team_members,
    teams,
    user_list,
    users,
)

admin_blueprints: tuple[Blueprint, ...] = (
    keys.blueprint,
    key_list.blueprint,
    users.blueprint,
    user_list.blueprint,
    teams.blueprint,
    team_members.blueprint,
    team_list.blueprint,
    models.blueprint,
    spend_logs.blueprint,
    global_spend.blueprint,
    activity.blueprint,
    health.blueprint,
)
