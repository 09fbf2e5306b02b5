"""Where a request carries its key, and what a caller may do with it."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta

import httpx
import pytest

from app.auth.principal import Principal, key_from
from app.auth.roles import Role
from app.errors import PlainDenial, Unauthenticated

# First present wins.
_PRECEDENCE = [
    "x-litellm-api-key",
    "Authorization",
    "API-Key",
    "x-api-key",
    "x-goog-api-key",
    "Ocp-Apim-Subscription-Key",
]


def headers(**values: str) -> Mapping[str, str]:
    """As a request carries them: names in any case."""
    return httpx.Headers([(name.replace("_", "-"), value) for name, value in values.items()])


@pytest.mark.parametrize("position", range(len(_PRECEDENCE)))
def test_the_first_header_that_is_there_wins(position: int) -> None:
    present = _PRECEDENCE[position:]
    carried = httpx.Headers([(name, f"Bearer sk-{name.lower()}") for name in reversed(present)])
    assert key_from(carried) == f"sk-{present[0].lower()}"


@pytest.mark.parametrize("value", ["Bearer sk-1", "bearer sk-1", "Basic sk-1", "Bearer   sk-1 "])
def test_authorization_needs_a_scheme(value: str) -> None:
    assert key_from(headers(Authorization=value)) == "sk-1"


@pytest.mark.parametrize("value", ["sk-1", "Bearer", "Bearer ", "", "Digest sk-1"])
def test_authorization_without_a_scheme_is_malformed(value: str) -> None:
    with pytest.raises(Unauthenticated, match="Malformed API Key passed in") as refused:
        key_from(headers(Authorization=value))
    assert refused.value.body()["error"]["type"] == "auth_error"


@pytest.mark.parametrize("value", ["sk-1", "Bearer sk-1"])
def test_other_headers_take_the_key_with_and_without_a_scheme(value: str) -> None:
    assert key_from(headers(x_litellm_api_key=value)) == "sk-1"
    assert key_from(headers(api_key=value)) == "sk-1"


def test_a_bad_key_in_the_first_header_beats_a_good_one_behind_it() -> None:
    assert key_from(headers(x_litellm_api_key="sk-bad", Authorization="Bearer sk-good")) == "sk-bad"


def test_a_header_of_the_settings_wins_and_needs_bearer() -> None:
    carried = headers(x_deck_key="Bearer sk-deck", x_litellm_api_key="sk-other")
    assert key_from(carried, "X-Deck-Key") == "sk-deck"
    assert key_from(headers(x_litellm_api_key="sk-other"), "X-Deck-Key") == "sk-other"
    with pytest.raises(Unauthenticated, match="Malformed"):
        key_from(headers(x_deck_key="sk-deck"), "X-Deck-Key")


def test_clients_of_aws_sign_with_the_key() -> None:
    signed = "AWS4-HMAC-SHA256 Credential=sk-1/20261122/us-east-1/bedrock/aws4_request, SignedHeaders=host, Signature=f"
    assert key_from(headers(Authorization=signed)) == "sk-1"


def test_a_key_in_the_query_counts_where_no_header_has_one() -> None:
    assert key_from({}, None, "sk-query") == "sk-query"
    assert key_from(headers(x_api_key="sk-header"), None, "sk-query") == "sk-header"


def test_pass_through_needs_the_lists_of_key_and_team() -> None:
    lists = (("/openai/*", "/gemini/*"), (), ("/openai/*", "/azure/*"))
    caller = Principal(
        role=Role.KEY_ONLY, key_hash="h", pass_through_routes=lists, denied_pass_through_routes=("/openai/v2/*",)
    )
    caller.refuse_pass_through("/openai/v1/files")
    for path in ("/gemini/v1", "/azure/x", "/openai/v2/x"):
        with pytest.raises(PlainDenial):
            caller.refuse_pass_through(path)
    Principal(role=Role.KEY_ONLY, key_hash="h").refuse_pass_through("/anything")


def test_no_key_at_all_says_so() -> None:
    with pytest.raises(Unauthenticated) as refused:
        key_from(headers(Accept="*/*"))
    assert refused.value.body() == {
        "error": {
            "message": "Authentication Error, No api key passed in.",
            "type": "auth_error",
            "param": "None",
            "code": "401",
        }
    }


# ---- what a caller may do ------------------------------------------------------------------------------------------


def principal(**fields: object) -> Principal:
    return Principal(role=Role.INTERNAL_USER, key_hash="h", **fields)  # type: ignore[arg-type]


def is_refused(caller: Principal, path: str, group: str) -> bool:
    try:
        caller.refuse_route(path, group)
    except PlainDenial as denial:
        assert denial.status == 403
        assert path in denial.message
        return True
    return False


@pytest.mark.parametrize(
    ("entry", "path", "group", "may"),
    [
        ("/key/info", "/key/info", "admin", True),
        ("/key/info", "/key/information", "admin", False),
        ("/key/*", "/key/generate", "admin", True),
        ("/key/*", "/user/new", "admin", False),
        ("llm_api_routes", "/v1/chat/completions", "llm", True),
        ("llm_api_routes", "/v1/models", "models", True),
        ("llm_api_routes", "/openai/x", "pass_through", True),
        ("openai_routes", "/openai/x", "pass_through", False),
        ("anthropic_routes", "/anthropic/v1/messages", "pass_through", True),
        ("google_routes", "/openai/x", "pass_through", False),
        ("llm_api_routes", "/key/generate", "admin", False),
        ("management_routes", "/key/generate", "admin", True),
        ("management_routes", "/v1/chat/completions", "llm", False),
        ("info_routes", "/team/info", "admin", True),
        ("info_routes", "/team/new", "admin", False),
    ],
)
def test_a_key_that_is_limited_to_routes_may_call_those(entry: str, path: str, group: str, may: bool) -> None:
    assert is_refused(principal(allowed_routes=("/elsewhere", entry)), path, group) is not may


def test_a_key_without_a_list_may_call_every_route() -> None:
    assert not is_refused(principal(), "/anything", "admin")


def test_an_expired_key_says_when_it_ended() -> None:
    ended = datetime.now(UTC) - timedelta(seconds=1)
    with pytest.raises(Unauthenticated, match="Expired Key") as refused:
        principal(expires_at=ended, key_name="sk-...abcd").refuse_expired()
    assert (refused.value.type, refused.value.param) == ("expired_key", "sk-...abcd")
    principal(expires_at=datetime.now(UTC) + timedelta(minutes=1)).refuse_expired()
    principal().refuse_expired()


def test_a_blocked_key_is_refused() -> None:
    with pytest.raises(Unauthenticated, match="blocked"):
        principal(is_blocked=True).refuse_blocked()
    principal().refuse_blocked()


def test_roles_say_what_they_may_see() -> None:
    seen = {role for role in Role if Principal(role=role, key_hash="h").can_read_all}
    assert seen == {Role.PROXY_ADMIN, Role.PROXY_ADMIN_VIEWER}
    assert [role for role in Role if Principal(role=role, key_hash="h").is_admin] == [Role.PROXY_ADMIN]
