"""A token is requested once, with an assertion that Google can verify, and again before it expires."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import jwt
import pytest

from app.errors import UpstreamError
from app.llm.passthrough.vertex_token import VertexTokens, read_service_account
from tests.llm.google_account import public_key, service_account

ADDRESS = "https://token.example/token"
ACCOUNT = json.dumps(service_account(ADDRESS))


class Endpoint:
    """A token endpoint: counts, answers late, and numbers its tokens."""

    def __init__(self, status: int = 200, body: dict[str, Any] | None = None) -> None:
        self.status, self.body = status, body
        self.forms: list[dict[str, list[str]]] = []

    async def post(self, url: str, form: bytes) -> tuple[int, bytes]:
        assert url == ADDRESS
        self.forms.append(parse_qs(form.decode()))
        await asyncio.sleep(0.01)
        body = self.body or {"access_token": f"token-{len(self.forms)}", "expires_in": 3600}
        return self.status, json.dumps(body).encode()


async def test_concurrent_calls_request_one_token_with_a_valid_assertion() -> None:
    endpoint = Endpoint()
    tokens = VertexTokens(endpoint.post)
    account = read_service_account(ACCOUNT, may_read_files=False)
    assert set(await asyncio.gather(*(tokens.token(account) for _ in range(20)))) == {"token-1"}
    (form,) = endpoint.forms
    assert form["grant_type"] == ["urn:ietf:params:oauth:grant-type:jwt-bearer"]
    claims = jwt.decode(form["assertion"][0], public_key(), algorithms=["RS256"], audience=ADDRESS)
    assert claims["iss"] == "gateway@project-one.example"
    assert claims["scope"] == "https://www.googleapis.com/auth/cloud-platform"
    assert claims["exp"] - claims["iat"] == 3600
    assert jwt.get_unverified_header(form["assertion"][0])["kid"] == "key-1"


async def test_a_token_is_requested_again_shortly_before_it_expires() -> None:
    endpoint, now = Endpoint(), [1_000_000.0]
    tokens = VertexTokens(endpoint.post, lambda: now[0])
    account = read_service_account(ACCOUNT, may_read_files=False)
    assert await tokens.token(account) == "token-1"
    now[0] += 3200
    assert await tokens.token(account) == "token-1"
    now[0] += 200
    assert await tokens.token(account) == "token-2"


async def test_a_caller_who_leaves_does_not_end_the_others_wait() -> None:
    tokens = VertexTokens(Endpoint().post)
    account = read_service_account(ACCOUNT, may_read_files=False)
    first, second = (asyncio.create_task(tokens.token(account)) for _ in range(2))
    await asyncio.sleep(0)
    first.cancel()
    assert await second == "token-1"


@pytest.mark.parametrize(
    "endpoint", [Endpoint(400, {"error": "invalid_grant"}), Endpoint(500), Endpoint(200, {"access_token": "a\nb"})]
)
async def test_a_refusal_is_an_authentication_error_and_is_not_cached(endpoint: Endpoint) -> None:
    tokens = VertexTokens(endpoint.post)
    account = read_service_account(ACCOUNT, may_read_files=False)
    for _ in range(2):
        with pytest.raises(UpstreamError, match="No access token for Vertex AI") as refused:
            await tokens.token(account)
        assert refused.value.status == 401
        assert "invalid_grant" not in refused.value.message
    assert len(endpoint.forms) == 2


def test_an_account_is_read_from_a_file_where_that_is_allowed(tmp_path: Path) -> None:
    file = tmp_path / "account.json"
    file.write_text(ACCOUNT)
    assert read_service_account(str(file), may_read_files=True).project == "project-one"
    with pytest.raises(ValueError, match="send the JSON itself"):
        read_service_account(str(file), may_read_files=False)


@pytest.mark.parametrize(
    "text", ["{", "[]", "{}", json.dumps({**service_account("file:///etc/passwd")}), "/no/such/file"]
)
def test_an_invalid_service_account_is_refused_without_being_shown(text: str) -> None:
    with pytest.raises(ValueError, match=r"is|has") as problem:
        read_service_account(text, may_read_files=True)
    assert "PRIVATE" not in str(problem.value)


async def test_an_invalid_private_key_is_reported_without_being_shown() -> None:
    facts = {**service_account(ADDRESS), "private_key": "-----BEGIN no key-----"}
    account = read_service_account(json.dumps(facts), may_read_files=False)
    with pytest.raises(UpstreamError, match="holds no private key") as refused:
        await VertexTokens(Endpoint().post).token(account)
    assert "BEGIN" not in refused.value.message + repr(account)
