"""Models as lists and groups show them: what a caller may call, without what leads to it; and the bundled prices."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from decimal import Decimal
from functools import lru_cache
from pathlib import Path
from typing import Any

import msgspec
from quart import Blueprint, Response

from ... import spend
from ...auth.principal import current_principal
from ...deployments.catalog import Deployment, SkippedDeployment
from ...errors import PlainDenial
from ...models.columns import json_value
from ...protocols.dialects import DIALECTS
from ...protocols.openai.params import params_of_mode
from ...protocols.providers import PROVIDERS, Provider
from ...spend.pricing import Prices, listed_prices
from ...web.fields import Table, flag, identifier, read_query, takes
from ..paging import page_field, size_field
from .rows import (
    max_input_tokens,
    mode_of,
    rows_of_deployments,
    skipped_row,
    visible_deployments,
    visible_skipped,
)

blueprint = Blueprint("admin_model_list", __name__)

Answer = dict[str, Any]
_PARAMS: Table = {
    "litellm_model_id": identifier(),
    "teamId": identifier(),
    "include_team_models": flag(),
    "healthy_only": flag(),
}
_PAGED: Table = {
    "page": page_field(),
    "size": size_field(1000),
    **dict.fromkeys(("model", "search", "modelId", "teamId", "sortBy", "sortOrder", "access_group"), identifier()),
    **dict.fromkeys(("wildcard_only", "user_models_only", "include_team_models", "exclude_auto_routers"), flag()),
}
_SORTS = {
    "model_name": "model_name",
    "input_cost": "input_cost_per_token",
    "output_cost": "output_cost_per_token",
    "created_at": "created_at",
    "updated_at": "updated_at",
}
# What a group says that it supports unless a deployment's `model_info` says so.
_SUPPORTS = (
    "supports_vision",
    "supports_function_calling",
    "supports_parallel_function_calling",
    "supports_reasoning",
    "supports_web_search",
    "supports_url_context",
)


@blueprint.get("/model/info")
@blueprint.get("/v1/model/info")
@takes(query=_PARAMS)
async def list_models() -> Answer:
    params = read_query()
    deployments = [
        deployment
        for deployment in await visible_deployments(current_principal())
        if _is_of_team(deployment, params["teamId"])
    ]
    skipped = [entry for entry in visible_skipped(current_principal()) if _is_of_team(entry, params["teamId"])]
    rows = [*rows_of_deployments(deployments), *map(skipped_row, skipped)]
    wanted = params["litellm_model_id"]
    if wanted is None:
        return {"data": rows}
    matching = [row for row in rows if row["model_info"]["id"] == wanted]
    if not matching:
        raise PlainDenial(f"Model id = {wanted} not found on litellm proxy", status=400, is_nested=True)
    return {"data": matching}


def _is_of_team(deployment: Deployment | SkippedDeployment, team_id: str | None) -> bool:
    return team_id is None or deployment.team_id in (None, team_id)


@blueprint.get("/v2/model/info")
@takes(query=_PAGED)
async def list_models_in_pages() -> Answer:
    params = read_query(page=1, size=50)
    matching = [
        deployment for deployment in await visible_deployments(current_principal()) if _matches(deployment, params)
    ]
    skipped = [entry for entry in visible_skipped(current_principal()) if _matches_skipped(entry, params)]
    rows = [*rows_of_deployments(matching), *map(skipped_row, skipped)]
    column = _SORTS.get(params["sortBy"] or "")
    if column:
        rows.sort(key=lambda row: _sort_key(row, column), reverse=(params["sortOrder"] or "asc").lower() == "desc")
    start = (params["page"] - 1) * params["size"]
    return {
        "data": rows[start : start + params["size"]],
        "total_count": len(rows),
        "current_page": params["page"],
        "total_pages": -(-len(rows) // params["size"]),
        "size": params["size"],
    }


def _matches(deployment: Deployment, params: Answer) -> bool:
    name, user_id = deployment.public_name, current_principal().user_id
    return (
        params["model"] in (None, name)
        and params["modelId"] in (None, deployment.id)
        and (params["search"] or "").lower() in name.lower()
        and (not params["wildcard_only"] or "*" in name)
        and (params["access_group"] is None or params["access_group"] in deployment.access_groups)
        and _is_of_team(deployment, params["teamId"])
        and (not params["user_models_only"] or deployment.model_info.get("created_by") == (user_id or "nobody"))
    )


def _matches_skipped(skipped: SkippedDeployment, params: Answer) -> bool:
    """Nothing is known of it but what it was called, so filters by anything else leave it out."""
    return (
        params["model"] in (None, skipped.model_name)
        and params["modelId"] in (None, skipped.id)
        and (params["search"] or "").lower() in skipped.model_name.lower()
        and (not params["wildcard_only"] or "*" in skipped.model_name)
        and params["access_group"] is None
        and _is_of_team(skipped, params["teamId"])
        and not params["user_models_only"]
    )


def _sort_key(row: Answer, column: str) -> tuple[bool, Any]:
    value = row.get(column, row["model_info"].get(column))
    return (value is not None, value if value is not None else 0)


# ---- groups --------------------------------------------------------------------------------------------------------


@blueprint.get("/model_group/info")
@takes(query={"model_group": identifier()})
async def model_groups() -> Answer:
    """One row for each model name that the caller may call; the dearest prices of its deployments."""
    wanted = read_query()["model_group"]
    groups: dict[str, list[Deployment]] = {}
    for deployment in await visible_deployments(current_principal()):
        if not deployment.is_blocked and wanted in (None, deployment.public_name):
            groups.setdefault(deployment.public_name, []).append(deployment)
    return {"data": [_group(name, members) for name, members in groups.items()]}


def _group(name: str, members: Sequence[Deployment]) -> Answer:
    return {
        "model_group": name,
        "providers": list(dict.fromkeys(deployment.provider.name for deployment in members)),
        "max_input_tokens": _largest(max_input_tokens, members),
        "max_output_tokens": _largest(_max_output_tokens, members),
        "input_cost_per_token": json_value(_largest(lambda deployment: deployment.input_cost_per_token, members)),
        "output_cost_per_token": json_value(_largest(lambda deployment: deployment.output_cost_per_token, members)),
        "mode": mode_of(members[0]),
        "tpm": _sum(deployment.tpm for deployment in members),
        "rpm": _sum(deployment.rpm for deployment in members),
        **{name: any(deployment.model_info.get(name) is True for deployment in members) for name in _SUPPORTS},
        "supported_openai_params": list(params_of_mode(mode_of(members[0]))),
        "configurable_clientside_auth_params": None,
        "is_public_model_group": False,
        "health_status": None,
        "health_response_time": None,
        "health_checked_at": None,
    }


def _max_output_tokens(deployment: Deployment) -> int | None:
    declared = deployment.model_info.get("max_output_tokens")
    return declared if isinstance(declared, int) else None


def _largest(read: Callable[[Deployment], int | Decimal | None], members: Iterable[Deployment]) -> Any:
    return max((value for deployment in members if (value := read(deployment)) is not None), default=None)


def _sum(values: Iterable[float | None]) -> float | None:
    given = [value for value in values if value is not None]
    return sum(given) if given else None


# ---- forms ---------------------------------------------------------------------------------------------------------


@blueprint.get("/model/settings")
async def model_settings() -> list[Answer]:
    """What a form for a new model asks for, per provider."""
    spoken = (provider for provider in PROVIDERS.values() if not provider.is_pass_through_only)
    return [{"name": provider.name, "fields": _fields(provider)} for provider in spoken]


def _fields(provider: Provider) -> list[Answer]:
    fields = [
        ("api_key", "The provider's key. Without one: the instance's own, at the provider's own address only."),
        ("api_base", f"Address of the provider. Without one: {provider.base or 'required'}."),
    ]
    fields += DIALECTS[provider.dialect].parameters.items()
    return [
        {"field_name": name, "field_type": "string", "field_description": meaning, "field_value": None}
        for name, meaning in fields
    ]


# ---- the bundled prices ----------------------------------------------------------------------------------------------

_TABLE = Path(spend.__file__).parent / "prices.json"
# The map's words where our table has others; models of the first two stand in it without a provider before them.
_PROVIDERS = {
    "x-ai": "xai",
    "together": "together_ai",
    "fireworks": "fireworks_ai",
    "google": "gemini",
    "aws": "bedrock",
}
_WITHOUT_PREFIX = ("openai", "anthropic")
_ONE_DAY = "public, max-age=86400"


@blueprint.get("/public/litellm_model_cost_map")
async def model_cost_map() -> Response:
    return Response(price_list(), mimetype="application/json", headers={"Cache-Control": _ONE_DAY})


@lru_cache(maxsize=1)
def price_list() -> bytes:
    """The whole list as JSON, written once in the life of a process."""
    table: dict[str, list[dict[str, Any]]] = msgspec.json.decode(_TABLE.read_bytes())
    rows: dict[str, Any] = {}
    for name, models in table.items():
        provider = _PROVIDERS.get(name, name)
        for model in models:
            prices = listed_prices(name, model["id"])
            if prices is not None:
                key = model["id"] if name in _WITHOUT_PREFIX else f"{provider}/{model['id']}"
                rows.setdefault(key, _row(provider, model["id"], prices))
    return msgspec.json.encode(rows)


def _row(provider: str, model: str, prices: Prices) -> dict[str, Any]:
    row = {
        "litellm_provider": provider,
        "mode": "embedding" if "embed" in model else "chat",
        "input_cost_per_token": float(prices.input.base),
        "output_cost_per_token": float(prices.output.base),
        "max_input_tokens": prices.max_input_tokens,
        "max_tokens": prices.max_input_tokens,
    }
    if prices.cache_read is not None:
        row["cache_read_input_token_cost"] = float(prices.cache_read.base)
    if prices.cache_write is not None:
        row["cache_creation_input_token_cost"] = float(prices.cache_write.base)
    return row
