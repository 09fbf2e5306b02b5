"""Stored configuration over that of file and environment."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from app.models import ConfigEntry
from app.security.encrypted_settings import encrypted
from app.settings import Settings, load_settings
from app.settings.config_file import WorkerEntry
from app.storage.database import Database
from app.storage.stored_settings import OPERATOR_SETTINGS, RUNTIME_SETTINGS, overridden, stored_overrides

KEY = "sk-master-key-of-the-tests-0123456789"


def base(**more: Any) -> Settings:
    return Settings(master_key=KEY, permit_weak_master_key=True, **more)


def variables(**values: str) -> dict[str, Any]:
    return {"environment_variables": encrypted(values, KEY, is_whole=True)}


def test_the_database_wins_over_the_file() -> None:
    settings = overridden(
        base(request_timeout=9.0, num_retries=1),
        {
            "litellm_settings": {"request_timeout": 30, "max_ui_session_budget": 2.5},
            "router_settings": {"num_retries": 4, "timeout": 7},
            "general_settings": {"always_include_stream_usage": True},
        },
    )
    assert (settings.request_timeout, settings.num_retries, settings.router_timeout) == (30.0, 4, 7.0)
    assert settings.max_ui_session_budget == Decimal("2.5")
    assert settings.always_include_stream_usage is True


def test_without_rows_nothing_changes() -> None:
    settings = base()
    assert overridden(settings, {}) is settings
    assert overridden(settings, {"general_settings": {}, "ui_settings": {"enable_chat_ui": True}}) is settings


@pytest.mark.parametrize("wrong", ["soon", -1, [], {}, True, float("nan")])
def test_a_wrong_value_is_left_out(wrong: Any) -> None:
    rows = {"litellm_settings": {"request_timeout": wrong}, "router_settings": {"num_retries": 3}}
    settings = overridden(base(request_timeout=9.0), rows)
    assert settings.request_timeout in (9.0, 1.0)  # True is the number 1 to the parser of seconds
    assert settings.num_retries == 3


def test_what_only_the_operator_sets_is_never_read_from_the_database() -> None:
    settings = base(database_url="sqlite:///own.db")
    rows = {
        "general_settings": {"master_key": "sk-of-an-attacker", "database_url": "sqlite:///other.db"},
        **variables(LITELLM_MASTER_KEY="sk-x", LITELLM_SALT_KEY="x", UI_PASSWORD="x", DISABLE_ADMIN_ENDPOINTS="true"),
    }
    changed = overridden(settings, rows)
    assert changed == settings


def test_who_changes_settings_over_the_api_cannot_become_the_operator() -> None:
    of_the_root = {"master_key", "salt_key_text", "ui_username", "ui_password", "database_url", "state_dir"}
    switches = {"disable_admin_endpoints", "disable_admin_ui", "disable_llm_api_endpoints", "permit_weak_master_key"}
    assert of_the_root | switches <= OPERATOR_SETTINGS
    assert {"request_timeout", "fallbacks", "callbacks", "cache_params"} <= RUNTIME_SETTINGS
    assert "process_count" not in OPERATOR_SETTINGS | RUNTIME_SETTINGS


def test_variables_join_the_environment_and_their_settings() -> None:
    settings = base(environment={"A": "1", "OPENAI_API_KEY": "sk-old"})
    rows = variables(LITELLM_UI_SESSION_DURATION="2h", OPENAI_API_KEY="sk-new", GROQ_API_KEY="sk-groq")
    changed = overridden(settings, rows)
    assert changed.session_duration == timedelta(hours=2)
    assert dict(changed.environment) == {
        "A": "1",
        "OPENAI_API_KEY": "sk-new",
        "GROQ_API_KEY": "sk-groq",
        "LITELLM_UI_SESSION_DURATION": "2h",
    }


def test_a_providers_address_counts_only_beside_a_key_that_was_stored_too() -> None:
    settings = base(environment={"OPENAI_API_KEY": "sk-of-the-operator"})
    assert "OPENAI_API_BASE" not in overridden(settings, variables(OPENAI_API_BASE="https://evil.example")).environment
    rows = variables(OPENAI_API_BASE="https://own.example", OPENAI_API_KEY="sk-own")
    assert overridden(settings, rows).environment["OPENAI_API_BASE"] == "https://own.example"


def test_variables_of_another_salt_key_are_left_out() -> None:
    rows = {"environment_variables": encrypted({"GROQ_API_KEY": "x"}, "another-salt", is_whole=True)}
    assert "GROQ_API_KEY" not in overridden(base(), rows).environment


def test_the_file_wins_over_a_stored_variable(tmp_path: Path) -> None:
    file = tmp_path / "config.yaml"
    file.write_text(f"general_settings:\n  master_key: {KEY}\n  proxy_batch_write_at: 7\n")
    from_file = load_settings(file, {})
    assert overridden(from_file, variables(PROXY_BATCH_WRITE_AT="20")).spend_flush_seconds == 7.0
    from_environment = load_settings(None, {"LITELLM_MASTER_KEY": KEY, "PROXY_BATCH_WRITE_AT": "3"})
    assert overridden(from_environment, variables(PROXY_BATCH_WRITE_AT="20")).spend_flush_seconds == 20.0


def test_on_a_running_instance_only_some_change() -> None:
    rows = {
        "litellm_settings": {"request_timeout": 30},
        "general_settings": {"max_request_size_mb": 1},
        **variables(GROQ_API_KEY="x"),
    }
    changed = overridden(base(), rows, only=RUNTIME_SETTINGS)
    assert (changed.request_timeout, changed.max_request_size_mb) == (30.0, 64.0)
    assert "GROQ_API_KEY" not in changed.environment


def test_a_control_plane_gets_no_control_plane_of_its_own() -> None:
    settings = base(workers=(WorkerEntry("a", "A", "http://a.example"),))
    rows = {"general_settings": {"control_plane_url": "http://b.example"}}
    assert overridden(settings, rows).control_plane_url is None


async def test_stored_sections_are_read_and_others_are_not(database_url: str) -> None:
    database = Database(base(database_url=database_url))
    await database.open()
    with database.active():
        await ConfigEntry.create(param_name="router_settings", param_value={"num_retries": 5})
        await ConfigEntry.create(param_name="ui_settings", param_value={"enable_chat_ui": True})
        rows = await stored_overrides()
    await database.close()
    assert rows == {"router_settings": {"num_retries": 5}}
