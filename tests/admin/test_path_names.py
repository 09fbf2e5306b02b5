"""Names in paths that no column could hold are names of nothing, not errors of ours."""

from __future__ import annotations

import pytest

from tests.admin.conftest import Caller

ROUTES = (
    ("GET", "/credentials/by_name/{}"),
    ("GET", "/credentials/by_model/{}"),
    ("PATCH", "/credentials/{}"),
    ("DELETE", "/credentials/{}"),
    ("GET", "/access_group/{}/info"),
    ("PUT", "/access_group/{}/update"),
    ("DELETE", "/access_group/{}/delete"),
    ("GET", "/access_group/{}/budget"),
    ("PUT", "/access_group/{}/budget"),
    ("DELETE", "/access_group/{}/budget"),
    ("GET", "/v1/access_group/{}"),
    ("PUT", "/v1/access_group/{}"),
    ("DELETE", "/v1/unified_access_group/{}"),
    ("PATCH", "/model/{}/update"),
    ("PATCH", "/team/{}"),
    ("GET", "/team/{}/callback"),
    ("GET", "/team/{}/members/me"),
    ("POST", "/team/{}/disable_logging"),
    ("POST", "/team/{}/member/alice/reset_spend"),
)


@pytest.mark.parametrize("name", ["a%00b", "x" * 300], ids=["NUL", "long"])
async def test_a_name_that_cannot_be_is_not_found(admin: Caller, name: str) -> None:
    for method, path in ROUTES:
        answer = await admin.client.request(method, path.format(name), json={}, headers=admin.headers)
        assert answer.status_code == 404, f"{method} {path} {answer.status_code} {answer.text}"
