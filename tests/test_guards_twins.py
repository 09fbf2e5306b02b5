"""Every module of the application has its twin among the tests, or a line here that says which test covers it.

The twin of app/auth/login.py is tests/auth/test_login.py; that of a package with code of its own,
app/settings/__init__.py, is tests/settings/test_settings.py or tests/test_settings.py.
"""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from tests.source_files import ROOT, python_files, text_of, tree_of

# Module, the test that covers it, and a word that both contain: the module's subject. Paths below app/ and tests/.
_COVERED_ELSEWHERE = """
admin/__init__.py                  admin/test_bad_input.py               admin_blueprints
admin/audit/trail.py               admin/audit/test_routes.py            LiteLLM_VerificationToken
admin/instance/route_list.py       admin/test_dashboard_calls.py         /routes
admin/instance/site_images.py      admin/settings/test_dashboard.py      /get_favicon
admin/instance/unsupported.py      admin/test_dashboard_calls.py         /get/latest_release_info
admin/keys/fields.py               web/test_fields.py                    key_columns
admin/keys/grants.py               security/test_grants.py               OfNewKeys
admin/models/access_groups.py      admin/models/test_model_access_groups.py  /v1/unified_access_group
admin/models/rows.py               admin/models/test_routes.py           token_uri
admin/organizations/access.py      admin/organizations/test_routes.py    litellm_budget_table
admin/settings/fields.py           admin/settings/test_routes.py         x-quarterdeck-after-restart
admin/settings/sections.py         admin/settings/test_routes.py         ConfigEntry
admin/spend/budget_fields.py       admin/spend/test_budgets.py           budget_duration
admin/spend/daily_names.py         admin/spend/test_daily_figures.py     key_exists
admin/spend/daily_rows.py          admin/spend/test_daily_activity.py    Scope
admin/spend/global_activity.py     admin/spend/test_global_spend.py      sum_num_rate_limit_exceptions
admin/spend/visibility.py          admin/spend/test_global_spend.py      start_date
admin/teams/budgets.py             admin/teams/test_member_update.py     budget_reset_at
admin/teams/rows.py                admin/teams/test_info.py              budget_source
admin/users/creation.py            admin/users/test_routes.py            auto_create_key
admin/users/fields.py              admin/users/test_routes.py            user_role
auth/guard.py                      test_guards_routes.py                 access_of_routes
auth/key_snapshot.py               auth/test_key_directory.py            revoke_at
auth/opened_routes.py              admin/instance/test_health.py         /health/readiness/details
auth/policy.py                     admin/test_route_roles.py             Access
auth/route_patterns.py             auth/test_principal.py                anthropic_routes
auth/roles.py                      auth/test_principal.py                PROXY_ADMIN_VIEWER
backends.py                        auth/test_login_codes.py              open_cache
control_plane/__init__.py          control_plane/test_csrf.py            This form cannot be accepted
control_plane/worker_client.py     control_plane/test_worker_http.py     WorkerClient
control_plane/worker_errors.py     control_plane/test_worker_http.py     WorkerUnreachable
deployments/deployment.py          deployments/test_catalog.py           OpenAI-Organization
deployments/public_params.py       security/test_masking_of_errors.py    extra_body
lifespan.py                        admin/instance/test_health.py         is_shutting_down
llm/attempt.py                     llm/test_streaming.py                 stream
llm/byte_stream.py                 llm/routes/test_media.py              application/octet-stream
llm/call.py                        llm/caching/test_response_cache.py    Reply
llm/call_record.py                 llm/test_calls.py                     unpriced
llm/files/accounts.py              llm/files/test_batch_watcher.py       accounts
llm/files/batch_billing.py         llm/files/test_batch_watcher.py       BatchBilling
llm/files/batch_usage.py           llm/files/test_batches.py             unreadable_lines
llm/files/lists.py                 llm/files/test_files.py               has_more
llm/gateway.py                     llm/test_fallback_calls.py            fallback
llm/observers.py                   observability/test_call_log.py        FailedAttempt
llm/passthrough/call_record.py     llm/passthrough/test_relay.py         usage
llm/passthrough/sources.py         llm/passthrough/test_targets.py       MissingCredential
llm/routes/files.py                llm/files/test_files.py               /files
llm/routes/openai.py               llm/test_fallback_calls.py            include_model_access_groups
llm/upstream/client.py             llm/upstream/test_http_response.py    timeouts
llm/upstream/errors.py             llm/test_faults.py                    maximum context length
llm/upstream/http_connection.py    llm/upstream/test_http_client.py      connection
llm/upstream/inflater.py           security/test_decompression.py        STEP_BYTES
llm/upstream/raw_answer.py         llm/upstream/test_http_response.py    has_ended
models/access_group.py             models/test_budget_period.py          ModelAccessGroupBudget
models/audit.py                    admin/audit/test_routes.py            AuditLog
models/budget.py                   models/test_budget_period.py          Budget
models/config_entry.py             admin/settings/test_routes.py         ConfigEntry
models/credential.py               admin/models/test_provider_credentials.py  Credential
models/deployment.py               admin/models/test_routes.py           StoredDeployment
models/end_user.py                 models/test_budget_period.py          EndUser
models/health_check.py             admin/instance/test_health.py         BACKGROUND_CHECK
models/invitation.py               admin/users/test_onboarding.py        Invitation
models/key_rotation.py             admin/keys/test_regeneration.py       revoke_at
models/organization.py             models/test_budget_period.py          Organization
models/session.py                  storage/test_cleanup.py               session_hash
models/spend.py                    models/test_retention.py              SpendLog
models/tag.py                      models/test_budget_period.py          Tag
models/team.py                     models/test_budget_period.py          TeamMembership
models/user.py                     admin/audit/test_routes.py            default_user_id
models/versioned.py                admin/keys/test_changes.py            version
observability/metrics/families.py  observability/metrics/test_exporter.py  litellm_requests_metric
observability/metrics/gauges.py    observability/metrics/test_exporter.py  litellm_deployment_state
observability/otlp_export.py       observability/test_traces.py          quarterdeck.call_id
openapi/page.py                    openapi/test_document.py              /openapi.json
openapi/schemas.py                 openapi/test_document.py              schemas
protocols/base.py                  protocols/test_media_usage.py         Usage
protocols/canonical.py             protocols/conversations.py            ToolCallStarted
protocols/dialect.py               protocols/toy.py                      EventDecoder
protocols/openai/chat_fields.py    protocols/openai/test_chat.py         cache_control
protocols/openai/chat_messages.py  protocols/openai/test_chat.py         tool_calls
protocols/openai/chat_params.py    protocols/openai/test_chat.py         response_format
protocols/openai/params.py         protocols/openai/test_media.py        timestamp_granularities
server/asgi.py                     server/test_serve.py                  stored
server/demo/announcement.py        server/demo/test_demo.py              Authorization: Bearer
server/upgrades.py                 security/test_upgrades.py             h2c
services.py                        test_app.py                           services
settings/budgets.py                admin/keys/test_policy.py             upperbound_key_generate_params
settings/config_keys.py            settings/test_config_file.py          caching_groups
settings/header_rules.py           security/test_smuggling.py            check_written
settings/observability.py          observability/test_traces.py          OTEL_EXPORTER_OTLP_ENDPOINT
settings/sign_in.py                settings/test_settings.py             ui_password
spend/bulk.py                      spend/test_batch.py                   totals
spend/counter_faults.py            spend/test_redis_counters.py          CountersLost
spend/redis_scripts.py             spend/test_counters.py                ADMIT
spend/scopes.py                    spend/test_budget.py                  BudgetScope
spend/sql_counters.py              spend/test_counters.py                SqlCounters
storage/postgres.py                storage/test_database.py              transaction
storage/private_files.py           security/test_state_files.py          keep_state_private
storage/redis_announcements.py     storage/test_announcements.py         RedisAnnouncer
storage/redis_cache.py             storage/test_cache.py                 remaining_seconds
version.py                         test_cli.py                           VERSION
web/error_responses.py             test_app.py                           Internal server error
web/health.py                      test_app.py                           /health/liveness
web/upgrades.py                    security/test_upgrades.py             WebSocket
"""


def covered_elsewhere() -> dict[Path, tuple[Path, str]]:
    """Module -> (the test that covers it, the word that both contain)."""
    lines = [re.split(r"\s+", line, maxsplit=2) for line in _COVERED_ELSEWHERE.strip().splitlines()]
    return {Path("app", module): (Path("tests", test), subject) for module, test, subject in lines}


def has_code(module: Path) -> bool:
    """Whether there is more in it than a docstring and what it imports for others."""
    imports = (ast.Import, ast.ImportFrom)
    return any(
        not isinstance(node, imports)
        and not (isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant))
        and not (isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__")
        for node in tree_of(module).body
    )


def twins_of(module: Path) -> tuple[Path, ...]:
    """Where the tests of a module are looked for."""
    folder = Path("tests", *module.parts[1:-1])
    if module.name != "__init__.py":
        return (folder / f"test_{module.name}",)
    name = f"test_{module.parts[-2]}.py"
    return folder / name, folder.parent / name


MODULES = [module for module in python_files("app") if has_code(module)]
COVERED = covered_elsewhere()


@pytest.mark.parametrize("module", MODULES, ids=str)
def test_a_module_has_a_twin_or_a_line(module: Path) -> None:
    has_twin = any((ROOT / twin).is_file() for twin in twins_of(module))
    if module in COVERED:
        assert not has_twin, f"{module} has a twin now: strike its line"
    else:
        assert has_twin, f"write {twins_of(module)[0]}, or say above which test covers {module}"


@pytest.mark.parametrize("module", COVERED, ids=str)
def test_a_line_names_a_module_and_a_test_of_its_subject(module: Path) -> None:
    test, subject = COVERED[module]
    assert module in MODULES, f"{module} is not there: strike its line"
    assert (ROOT / test).is_file(), f"{test}, which is said to cover {module}, is not there"
    silent = [path for path in (module, test) if subject not in text_of(path)]
    assert not silent, f"{silent} do not speak of {subject!r}"


def test_a_module_has_one_line() -> None:
    assert len(COVERED) == len(_COVERED_ELSEWHERE.strip().splitlines())
