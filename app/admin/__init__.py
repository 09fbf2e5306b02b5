"""The management API of one instance: a room per resource, one blueprint per file with routes. JSON in and out."""

from __future__ import annotations

from quart import Blueprint

from .audit import routes as audit_routes
from .instance import health, health_checks, route_list, site_images
from .instance import unsupported as instance_unsupported
from .keys import listing as key_listing
from .keys import regeneration as key_regeneration
from .keys import routes as key_routes
from .models import access_groups, model_access_groups, provider_credentials
from .models import listing as model_listing
from .models import metrics as model_metrics
from .models import routes as model_routes
from .organizations import members as organization_members
from .organizations import routes as organization_routes
from .settings import callbacks as settings_callbacks
from .settings import dashboard as settings_dashboard
from .settings import pass_through as settings_pass_through
from .settings import response_cache, response_cache_routes, router_fallbacks
from .settings import router as settings_router
from .settings import routes as settings_routes
from .spend import budgets, daily_activity, daily_keys, global_activity, global_spend, tags
from .spend import by_entity as spend_by_entity
from .spend import logs as spend_logs
from .spend import report as spend_report
from .spend import table as spend_table
from .teams import callbacks as team_callbacks
from .teams import info as team_info
from .teams import listing as team_listing
from .teams import member_update as team_member_update
from .teams import members as team_members
from .teams import permissions as team_permissions
from .teams import routes as team_routes
from .users import end_users, onboarding
from .users import listing as user_listing
from .users import routes as user_routes

admin_blueprints: tuple[Blueprint, ...] = (
    # keys
    key_routes.blueprint,
    key_listing.blueprint,
    key_regeneration.blueprint,
    # users
    user_routes.blueprint,
    user_listing.blueprint,
    onboarding.blueprint,
    end_users.blueprint,
    # teams
    team_routes.blueprint,
    team_listing.blueprint,
    team_info.blueprint,
    team_members.blueprint,
    team_member_update.blueprint,
    team_permissions.blueprint,
    team_callbacks.blueprint,
    # organizations
    organization_routes.blueprint,
    organization_members.blueprint,
    # models
    model_routes.blueprint,
    model_listing.blueprint,
    model_metrics.blueprint,
    access_groups.blueprint,
    model_access_groups.blueprint,
    provider_credentials.blueprint,
    # spend
    budgets.blueprint,
    tags.blueprint,
    spend_logs.blueprint,
    spend_report.blueprint,
    spend_table.blueprint,
    spend_by_entity.blueprint,
    global_spend.blueprint,
    global_activity.blueprint,
    daily_activity.blueprint,
    daily_keys.blueprint,
    # settings
    settings_routes.blueprint,
    settings_callbacks.blueprint,
    settings_router.blueprint,
    router_fallbacks.blueprint,
    settings_pass_through.blueprint,
    settings_dashboard.blueprint,
    response_cache.blueprint,
    response_cache_routes.blueprint,
    # instance
    health.blueprint,
    health_checks.blueprint,
    route_list.blueprint,
    site_images.blueprint,
    instance_unsupported.blueprint,
    # audit
    audit_routes.blueprint,
)
