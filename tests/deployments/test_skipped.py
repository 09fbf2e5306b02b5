"""What cannot be served is left out by name, or stops the start of who wants that."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from app.deployments.catalog import DeploymentCatalog
from app.settings import Settings
from app.settings.config_file import SettingsError
from app.storage.database import Database
from tests.deployments.builders import SECRET, catalog_of, entry


@pytest.mark.parametrize("how", [{"is_strict": True}, {"ignores_invalid_deployments": False}])
async def test_in_strict_settings_a_wrong_entry_stops_the_start_and_is_named(how: dict[str, Any]) -> None:
    settings = Settings(master_key="sk-master", model_list=(entry("good"), entry("bad", "nobody/x")), **how)
    with pytest.raises(SettingsError, match=r"model_list\[1\] \(bad\): 'nobody'"):
        DeploymentCatalog(settings, Database(settings))


async def test_a_wrong_entry_is_left_out_by_name_and_logged_once(migrated_sqlite_url: str, tmp_path: Path) -> None:
    models = (entry("good"), entry("bad", "nobody/x"), entry("waits", litellm_credential_name="absent"))
    with capture_logs() as logs:
        async with catalog_of(migrated_sqlite_url, tmp_path, *models) as catalog:
            assert [(skipped.model_name, skipped.place) for skipped in catalog.skipped()] == [
                ("bad", "environment: model_list[1]")
            ]
            await catalog.reload()
            await catalog.reload()
            assert catalog.names() == ["good"]
            assert [skipped.model_name for skipped in catalog.skipped()] == ["bad", "waits"]
    logged = [line["model_name"] for line in logs if line["event"] == "deployment skipped"]
    assert logged == ["bad", "waits"]


async def test_a_credential_of_the_file_that_misses_a_value_serves_nobody(
    migrated_sqlite_url: str, tmp_path: Path
) -> None:
    """Else the prompt and the credential's key would go to the provider's public address."""
    credential = {
        "credential_name": "c",
        "credential_values": {"api_key": SECRET},
        "credential_info": {},
        "problem": "credential_values.api_base: the variable INSIDE is not set",
    }
    model = entry("a", litellm_credential_name="c")
    settings = Settings(
        master_key="sk-master",
        database_url=migrated_sqlite_url,
        state_dir=tmp_path,
        model_list=(model,),
        credential_list=(credential,),
    )
    catalog = DeploymentCatalog(settings, Database(settings))
    assert catalog.names() == []
    assert "'c' is incomplete: credential_values.api_base" in catalog.skipped()[0].reason
    with pytest.raises(ValueError, match="is incomplete"):
        catalog.check("b", model["litellm_params"], {})
