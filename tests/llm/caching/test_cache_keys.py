"""What two calls must have in common to share an answer, and the cache controls of a call."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.auth.principal import Principal
from app.auth.roles import Role
from app.errors import Forbidden, InvalidRequest
from app.llm.caching.cache_keys import MAX_ITEMS, answer_keys, read_controls, scope_of
from app.protocols.openai.request import CHAT, COMPLETIONS, EMBEDDINGS, OpenAIEndpoint, OpenAIRequest, parse_request
from app.settings.response_cache import CacheParams

_MESSAGES = [{"role": "user", "content": "hi", "name": "ann"}]
_BODY: dict[str, Any] = {"model": "chat", "messages": _MESSAGES, "temperature": 0.5}


def request(body: Any = None, endpoint: OpenAIEndpoint = CHAT, **changes: Any) -> OpenAIRequest:
    return parse_request(endpoint, json.dumps({**(body or _BODY), **changes}).encode())


def keys(call: OpenAIRequest, **who: Any) -> list[str]:
    return answer_keys(call, **{"group": "chat", "owners": [""], "scope": "team:a", "namespace": "", **who})


def key(body: Any = None, **changes: Any) -> str:
    (found,) = keys(request(body, **changes))
    return found


# ---- keys ----------------------------------------------------------------------------------------------------------


def shuffled(value: Any) -> Any:
    """The same JSON with all of its objects the other way round."""
    if isinstance(value, dict):
        return {name: shuffled(item) for name, item in reversed(value.items())}
    return [shuffled(item) for item in value] if isinstance(value, list) else value


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**40), 2**40) | st.text(max_size=10),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


@given(tools=_JSON)
def test_the_order_of_json_keys_and_white_space_do_not_matter(tools: Any) -> None:
    body = {**_BODY, "tools": tools}
    spaced = parse_request(CHAT, json.dumps(shuffled(body), indent=3).encode())
    assert keys(spaced) == [key(body)]


@pytest.mark.parametrize(
    "changes",
    [
        {"stream": True},
        {"stream": True, "stream_options": {"include_usage": True}},
        {"user": "somebody"},
        {"metadata": {"tags": ["a"]}},
        {"tags": ["a"]},
        {"cache": {"ttl": 5}},
        {"num_retries": 3, "timeout": 5, "fallbacks": ["other"]},
        {"model": "alias-of-chat"},
    ],
)
def test_what_does_not_decide_the_answer_is_not_in_the_key(changes: dict[str, Any]) -> None:
    assert key(**changes) == key()


@pytest.mark.parametrize(
    "changes",
    [
        {"messages": [{"role": "user", "content": "ho", "name": "ann"}]},
        {"messages": [*_MESSAGES, *_MESSAGES]},
        {"temperature": 0.6},
        {"temperature": None},
        {"n": 2},
        {"seed": 1},
        {"tools": []},
        {"response_format": {"type": "json_object"}},
        {"never_heard_of": 1},
        {"guardrails": ["strict"]},
    ],
)
def test_whatever_else_a_body_says_is_in_the_key(changes: dict[str, Any]) -> None:
    assert key(**changes) != key()


@pytest.mark.parametrize(
    "who", [{"group": "other"}, {"owners": ["t"]}, {"scope": "team:b"}, {"namespace": "n"}, {"tags": ["t"]}]
)
def test_the_model_its_owners_the_scope_the_namespace_and_deciding_tags_are_in_the_key(who: dict[str, Any]) -> None:
    assert keys(request(), **who) != keys(request())


def test_operations_do_not_share_answers() -> None:
    body = {"model": "chat", "prompt": "hi", "input": "hi", "messages": _MESSAGES}
    found = [keys(request(body, endpoint))[0] for endpoint in (CHAT, COMPLETIONS, EMBEDDINGS)]
    assert len(set(found)) == 3


def test_a_key_is_a_hash_below_its_namespace() -> None:
    (found,) = keys(request(), namespace="night")
    prefix, _, digest = found.partition(":")
    assert (prefix, len(digest)) == ("night", 64)
    assert int(digest, 16)


def test_scope_and_namespace_cannot_be_taken_for_each_other() -> None:
    assert keys(request(), namespace="a", scope="b")[0][2:] != keys(request(), namespace="", scope="ab")[0]


def test_a_body_with_numbers_out_of_range_has_no_key() -> None:
    body = b'{"model": "chat", "messages": [{"role": "user", "content": "hi"}], "seed": 1e999}'
    assert keys(parse_request(CHAT, body)) == []


def test_each_item_of_an_embedding_has_its_own_key() -> None:
    base = {"model": "e"}
    several = keys(request({**base, "input": ["a", "b", "a"]}, EMBEDDINGS))
    assert several[0] == several[2] != several[1]
    assert keys(request({**base, "input": "b"}, EMBEDDINGS)) == [several[1]]
    tokens = keys(request({**base, "input": [[1, 2], [3]]}, EMBEDDINGS))
    assert keys(request({**base, "input": [3]}, EMBEDDINGS)) == [tokens[1]]
    assert keys(request({**base, "input": ["a"], "dimensions": 8}, EMBEDDINGS)) != several[:1]
    assert keys(request({**base, "input": ["a"] * (MAX_ITEMS + 1)}, EMBEDDINGS)) == []
    assert keys(request({**base, "input": []}, EMBEDDINGS)) == []


# ---- who shares ----------------------------------------------------------------------------------------------------


def principal(**fields: Any) -> Principal:
    return Principal(role=Role.KEY_ONLY, key_hash="k", **fields)


@pytest.mark.parametrize(
    ("fields", "team", "key", "organization"),
    [
        ({}, "key:k", "key:k", "key:k"),
        ({"user_id": "u"}, "user:u", "key:k", "user:u"),
        ({"user_id": "u", "team_id": "t"}, "team:t", "key:k", "team:t"),
        ({"team_id": "t", "organization_id": "o"}, "team:t", "key:k", "organization:o"),
        ({"user_id": "u", "team_id": "console", "is_session": True}, "user:u", "key:k", "user:u"),
    ],
)
def test_tenants_are_kept_apart(fields: dict[str, Any], team: str, key: str, organization: str) -> None:
    caller = principal(**fields)
    assert [scope_of(caller, scope) for scope in ("team", "key", "organization", "global")] == [
        team,
        key,
        organization,
        "",
    ]


# ---- controls ------------------------------------------------------------------------------------------------------


def controls(cache: Any = None, header: str = "", *, allowed: tuple[str, ...] = (), **params: Any) -> Any:
    body = {**_BODY, "cache": cache} if cache is not None else _BODY
    return read_controls(request(body).fields, header, CacheParams(**params), allowed)


def test_without_controls_the_configuration_holds() -> None:
    found = controls(seconds=7.0, namespace="n")
    assert (found.reads, found.writes, found.seconds, found.max_age, found.namespace) == (True, True, 7.0, None, "n")
    assert controls(is_default_on=False) is None


@pytest.mark.parametrize(
    ("cache", "header", "expected"),
    [
        ({"no-cache": True}, "", (False, True, 600.0, None)),
        ({"no-store": True}, "", (True, False, 600.0, None)),
        ({"ttl": 5}, "", (True, True, 5.0, None)),
        ({"ttl": 10**9}, "", (True, True, 30 * 86400.0, None)),
        ({"s-maxage": 5}, "", (True, True, 600.0, 5.0)),
        ({"s-max-age": 5}, "", (True, True, 600.0, 5.0)),
        ({"no-cache": False, "ttl": None, "unknown": 1}, "", (True, True, 600.0, None)),
        (None, "no-cache", (False, True, 600.0, None)),
        (None, "No-Store , public", (True, False, 600.0, None)),
        (None, 'max-age="60"', (True, True, 600.0, 60.0)),
        (None, "max-age=soon", (True, True, 600.0, None)),
        (None, "max-age=\u00b2", (True, True, 600.0, None)),
        ({"no-cache": False}, "no-cache", (True, True, 600.0, None)),
    ],
)
def test_a_call_says_what_it_wants_of_the_cache(cache: Any, header: str, expected: tuple[Any, ...]) -> None:
    found = controls(cache, header)
    assert (found.reads, found.writes, found.seconds, found.max_age) == expected


def test_a_call_may_leave_the_cache_alone() -> None:
    assert controls({"no-cache": True, "no-store": True}) is None
    assert controls({"use-cache": False}) is None
    assert controls(None, "no-cache, no-store") is None


def test_default_off_needs_use_cache() -> None:
    assert controls({"ttl": 5}, is_default_on=False) is None
    assert controls({"use-cache": True}, is_default_on=False) is not None


@pytest.mark.parametrize(
    "cache",
    [
        "yes",
        [],
        {"no-cache": "true"},
        {"ttl": "5"},
        {"ttl": -1},
        {"ttl": True},
        {"s-maxage": {}},
        {"namespace": "two words"},
        {"namespace": "x\n"},
        {"namespace": "x" * 101},
        {"namespace": 5},
    ],
)
def test_an_invalid_control_is_refused(cache: Any) -> None:
    with pytest.raises(InvalidRequest) as problem:
        controls(cache)
    assert problem.value.param == "cache"


def test_a_key_uses_the_controls_that_it_may() -> None:
    assert controls({"ttl": 5}, allowed=("ttl",)) is not None
    assert controls(allowed=("ttl",)) is not None
    for cache, header in (({"no-cache": True}, ""), (None, "no-cache"), ({"namespace": "x", "ttl": 5}, "")):
        with pytest.raises(Forbidden, match="may not use the cache control"):
            controls(cache, header, allowed=("ttl",))
