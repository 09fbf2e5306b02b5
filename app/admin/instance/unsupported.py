"""Lists of features that this version does not have: empty, in the shape that a dashboard reads."""

from __future__ import annotations

from typing import Any

from quart import Blueprint

from ...version import VERSION

blueprint = Blueprint("admin_empty_features", __name__)

Answer = dict[str, Any]


@blueprint.get("/guardrails/list")
@blueprint.get("/v2/guardrails/list")
async def list_guardrails() -> Answer:
    return {"guardrails": []}


@blueprint.get("/policies/list")
async def list_policies() -> Answer:
    return {"policies": [], "total_count": 0}


@blueprint.get("/prompts/list")
async def list_prompts() -> Answer:
    return {"prompts": []}


@blueprint.get("/search_tools/list")
async def list_search_tools() -> Answer:
    return {"search_tools": []}


@blueprint.get("/vector_store/list")
async def list_vector_stores() -> Answer:
    return {"object": "list", "data": [], "total_count": 0, "current_page": 1, "total_pages": 0}


@blueprint.get("/v1/agents")
async def list_agents() -> list[Answer]:
    return []


@blueprint.get("/v1/mcp/server")
async def list_mcp_servers() -> list[Answer]:
    return []


@blueprint.get("/v1/mcp/toolset")
async def list_mcp_toolsets() -> list[Answer]:
    return []


@blueprint.get("/project/list")
async def list_projects() -> list[Answer]:
    return []


@blueprint.get("/jwt/key/mapping/list")
async def list_jwt_mappings() -> Answer:
    return {"mappings": [], "total_count": 0, "current_page": 1, "total_pages": 0}


@blueprint.get("/api/plugins")
async def list_plugins() -> list[Answer]:
    return []


@blueprint.get("/get/latest_release_info")
async def latest_release() -> Answer:
    """Nobody is asked: an instance does not call home."""
    return {"current_version": VERSION, "latest_version": None, "is_update_available": False, "release_notes": None}


@blueprint.get("/public/litellm_blog_posts")
async def list_blog_posts() -> Answer:
    return {"posts": []}


@blueprint.get("/public/model_hub")
async def list_public_models() -> list[Answer]:
    """No model is made public."""
    return []
