"""The policy table: who may call which route. A route that is not in it does not exist, since the app does not start.

A role admits a caller to a route; what they may see or change there (own keys, teams that they administer) is the
view's own rule. Refusals come in this order: unknown key, route, blocked, expired, role.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum

from .roles import ANYONE, MEMBERS, READERS, USERS, Role


class Refusal(Enum):
    """How a caller whose role is too low is refused, as clients of each route expect; shapes as in app/errors.py."""

    ADMIN_ONLY = "401 E1, 403 E1 for a viewer"
    FORBIDDEN = "403 E1"
    PLAIN = "403 E2"
    BAD_REQUEST = "400 E1"


@dataclass(frozen=True, slots=True)
class Access:
    """Who may enter. `opens_to_org_admins`: also callers who administer an organization, within it.

    `takes_key_in_query`: clients of this route send their key as `?key=`.
    """

    roles: tuple[Role, ...]
    refusal: Refusal = Refusal.ADMIN_ONLY
    opens_to_org_admins: bool = False
    is_public: bool = False
    is_master_only: bool = False
    is_admitted_later: bool = False
    takes_key_in_query: bool = False

    def describe(self) -> str:
        """Words for docs/routes.md."""
        if self.is_public:
            return "anyone"
        if self.is_master_only:
            return "master key"
        if set(self.roles) == set(ANYONE):
            return "any key"
        names = [role.value for role in self.roles if role is not Role.ORG_ADMIN]
        is_open = self.opens_to_org_admins or Role.ORG_ADMIN in self.roles
        return ", ".join([*names, "admins of organizations"] if is_open else names)


PUBLIC = Access((), is_public=True)
ANY_KEY = Access(ANYONE)
CALLS = Access(ANYONE, is_admitted_later=True)
CALLS_OF_GOOGLE = Access(ANYONE, is_admitted_later=True, takes_key_in_query=True)
MASTER = Access((Role.PROXY_ADMIN,), is_master_only=True)
ADMIN = Access((Role.PROXY_ADMIN,))
ADMIN_PLAIN = Access((Role.PROXY_ADMIN,), Refusal.PLAIN)
ADMIN_OR_ORG = Access((Role.PROXY_ADMIN,), opens_to_org_admins=True)
READER = Access(READERS)
READER_OR_ORG = Access(READERS, opens_to_org_admins=True)
READER_PLAIN = Access(READERS, Refusal.PLAIN, opens_to_org_admins=True)
MEMBER = Access(MEMBERS, opens_to_org_admins=True)
USER = Access(USERS)
MODEL_OWNER = Access((Role.PROXY_ADMIN, Role.ORG_ADMIN, Role.INTERNAL_USER), Refusal.FORBIDDEN)
INVITER = Access((Role.PROXY_ADMIN,), Refusal.BAD_REQUEST)

# Groups of app/route_groups.py whose routes all have one policy.
GROUP_ACCESS: dict[str, Access] = {"health": PUBLIC, "discovery": PUBLIC, "models": ANY_KEY, "llm": CALLS}

_TABLE: tuple[tuple[Access, str], ...] = (
    (
        PUBLIC,
        """
        GET /
        POST /login
        POST /v2/login
        POST /v3/login
        POST /v3/login/exchange
        GET /fallback/login
        GET /sso/key/generate
        GET /sso/callback
        GET /onboarding/get_token
        POST /onboarding/claim_token
        GET /routes
        GET /test
        GET /openapi.json
        GET /docs
        GET /docs/<path:name>
        GET /redoc
        GET /public/model_hub
        GET /public/litellm_model_cost_map
        GET /public/litellm_blog_posts
        GET /get_image
        GET /get_favicon
        GET /favicon.ico
        GET /get/ui_settings
        GET /get/ui_theme_settings
        """,
    ),
    (
        ANY_KEY,
        """
        POST /session/logout
        GET /key/info
        POST /v2/key/info
        POST /key/health
        GET /key/list
        GET /key/aliases
        GET /user/info
        GET /v2/user/info
        GET /user/available_roles
        GET /user/filter/ui
        GET /user/daily/activity
        GET /user/daily/activity/aggregated
        GET /user/daily/activity/aggregated/keys
        GET /user/daily/activity/aggregated/model_top_keys
        GET /team/info
        GET /team/list
        GET /v2/team/list
        GET /team/available
        GET /team/<team_id>/members/me
        GET /team/permissions_list
        GET /team/metadata_schema
        GET /team/filter/ui
        GET /team/<team_id>/callback
        GET /team/daily/activity
        GET /team/daily/activity/aggregated
        GET /organization/list
        GET /organization/info
        POST /organization/info
        GET /organization/daily/activity
        GET /organization/daily/activity/aggregated
        GET /tag/daily/activity
        GET /tag/daily/activity/aggregated
        GET /model/info
        GET /v1/model/info
        GET /v2/model/info
        GET /model_group/info
        GET /model/settings
        GET /spend/logs
        GET /spend/logs/ui
        GET /spend/logs/v2
        GET /spend/logs/ui/<path:request_id>
        GET /spend/logs/session/ui
        POST /spend/calculate
        GET /health
        GET /health/readiness/details
        GET /metrics
        GET /health/latest
        GET /health/history
        GET /health/shared-status
        GET /health/license
        GET /sso/get/ui_settings
        GET /get/user_banner
        GET /get/latest_release_info
        GET /api/plugins
        GET /guardrails/list
        GET /v2/guardrails/list
        GET /policies/list
        GET /prompts/list
        GET /search_tools/list
        GET /vector_store/list
        GET /v1/agents
        GET /v1/mcp/server
        GET /v1/mcp/toolset
        GET /project/list
        """,
    ),
    (USER, "POST /user/password/change"),
    (
        MEMBER,
        """
        POST /key/generate
        POST /key/update
        POST /key/delete
        POST /key/block
        POST /key/unblock
        POST /key/regenerate
        POST /key/<path:key>/regenerate
        POST /key/<path:key>/reset_spend
        POST /key/service-account/generate
        POST /team/update
        PATCH /team/<team_id>
        POST /team/block
        POST /team/unblock
        POST /team/member_add
        POST /team/member_update
        POST /team/member_delete
        POST /team/bulk_member_add
        POST /team/model/add
        POST /team/model/delete
        POST /team/permissions_update
        POST /team/<team_id>/member/<user_id>/reset_spend
        POST /team/<team_id>/callback
        DELETE /team/<team_id>/callback/<callback_name>
        POST /team/<team_id>/disable_logging
        POST /organization/new
        DELETE /organization/delete
        """,
    ),
    (
        ADMIN_OR_ORG,
        """
        POST /user/new
        POST /user/update
        POST /user/delete
        POST /team/new
        POST /team/delete
        PATCH /organization/update
        POST /organization/member_add
        PATCH /organization/member_update
        DELETE /organization/member_delete
        """,
    ),
    (READER_PLAIN, "GET /user/list"),
    (
        READER_OR_ORG,
        """
        GET /user/available_users
        """,
    ),
    (
        ADMIN_PLAIN,
        """
        POST /key/bulk_update
        """,
    ),
    (
        ADMIN,
        """
        POST /user/bulk_update
        POST /budget/new
        POST /budget/update
        POST /budget/delete
        POST /customer/new
        POST /customer/update
        POST /customer/delete
        POST /customer/block
        POST /customer/unblock
        POST /end_user/new
        POST /end_user/update
        POST /end_user/delete
        POST /end_user/block
        POST /end_user/unblock
        POST /tag/new
        POST /tag/update
        POST /tag/delete
        POST /access_group/new
        PUT /access_group/<path:access_group>/update
        DELETE /access_group/<path:access_group>/delete
        PUT /access_group/<path:access_group>/budget
        DELETE /access_group/<path:access_group>/budget
        POST /v1/access_group
        PUT /v1/access_group/<path:access_group_id>
        DELETE /v1/access_group/<path:access_group_id>
        POST /v1/unified_access_group
        PUT /v1/unified_access_group/<path:access_group_id>
        DELETE /v1/unified_access_group/<path:access_group_id>
        POST /credentials
        PATCH /credentials/<path:credential_name>
        DELETE /credentials/<path:credential_name>
        POST /config/update
        POST /config/field/update
        POST /config/field/delete
        POST /config/callback/delete
        POST /config/pass_through_endpoint
        POST /config/pass_through_endpoint/<path:endpoint_id>
        DELETE /config/pass_through_endpoint
        PATCH /update/ui_settings
        PATCH /update/ui_theme_settings
        PATCH /update/internal_user_settings
        PATCH /update/default_team_settings
        PATCH /update/sso_settings
        POST /cache/settings
        POST /cache/settings/test
        POST /cache/flushall
        POST /cache/delete
        POST /fallback
        DELETE /fallback/<path:model>
        POST /health/test_connection
        GET /health/services
        """,
    ),
    (
        MASTER,
        """
        POST /global/spend/reset
        """,
    ),
    (
        MODEL_OWNER,
        """
        POST /model/new
        POST /model/update
        PATCH /model/<path:model_id>/update
        POST /model/delete
        POST /model/block
        POST /model/unblock
        """,
    ),
    (
        INVITER,
        """
        POST /invitation/new
        GET /invitation/info
        POST /invitation/update
        POST /invitation/delete
        """,
    ),
    (
        READER,
        """
        POST /budget/info
        GET /budget/list
        GET /budget/settings
        GET /management/v1/budgets
        GET /provider/budgets
        GET /customer/info
        GET /customer/list
        GET /end_user/info
        GET /end_user/list
        GET /customer/daily/activity
        GET /customer/daily/activity/aggregated
        GET /end_user/daily/activity
        GET /gateway/daily/activity
        GET /tag/list
        POST /tag/info
        GET /tag/summary
        GET /access_group/list
        GET /access_group/<path:access_group>/info
        GET /access_group/<path:access_group>/budget
        GET /v1/access_group
        GET /v1/access_group/<path:access_group_id>
        GET /v1/unified_access_group
        GET /v1/unified_access_group/<path:access_group_id>
        GET /credentials
        GET /credentials/by_name/<path:credential_name>
        GET /credentials/by_model/<path:model_id>
        GET /health/deployment_warnings
        GET /model/metrics
        GET /model/metrics/exceptions
        GET /model/metrics/slow_responses
        GET /model/streaming_metrics
        GET /spend/keys
        GET /spend/users
        GET /spend/tags
        GET /global/spend
        GET /global/spend/logs
        GET /global/spend/keys
        GET /global/spend/teams
        GET /global/spend/models
        GET /global/spend/provider
        GET /global/spend/tags
        GET /global/spend/all_tag_names
        POST /global/spend/end_users
        GET /global/spend/report
        GET /global/activity
        GET /global/activity/model
        GET /global/activity/exceptions
        GET /global/activity/exceptions/deployment
        GET /global/activity/cache_hits
        GET /audit
        GET /audit/<audit_id>
        GET /config/list
        GET /config/field/info
        GET /config/yaml
        GET /config/pass_through_endpoint
        GET /get/config/callbacks
        GET /callbacks/list
        GET /callbacks/configs
        GET /router/settings
        GET /router/fields
        GET /get/internal_user_settings
        GET /get/default_team_settings
        GET /get/sso_settings
        GET /cache/settings
        GET /cache/ping
        GET /cache/redis/info
        GET /fallback/<path:model>
        GET /alerting/settings
        GET /health/backlog
        GET /health/drain
        GET /settings
        GET /active/callbacks
        GET /jwt/key/mapping/list
        """,
    ),
)


def _routes() -> Iterator[tuple[str, Access]]:
    for access, lines in _TABLE:
        for route in filter(None, map(str.strip, lines.split("\n"))):
            yield route, access


# "METHOD /path", spelled as the route is declared.
ROUTES: dict[str, Access] = dict(_routes())
