"""Settings of budgets, limits, key rules and retention: the part of `Settings` that governs who may spend what."""

# ruff: noqa: RUF009 (settings are declared by call; a wrong value is a ValueError whatever its type)

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta, tzinfo
from decimal import Decimal
from typing import Any

from ..durations import UTC_CALENDAR, BudgetCalendar, period_end, time_of_day, time_zone
from .config_file import duration, money
from .declaration import boolean, client_error, mapping, positive, setting, text, whole


def _period(value: Any) -> str:
    """The text of a period that ends some day. Raises ValueError that says what to write instead."""
    written = text(value)
    period_end(written, datetime.now(UTC), UTC_CALENDAR)
    return written


@dataclass(frozen=True, kw_only=True)
class BudgetSettings:
    """Money is `Decimal` USD, durations are `timedelta`."""

    budget_exceeded_status_code: int = setting(
        "Status of a call over budget, 400 to 499.",
        client_error,
        422,
        yaml="litellm_settings.budget_exceeded_status_code",
        runtime=True,
    )
    budget_zone: tzinfo = setting(
        "Time zone in which days, weeks and months of budgets begin.",
        time_zone,
        UTC,
        yaml="litellm_settings.timezone",
    )
    budget_reset_time: time = setting(
        "Time of day at which a budget's day begins, as `06:00`.",
        time_of_day,
        time(),
        yaml="litellm_settings.budget_reset_time",
    )
    max_budget: Decimal | None = setting(
        "USD that the whole instance may spend per `budget_duration`.", money, yaml="litellm_settings.max_budget"
    )
    budget_duration: str | None = setting(
        "Period of that budget, as `30d`. Without one it never starts anew.",
        _period,
        yaml="litellm_settings.budget_duration",
    )
    max_end_user_budget: Decimal | None = setting(
        "USD that an end user without a budget of their own may spend.",
        money,
        yaml="litellm_settings.max_end_user_budget",
    )
    max_end_user_budget_id: str | None = setting(
        "The budget (`/budget/new`) of end users without one of their own.",
        text,
        yaml="litellm_settings.max_end_user_budget_id",
    )
    disable_end_user_cost_tracking: bool = setting(
        "Keep no spend per end user.", boolean, False, yaml="litellm_settings.disable_end_user_cost_tracking"
    )
    apply_user_budget_to_team_keys: bool = setting(
        "Let a user's own budget also bound keys that belong to a team.",
        boolean,
        False,
        yaml="general_settings.apply_user_budget_to_team_keys",
    )
    fail_closed_budget_enforcement: bool = setting(
        "Refuse calls with 503 when neither Redis nor the database can tell what was spent.",
        boolean,
        False,
        yaml="general_settings.fail_closed_budget_enforcement",
    )
    provider_budget_config: Mapping[str, Any] | None = setting(
        "USD per provider and period, as `{openai: {budget_limit: 100, time_period: 1d}}`.",
        mapping,
        yaml="router_settings.provider_budget_config",
    )
    spend_logs_retention: timedelta | None = setting(
        "Age at which rows of the spend log are deleted; daily totals stay. Without one they stay for ever.",
        duration,
        yaml="general_settings.maximum_spend_logs_retention_period",
    )
    audit_log_retention: timedelta | None = setting(
        "Age at which rows of the audit log are deleted. Without one they stay for ever.",
        duration,
        yaml="general_settings.maximum_audit_logs_retention_period",
    )
    cleanup_batch_size: int = setting(
        "Rows that one statement of the clean-up deletes.",
        whole,
        1000,
        yaml="general_settings.maximum_spend_logs_cleanup_batch_size",
    )
    cleanup_max_batches: int = setting(
        "Statements that one round of the clean-up runs.",
        whole,
        500,
        yaml="general_settings.maximum_spend_logs_cleanup_max_batches",
    )
    disable_reset_budget: bool = setting(
        "Start budgets anew when they are looked at only, not by schedule too.",
        boolean,
        False,
        yaml="general_settings.disable_reset_budget",
    )
    cleanup_min_seconds: float = setting(
        "Shortest pause between two rounds of the scheduled work: budget resets, retention, clean-up.",
        positive,
        597.0,
        yaml="general_settings.proxy_budget_rescheduler_min_time",
    )
    cleanup_max_seconds: float = setting(
        "Longest such pause.", positive, 605.0, yaml="general_settings.proxy_budget_rescheduler_max_time"
    )
    password_min_length: int = setting(
        "Fewest characters of a password that a user sets.",
        whole,
        8,
        yaml="general_settings.password_policy_min_length",
        runtime=True,
    )
    default_key_generate_params: Mapping[str, Any] | None = setting(
        "Fields of /key/generate that a request does not send.",
        mapping,
        yaml="litellm_settings.default_key_generate_params",
        runtime=True,
    )
    upperbound_key_generate_params: Mapping[str, Any] | None = setting(
        "Highest values that /key/generate accepts.",
        mapping,
        yaml="litellm_settings.upperbound_key_generate_params",
        runtime=True,
    )
    key_generation_settings: Mapping[str, Any] | None = setting(
        "Who may make keys: `team_key_generation` and `personal_key_generation`.",
        mapping,
        yaml="litellm_settings.key_generation_settings",
        runtime=True,
    )
    disable_custom_api_keys: bool = setting(
        "Refuse keys whose secret the caller chose.",
        boolean,
        False,
        yaml="litellm_settings.disable_custom_api_keys",
        runtime=True,
    )
    default_internal_user_params: Mapping[str, Any] | None = setting(
        "Fields of /user/new that a request does not send.",
        mapping,
        yaml="litellm_settings.default_internal_user_params",
        runtime=True,
    )
    default_team_params: Mapping[str, Any] | None = setting(
        "Fields of /team/new that a request does not send.",
        mapping,
        yaml="litellm_settings.default_team_params",
        runtime=True,
    )
    user_header_name: str | None = setting(
        "Header that names the end user of a call.", text, yaml="general_settings.user_header_name"
    )

    @property
    def budget_calendar(self) -> BudgetCalendar:
        """When days, weeks and months of budgets begin."""
        return BudgetCalendar(self.budget_zone, self.budget_reset_time)
