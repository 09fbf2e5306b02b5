"""Parameters of a chat in OpenAI's words: what clients write, and deployments for their defaults in any dialect."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import msgspec

from ..canonical import ChatRequest, OutputFormat, ReasoningWish, Tool, ToolChoice
from ..json_fields import BROKEN_JSON, RawFields
from .chat_fields import ChatBody, Format, NamedTool, Thinking, ToolDefinition, refused, undecodable
from .request import GATEWAY_FIELDS

_any = msgspec.json.Decoder().decode
_body = msgspec.json.Decoder(ChatBody).decode
_encode = msgspec.json.Encoder().encode

_KNOWN = frozenset((*ChatBody.__struct_fields__, "model", "stream", "stream_options", "functions", "function_call"))
_UNSET: tuple[Any, ...] = (None, (), [], "")
# Models that refuse `max_tokens`. Most compatible providers know only that.
_NEWER_LIMIT = re.compile(r"(?:^|/)(?:o[1-9]|gpt-[5-9])(?!\d)")
_OFF = ("none", "disable")
# The least budget of tokens that deserves an effort.
_EFFORTS = ((4096, "high"), (2048, "medium"), (0, "low"))


def read_body(fields: RawFields) -> ChatBody:
    """The fields that are known, decoded. Raises InvalidRequest (400) for one that is not what it must be."""
    for name in ("functions", "function_call"):
        if bytes(fields.get(name, b"null")) != b"null":
            raise refused(name, "cannot be translated for this model's provider; use 'tools' and 'tool_choice'")
    try:
        return _body(_encode({name: fields[name] for name in _KNOWN.intersection(fields)}))
    except BROKEN_JSON as problem:
        raise undecodable(problem, "request_body") from None


def read_others(fields: RawFields) -> dict[str, Any]:
    """Parameters that only a provider of the same dialect knows. Raises InvalidRequest (400) for broken JSON."""
    others: dict[str, Any] = {}
    for name in fields.keys() - _KNOWN - GATEWAY_FIELDS:
        try:
            others[name] = _any(fields[name])
        except BROKEN_JSON as problem:
            raise undecodable(problem, name) from None
    if others.get("store") is not True:
        # Without `store` it was for the gateway.
        others.pop("metadata", None)
    return others


def canonical_params(body: ChatBody) -> dict[str, Any]:
    """Fields of a `ChatRequest` beside its messages."""
    limit = body.max_completion_tokens if body.max_completion_tokens is not None else body.max_tokens
    return {
        "tools": [_tool(tool, f"tools[{number}]") for number, tool in enumerate(body.tools or ())],
        "tool_choice": _tool_choice(body.tool_choice, is_parallel=body.parallel_tool_calls),
        "output": _output(body.response_format),
        "reasoning": _reasoning(body.reasoning_effort, body.thinking),
        "max_tokens": limit,
        "temperature": body.temperature,
        "top_p": body.top_p,
        "top_k": body.top_k,
        "stop": [body.stop] if isinstance(body.stop, str) else body.stop or [],
        "seed": body.seed,
        "choices": body.n,
        "presence_penalty": body.presence_penalty,
        "frequency_penalty": body.frequency_penalty,
        "logprobs": (body.top_logprobs or 0) if body.logprobs else None,
        "user": body.user or "",
    }


def _tool(tool: ToolDefinition, where: str) -> Tool:
    if tool.type != "function" or tool.function is None:
        raise refused(f"{where}.type", "must be 'function': this model's provider has no other tools")
    function = tool.function
    return Tool(
        name=function.name,
        description=function.description or "",
        schema=function.parameters or {},
        is_strict=function.strict,
        cache=tool.cache_control or function.cache_control,
    )


def _tool_choice(choice: NamedTool | str | None, *, is_parallel: bool | None) -> ToolChoice | None:
    match choice:
        case None if is_parallel is None:
            return None
        case None | "auto":
            return ToolChoice(mode="auto", is_parallel=is_parallel)
        case "none":
            return ToolChoice(mode="none", is_parallel=is_parallel)
        case "required" | "any":
            return ToolChoice(mode="required", is_parallel=is_parallel)
        case NamedTool() if choice.type == "function" and choice.function is not None:
            return ToolChoice(mode="tool", name=choice.function.name, is_parallel=is_parallel)
    raise refused("tool_choice", "must be 'none', 'auto', 'required' or the name of a function")


def _output(format: Format | None) -> OutputFormat | None:
    match format:
        case None | Format(type="text"):
            return None
        case Format(type="json_object"):
            return OutputFormat()
        case Format(type="json_schema") if format.json_schema is not None:
            schema = format.json_schema
            return OutputFormat(
                schema=schema.schema or {},
                name=schema.name,
                description=schema.description or "",
                is_strict=schema.strict,
            )
    raise refused("response_format", "must be of type 'text', 'json_object' or 'json_schema' with a schema")


def _reasoning(effort: str | None, thinking: Thinking | None) -> ReasoningWish | None:
    if effort in _OFF or (thinking is not None and thinking.type == "disabled"):
        return ReasoningWish(is_on=False)
    if not effort and thinking is None:
        return None
    return ReasoningWish(effort=effort or "", budget_tokens=thinking.budget_tokens if thinking else None)


# ---- and back ------------------------------------------------------------------------------------------------------


def write_params(chat: ChatRequest, limit_name: str) -> dict[str, Any]:
    """The same fields on the wire, those that are set; the limit of tokens under the name that the model knows."""
    fields = {
        "tools": [_written_tool(tool) for tool in chat.tools] or None,
        "tool_choice": _written_choice(chat.tool_choice),
        "parallel_tool_calls": chat.tool_choice.is_parallel if chat.tool_choice else None,
        "response_format": _written_output(chat.output),
        "reasoning_effort": _written_effort(chat.reasoning),
        limit_name: chat.max_tokens,
        "temperature": chat.temperature,
        "top_p": chat.top_p,
        "top_k": chat.top_k,
        "stop": chat.stop or None,
        "seed": chat.seed,
        "n": chat.choices,
        "presence_penalty": chat.presence_penalty,
        "frequency_penalty": chat.frequency_penalty,
        "logprobs": None if chat.logprobs is None else True,
        "top_logprobs": chat.logprobs or None,
        "user": chat.user or None,
    }
    return {name: value for name, value in fields.items() if value is not None}


def limit_name(upstream_model: str, defaults: Mapping[str, Any]) -> str:
    """What the limit of tokens is called: as the deployment's own default, else as its model is known to want it."""
    for name in ("max_completion_tokens", "max_tokens"):
        if name in defaults:
            return name
    return "max_completion_tokens" if _NEWER_LIMIT.search(upstream_model) else "max_tokens"


def _written_tool(tool: Tool) -> dict[str, Any]:
    function: dict[str, Any] = {"name": tool.name}
    if tool.description:
        function["description"] = tool.description
    if tool.schema:
        function["parameters"] = tool.schema
    if tool.is_strict is not None:
        function["strict"] = tool.is_strict
    mark = {} if tool.cache is None else {"cache_control": tool.cache}
    return {"type": "function", "function": function, **mark}


def _written_choice(choice: ToolChoice | None) -> dict[str, Any] | str | None:
    if choice is None:
        return None
    return {"type": "function", "function": {"name": choice.name}} if choice.mode == "tool" else choice.mode


def _written_output(output: OutputFormat | None) -> dict[str, Any] | None:
    if output is None:
        return None
    if output.schema is None:
        return {"type": "json_object"}
    schema: dict[str, Any] = {"name": output.name or "answer"}
    if output.description:
        schema["description"] = output.description
    schema["schema"] = output.schema
    if output.is_strict is not None:
        schema["strict"] = output.is_strict
    return {"type": "json_schema", "json_schema": schema}


def _written_effort(wish: ReasoningWish | None) -> str | None:
    """A budget becomes the effort that spends about as much: the dialect counts no tokens of thought."""
    if wish is None:
        return None
    if not wish.is_on:
        return "none"
    if wish.effort:
        return wish.effort
    if wish.budget_tokens is None:
        return "medium"
    return next(effort for least, effort in _EFFORTS if wish.budget_tokens >= least)


# ---- what a deployment adds ----------------------------------------------------------------------------------------


def with_defaults(chat: ChatRequest, defaults: Mapping[str, Any]) -> tuple[ChatRequest, dict[str, Any]]:
    """A deployment's defaults beneath what the client asked for, and those of them that no field stands for.

    Raises InvalidRequest (400) for a default that is not what it must be.
    """
    raw = {name: msgspec.Raw(_encode(value)) for name, value in defaults.items()}
    params = canonical_params(read_body({name: value for name, value in raw.items() if name != "messages"}))
    missing = {name: value for name, value in params.items() if value not in _UNSET and getattr(chat, name) in _UNSET}
    others = {name: value for name, value in defaults.items() if name not in _KNOWN}
    return msgspec.structs.replace(chat, **missing), others


def own_parameters(chat: ChatRequest, dialect: str) -> Mapping[str, Any]:
    """The parameters that no field of `ChatRequest` stands for, for a provider that speaks a dialect.

    Raises InvalidRequest (400) where they are of another dialect.
    """
    if chat.dialect != dialect:
        for name in chat.others:
            raise refused(name, f"has no equivalent in the {dialect} dialect, which this model's provider speaks")
    return chat.others
