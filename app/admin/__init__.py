"""The management API of one instance: one blueprint per resource, JSON in and out, on the contract's paths."""

from __future__ import annotations

from quart import Blueprint

from .audit import routes as audit
from .instance import health, health_checks, route_list, site_images
from .instance import unsupported as empty_features
from .keys import listing as key_list
from .keys import regeneration as key_regeneration
from .keys import routes as keys
from .models import access_groups as unified_access_groups
from .models import listing as model_list
from .models import metrics as model_metrics
from .models import model_access_groups as access_groups
from .models import provider_credentials as credentials
from .models import routes as models
from .organizations import members as organization_members
from .organizations import routes as organizations
from .settings import callbacks
from .settings import dashboard as ui_settings
from .settings import pass_through as pass_through_settings
from .settings import response_cache as cache_settings
from .settings import response_cache_routes as cache
from .settings import router as router_settings
from .settings import router_fallbacks as fallbacks
from .settings import routes as config
from .spend import budgets, global_activity, global_spend, tags
from .spend import by_entity as spend_rows
from .spend import daily_activity as activity
from .spend import daily_keys as activity_keys
from .spend import logs as spend_logs
from .spend import report as spend_report
from .spend import table as spend_table
from .teams import callbacks as team_callbacks
from .teams import info as team_info
from .teams import listing as team_list
from .teams import member_update as team_member_update
from .teams import members as team_members
from .teams import permissions as team_permissions
from .teams import routes as teams
from .users import end_users as customers
from .users import listing as user_list
from .users import onboarding
from .users import routes as users

admin_blueprints: tuple[Blueprint, ...] = (
    keys.blueprint,
    key_list.blueprint,
    key_regeneration.blueprint,
    users.blueprint,
    user_list.blueprint,
    onboarding.blueprint,
    teams.blueprint,
    team_members.blueprint,
    team_list.blueprint,
    team_info.blueprint,
    team_member_update.blueprint,
    team_permissions.blueprint,
    team_callbacks.blueprint,
    organizations.blueprint,
    organization_members.blueprint,
    models.blueprint,
    unified_access_groups.blueprint,
    tags.blueprint,
    model_metrics.blueprint,
    model_list.blueprint,
    customers.blueprint,
    credentials.blueprint,
    budgets.blueprint,
    access_groups.blueprint,
    spend_logs.blueprint,
    global_spend.blueprint,
    activity.blueprint,
    activity_keys.blueprint,
    audit.blueprint,
    global_activity.blueprint,
    spend_report.blueprint,
    spend_rows.blueprint,
    spend_table.blueprint,
    health.blueprint,
    health_checks.blueprint,
    config.blueprint,
    callbacks.blueprint,
    router_settings.blueprint,
    pass_through_settings.blueprint,
    fallbacks.blueprint,
    ui_settings.blueprint,
    cache.blueprint,
    cache_settings.blueprint,
    empty_features.blueprint,
    site_images.blueprint,
    route_list.blueprint,
)
