"""Calls of the field's dashboard that belong to no resource of ours: they answer in the shape that it reads."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from app.admin.models.listing import price_list
from tests.admin.conftest import Caller

EMPTY: dict[str, Any] = {
    "/guardrails/list": {"guardrails": []},
    "/v2/guardrails/list": {"guardrails": []},
    "/policies/list": {"policies": [], "total_count": 0},
    "/prompts/list": {"prompts": []},
    "/search_tools/list": {"search_tools": []},
    "/vector_store/list": {"object": "list", "data": [], "total_count": 0, "current_page": 1, "total_pages": 0},
    "/v1/agents": [],
    "/v1/mcp/server": [],
    "/v1/mcp/toolset": [],
    "/project/list": [],
    "/api/plugins": [],
}


@pytest.mark.parametrize("path", list(EMPTY))
async def test_features_that_are_not_there_are_empty_for_every_key(alice: Caller, path: str) -> None:
    answer = await alice.get(path)
    assert (answer.status_code, answer.json()) == (200, EMPTY[path])
    assert (await alice.client.get(path)).status_code == 401


async def test_the_shell_of_a_dashboard_is_answered(alice: Caller, vera: Caller) -> None:
    banner = (await alice.get("/get/user_banner")).json()
    assert banner == {"enabled": False, "message": "", "severity": "info", "revision": 0}
    licence = (await alice.get("/health/license")).json()
    assert (licence["has_license"], licence["expiration_date"]) == (True, None)
    assert (await alice.get("/get/latest_release_info")).json()["is_update_available"] is False
    assert (await alice.get("/sso/get/ui_settings")).json()["SSO_ENABLED"] is False
    assert (await vera.get("/jwt/key/mapping/list")).json()["mappings"] == []
    assert (await alice.get("/jwt/key/mapping/list")).status_code == 401


async def test_what_a_sign_in_page_asks_for_needs_no_key(client: httpx.AsyncClient) -> None:
    for path in (
        "/favicon.ico",
        "/get/ui_settings",
        "/get/ui_theme_settings",
        "/get_favicon",
        "/get_image",
        "/public/litellm_blog_posts",
        "/public/model_hub",
        "/test",
    ):
        assert (await client.get(path)).status_code == 200, path
    assert (await client.get("/get_image", params={"theme": "pink"})).status_code == 422


async def test_the_routes_of_an_instance_are_listed(client: httpx.AsyncClient) -> None:
    routes = (await client.get("/routes")).json()["routes"]
    found = {(route["path"], *route["methods"]) for route in routes}
    assert {("/fallback/{model}", "GET"), ("/key/info", "GET"), ("/routes", "GET")} <= found
    assert not any("<" in route["path"] for route in routes)


async def test_bundled_prices_have_the_shape_of_the_fields_map(client: httpx.AsyncClient) -> None:
    answer = await client.get("/public/litellm_model_cost_map")
    assert "max-age" in answer.headers["Cache-Control"]
    rows = answer.json()
    assert len(rows) > 1000
    row = rows["gpt-4o"]
    assert (row["litellm_provider"], row["input_cost_per_token"], row["output_cost_per_token"]) == (
        "openai",
        0.0000025,
        0.00001,
    )
    assert rows["gemini/gemini-2.5-flash"]["litellm_provider"] == "gemini"
    assert price_list() is price_list()
