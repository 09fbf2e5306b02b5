"""What a body says to the gateway."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.errors import InvalidRequest
from app.protocols.call_options import USUAL, CallOptions
from app.protocols.openai.request import CHAT, parse_request

NAMES = [
    "num_retries",
    "max_retries",
    "timeout",
    "stream_timeout",
    "disable_fallbacks",
    "fallbacks",
    "context_window_fallbacks",
    "content_policy_fallbacks",
]

_NO_COUNTS: list[Any] = [-1, 21, 1.5, "3", True, []]
_NO_SECONDS: list[Any] = [0, -1, 1e6, "soon", True, {}]
_NO_TARGETS: list[Any] = [5, True, [None], [""], [[]], [{"model": 3}], {"chat": 5}]
_NO_GROUPS: list[Any] = ["a", 5, ["a"], [{"chat": None}]]


def options(**fields: Any) -> CallOptions:
    body = {"model": "chat", "messages": [{"role": "user", "content": "hi"}], **fields}
    return parse_request(CHAT, json.dumps(body).encode()).options


def targets(**fields: Any) -> list[tuple[str, dict[str, Any]]] | None:
    found = options(**fields).fallbacks
    return None if found is None else [(target.model, dict(target.fields)) for target in found]


def test_a_body_that_says_nothing_costs_nothing() -> None:
    assert options() is USUAL
    assert options(num_retries=None, fallbacks=None) == USUAL


def test_numbers_are_taken_over() -> None:
    found = options(num_retries=3, timeout=2, stream_timeout=0.5, disable_fallbacks=True)
    assert (found.num_retries, found.timeout, found.stream_timeout) == (3, 2.0, 0.5)
    assert found.is_without_fallbacks
    assert not options(disable_fallbacks=False).is_without_fallbacks


def test_max_retries_is_another_name_of_num_retries() -> None:
    assert options(max_retries=3).num_retries == 3
    assert options(max_retries=3, num_retries=0).num_retries == 0
    assert options(max_retries=3, num_retries=None).num_retries == 3


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (["a", "b"], [("a", {}), ("b", {})]),
        ("a", [("a", {})]),
        ([], []),
        ([{"model": "a", "temperature": 0}], [("a", {"temperature": 0})]),
        ([{"chat": ["a", {"model": "b", "n": 1}]}], [("a", {}), ("b", {"n": 1})]),
    ],
)
def test_fallbacks_have_three_forms(given: Any, expected: Any) -> None:
    assert targets(fallbacks=given) == expected


def test_fallbacks_for_a_reason_are_by_group() -> None:
    found = options(context_window_fallbacks=[{"chat": ["long"]}]).context_window_fallbacks
    assert found is not None and [target.model for target in found["chat"]] == ["long"]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(("num_retries", value) for value in _NO_COUNTS),
        *((name, value) for name in ("timeout", "stream_timeout") for value in _NO_SECONDS),
        *(("fallbacks", value) for value in _NO_TARGETS),
        *(("context_window_fallbacks", value) for value in _NO_GROUPS),
        ("content_policy_fallbacks", [["chat"]]),
    ],
)
def test_what_is_none_is_a_bad_request_that_names_it(name: str, value: Any) -> None:
    with pytest.raises(InvalidRequest) as refused:
        options(**{name: value})
    assert (refused.value.status, refused.value.param) == (400, name)
    assert refused.value.message.startswith(f"'{name}' ")


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("raw", [b'"\xff\xfe"', b"1e999", b'{"\xff": 1}', b"[" * 5000 + b"]" * 5000])
def test_values_that_cannot_be_read_are_bad_requests_too(name: str, raw: bytes) -> None:
    body = b'{"model":"chat","messages":[{"role":"user"}],"' + name.encode() + b'":' + raw + b"}"
    with pytest.raises(InvalidRequest):
        parse_request(CHAT, body)


ANY_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["model", "chat", "x"]), inner),
    max_leaves=8,
)


@given(st.sampled_from(NAMES), ANY_JSON)
def test_nothing_that_a_client_sends_breaks_the_gateway(name: str, value: Any) -> None:
    body = {"model": "chat", "messages": [{"role": "user", "content": "hi"}], name: value}
    try:
        request = parse_request(CHAT, json.dumps(body).encode())
        for target in request.options.fallbacks or ():
            request.replaced(target.fields).upstream_body("m", {})
    except InvalidRequest:
        return


# ---- what a fallback may replace -----------------------------------------------------------------------------------


def replaced(**changes: Any) -> Any:
    body = {"model": "chat", "messages": [{"role": "user", "content": "hi"}], "max_tokens": 5, "user": "carla"}
    return parse_request(CHAT, json.dumps({**body, "tags": ["a"], "num_retries": 1}).encode()).replaced(changes)


def test_a_fallback_s_fields_are_read_anew_so_that_holds_are_right() -> None:
    request = replaced(max_tokens=900, n=3, temperature=0)
    assert (request.max_tokens, request.choices) == (900, 3)
    assert json.loads(request.upstream_body("m", {}))["temperature"] == 0


def test_what_the_client_was_promised_stays() -> None:
    request = replaced(stream=True, model="x", user="dora", tags=["b"], num_retries=9, api_base="http://elsewhere")
    assert (request.is_stream, request.model, request.end_user, request.tags) == (False, "chat", "carla", ["a"])
    assert request.options.num_retries == 1
    assert "api_base" not in json.loads(request.upstream_body("m", {}))


@pytest.mark.parametrize("changes", [{"messages": "none"}, {"max_tokens": -1}, {"stream_options": "x"}, {"n": "many"}])
def test_fields_that_no_client_may_send_are_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(InvalidRequest):
        replaced(**changes)


def test_pictures_count_as_no_text() -> None:
    picture = "data:image/png;base64," + "iVBORw0KGgo" * 10_000
    content = [{"type": "text", "text": "word " * 100}, {"type": "image_url", "image_url": {"url": picture}}]
    body = {"model": "chat", "messages": [{"role": "user", "content": content}]}
    request = parse_request(CHAT, json.dumps(body).encode())
    assert request.estimated_prompt_tokens > 25_000
    assert 100 < request.estimated_text_tokens < 250
