"""Messages of the OpenAI dialect as turns of a conversation, and back.

What the dialect has no place for is put where it is understood: instructions come first, results of tools come before
the user's other words, thoughts before words and words before calls; a picture that a tool answered with follows in the
user's message. Whether a tool failed stands in its words alone.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypeVar
from urllib.parse import unquote_to_bytes

import msgspec

from ..canonical import ChatRequest, Media, Message, Part, Reasoning, Refusal, Text, ToolCall, ToolResult
from .chat_fields import Call, ChatMessage, ContentPart, File, Image, refused

_Value = TypeVar("_Value")

_AUDIO_TYPES = {"mp3": "audio/mpeg"}
_AUDIO_FORMATS = {"mpeg": "mp3", "x-wav": "wav", "wave": "wav", "vnd.wave": "wav"}


def read_messages(messages: Sequence[ChatMessage]) -> tuple[list[Text], list[Message]]:
    """The instructions, wherever they stand, and the turns. Raises InvalidRequest (400)."""
    system: list[Text] = []
    turns: list[Message] = []
    # Results of tools wait for the words of the user that may follow them in the same turn.
    results: list[Part] = []
    for number, message in enumerate(messages):
        where = f"messages[{number}]"
        if message.role in ("system", "developer"):
            system += _texts(message, where)
        elif message.role == "tool":
            results.append(_result(message, where))
        elif message.role == "user":
            parts = [*results, *_marked(_user_parts(message, where), message.cache_control)]
            turns.append(Message(role="user", parts=parts, name=message.name or ""))
            results = []
        elif message.role == "assistant":
            if results:
                turns.append(Message(role="user", parts=results))
                results = []
            parts = _marked(assistant_parts(message, where), message.cache_control)
            turns.append(Message(role="assistant", parts=parts, name=message.name or ""))
        else:
            raise refused(f"{where}.role", "must be one of system, developer, user, assistant, tool")
    return system, [*turns, Message(role="user", parts=results)] if results else turns


def _marked(parts: list[Part], mark: Mapping[str, Any] | None) -> list[Part]:
    """A mark on a message is one on its last part."""
    if mark and parts and isinstance(parts[-1], Text | Media | ToolCall):
        return [*parts[:-1], msgspec.structs.replace(parts[-1], cache=mark)]
    return parts


def _texts(message: ChatMessage, where: str) -> list[Text]:
    """Of a message that has nothing but text."""
    parts = _marked(_user_parts(message, where), message.cache_control)
    for number, part in enumerate(parts):
        if not isinstance(part, Text):
            raise refused(f"{where}.content[{number}].type", "must be 'text'")
    return [part for part in parts if isinstance(part, Text)]


def _result(message: ChatMessage, where: str) -> ToolResult:
    if not message.tool_call_id:
        raise refused(f"{where}.tool_call_id", "must name the call that is answered")
    content = [part for part in _user_parts(message, where) if isinstance(part, Text | Media)]
    return ToolResult(id=message.tool_call_id, content=content, cache=message.cache_control)


def _user_parts(message: ChatMessage, where: str) -> list[Part]:
    content = message.content
    if isinstance(content, str):
        return [Text(text=content)] if content else []
    parts = [_user_part(part, f"{where}.content[{number}]") for number, part in enumerate(content or ())]
    # Other dialects refuse a part that says nothing.
    return [part for part in parts if not isinstance(part, Text) or part.text]


def _user_part(part: ContentPart, where: str) -> Part:
    mark = part.cache_control
    match part.type:
        case "text":
            return Text(text=_present(part.text, f"{where}.text"), cache=mark)
        case "image_url":
            given = Image(url=part.image_url) if isinstance(part.image_url, str) else part.image_url
            return _image(_present(given, f"{where}.image_url"), mark)
        case "input_audio":
            audio = _present(part.input_audio, f"{where}.input_audio")
            media_type = _AUDIO_TYPES.get(audio.format, f"audio/{audio.format}")
            return Media(kind="audio", data=audio.data, media_type=media_type, cache=mark)
        case "file":
            return _document(_present(part.file, f"{where}.file"), f"{where}.file", mark)
    raise refused(f"{where}.type", "must be one of text, image_url, input_audio, file")


def _present(value: _Value | None, where: str) -> _Value:
    if value is None:
        raise refused(where, "is required")
    return value


def _image(image: Image, mark: Mapping[str, Any] | None) -> Media:
    detail = image.detail or ""
    if is_data_url(image.url):
        media_type, data = split_data_url(image.url)
        return Media(kind="image", data=data, media_type=media_type, detail=detail, cache=mark)
    return Media(kind="image", url=image.url, media_type=image.format or "", detail=detail, cache=mark)


def _document(file: File, where: str, mark: Mapping[str, Any] | None) -> Media:
    """A file by address stands in `file_id`: compatible gateways have no other place for it."""
    name, media_type = file.filename or "", file.format or ""
    if file.file_data:
        data = file.file_data
        if is_data_url(data):
            media_type, data = split_data_url(data)
        return Media(kind="document", data=data, media_type=media_type, name=name, cache=mark)
    id = _present(file.file_id, where)
    if "://" in id:
        return Media(kind="document", url=id, media_type=media_type, name=name, cache=mark)
    return Media(kind="document", file_id=id, media_type=media_type, name=name, cache=mark)


def is_data_url(url: str) -> bool:
    return url[:5].lower() == "data:"


def split_data_url(url: str) -> tuple[str, str]:
    """The media type and the base64 of a `data:` URL, which may also be written in percent signs."""
    head, _, data = url[5:].partition(",")
    if head.endswith(";base64"):
        return head[:-7], data
    return head, b64encode(unquote_to_bytes(data)).decode()


# ---- what the model said -------------------------------------------------------------------------------------------


def assistant_parts(message: ChatMessage, where: str) -> list[Part]:
    """Of a message in a request or in an answer. Raises InvalidRequest (400)."""
    calls = [_call(call, f"{where}.tool_calls[{number}]") for number, call in enumerate(message.tool_calls or ())]
    return [*words(message, where), *calls]


def words(message: ChatMessage, where: str) -> list[Part]:
    """Thoughts, text and refusals, of a message or of a delta of one. Raises InvalidRequest (400)."""
    for name in ("audio", "function_call"):
        if getattr(message, name):
            raise refused(f"{where}.{name}", "cannot be translated for another dialect")
    parts: list[Part] = [*_reasoning(message)]
    if isinstance(message.content, str):
        parts += [Text(text=message.content)] if message.content else []
    else:
        for number, part in enumerate(message.content or ()):
            parts += _assistant_part(part, f"{where}.content[{number}]")
    return [*parts, Refusal(text=message.refusal)] if message.refusal else parts


def _reasoning(message: ChatMessage) -> list[Reasoning]:
    """Blocks say the same as the text beside them, and prove it; those without words stand for something else."""
    blocks = [
        Reasoning(text=block.thinking or "", signature=block.signature or "", encrypted=block.data or "")
        for block in message.thinking_blocks or ()
    ]
    text = message.reasoning_content or (message.reasoning if isinstance(message.reasoning, str) else "")
    return blocks if not text or any(block.text for block in blocks) else [Reasoning(text=text), *blocks]


def _assistant_part(part: ContentPart, where: str) -> list[Part]:
    match part.type:
        case "text":
            text = _present(part.text, f"{where}.text")
            return [Text(text=text, cache=part.cache_control)] if text else []
        case "refusal":
            return [Refusal(text=_present(part.refusal, f"{where}.refusal"))]
        case "thinking":
            thoughts = part.thinking or ""
            text = thoughts if isinstance(thoughts, str) else "".join(thought.text for thought in thoughts)
            return [Reasoning(text=text, signature=part.signature or "")]
    raise refused(f"{where}.type", "must be one of text, refusal")


def _call(call: Call, where: str) -> ToolCall:
    if call.function is None or not call.function.name:
        raise refused(where, "must name a function")
    if not call.id:
        raise refused(f"{where}.id", "is required")
    arguments = call.function.arguments or "{}"
    return ToolCall(id=call.id, name=call.function.name, arguments=arguments, cache=call.cache_control)


# ---- turns as messages ---------------------------------------------------------------------------------------------


def write_messages(chat: ChatRequest) -> list[dict[str, Any]]:
    """Raises InvalidRequest (400) for a part that no message of the dialect has room for."""
    messages: list[dict[str, Any]] = []
    if chat.system:
        messages.append({"role": "system", "content": _content(chat.system, "system")})
    for number, message in enumerate(chat.messages):
        where = f"messages[{number}]"
        named = {"name": message.name} if message.name else {}
        if message.role == "user":
            messages += ({**one, **named} if one["role"] == "user" else one for one in _user(message.parts, where))
        else:
            messages.append({"role": "assistant", **_assistant(message.parts, where), **named})
    return messages


def _user(parts: Sequence[Part], where: str) -> Iterator[dict[str, Any]]:
    rest: list[Part] = []
    is_answer = False
    for part in parts:
        if isinstance(part, ToolResult):
            texts = [piece for piece in part.content if isinstance(piece, Text)]
            media = [piece for piece in part.content if isinstance(piece, Media)]
            if media:
                # A tool's message has room for text only; the picture follows, and says whose it is.
                rest += [Text(text=f"Answer of the tool call {part.id}:"), *media]
                texts = texts or [Text(text="The answer follows in the next message of the user.")]
            yield {"role": "tool", "tool_call_id": part.id, "content": _content(texts, where), **_mark(part.cache)}
            is_answer = True
        else:
            rest.append(part)
    if rest or not is_answer:
        yield {"role": "user", "content": _content(rest, where)}


def _content(parts: Sequence[Part], where: str) -> str | list[dict[str, Any]]:
    """One unmarked text is written as such; compatible providers may know nothing else."""
    if not parts:
        return ""
    if len(parts) == 1 and isinstance(parts[0], Text) and parts[0].cache is None:
        return parts[0].text
    return [_content_part(part, f"{where}.content[{number}]") for number, part in enumerate(parts)]


def _content_part(part: Part, where: str) -> dict[str, Any]:
    if isinstance(part, Text):
        return {"type": "text", "text": part.text, **_mark(part.cache)}
    if not isinstance(part, Media):
        raise refused(where, "belongs into a turn of the assistant")
    match part.kind:
        case "image":
            return {**_written_image(part, where), **_mark(part.cache)}
        case "audio":
            return {**_written_audio(part, where), **_mark(part.cache)}
    return {**_written_document(part), **_mark(part.cache)}


def _mark(mark: Mapping[str, Any] | None) -> dict[str, Any]:
    return {} if mark is None else {"cache_control": mark}


def _written_image(media: Media, where: str) -> dict[str, Any]:
    if media.file_id:
        raise refused(where, "must be a picture by address or in base64: this model's provider has no such files")
    url = media.url or f"data:{media.media_type};base64,{media.data}"
    return {"type": "image_url", "image_url": {"url": url, **({"detail": media.detail} if media.detail else {})}}


def _written_audio(media: Media, where: str) -> dict[str, Any]:
    family, _, subtype = media.media_type.partition("/")
    if not media.data or family != "audio":
        raise refused(where, "must be a sound in base64 with its media type")
    format = _AUDIO_FORMATS.get(subtype, subtype)
    return {"type": "input_audio", "input_audio": {"data": media.data, "format": format}}


def _written_document(media: Media) -> dict[str, Any]:
    if media.data:
        data = f"data:{media.media_type};base64,{media.data}" if media.media_type else media.data
        file = {"file_data": data}
    else:
        file = {"file_id": media.file_id or media.url}
        if media.media_type:
            file["format"] = media.media_type
    return {"type": "file", "file": {**file, **({"filename": media.name} if media.name else {})}}


def _assistant(parts: Sequence[Part], where: str) -> dict[str, Any]:
    texts = [part for part in parts if isinstance(part, Text)]
    fields = spoken(parts)
    fields["content"] = _content(texts, where) if texts or "tool_calls" not in fields else None
    for number, part in enumerate(parts):
        if isinstance(part, Media | ToolResult):
            raise refused(f"{where}.content[{number}]", "cannot stand in a turn of the assistant")
    return fields


def spoken(parts: Sequence[Part]) -> dict[str, Any]:
    """What a model said beside its words: thoughts, a refusal, calls of tools."""
    fields = write_reasoning([part for part in parts if isinstance(part, Reasoning)])
    if refusal := "".join(part.text for part in parts if isinstance(part, Refusal)):
        fields["refusal"] = refusal
    calls = [part for part in parts if isinstance(part, ToolCall)]
    if calls:
        fields["tool_calls"] = [
            {
                "id": call.id,
                "type": "function",
                "function": {"name": call.name, "arguments": call.arguments},
                **_mark(call.cache),
            }
            for call in calls
        ]
    return fields


def write_reasoning(thoughts: Sequence[Reasoning]) -> dict[str, Any]:
    """The text for everyone, and the blocks where the text alone would lose something."""
    fields: dict[str, Any] = {}
    if text := "".join(thought.text for thought in thoughts):
        fields["reasoning_content"] = text
    if len(thoughts) > 1 or any(thought.signature or thought.encrypted for thought in thoughts):
        fields["thinking_blocks"] = [thinking_block(thought) for thought in thoughts]
    return fields


def thinking_block(thought: Reasoning) -> dict[str, Any]:
    if thought.encrypted and not thought.text and not thought.signature:
        return {"type": "redacted_thinking", "data": thought.encrypted}
    block = {"type": "thinking", "thinking": thought.text}
    if thought.signature:
        block["signature"] = thought.signature
    if thought.encrypted:
        block["data"] = thought.encrypted
    return block
