"""Requests of the OpenAI dialect survive translation, and what cannot be said is refused by name."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given

from app.errors import InvalidRequest
from app.protocols.canonical import (
    ChatRequest,
    Media,
    Message,
    OutputFormat,
    Part,
    Reasoning,
    ReasoningWish,
    Refusal,
    Text,
    Tool,
    ToolCall,
    ToolChoice,
    ToolResult,
)
from app.protocols.openai.chat import OpenAIChat
from app.protocols.openai.request import CHAT, parse_request
from tests.protocols.conversations import CHATS

CODEC = OpenAIChat()
HI = {"role": "user", "content": "hi"}
MARK = {"type": "ephemeral"}


def read(body: bytes | dict[str, Any]) -> ChatRequest:
    encoded = body if isinstance(body, bytes) else json.dumps({"model": "m", "messages": [HI], **body}).encode()
    return CODEC.read_request(parse_request(CHAT, encoded))


def read_turns(*messages: dict[str, Any]) -> list[Message]:
    return list(read({"messages": messages}).messages)


def written(chat: ChatRequest, defaults: dict[str, Any] | None = None, model: str = "m") -> dict[str, Any]:
    fields: dict[str, Any] = json.loads(CODEC.write_request(chat, model, defaults or {}))
    return fields


def user(*parts: Any) -> ChatRequest:
    return ChatRequest(messages=[Message(role="user", parts=parts)])


def refused_field(problem: pytest.ExceptionInfo[InvalidRequest]) -> str | None:
    assert problem.value.status == 400 and problem.value.param is not None
    assert problem.value.param in problem.value.message
    return problem.value.param


@given(CHATS)
def test_what_the_dialect_can_say_survives_being_written_and_read(chat: ChatRequest) -> None:
    assert read(CODEC.write_request(chat, "m", {})) == chat


# ---- bodies as clients write them ----------------------------------------------------------------------------------

CALL = {"id": "c1", "type": "function", "function": {"name": "add", "arguments": '{"a": 1}'}}
TOOL = {"type": "function", "function": {"name": "add", "description": "sums", "parameters": {"type": "object"}}}
PICTURE = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA", "detail": "low"}}
SCHEMA = {"name": "a", "description": "b", "schema": {"type": "object"}, "strict": True}


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"messages": [{"role": "system", "content": "be kind"}, {**HI, "name": "bob"}]},
        {"messages": [{"role": "system", "content": [{"type": "text", "text": "a", "cache_control": MARK}]}, HI]},
        {"messages": [{"role": "user", "content": [{"type": "text", "text": "see"}, PICTURE]}]},
        {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "https://a.example"}}]}]},
        {"messages": [{"role": "user", "content": [{"type": "file", "file": {"file_id": "f1", "filename": "a.pdf"}}]}]},
        {
            "messages": [
                {
                    "role": "user",
                    "content": [
                        {"type": "input_audio", "input_audio": {"data": "AA", "format": "mp3"}, "cache_control": MARK}
                    ],
                }
            ]
        },
        {
            "messages": [
                HI,
                {"role": "assistant", "content": None, "tool_calls": [CALL, {**CALL, "id": "c2"}]},
                {"role": "tool", "tool_call_id": "c1", "content": "1"},
                {"role": "tool", "tool_call_id": "c2", "content": [{"type": "text", "text": "2"}] * 2},
                HI,
            ]
        },
        {"messages": [HI, {"role": "assistant", "content": "well", "refusal": "no"}, HI]},
        {"messages": [HI, {"role": "assistant", "content": "well", "reasoning_content": "hm"}, HI]},
        {
            "messages": [
                HI,
                {
                    "role": "assistant",
                    "content": "well",
                    "reasoning_content": "hm",
                    "thinking_blocks": [
                        {"type": "thinking", "thinking": "hm", "signature": "s"},
                        {"type": "redacted_thinking", "data": "x"},
                    ],
                },
                HI,
            ]
        },
        {"tools": [TOOL, {**TOOL, "cache_control": MARK}], "tool_choice": "required", "parallel_tool_calls": False},
        {"tools": [TOOL], "tool_choice": {"type": "function", "function": {"name": "add"}}},
        {"response_format": {"type": "json_object"}},
        {"response_format": {"type": "json_schema", "json_schema": SCHEMA}},
        {"reasoning_effort": "high"},
        {"reasoning_effort": "none"},
        {"stop": ["a", "b"], "seed": 1, "n": 2, "logprobs": True, "top_logprobs": 3, "user": "u", "max_tokens": 5},
        {"temperature": 0.5, "top_p": 0.25, "presence_penalty": 1.5, "frequency_penalty": -1.5, "top_k": 4},
        {"logit_bias": {"1": 2}, "verbosity": "low", "x": None, "store": True, "metadata": {"a": "b"}},
        {"stream": True, "stream_options": {"include_usage": True}},
    ],
)
def test_a_body_is_the_same_after_translation_there_and_back(fields: dict[str, Any]) -> None:
    body = {"model": "m", "messages": [HI], **fields}
    assert written(read(body)) == body


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"stop": "a"}, {"stop": ["a"]}),
        ({"max_completion_tokens": 5}, {"max_tokens": 5}),
        ({"max_completion_tokens": 5, "max_tokens": 4}, {"max_tokens": 5}),
        ({"response_format": {"type": "text"}}, {}),
        ({"logprobs": False, "top_logprobs": None, "user": None, "tools": None, "stop": None}, {}),
        ({"parallel_tool_calls": True}, {"parallel_tool_calls": True, "tool_choice": "auto"}),
        ({"thinking": {"type": "enabled", "budget_tokens": 1024}}, {"reasoning_effort": "low"}),
        ({"thinking": {"type": "enabled", "budget_tokens": 2048}}, {"reasoning_effort": "medium"}),
        ({"thinking": {"type": "enabled", "budget_tokens": 30_000}}, {"reasoning_effort": "high"}),
        ({"thinking": {"type": "adaptive"}}, {"reasoning_effort": "medium"}),
        ({"thinking": {"type": "disabled"}}, {"reasoning_effort": "none"}),
        ({"metadata": {"user_id": "u"}, "timeout": 3, "num_retries": 1, "tags": ["a"], "fallbacks": ["b"]}, {}),
        ({"stream": True}, {"stream": True, "stream_options": {"include_usage": True}}),
    ],
)
def test_other_words_for_the_same_are_written_in_one_way(fields: dict[str, Any], expected: dict[str, Any]) -> None:
    assert written(read(fields)) == {"model": "m", "messages": [HI], **expected}


def test_instructions_stand_apart_wherever_they_are_written() -> None:
    chat = read({"messages": [{"role": "system", "content": "a"}, HI, {"role": "developer", "content": "b"}]})
    assert (chat.system, chat.messages) == (
        [Text(text="a"), Text(text="b")],
        [Message(role="user", parts=[Text(text="hi")])],
    )


def test_results_of_tools_and_the_words_behind_them_are_one_turn_of_the_user() -> None:
    results = [{"role": "tool", "tool_call_id": id, "content": id, "cache_control": MARK} for id in ("a", "b")]
    [_, _, turn, *rest] = read_turns(HI, {"role": "assistant", "content": "", "tool_calls": [CALL]}, *results, HI)
    assert turn.parts == [
        ToolResult(id="a", content=[Text(text="a")], cache=MARK),
        ToolResult(id="b", content=[Text(text="b")], cache=MARK),
        Text(text="hi"),
    ]
    assert rest == []


def test_a_mark_on_a_message_is_one_on_its_last_part() -> None:
    [turn] = read_turns({"role": "user", "content": "a", "cache_control": MARK})
    assert turn.parts == [Text(text="a", cache=MARK)]


@pytest.mark.parametrize(
    ("part", "media"),
    [
        ({"type": "image_url", "image_url": "https://a.example"}, Media(kind="image", url="https://a.example")),
        (
            {"type": "image_url", "image_url": {"url": "data:text/plain,a%20b"}},
            Media(kind="image", data="YSBi", media_type="text/plain"),
        ),
        (
            {"type": "file", "file": {"file_data": "AA", "format": "application/pdf"}},
            Media(kind="document", data="AA", media_type="application/pdf"),
        ),
        ({"type": "file", "file": {"file_id": "gs://a/b"}}, Media(kind="document", url="gs://a/b")),
    ],
)
def test_media_are_read_in_all_the_ways_that_clients_write_them(part: dict[str, Any], media: Media) -> None:
    [turn] = read_turns({"role": "user", "content": [part]})
    assert turn.parts == [media]


@pytest.mark.parametrize("type", ["audio/x-wav", "audio/wave", "audio/wav"])
def test_other_names_of_a_sound_s_format_are_written_as_the_dialect_has_them(type: str) -> None:
    [message] = written(user(Media(kind="audio", data="AA", media_type=type)))["messages"]
    assert message["content"] == [{"type": "input_audio", "input_audio": {"data": "AA", "format": "wav"}}]


def test_parts_that_say_nothing_are_passed_over() -> None:
    turns = read_turns(
        {"role": "user", "content": [{"type": "text", "text": ""}, {"type": "text", "text": "a"}]},
        {"role": "assistant", "content": "", "tool_calls": [{**CALL, "function": {"name": "add", "arguments": ""}}]},
    )
    assert [turn.parts for turn in turns] == [[Text(text="a")], [ToolCall(id="c1", name="add")]]


def test_thoughts_in_the_content_are_thoughts() -> None:
    content = [
        {"type": "thinking", "thinking": [{"type": "text", "text": "h"}, {"type": "text", "text": "m"}]},
        {"type": "text", "text": "a"},
    ]
    [turn] = read_turns({"role": "assistant", "content": content})
    assert turn.parts == [Reasoning(text="hm"), Text(text="a")]


# ---- what other dialects say ---------------------------------------------------------------------------------------


def test_a_picture_that_a_tool_answered_with_follows_in_the_user_s_message() -> None:
    picture = Media(kind="image", url="https://a.example")
    result = ToolResult(id="c1", content=[picture], is_error=True)
    tool, message = written(user(Text(text="so?"), result))["messages"]
    assert tool["role"] == "tool" and tool["tool_call_id"] == "c1" and tool["content"]
    assert [part["type"] for part in message["content"]] == ["text", "text", "image_url"]
    assert "c1" in message["content"][1]["text"]


def test_parts_of_a_model_s_turn_are_put_into_the_dialect_s_order() -> None:
    parts: list[Part] = [
        ToolCall(id="c1", name="add"),
        Text(text="a"),
        Refusal(text="no"),
        Reasoning(text="hm"),
        Text(text="b"),
    ]
    [message] = written(ChatRequest(messages=[Message(role="assistant", parts=parts)]))["messages"]
    assert [part["text"] for part in message["content"]] == ["a", "b"]
    assert (message["reasoning_content"], message["refusal"]) == ("hm", "no")
    assert message["tool_calls"][0]["function"] == {"name": "add", "arguments": "{}"}


def test_a_turn_without_words_is_still_one() -> None:
    turns = [Message(role="user", parts=[]), Message(role="assistant", parts=[])]
    assert written(ChatRequest(messages=turns))["messages"] == [
        {"role": "user", "content": ""},
        {"role": "assistant", "content": ""},
    ]


def test_a_schema_without_a_name_gets_one() -> None:
    chat = ChatRequest(messages=[], output=OutputFormat(schema={"type": "object"}))
    assert written(chat)["response_format"]["json_schema"]["name"]


@pytest.mark.parametrize(
    ("model", "defaults", "name"),
    [
        ("gpt-4o", {}, "max_tokens"),
        ("deepseek-chat", {}, "max_tokens"),
        ("o3-mini", {}, "max_completion_tokens"),
        ("openai/gpt-5.1", {}, "max_completion_tokens"),
        ("my-o3", {"max_completion_tokens": 9}, "max_completion_tokens"),
        ("gpt-5", {"max_tokens": 9}, "max_tokens"),
    ],
)
def test_the_limit_of_tokens_has_the_name_that_the_model_knows(model: str, defaults: dict[str, Any], name: str) -> None:
    fields = written(read({"max_tokens": 5}), defaults, model)
    assert {key: value for key, value in fields.items() if key.startswith("max_")} == {name: 5}


def test_a_deployment_s_defaults_lie_beneath_what_the_client_asked_for() -> None:
    defaults = {"temperature": 1.0, "seed": 7, "tools": [TOOL], "x": 1, "y": 2, "max_tokens": 9}
    fields = written(read({"temperature": 0, "x": 3}), defaults)
    assert {name: fields[name] for name in defaults} == {**defaults, "temperature": 0, "x": 3}


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"messages": [{"role": "robot", "content": "a"}]}, "messages[0].role"),
        ({"messages": [{"content": "a"}]}, "messages[0].role"),
        ({"messages": [HI, {"role": "user", "content": 1}]}, "messages[1].content"),
        ({"messages": [{"role": "user", "content": [{"type": "text"}]}]}, "messages[0].content[0].text"),
        ({"messages": [{"role": "user", "content": [{"type": "video"}]}]}, "messages[0].content[0].type"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, "messages[0].content[0].image_url"),
        ({"messages": [{"role": "user", "content": [{"type": "input_audio"}]}]}, "messages[0].content[0].input_audio"),
        ({"messages": [{"role": "user", "content": [{"type": "file", "file": {}}]}]}, "messages[0].content[0].file"),
        ({"messages": [{"role": "system", "content": [PICTURE]}]}, "messages[0].content[0].type"),
        ({"messages": [{"role": "tool", "content": "a"}]}, "messages[0].tool_call_id"),
        ({"messages": [{"role": "function", "name": "a", "content": "a"}]}, "messages[0].role"),
        ({"messages": [{"role": "assistant", "audio": {"id": "a"}}]}, "messages[0].audio"),
        ({"messages": [{"role": "assistant", "function_call": {"name": "a"}}]}, "messages[0].function_call"),
        ({"messages": [{"role": "assistant", "content": [PICTURE]}]}, "messages[0].content[0].type"),
        ({"messages": [{"role": "assistant", "tool_calls": [{"id": "a"}]}]}, "messages[0].tool_calls[0]"),
        (
            {"messages": [{"role": "assistant", "tool_calls": [{"function": {"name": "a"}}]}]},
            "messages[0].tool_calls[0].id",
        ),
        ({"tools": [{"type": "web_search"}]}, "tools[0].type"),
        ({"tools": [{"type": "function", "function": {}}]}, "tools[0].function"),
        ({"tool_choice": "maybe"}, "tool_choice"),
        ({"tool_choice": {"type": "allowed_tools"}}, "tool_choice"),
        ({"response_format": {"type": "xml"}}, "response_format"),
        ({"response_format": {"type": "json_schema"}}, "response_format"),
        ({"temperature": "hot"}, "temperature"),
        ({"stop": [1]}, "stop[0]"),
        ({"functions": []}, "functions"),
        ({"function_call": "auto"}, "function_call"),
    ],
)
def test_what_is_wrong_or_untranslatable_is_refused_by_name(fields: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidRequest) as problem:
        read(fields)
    assert refused_field(problem) == field


@pytest.mark.parametrize("broken", [b'{"model": "m", "messages": [{}], "x": "\xff"}', b'{"model":"m","messages":[{]}'])
def test_broken_json_is_the_client_s_fault(broken: bytes) -> None:
    with pytest.raises(InvalidRequest):
        read(broken)


@pytest.mark.parametrize(
    ("message", "field"),
    [
        (Message(role="user", parts=[Text(text="a"), Reasoning(text="a")]), "messages[0].content[1]"),
        (Message(role="user", parts=[ToolCall(id="a", name="a")]), "messages[0].content[0]"),
        (Message(role="user", parts=[Media(kind="image", file_id="a")]), "messages[0].content[0]"),
        (Message(role="user", parts=[Media(kind="audio", url="https://a.example")]), "messages[0].content[0]"),
        (Message(role="user", parts=[Media(kind="audio", data="AA", media_type="x/y")]), "messages[0].content[0]"),
        (Message(role="assistant", parts=[Media(kind="image", url="a")]), "messages[0].content[0]"),
        (Message(role="assistant", parts=[Text(text="a"), ToolResult(id="a")]), "messages[0].content[1]"),
    ],
)
def test_a_part_without_room_in_the_dialect_is_refused_by_name(message: Message, field: str) -> None:
    with pytest.raises(InvalidRequest) as problem:
        written(ChatRequest(messages=[message]))
    assert refused_field(problem) == field


def test_parameters_of_another_dialect_are_refused_by_name() -> None:
    with pytest.raises(InvalidRequest) as problem:
        written(ChatRequest(messages=[], others={"halo": 1}, dialect="toy"))
    assert refused_field(problem) == "halo"


def test_all_that_a_request_can_wish_for_is_in_its_canonical_form() -> None:
    chat = read(
        {
            "tools": [TOOL],
            "tool_choice": {"type": "function", "function": {"name": "add"}},
            "parallel_tool_calls": False,
            "reasoning_effort": "low",
            "thinking": {"budget_tokens": 99},
        }
    )
    assert chat.tools == [Tool(name="add", description="sums", schema={"type": "object"})]
    assert chat.tool_choice == ToolChoice(mode="tool", name="add", is_parallel=False)
    assert chat.reasoning == ReasoningWish(effort="low", budget_tokens=99)
