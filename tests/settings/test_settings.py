"""What one instance was told: file, environment and command line become checked settings, or one clear line."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import FrozenInstanceError, fields
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from app.settings import Settings, declared_settings, load_settings
from app.settings.config_file import SettingsError

KEY = "sk-a-long-random-secret-0123456789"
WORKER = {"worker_id": "eu", "name": "Europe", "url": "https://eu.example.com"}


def write_config(folder: Path, document: dict[str, Any]) -> Path:
    path = folder / "cp_config.yaml"
    path.write_text(yaml.safe_dump(document))
    return path


def load(folder: Path, document: Mapping[str, Any] | None = None, **environ: str) -> Settings:
    path = write_config(folder, dict(document or {}))
    return load_settings(path, {"LITELLM_MASTER_KEY": KEY, **environ})


def refusal(folder: Path, document: Mapping[str, Any] | None = None, **environ: str) -> str:
    """The one line with which a start is refused."""
    with pytest.raises(SettingsError) as refused:
        load(folder, document, **environ)
    line = str(refused.value)
    assert "\n" not in line
    return line


def test_the_environment_alone_is_enough(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    settings = load_settings(
        environ={
            "LITELLM_MASTER_KEY": KEY,
            "DATABASE_URL": "postgresql://user:word@db/quarterdeck",
            "REDIS_URL": "redis://cache:6379/0",
            "PORT": "8080",
            "HOST": "127.0.0.1",
            "PROXY_BASE_URL": "https://gateway.example.com/",
            "UI_USERNAME": "captain",
            "UI_PASSWORD": "ahoy",
            "LITELLM_SALT_KEY": "salt",
            "LITELLM_UI_API_DOC_BASE_URL": "https://api.example.com",
        }
    )
    assert settings.master_key == KEY
    assert settings.database_url == "postgresql://user:word@db/quarterdeck"
    assert settings.redis_url == "redis://cache:6379/0"
    assert (settings.host, settings.port) == ("127.0.0.1", 8080)
    assert settings.proxy_base_url == "https://gateway.example.com"
    assert (settings.ui_username, settings.admin_password) == ("captain", "ahoy")
    assert settings.salt_key == "salt"
    assert settings.api_doc_base_url == "https://api.example.com"
    assert settings.warnings == ()


def test_defaults_serve_one_worker_on_a_file(tmp_path: Path) -> None:
    settings = load(tmp_path, QUARTERDECK_STATE_DIR=str(tmp_path / "state"))
    assert settings.database_url == f"sqlite:///{tmp_path}/state/quarterdeck.db"
    assert (settings.host, settings.port) == ("0.0.0.0", 4000)
    assert settings.admin_password == settings.salt_key == KEY
    assert not settings.is_control_plane
    assert settings.session_duration == timedelta(hours=24)
    assert settings.max_ui_session_budget == Decimal(1)


def test_the_file_wins_over_the_environment_and_the_command_line_over_both(tmp_path: Path) -> None:
    path = write_config(tmp_path, {"general_settings": {"master_key": "sk-of-the-file", "proxy_batch_write_at": 7}})
    environ = {"LITELLM_MASTER_KEY": KEY, "PROXY_BATCH_WRITE_AT": "3", "PORT": "8080", "HOST": "10.0.0.1"}
    settings = load_settings(path, environ, port=9090, host=None)
    assert settings.master_key == "sk-of-the-file"
    assert settings.spend_flush_seconds == 7
    assert settings.port == 9090
    assert settings.host == "10.0.0.1"


def test_the_path_of_the_file_may_come_from_the_environment_or_the_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    named = write_config(tmp_path, {"general_settings": {"master_key": "sk-named"}})
    assert load_settings(environ={"CONFIG_FILE_PATH": str(named)}).master_key == "sk-named"
    (tmp_path / "config.yaml").write_text("general_settings: {master_key: sk-found}")
    monkeypatch.chdir(tmp_path)
    assert load_settings(environ={}).master_key == "sk-found"


def test_an_empty_variable_counts_as_not_set(tmp_path: Path) -> None:
    settings = load(tmp_path, DATABASE_URL="", REDIS_URL="", UI_PASSWORD="", DISABLE_ADMIN_UI="")
    assert settings.database_url.startswith("sqlite://")
    assert settings.redis_url is None
    assert settings.admin_password == KEY
    assert not settings.disable_admin_ui


@pytest.mark.parametrize("flag", ["DISABLE_ADMIN_UI", "DISABLE_ADMIN_ENDPOINTS", "DISABLE_LLM_API_ENDPOINTS"])
def test_a_flag_is_on_for_yes_and_off_for_no(tmp_path: Path, flag: str) -> None:
    for word, is_on in {"true": True, "True": True, "1": True, "false": False, "0": False, "no": False}.items():
        assert getattr(load(tmp_path, None, **{flag: word}), flag.lower()) is is_on
    assert "write true or false" in refusal(tmp_path, None, **{flag: "maybe"})


@pytest.mark.parametrize(
    ("name", "value", "fix"),
    [
        ("PORT", "http", "whole number"),
        ("PORT", "99999", "1 to 65535"),
        ("PORT", "0", "1 to 65535"),
        ("PROXY_BASE_URL", "gateway.example.com", "http:// or https://"),
        ("PROXY_BASE_URL", "https://[broken", "check the port"),
        ("PROXY_BASE_URL", "https://host:notaport", "check the port"),
        ("LITELLM_UI_API_DOC_BASE_URL", "ftp://docs", "http:// or https://"),
        ("LITELLM_UI_SESSION_DURATION", "soon", "30s, 10m, 24h or 7d"),
        ("LITELLM_UI_SESSION_DURATION", "0s", "more than zero"),
        ("LITELLM_UI_SESSION_DURATION", "99999999999999d", "at most"),
        ("PROXY_BATCH_WRITE_AT", "-1", "more than zero"),
        ("PROXY_BATCH_WRITE_AT", "nan", "more than zero"),
    ],
)
def test_a_wrong_variable_is_refused_by_name_with_its_fix(tmp_path: Path, name: str, value: str, fix: str) -> None:
    line = refusal(tmp_path, None, **{name: value})
    assert line.startswith(f"environment: {name}: ")
    assert fix in line


@pytest.mark.parametrize(
    ("section", "key", "value", "fix"),
    [
        ("general_settings", "control_plane_url", "deck.example.com", "http:// or https://"),
        ("general_settings", "max_request_size_mb", "big", "not a number"),
        ("general_settings", "max_request_size_mb", 0, "more than zero"),
        ("general_settings", "database_connection_pool_limit", "ten", "whole number"),
        ("general_settings", "database_connection_pool_limit", True, "whole number"),
        ("general_settings", "max_failed_login_attempts_per_source", -1, "zero or more"),
        ("general_settings", "disable_env_credential_login", "perhaps", "true or false"),
        ("general_settings", "litellm_key_header_name", ["X-Key"], "not text"),
        ("litellm_settings", "max_ui_session_budget", "a dollar", "as 1.50"),
        ("litellm_settings", "max_ui_session_budget", "-1", "zero or more"),
        ("litellm_settings", "max_ui_session_budget", ".inf", "as 1.50"),
        ("litellm_settings", "budget_exceeded_status_code", "4xx", "whole number"),
        ("router_settings", "num_retries", 1.5, "whole number"),
    ],
)
def test_a_wrong_value_of_the_file_is_refused_with_file_key_and_fix(
    tmp_path: Path, section: str, key: str, value: Any, fix: str
) -> None:
    line = refusal(tmp_path, {section: {key: value}})
    assert line.startswith(f"cp_config.yaml: {section}.{key}: ")
    assert fix in line


@pytest.mark.parametrize(
    ("url", "fix"),
    [
        ("mysql://root:hidden-word@db/x", "postgres://"),
        ("postgres://u:hidden-word@db:port/x", "check the port"),
        ("postgres://u:hidden-word[@db/x", "%XX"),
        ("postgres://u:hidden-word@db/x?sslmode=always", "sslmode"),
        ("sqlite://:memory:", "names no file"),
        ("sqlite:///", "names no file"),
    ],
)
def test_a_wrong_database_is_refused_without_its_password(tmp_path: Path, url: str, fix: str) -> None:
    line = refusal(tmp_path, DATABASE_URL=url)
    assert line.startswith("environment: DATABASE_URL: the value ")
    assert fix in line
    assert "hidden-word" not in line


def test_a_wrong_redis_is_refused_without_its_password(tmp_path: Path) -> None:
    line = refusal(tmp_path, REDIS_URL="http://:hidden-word@cache")
    assert "redis://host:6379/0" in line
    assert "hidden-word" not in line


def test_a_wrong_option_of_the_command_line_is_refused_too(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"^--port: 70000 is not a port; use 1 to 65535$"):
        load_settings(write_config(tmp_path, {}), {"LITELLM_MASTER_KEY": KEY}, port=70000)


@pytest.mark.parametrize("key", [None, "", "   "])
def test_without_a_master_key_nothing_starts(tmp_path: Path, key: str | None) -> None:
    with pytest.raises(SettingsError, match=r"^cp_config\.yaml: general_settings\.master_key is missing; set LITELLM_"):
        load_settings(write_config(tmp_path, {"general_settings": {"master_key": key}}), {})


@pytest.mark.parametrize("key", ["sk-1234", "SK-1234", "changeme"])
def test_a_well_known_master_key_warns_loudly_first(tmp_path: Path, key: str) -> None:
    settings = load(tmp_path, {"general_settings": {"master_key": key}}, SMTP_HOST="mail")
    assert "PUBLICLY KNOWN" in settings.warnings[0]
    assert key not in " ".join(settings.warnings)
    permitted = load(
        tmp_path,
        {"general_settings": {"master_key": key, "dangerously_permit_weak_or_unset_master_key": True}},
    )
    assert permitted.warnings == ()


def test_a_control_plane_lists_workers_and_has_no_control_plane(tmp_path: Path) -> None:
    document = {"worker_registry": [WORKER]}
    assert load(tmp_path, document).is_control_plane
    line = refusal(tmp_path, {**document, "general_settings": {"control_plane_url": "https://deck.example.com"}})
    assert line.startswith("cp_config.yaml: worker_registry and general_settings.control_plane_url exclude each other")


@pytest.mark.parametrize(
    ("url", "origin"),
    [
        ("https://deck.example.com/console/", "https://deck.example.com"),
        ("https://Deck.Example.com:443", "https://deck.example.com"),
        ("http://deck.example.com:80", "http://deck.example.com"),
        ("http://localhost:4000", "http://localhost:4000"),
        ("http://[::1]:4000/", "http://[::1]:4000"),
    ],
)
def test_the_origin_of_the_control_plane_is_written_as_browsers_write_it(tmp_path: Path, url: str, origin: str) -> None:
    assert load(tmp_path, {"general_settings": {"control_plane_url": url}}).control_plane_origin == origin


def test_variables_that_do_nothing_yet_are_one_warning(tmp_path: Path) -> None:
    names = (
        "LITELLM_CORS_ORIGINS GENERIC_CLIENT_ID GOOGLE_CLIENT_ID MICROSOFT_CLIENT_ID DATABASE_HOST "
        "AUTO_REDIRECT_UI_LOGIN_TO_SSO LITELLM_CONFIG_BUCKET_NAME"
    ).split()
    (warning,) = load(tmp_path, None, **dict.fromkeys(names, "hidden-word")).warnings
    assert warning.startswith("environment: not supported yet and without effect: ")
    assert all(name in warning for name in names)
    assert "hidden-word" not in warning
    assert load(tmp_path, None, **dict.fromkeys(names, "")).warnings == ()


def test_settings_cannot_be_changed(tmp_path: Path) -> None:
    settings = load(tmp_path)
    with pytest.raises(FrozenInstanceError):
        settings.port = 1  # type: ignore[misc]


def test_every_setting_says_what_it_is_for() -> None:
    for item in declared_settings():
        assert item.metadata["doc"].endswith("."), item.name
        assert item.metadata["env"] or item.metadata["yaml"], item.name
    assert {item.name for item in fields(Settings)} >= {item.name for item in declared_settings()}


_SECRETS = st.text("abcdefghijklmnopqrstuvwxyz0123456789", min_size=12, max_size=40)


@given(secret=_SECRETS)
def test_no_text_of_the_settings_shows_a_secret(secret: str) -> None:
    settings = Settings(
        master_key=f"sk-{secret}",
        database_url=f"postgres://user:{secret}@db/quarterdeck",
        redis_url=f"redis://:{secret}@cache",
        ui_password=secret,
        salt_key_text=secret,
        environment={"OPENAI_API_KEY": secret},
        model_list=({"model_name": "chat", "litellm_params": {"model": "openai/chat", "api_key": secret}},),
    )
    assert secret not in repr(settings)
    assert secret not in str(settings)


def test_variables_have_the_names_that_platforms_give(tmp_path: Path) -> None:
    given: Any = {"DISABLE_LLM_ENDPOINTS": "true", "WEB_CONCURRENCY": "3", "REDIS_TLS_URL": "rediss://cache:6380/0"}
    settings = load(tmp_path, **given)
    assert settings.disable_llm_api_endpoints
    assert (settings.process_count, settings.redis_url) == (3, "rediss://cache:6380/0")
    own = load(tmp_path, **given, NUM_WORKERS="2", REDIS_URL="redis://own:6379/0", DISABLE_LLM_API_ENDPOINTS="false")
    assert (own.process_count, own.redis_url) == (2, "redis://own:6379/0")
    assert not own.disable_llm_api_endpoints


def test_blank_variables_count_as_not_set(tmp_path: Path) -> None:
    settings = load(tmp_path, DATABASE_URL=" ", REDIS_URL="\n", PORT="  ", KEEPALIVE_TIMEOUT="")
    assert (settings.redis_url, settings.port, settings.keepalive_timeout) == (None, 4000, 100.0)
