"""A key that is limited to some routes cannot make, or get hold of, a key that is not."""

from __future__ import annotations

import pytest

from tests.admin.conftest import Caller

ROUTES = ["/key/*", "llm_api_routes"]


@pytest.fixture
async def limited(alice: Caller) -> Caller:
    """A key of Alice for keys and calls."""
    return Caller(alice.client, (await alice.new_key(allowed_routes=ROUTES))["key"])


async def test_a_new_key_has_the_routes_of_the_one_that_made_it(limited: Caller) -> None:
    assert (await limited.new_key())["allowed_routes"] == ROUTES
    assert (await limited.new_key(allowed_routes=["llm_api_routes"]))["allowed_routes"] == ["llm_api_routes"]


@pytest.mark.parametrize(
    "wider", [{"allowed_routes": ["/user/*"]}, {"key_type": "management"}, {"key_type": "read_only"}]
)
async def test_wider_routes_are_refused(limited: Caller, wider: dict[str, object]) -> None:
    refused = await limited.post("/key/generate", **wider)
    assert (refused.status_code, refused.json()["error"]["param"]) == (403, "allowed_routes"), refused.text


async def test_the_secret_of_a_key_with_wider_routes_stays_unknown(alice: Caller, limited: Caller) -> None:
    wide, narrow = await alice.new_key(), await alice.new_key(allowed_routes=["llm_api_routes"])
    refused = await limited.post("/key/regenerate", key=wide["key"])
    assert (refused.status_code, refused.json()["error"]["param"]) == (403, "allowed_routes"), refused.text
    assert (await limited.post("/key/regenerate", key=narrow["key"])).status_code == 200
    assert (await limited.post("/key/update", key=narrow["token"], allowed_routes=["/user/*"])).status_code in (
        403,
        404,
    )


async def test_a_key_without_limits_gives_what_it_likes(alice: Caller) -> None:
    assert (await alice.new_key(allowed_routes=["/user/*"]))["allowed_routes"] == ["/user/*"]
