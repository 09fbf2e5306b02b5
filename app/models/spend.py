"""Where money went: one row per call, and totals per day that stay small when calls are many."""

from __future__ import annotations

from typing import Any

from tortoise import fields
from tortoise.indexes import Index
from tortoise.models import Model

from . import columns


class SpendLog(Model):
    """One call to a model, successful or not. Times are UTC, `api_key` is the key's hash, never the key."""

    request_id = columns.name(128, primary_key=True)
    call_type = columns.name(64)
    api_key = columns.name(64, default="", db_default="")
    spend = columns.spent()
    total_tokens = fields.BigIntField(default=0, db_default=0)
    prompt_tokens = fields.BigIntField(default=0, db_default=0)
    completion_tokens = fields.BigIntField(default=0, db_default=0)
    start_time = fields.DatetimeField()
    end_time = fields.DatetimeField()
    completion_start_time = fields.DatetimeField(null=True)
    request_duration_ms = fields.IntField(default=0, db_default=0)
    model = columns.name(default="", db_default="")
    model_id = columns.name(default="", db_default="")
    model_group = columns.name(default="", db_default="")
    custom_llm_provider = columns.name(64, default="", db_default="")
    api_base = fields.TextField(null=True)
    user = columns.name(default="", db_default="")
    team_id = columns.name(null=True)
    organization_id = columns.name(null=True)
    end_user = columns.name(default="", db_default="")
    session_id = columns.name(null=True)
    litellm_call_id = columns.name(null=True)
    requester_ip_address = columns.name(64, null=True)
    cache_hit = columns.name(16, default="False", db_default="False")
    cache_key = columns.name(null=True)
    request_tags = columns.json_list()
    metadata = columns.json_object()
    status = columns.name(16, default="success", db_default="success")

    class Meta:
        table = "spend_log"
        indexes = (
            Index(fields=("start_time", "request_id"), name="idx_spend_log_time"),
            Index(fields=("api_key", "start_time"), name="idx_spend_log_key"),
            Index(fields=("user", "start_time"), name="idx_spend_log_user"),
            Index(fields=("team_id", "start_time"), name="idx_spend_log_team"),
            Index(fields=("end_user",), name="idx_spend_log_end_user"),
        )

    def to_json(self) -> dict[str, Any]:
        """The row as `/spend/logs` writes it, with the contract's spelling of the times."""
        row = {field: columns.json_value(getattr(self, field)) for field in _JSON_FIELDS}
        row.update(
            startTime=columns.json_value(self.start_time),
            endTime=columns.json_value(self.end_time),
            completionStartTime=columns.json_value(self.completion_start_time),
            mcp_namespaced_tool_name=None,
            agent_id=None,
        )
        return row


_JSON_FIELDS = (
    "request_id",
    "call_type",
    "api_key",
    "spend",
    "total_tokens",
    "prompt_tokens",
    "completion_tokens",
    "request_duration_ms",
    "model",
    "model_id",
    "model_group",
    "custom_llm_provider",
    "api_base",
    "user",
    "metadata",
    "cache_hit",
    "cache_key",
    "request_tags",
    "team_id",
    "organization_id",
    "end_user",
    "requester_ip_address",
    "session_id",
    "status",
    "litellm_call_id",
)


class DailySpend(Model):
    """Totals of one UTC day for one combination of who and what. Absent parts are '' so that upserts always meet."""

    id = fields.BigIntField(primary_key=True)
    date = columns.name(10)
    api_key = columns.name(64, default="", db_default="")
    user_id = columns.name(default="", db_default="")
    team_id = columns.name(default="", db_default="")
    model = columns.name(default="", db_default="")
    model_group = columns.name(default="", db_default="")
    custom_llm_provider = columns.name(64, default="", db_default="")
    endpoint = columns.name(64, default="", db_default="")
    spend = columns.spent()
    prompt_tokens = fields.BigIntField(default=0, db_default=0)
    completion_tokens = fields.BigIntField(default=0, db_default=0)
    cache_read_input_tokens = fields.BigIntField(default=0, db_default=0)
    cache_creation_input_tokens = fields.BigIntField(default=0, db_default=0)
    api_requests = fields.BigIntField(default=0, db_default=0)
    successful_requests = fields.BigIntField(default=0, db_default=0)
    failed_requests = fields.BigIntField(default=0, db_default=0)
    total_response_time_ms = fields.BigIntField(default=0, db_default=0)

    class Meta:
        table = "daily_spend"
        unique_together = (
            (
                "date",
                "api_key",
                "user_id",
                "team_id",
                "model",
                "model_group",
                "custom_llm_provider",
                "endpoint",
            ),
        )
        indexes = (
            Index(fields=("date", "user_id"), name="idx_daily_spend_user"),
            Index(fields=("api_key", "date"), name="idx_daily_spend_key"),
            Index(fields=("date", "spend"), name="idx_daily_spend_largest"),
            Index(fields=("team_id", "date", "spend"), name="idx_daily_spend_team_largest"),
        )


class DailyEntitySpend(Model):
    """Totals of one UTC day for one entity: an organization, a team, a tag, an end user, or the instance.

    `kind` is organization, team, tag, end_user or all. Beside the rows of an entity's keys stand its sums without them
    (`api_key` ""), and those of all entities of the kind (`entity_id` "" too), which stay few with any number of keys.
    """

    id = fields.BigIntField(primary_key=True)
    date = columns.name(10)
    kind = columns.name(32)
    entity_id = columns.name(default="", db_default="")
    api_key = columns.name(64, default="", db_default="")
    model = columns.name(default="", db_default="")
    model_group = columns.name(default="", db_default="")
    custom_llm_provider = columns.name(64, default="", db_default="")
    endpoint = columns.name(64, default="", db_default="")
    spend = columns.spent()
    prompt_tokens = fields.BigIntField(default=0, db_default=0)
    completion_tokens = fields.BigIntField(default=0, db_default=0)
    cache_read_input_tokens = fields.BigIntField(default=0, db_default=0)
    cache_creation_input_tokens = fields.BigIntField(default=0, db_default=0)
    api_requests = fields.BigIntField(default=0, db_default=0)
    successful_requests = fields.BigIntField(default=0, db_default=0)
    failed_requests = fields.BigIntField(default=0, db_default=0)
    total_response_time_ms = fields.BigIntField(default=0, db_default=0)

    class Meta:
        table = "daily_entity_spend"
        unique_together = (
            (
                "kind",
                "entity_id",
                "date",
                "api_key",
                "model",
                "model_group",
                "custom_llm_provider",
                "endpoint",
            ),
        )
        # Indexes of a part of the table are in migrations/0003_scale.py.
