"""Deployments and catalogs for the tests of this package."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from app.deployments.catalog import Deployment, DeploymentCatalog, build_deployment
from app.settings import Settings
from app.storage.database import Database

SECRET = "sk-provider-secret"


def build(
    model: str = "openai/gpt-4o-mini",
    environment: dict[str, str] | None = None,
    info: dict[str, Any] | None = None,
    **params: Any,
) -> Deployment:
    return build_deployment("group", {"model": model, **params}, info, environment or {})


@asynccontextmanager
async def catalog_of(url: str, tmp_path: Path, *models: dict[str, Any]) -> AsyncIterator[DeploymentCatalog]:
    settings = Settings(master_key="sk-master", database_url=url, state_dir=tmp_path, model_list=models)
    database = Database(settings)
    await database.open()
    try:
        with database.active():
            yield DeploymentCatalog(settings, database)
    finally:
        await database.close()


def entry(name: str, model: str = "openai/gpt-4o-mini", id: str | None = None, **params: Any) -> dict[str, Any]:
    info = {"model_info": {"id": id}} if id else {}
    return {"model_name": name, "litellm_params": {"model": model, **params}, **info}
