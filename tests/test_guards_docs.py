"""The generated references say what the code says."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from quart import Quart

from app import create_app
from app.route_groups import ROUTE_GROUPS
from app.settings import Settings, declared_settings
from app.settings.config_keys import CONTRACT_KEYS, SUPPORTED_KEYS
from tests.source_files import ROOT
from tools.contract_routes import contract_routes
from tools.reference import (
    DEPLOYMENT_KEYS,
    configuration_markdown,
    contract_table,
    main,
    routes_markdown,
    with_contract_table,
)

_STALE = "docs/{} is not what the code says; run: make docs"

# Variables of the field that every deployment guide sets.
_PROMISED = """
LITELLM_MASTER_KEY DATABASE_URL REDIS_URL PORT HOST PROXY_BASE_URL UI_USERNAME UI_PASSWORD LITELLM_SALT_KEY
DISABLE_ADMIN_UI DISABLE_ADMIN_ENDPOINTS DISABLE_LLM_API_ENDPOINTS LITELLM_UI_API_DOC_BASE_URL
""".split()


def test_the_reference_of_settings_is_up_to_date() -> None:
    text = (ROOT / "docs/configuration.md").read_text(encoding="utf-8")
    assert text == configuration_markdown(), _STALE.format("configuration.md")


def test_the_reference_of_routes_is_up_to_date(tmp_path: Path) -> None:
    app = create_app(Settings(master_key="sk-docs", database_url=f"sqlite:///{tmp_path}/docs.db"))
    text = (ROOT / "docs/routes.md").read_text(encoding="utf-8")
    assert text == routes_markdown(app), _STALE.format("routes.md")


def test_the_route_table_of_the_contract_is_up_to_date(tmp_path: Path) -> None:
    app = create_app(Settings(master_key="sk-docs", database_url=f"sqlite:///{tmp_path}/docs.db"))
    text = (ROOT / "docs/compatibility.md").read_text(encoding="utf-8")
    assert text == with_contract_table(text, app), _STALE.format("compatibility.md")


def test_every_essential_and_every_expected_route_of_the_contract_is_there(tmp_path: Path) -> None:
    app = create_app(Settings(master_key="sk-docs", database_url=f"sqlite:///{tmp_path}/docs.db"))
    rows = re.findall(r"^\| [^|]+ \| (P\d) \| `([^`]+)` \| ([^|]+) \|$", contract_table(app), re.MULTILINE)
    assert len(rows) == len(set(contract_routes())) > 250
    missing = {route for priority, route, here in rows if priority in ("P0", "P1") and here != "yes"}
    # Dialects of their own, which docs/compatibility.md shows as missing until they are built.
    assert missing == {
        f"POST {path}" for path in ("/v1/messages", "/v1/messages/count_tokens", "/responses", "/v1/responses")
    }


def test_a_document_without_the_marks_of_its_table_is_not_overwritten() -> None:
    with pytest.raises(ValueError, match="lost the marks"):
        with_contract_table("# Compatibility\n", Quart("bare", static_folder=None))


def test_writing_the_references_again_changes_nothing() -> None:
    paths = [ROOT / "docs" / name for name in ("configuration.md", "routes.md", "compatibility.md")]
    before = [path.read_text(encoding="utf-8") for path in paths]
    main()
    assert [path.read_text(encoding="utf-8") for path in paths] == before, _STALE.format("")


def test_every_setting_and_every_key_of_the_contract_is_in_the_reference() -> None:
    text = configuration_markdown()
    for item in declared_settings():
        for source in ("yaml", "env"):
            assert item.metadata[source] is None or f"`{item.metadata[source]}`" in text
    missing = [key for key in CONTRACT_KEYS if f"`{key}`" not in text and f"`{key.partition('.')[2]}`" not in text]
    assert not missing
    assert not [name for name in _PROMISED if f"`{name}`" not in text]


def test_secrets_are_marked_as_such() -> None:
    rows = [line for line in configuration_markdown().splitlines() if line.endswith("*secret* |")]
    assert {row.split("|")[1].strip() for row in rows} == {
        "master key",
        "database url",
        "redis url",
        "ui password",
        "salt key",
        "callback settings",
        "cache params",
        "langfuse secret key",
        "generic logger headers",
        "alert to webhook url",
        "otlp headers",
        "slack webhook url",
        "webhook url",
        "smtp password",
    }


def test_a_setting_that_is_read_counts_as_supported() -> None:
    read = {item.metadata["yaml"] for item in declared_settings() if item.metadata["yaml"]}
    assert read <= SUPPORTED_KEYS
    assert SUPPORTED_KEYS <= CONTRACT_KEYS


def test_every_supported_parameter_of_a_deployment_is_explained() -> None:
    supported = {key.partition(".")[2] for key in SUPPORTED_KEYS if key.startswith("litellm_params.")}
    assert set(DEPLOYMENT_KEYS) == supported


def test_the_reference_of_routes_has_every_group_and_no_path_twice() -> None:
    text = (ROOT / "docs/routes.md").read_text(encoding="utf-8")
    assert re.findall(r"^## (\w+)$", text, re.MULTILINE) == [group.name for group in ROUTE_GROUPS]
    rows = re.findall(r"^\| [A-Z, ]+ \| `.+$", text, re.MULTILINE)
    assert len(rows) == len(set(rows)) > 80
