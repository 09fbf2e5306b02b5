"""Every management route of the contract, and those of calls, with priorities,

docs/compatibility.md shows them against the route map (`make docs`). P0 is what a console cannot do without, P1 what
people expect, P2 what is rare. A route that is not there answers 404 in the contract's shape. `ANY` stands for all
methods, a trailing `*` for all routes of a feature.
"""

from __future__ import annotations

from collections.abc import Iterator

# Resource -> priority -> routes. Each line: methods with commas, then paths that all of them have.
_TABLE: dict[str, dict[str, str]] = {
    "keys": {
        "P0": """
            POST /key/generate /key/update /key/delete /key/block /key/unblock
            GET /key/info /key/list /key/aliases
        """,
        "P1": """
            POST /key/{key}/regenerate /key/regenerate /key/service-account/generate /key/bulk_update
            POST /key/{key}/reset_spend /key/health /v2/key/info
        """,
        "P2": """
            POST /team/key/bulk_update
            GET /key/spend/report
        """,
    },
    "users": {
        "P0": """
            POST /user/new /user/update /user/delete
            GET /user/info /v2/user/info /user/list /user/available_roles /user/filter/ui
        """,
        "P1": """
            POST /user/bulk_update /user/password/change
            GET /user/available_users /invitation/info /onboarding/get_token
            POST /invitation/new /invitation/update /invitation/delete /onboarding/claim_token
        """,
        "P2": """
            POST /management/v1/users/bulk /management/v1/users/bulk_delete
            GET /user/spend/report
            ANY /scim/v2/*
        """,
    },
    "teams": {
        "P0": """
            POST /team/new /team/update /team/delete /team/member_add /team/member_update /team/member_delete
            POST /team/block /team/unblock
            GET /team/info /team/list /v2/team/list
        """,
        "P1": """
            PATCH /team/{team_id}
            POST /team/bulk_member_add /team/model/add /team/model/delete /team/permissions_update
            GET /team/permissions_list /team/available /team/{team_id}/members/me /team/filter/ui
            POST /team/{team_id}/member/{user_id}/reset_spend /team/{team_id}/disable_logging
            GET,POST /team/{team_id}/callback
            DELETE /team/{team_id}/callback/{callback_name}
        """,
        "P2": """
            POST /team/permissions_bulk_update
            GET /team/metadata_schema /team/spend/by_user
            ANY /management/v1/teams/*
        """,
    },
    "models": {
        "P0": """
            GET /models /v1/models /models/{model_id} /model/info /v1/model/info /v2/model/info /model_group/info
            POST /model/new /model/update /model/delete
            PATCH /model/{model_id}/update
        """,
        "P1": """
            POST /model/block /model/unblock /access_group/new
            GET /model/settings /model/metrics /model/metrics/exceptions /model/metrics/slow_responses
            GET /model/streaming_metrics /access_group/list /access_group/{access_group}/info
            PUT /access_group/{access_group}/update
            DELETE /access_group/{access_group}/delete
            GET,PUT,DELETE /access_group/{access_group}/budget
            GET,POST /v1/access_group /v1/unified_access_group
            GET,PUT,DELETE /v1/access_group/{access_group_id} /v1/unified_access_group/{access_group_id}
        """,
        "P2": """
            POST /model_group/make_public /model_hub/update_useful_links /model/deprecations /reload/model_cost_map
            POST /schedule/model_cost_map_reload
            GET /public/model_hub
            ANY /auto_router/*
        """,
    },
    "budgets": {
        "P0": """
            POST /budget/new /budget/update /budget/info /budget/delete
            GET /budget/list
        """,
        "P1": "GET /budget/settings /provider/budgets",
        "P2": "GET /management/v1/budgets",
    },
    "customers": {
        "P1": """
            POST /customer/new /customer/update /customer/delete /customer/block /customer/unblock
            GET /customer/info /customer/list
            POST /end_user/new /end_user/update /end_user/delete /end_user/block /end_user/unblock
            GET /end_user/info /end_user/list
        """,
        "P2": "GET /customer/daily/activity /customer/daily/activity/aggregated /end_user/daily/activity",
    },
    "organizations": {
        "P1": """
            POST /organization/new /organization/member_add
            PATCH /organization/update /organization/member_update
            DELETE /organization/delete /organization/member_delete
            GET /organization/list
            GET,POST /organization/info
        """,
        "P2": """
            PATCH /v2/organization/{organization_id}
            GET /organization/daily/activity /organization/daily/activity/aggregated
        """,
    },
    "tags": {
        "P0": "GET /tag/list",
        "P1": """
            POST /tag/new /tag/update /tag/info /tag/delete
            GET /tag/daily/activity
        """,
        "P2": """
            GET /tag/dau /tag/wau /tag/mau /tag/summary /tag/distinct /tag/user-agent/per-user-analytics
        """,
    },
    "spend and logs": {
        "P0": """
            GET /spend/logs /spend/logs/ui /spend/logs/ui/{request_id} /user/daily/activity /team/daily/activity
            GET /user/daily/activity/aggregated /global/spend /global/spend/logs /global/spend/keys
            GET /global/spend/teams /global/spend/models
        """,
        "P1": """
            GET /spend/logs/v2 /spend/logs/session/ui /spend/keys /spend/users /spend/tags /global/spend/provider
            GET /global/spend/tags /global/spend/all_tag_names /global/activity /global/activity/model
            GET /global/activity/exceptions /global/activity/exceptions/deployment /global/activity/cache_hits
            GET /global/spend/report /gateway/daily/activity /audit /audit/{id}
            POST /spend/calculate /global/spend/end_users /global/spend/reset
        """,
        "P2": """
            POST /global/spend/refresh /usage/ai/chat /cost/estimate
            GET /spend/capture_rate /user/daily/activity/export /user/daily/activity/aggregated/keys
            GET /user/daily/activity/aggregated/search /user/daily/activity/aggregated/model_top_keys
        """,
    },
    "configuration": {
        "P0": """
            POST /config/update /config/field/update /config/field/delete
            GET /get/config/callbacks /config/list /config/field/info
        """,
        "P1": """
            POST /config/callback/delete /cache/settings/test /fallback
            GET /callbacks/list /callbacks/configs /router/settings /router/fields /get/ui_settings
            GET,POST,DELETE /config/pass_through_endpoint
            PATCH /update/ui_settings /update/internal_user_settings /update/default_team_settings /update/sso_settings
            GET /get/internal_user_settings /get/default_team_settings /get/sso_settings /alerting/settings
            GET,POST /cache/settings
            GET,DELETE /fallback/{model}
            GET /get/ui_theme_settings
        """,
        "P2": """
            POST /add/allowed_ip /delete/allowed_ip
            ANY /config/cost_discount_config /config/cost_margin_config /config_overrides/* /coordination_redis/settings
            ANY /email/*
        """,
    },
    "credentials": {
        "P1": """
            GET,POST /credentials
            GET /credentials/by_name/{credential_name} /credentials/by_model/{model_id}
            PATCH,DELETE /credentials/{credential_name}
        """,
        "P2": "POST /credentials/migrate-encryption",
    },
    "health": {
        "P0": "GET /health /health/liveliness /health/liveness /health/readiness",
        "P1": """
            GET /health/latest /health/history /health/services /settings /active/callbacks /cache/ping
            GET /cache/redis/info /test /routes
            POST /health/test_connection /cache/flushall /cache/delete
        """,
        "P2": """
            GET /health/license /health/backlog /health/drain /health/shared-status /health/readiness/details
            ANY /debug/*
        """,
    },
    "sign-in": {
        "P0": """
            POST /login /v2/login /v3/login /v3/login/exchange
            GET /.well-known/litellm-ui-config /sso/get/ui_settings /sso/key/generate /sso/callback
        """,
        "P1": """
            POST /session/logout
            GET /fallback/login
        """,
    },
    "calls": {
        "P0": """
            POST /chat/completions /v1/chat/completions /completions /v1/completions /embeddings /v1/embeddings
            POST /engines/{model}/chat/completions /openai/deployments/{model}/chat/completions
            POST /v1/messages /v1/messages/count_tokens /responses /v1/responses /utils/token_counter
            GET /utils/supported_openai_params
        """,
        "P1": """
            POST /images/generations /v1/images/generations /openai/deployments/{model}/images/generations
            POST /images/edits /v1/images/edits /openai/deployments/{model}/images/edits
            POST /audio/speech /v1/audio/speech /audio/transcriptions /v1/audio/transcriptions
            POST /moderations /v1/moderations /rerank /v1/rerank /v2/rerank
            GET,POST /files /v1/files /{provider}/v1/files /batches /v1/batches /{provider}/v1/batches
            GET,DELETE /files/{file_id} /v1/files/{file_id} /{provider}/v1/files/{file_id}
            GET /files/{file_id}/content /v1/files/{file_id}/content /{provider}/v1/files/{file_id}/content
            GET /batches/{batch_id} /v1/batches/{batch_id} /{provider}/v1/batches/{batch_id}
            POST /batches/{batch_id}/cancel /v1/batches/{batch_id}/cancel /{provider}/v1/batches/{batch_id}/cancel
            POST /utils/transform_request
            GET /utils/model_info
        """,
        "P2": """
            ANY /fine_tuning/* /assistants/* /threads/* /vector_stores/* /videos/* /containers/* /realtime/*
        """,
    },
    "other": {
        "P1": """
            GET /guardrails/list /v1/mcp/server /prompts/list /search_tools/list /vector_store/list /v1/agents
            GET /project/list /jwt/key/mapping/list
        """,
        "P2": """
            GET /policies/list
            ANY /compliance/* /cloudzero/* /vantage/* /lens/* /workflows/* /memory/* /moyai/*
        """,
    },
}


def contract_routes() -> Iterator[tuple[str, str, str, str]]:
    """(resource, priority, method, path with {parameters}), in the order of the table."""
    for resource, priorities in _TABLE.items():
        for priority, lines in priorities.items():
            for line in lines.split("\n"):
                methods, *paths = line.split() or [""]
                yield from (
                    (resource, priority, method, path) for path in paths for method in methods.split(",") if method
                )
