"""The OpenAI dialect: what clients may send, what providers get, what clients get back."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.errors import InvalidRequest
from app.protocols.json_fields import BROKEN_JSON
from app.protocols.openai.answers import read_usage, restamp
from app.protocols.openai.request import CHAT, COMPLETIONS, EMBEDDINGS, OpenAIEndpoint, OpenAIRequest, parse_request

MESSAGES = [{"role": "user", "content": "hi"}]
CHAT_BODY: dict[str, Any] = {"model": "m", "messages": MESSAGES}
JSON_VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


def chat(**fields: Any) -> OpenAIRequest:
    return parse_request(CHAT, json.dumps({**CHAT_BODY, **fields}).encode())


def sent_upstream(request: OpenAIRequest, defaults: dict[str, Any] | None = None) -> dict[str, Any]:
    body: dict[str, Any] = json.loads(request.upstream_body("provider-model", defaults or {}))
    return body


def refusal(endpoint: OpenAIEndpoint, body: bytes, path_model: str | None = None) -> InvalidRequest:
    with pytest.raises(InvalidRequest) as refused:
        parse_request(endpoint, body, path_model)
    return refused.value


# ---- requests ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "body",
    [
        b"{",
        b"not json",
        b'{"model": "m"} trailing',
        b'{"model": NaN}',
        b"[]",
        b"null",
        b'"text"',
        b"7",
        b"\xff\xfe",
        b'{"\xff": 1}',
        b'{"model":"m","messages":[' + b"[" * 100_000 + b"]" * 100_000 + b"]}",
    ],
)
def test_a_body_that_is_no_json_object_is_refused(body: bytes) -> None:
    error = refusal(CHAT, body)
    assert (error.status, error.type, error.param) == (400, "invalid_request_error", "request_body")
    assert error.message.startswith("Invalid JSON payload: ")


@pytest.mark.parametrize("body", [b"", b"  \n", b"{}", b'{"model": "m"}', b'{"model":"m","messages":null}'])
def test_a_chat_without_messages_is_refused(body: bytes) -> None:
    error = refusal(CHAT, body)
    assert (error.status, error.param) == (400, "messages")
    assert error.message == "/chat/completions: Missing required parameter: 'messages'."


@pytest.mark.parametrize("messages", ["hi", {}, [], [None], ["hi"], [[]], 7, True])
def test_messages_that_are_no_list_of_objects_are_refused(messages: Any) -> None:
    error = refusal(CHAT, json.dumps({"model": "m", "messages": messages}).encode())
    assert (error.status, error.param) == (400, "messages")


@pytest.mark.parametrize(("endpoint", "name"), [(COMPLETIONS, "prompt"), (EMBEDDINGS, "input")])
def test_prompt_and_input_are_text_or_a_list(endpoint: OpenAIEndpoint, name: str) -> None:
    for good in ("text", ["a", "b"], [1, 2, 3]):
        assert parse_request(endpoint, json.dumps({"model": "m", name: good}).encode()).model == "m"
    wrong: list[Any] = [{}, 7, False, None]
    for bad in wrong:
        assert refusal(endpoint, json.dumps({"model": "m", name: bad}).encode()).param == name


def test_a_missing_model_is_refused_in_the_contract_s_words() -> None:
    for body in (b'{"messages":[{}]}', b'{"model":"","messages":[{}]}', b'{"model":null,"messages":[{}]}'):
        error = refusal(CHAT, body)
        assert error.message.startswith("litellm.BadRequestError: You passed in model=None.")
        assert (error.status, error.param) == (400, "model")


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("model", 7),
        ("model", ["m"]),
        ("stream", "true"),
        ("stream", 1),
        ("stream_options", "include_usage"),
        ("max_tokens", "100"),
        ("max_tokens", 1.5),
        ("max_tokens", True),
        ("max_tokens", -1),
        ("max_completion_tokens", {}),
        ("user", {"id": 1}),
        ("metadata", "text"),
        ("tags", "one"),
    ],
)
def test_a_wrong_type_is_named(field: str, value: Any) -> None:
    error = refusal(CHAT, json.dumps({**CHAT_BODY, field: value}).encode())
    assert (error.status, error.param) == (400, field)
    assert field in error.message


@pytest.mark.parametrize(
    "field",
    [
        b'"model":"\xff\xfe"',
        b'"user":"\xff"',
        b'"max_tokens":1e400',
        b'"max_tokens":' + b"9" * 5000,
        b'"metadata":{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    ],
)
def test_a_value_that_cannot_be_read_is_refused_not_crashed_on(field: bytes) -> None:
    assert refusal(CHAT, b'{"messages":[{"role":"user"}],"model":"m",' + field + b"}").status == 400


@pytest.mark.parametrize("field", ["api_base", "base_url", "api_key", "api_version", "custom_llm_provider"])
def test_a_client_cannot_point_the_gateway_elsewhere(field: str) -> None:
    assert refusal(CHAT, json.dumps({**CHAT_BODY, field: "http://elsewhere"}).encode()).param == field


def test_the_body_s_model_wins_over_the_path_s() -> None:
    body = json.dumps({"messages": MESSAGES}).encode()
    assert parse_request(CHAT, body, "from-path").model == "from-path"
    assert parse_request(CHAT, json.dumps(CHAT_BODY).encode(), "from-path").model == "m"


def test_end_user_and_tags_are_read() -> None:
    request = chat(user="alice", tags=["a"], metadata={"user_id": "bob", "tags": ["b", 3]})
    assert (request.end_user, request.tags) == ("alice", ["a", "b", "3"])
    assert chat(metadata={"user_id": "bob"}).end_user == "bob"


def test_embeddings_never_stream() -> None:
    assert not parse_request(EMBEDDINGS, b'{"model":"m","input":"x","stream":true}').is_stream


def test_an_embedding_answers_nothing_that_would_be_held() -> None:
    assert parse_request(EMBEDDINGS, b'{"model":"m","input":"x"}').max_tokens == 0
    assert chat().max_tokens is None
    assert chat(max_tokens=5, max_completion_tokens=7).max_tokens == 7


# ---- what providers get --------------------------------------------------------------------------------------------


@given(st.dictionaries(st.text(min_size=1).map(lambda name: f"x_{name}"), JSON_VALUES, max_size=5))
def test_unknown_fields_arrive_as_they_were_sent(extra: dict[str, Any]) -> None:
    assert sent_upstream(chat(**extra)) == {**CHAT_BODY, **extra, "model": "provider-model"}


def test_numbers_and_spelling_are_not_rewritten() -> None:
    body = (
        b'{"model":"m","messages":[{"role":"user","content":"\\u00e9"}],"temperature":1.0,"seed":12345678901234567890}'
    )
    upstream = parse_request(CHAT, body).upstream_body("p", {})
    assert b'"temperature":1.0' in upstream
    assert b'"seed":12345678901234567890' in upstream
    assert b"\\u00e9" in upstream


@pytest.mark.parametrize(
    "field", ["fallbacks", "num_retries", "mock_response", "cache", "litellm_metadata", "tags", "timeout", "guardrails"]
)
def test_what_steers_the_gateway_stays_here(field: str) -> None:
    value = {"tags": ["a"], "num_retries": 1, "timeout": 5}.get(field, "x")
    assert field not in sent_upstream(chat(**{field: value}))


def test_metadata_is_sent_on_only_to_be_stored() -> None:
    assert "metadata" not in sent_upstream(chat(metadata={"a": "b"}))
    assert sent_upstream(chat(metadata={"a": "b"}, store=True))["metadata"] == {"a": "b"}


def test_defaults_of_the_deployment_lie_beneath_what_the_client_sent() -> None:
    body = sent_upstream(chat(temperature=1), {"temperature": 0.2, "top_p": 0.5})
    assert (body["temperature"], body["top_p"]) == (1, 0.5)


@pytest.mark.parametrize("options", [None, {}, {"include_usage": False}, {"other": 1}])
def test_a_stream_always_asks_for_usage(options: Any) -> None:
    fields = {} if options is None else {"stream_options": options}
    body = sent_upstream(chat(stream=True, **fields))
    assert body["stream_options"] == {**(options or {}), "include_usage": True}
    assert "stream_options" not in sent_upstream(chat())


# ---- what clients get ----------------------------------------------------------------------------------------------


def test_an_answer_carries_the_name_that_was_asked_for() -> None:
    body = b'{"id":"1","model":"provider-model","choices":[],"usage":{"prompt_tokens":3,"completion_tokens":4},"x":1.0}'
    stamped, usage = restamp(body, "group")
    assert json.loads(stamped) == {**json.loads(body), "model": "group"}
    assert b'"x":1.0' in stamped
    assert usage is not None and (usage.prompt_tokens, usage.completion_tokens, usage.total_tokens) == (3, 4, 7)


@pytest.mark.parametrize("body", [b"<html>", b"[]", b"", b'{"a":', b"\xff", b"[" * 100_000])
def test_an_answer_that_is_no_json_object_is_broken(body: bytes) -> None:
    with pytest.raises(BROKEN_JSON):
        restamp(body, "group")


def test_cached_and_reasoning_tokens_are_parts() -> None:
    raw = {
        "prompt_tokens": 9,
        "completion_tokens": 5,
        "prompt_tokens_details": {"cached_tokens": 4},
        "completion_tokens_details": {"reasoning_tokens": 2},
    }
    usage = read_usage(json.dumps(raw).encode())
    assert usage is not None
    assert (usage.cache_read_tokens, usage.reasoning_tokens, usage.raw) == (4, 2, raw)
    deepseek = read_usage(b'{"prompt_tokens":9,"prompt_cache_hit_tokens":6}')
    assert deepseek is not None and deepseek.cache_read_tokens == 6


@given(JSON_VALUES, JSON_VALUES, JSON_VALUES)
def test_nonsense_in_a_usage_object_never_breaks_the_bill(tokens: Any, details: Any, output: Any) -> None:
    raw = {"prompt_tokens": tokens, "prompt_tokens_details": details, "completion_tokens_details": output}
    usage = read_usage(json.dumps(raw).encode())
    assert usage is not None
    assert 0 <= usage.prompt_tokens <= 10**9
    assert usage.cache_read_tokens >= 0


@pytest.mark.parametrize("raw", [b"null", b"[]", b"{}", b"7", b'"x"'])
def test_a_usage_that_says_nothing_is_none(raw: bytes) -> None:
    assert read_usage(raw) is None


@pytest.mark.parametrize(
    ("fields", "choices"), [({}, 1), ({"n": None}, 1), ({"n": 0}, 1), ({"n": 4}, 4), ({"n": 2, "best_of": 5}, 5)]
)
def test_every_answer_that_is_asked_for_is_counted(fields: dict[str, Any], choices: int) -> None:
    assert chat(**fields).choices == choices
