"""A dialect that is nobody's: its requests have turns that say things, its streams are lines of JSON.

It shows that a dialect is added without a change to the gateway, and translation is tested against it.

    request  {"engine": "m", "instructions": "…", "turns": [{"who": "human", "says": ["…"]}], "limit": 5, "live": true}
    stream   {"piece": "x"} … {"use": "tool", "id": "1"} {"with": "{\"a\"", "at": 0} … {"end": "done", "spent": {…}}
    answer   {"says": ["x"], "end": "done", "spent": {"in": 3, "out": 4}}
    error    {"oops": "…"}
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, cast

import msgspec
from msgspec import Raw

from app.errors import GatewayError, InvalidRequest
from app.protocols.base import Usage
from app.protocols.canonical import (
    ChatAnswer,
    ChatEvent,
    ChatRequest,
    Choice,
    Counted,
    Media,
    Message,
    Part,
    Refusal,
    RefusalDelta,
    Role,
    Started,
    Stopped,
    StopReason,
    Text,
    TextDelta,
    Tool,
    ToolCall,
    ToolCallDelta,
    ToolCallStarted,
    ToolChoice,
    ToolResult,
)
from app.protocols.dialect import (
    ChatReader,
    ChatWriter,
    ClientRequest,
    Dialect,
    Endpoint,
    EventDecoder,
    Exchange,
    InvalidAnswer,
    ProviderFault,
)
from app.protocols.json_fields import BROKEN_JSON, read_fields
from app.protocols.openai.chat_params import own_parameters, with_defaults
from app.protocols.translation import TranslatedExchange

_any = msgspec.json.Decoder().decode
_object = msgspec.json.Decoder(dict[str, Any]).decode
_encode = msgspec.json.Encoder().encode

_ENDS: dict[str, StopReason] = {
    "done": "stop",
    "full": "length",
    "use": "tool_calls",
    "cut": "content_filter",
    "halt": "stop_sequence",
}
_ENDS_WRITTEN = {reason: end for end, reason in _ENDS.items()}
_ROLES: dict[str, Role] = {"human": "user", "machine": "assistant"}
_ROLES_WRITTEN = {role: who for who, role in _ROLES.items()}
_PICKS: dict[str, Literal["auto", "none", "required"]] = {"any": "auto", "nothing": "none", "something": "required"}
_PICKS_WRITTEN: dict[str, str] = {mode: pick for pick, mode in _PICKS.items()}
_KNOWN = frozenset(("engine", "instructions", "turns", "limit", "heat", "halts", "kit", "pick", "live"))
# Wishes that the dialect has no words for.
_UNSPEAKABLE = (
    *("output", "reasoning", "top_p", "top_k", "seed", "choices"),
    *("presence_penalty", "frequency_penalty", "logprobs", "user"),
)


@dataclass(frozen=True, slots=True)
class ToyEndpoint(Endpoint):
    def read(self, body: bytes, path_model: str | None, content_type: str) -> ToyRequest:
        try:
            fields = read_fields(body)
            model = _any(fields["engine"]) if "engine" in fields else path_model
            limit = _any(fields["limit"]) if "limit" in fields else None
        except BROKEN_JSON as problem:
            raise InvalidRequest(f"oops: {problem}") from None
        if self.required not in fields or not model:
            raise InvalidRequest("oops: a request needs 'engine' and 'turns'", param=self.required)
        return ToyRequest(
            endpoint=self,
            model=model,
            body_bytes=len(body),
            fields=fields,
            is_stream=bytes(fields.get("live", b"")) == b"true",
            wants_usage=True,
            max_tokens=limit,
        )


TALK = ToyEndpoint("/talk", "acompletion", "turns", dialect="toy", is_chat=True)


@dataclass(slots=True, kw_only=True)
class ToyRequest(ClientRequest):
    def replaced(self, changes: Mapping[str, Any]) -> ToyRequest:
        raw = {name: Raw(_encode(value)) for name, value in changes.items() if name not in ("engine", "live", "model")}
        changed = TALK.read(_encode({**self.fields, **raw}), self.model, "application/json")
        return replace(changed, model=self.model, end_user=self.end_user, tags=self.tags, options=self.options)


class LineDecoder:
    """Lines, however the network cuts them."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, chunk: bytes) -> list[bytes]:
        *lines, self._rest = (self._rest + chunk).split(b"\n")
        return [line for line in lines if line.strip()]

    @property
    def has_partial_event(self) -> bool:
        return bool(self._rest.strip())


# ---- requests ------------------------------------------------------------------------------------------------------


def _said(part: Part, where: str) -> Any:
    match part:
        case Text() | Refusal():
            return part.text
        case Media(kind="image") if part.url:
            return {"see": part.url}
        case Media(kind="image") if part.data:
            return {"see": part.data, "kind": part.media_type}
        case ToolCall():
            return {"use": part.name, "id": part.id, "with": _any(part.arguments)}
        case ToolResult():
            bad = {"bad": True} if part.is_error else {}
            return {"got": part.id, "says": [_said(piece, where) for piece in part.content], **bad}
    raise InvalidRequest(f"oops: '{where}' cannot be said here", param=where)


def _turn(message: Message, where: str) -> dict[str, Any]:
    return {"who": _ROLES_WRITTEN[message.role], "says": [_said(part, where) for part in message.parts]}


def _heard(said: Any) -> Part:
    if isinstance(said, str):
        return Text(text=said)
    if "see" in said:
        is_address = "kind" not in said
        url, data = (said["see"], "") if is_address else ("", said["see"])
        return Media(kind="image", url=url, data=data, media_type=said.get("kind", ""))
    if "use" in said:
        return ToolCall(id=said["id"], name=said["use"], arguments=_encode(said["with"]).decode())
    content = [cast(Text | Media, _heard(piece)) for piece in said["says"]]
    return ToolResult(id=said["got"], content=content, is_error=said.get("bad", False))


def _pick(choice: ToolChoice | None) -> dict[str, Any]:
    if choice is None:
        return {}
    return {"pick": {"tool": choice.name} if choice.mode == "tool" else _PICKS_WRITTEN[choice.mode]}


def _choice(pick: Any) -> ToolChoice | None:
    if pick is None:
        return None
    return ToolChoice(mode="tool", name=pick["tool"]) if isinstance(pick, dict) else ToolChoice(mode=_PICKS[pick])


class ToyChat:
    path = "/talk"

    def read_request(self, request: ClientRequest) -> ChatRequest:
        try:
            fields = {name: _any(value) for name, value in request.fields.items()}
            return ChatRequest(
                messages=[
                    Message(role=_ROLES[turn["who"]], parts=[_heard(said) for said in turn["says"]])
                    for turn in fields["turns"]
                ],
                system=[Text(text=fields["instructions"])] if fields.get("instructions") else [],
                tools=[
                    Tool(name=tool["call"], description=tool["about"], schema=tool["shape"])
                    for tool in fields.get("kit", ())
                ],
                tool_choice=_choice(fields.get("pick")),
                max_tokens=fields.get("limit"),
                temperature=fields.get("heat"),
                stop=fields.get("halts", []),
                is_stream=request.is_stream,
                others={name: value for name, value in fields.items() if name not in _KNOWN},
                dialect="toy",
            )
        except (*BROKEN_JSON, KeyError, TypeError) as problem:
            raise InvalidRequest(f"oops: {problem!r}", param="turns") from None

    def write_request(self, chat: ChatRequest, upstream_model: str, defaults: Mapping[str, Any]) -> bytes:
        others = own_parameters(chat, "toy")
        chat, other_defaults = with_defaults(chat, defaults)
        for name in _UNSPEAKABLE:
            if getattr(chat, name) not in (None, ""):
                raise InvalidRequest(f"oops: '{name}' cannot be said here", param=name)
        kit = [{"call": tool.name, "about": tool.description, "shape": tool.schema} for tool in chat.tools]
        fields: dict[str, Any] = {
            "instructions": "\n".join(text.text for text in chat.system) or None,
            "limit": chat.max_tokens,
            "heat": chat.temperature,
            "halts": chat.stop or None,
            "kit": kit or None,
            "live": True if chat.is_stream else None,
        }
        try:
            turns = [_turn(message, f"turns[{number}]") for number, message in enumerate(chat.messages)]
        except BROKEN_JSON as problem:
            raise InvalidRequest(f"oops: what a tool is called with is no JSON: {problem}", param="messages") from None
        set_fields = {name: value for name, value in fields.items() if value is not None}
        return _encode(
            {
                **other_defaults,
                **others,
                "engine": upstream_model,
                "turns": turns,
                **set_fields,
                **_pick(chat.tool_choice),
            }
        )

    def read_answer(self, body: bytes) -> ChatAnswer:
        answer = _object(body)
        try:
            parts = [_heard(said) for said in answer["says"]]
            stop = _ENDS[answer["end"]]
        except (KeyError, TypeError) as problem:
            raise InvalidAnswer(repr(problem)) from None
        choice = Choice(parts=parts, stop=stop, stop_sequence=answer.get("halt", ""))
        return ChatAnswer(choices=[choice], usage=_usage(answer.get("spent")))

    def write_answer(self, answer: ChatAnswer, model: str) -> bytes:
        choice = answer.choices[0]
        says = [_said(part, "says") for part in choice.parts if isinstance(part, Text | Refusal | ToolCall)]
        return _encode({"engine": model, "says": says, **_end(choice.stop, choice.stop_sequence, answer.usage)})

    def decoder(self) -> EventDecoder:
        return LineDecoder()

    def reader(self) -> ChatReader:
        return ToyReader()

    def writer(self, model: str, *, wants_usage: bool) -> ChatWriter:
        return ToyWriter(wants_usage=wants_usage)


# ---- answers -------------------------------------------------------------------------------------------------------


def _usage(spent: Any) -> Usage | None:
    return Usage(prompt_tokens=spent["in"], completion_tokens=spent["out"], raw=spent) if spent else None


def _end(stop: StopReason | None, sequence: str, usage: Usage | None) -> dict[str, Any]:
    spent = {"spent": {"in": usage.prompt_tokens, "out": usage.completion_tokens}} if usage else {}
    return {"end": _ENDS_WRITTEN[stop or "stop"], **({"halt": sequence} if sequence else {}), **spent}


class ToyReader:
    def __init__(self) -> None:
        self.has_ended = False
        self._has_started = False
        self._calls = 0

    def read(self, event: bytes) -> Sequence[ChatEvent]:
        record = _object(event)
        if "oops" in record:
            raise ProviderFault(record["oops"])
        started = [] if self._has_started else [Started()]
        self._has_started = True
        return [*started, *self._events(record)]

    def _events(self, record: dict[str, Any]) -> list[ChatEvent]:
        try:
            if "piece" in record:
                return [TextDelta(text=record["piece"])]
            if "use" in record:
                self._calls += 1
                return [ToolCallStarted(index=self._calls - 1, id=record["id"], name=record["use"])]
            if "with" in record:
                return [ToolCallDelta(index=record["at"], arguments=record["with"])]
            stopped = Stopped(reason=_ENDS[record["end"]], stop_sequence=record.get("halt", ""))
        except KeyError as problem:
            raise InvalidAnswer(repr(problem)) from None
        self.has_ended = True
        usage = _usage(record.get("spent"))
        return [stopped, Counted(usage=usage)] if usage else [stopped]


class ToyWriter:
    """Of a first choice alone; the end waits for what was used."""

    def __init__(self, *, wants_usage: bool) -> None:
        self._wants_usage = wants_usage
        self._usage: Usage | None = None
        self._stopped = Stopped(reason="stop")

    def write(self, event: ChatEvent) -> bytes:
        match event:
            case TextDelta() | RefusalDelta():
                return _line({"piece": event.text})
            case ToolCallStarted():
                return _line({"use": event.name, "id": event.id})
            case ToolCallDelta():
                return _line({"with": event.arguments, "at": event.index})
            case Stopped():
                self._stopped = event
            case Counted():
                self._usage = event.usage
        return b""

    def finish(self) -> bytes:
        usage = self._usage if self._wants_usage else None
        return _line(_end(self._stopped.reason, self._stopped.stop_sequence, usage))


def _line(record: dict[str, Any]) -> bytes:
    return _encode(record) + b"\n"


class ToyDialect(Dialect):
    name = "toy"
    ping_frame = b"\n"
    route_prefixes = ("/toy/",)
    chat = ToyChat()

    def exchange(self, request: ClientRequest) -> Exchange | None:
        return TranslatedExchange(request, self.chat, self.chat) if isinstance(request, ToyRequest) else None

    def error_body(self, error: GatewayError) -> dict[str, Any]:
        return {"oops": error.message}

    def error_message(self, body: bytes) -> str | None:
        try:
            return str(_object(body)["oops"])
        except (*BROKEN_JSON, KeyError):
            return None

    def error_frame(self, message: str, status: str) -> bytes:
        return _line({"oops": message})


TOY = ToyDialect()
