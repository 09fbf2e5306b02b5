"""Answers of a deployment with `mock_response`: fixed text, fixed usage, no provider. They are in OpenAI's dialect."""

from __future__ import annotations

import time
import uuid
from typing import Any

import msgspec

from .openai.answers import DONE
from .openai.media import IMAGE_EDITS, IMAGES, MODERATIONS, RERANK, SPEECH, TRANSCRIPTIONS, TRANSLATIONS
from .openai.request import CHAT, EMBEDDINGS

_USAGE = {"prompt_tokens": 10, "completion_tokens": 20, "total_tokens": 30}
_PIECE = 3

_encode = msgspec.json.Encoder().encode

# Texts that stand for a failure: the status that a provider would have answered, and its error code.
MOCK_ERRORS = {
    "litellm.RateLimitError": (429, "rate_limit_exceeded"),
    "litellm.InternalServerError": (500, "internal_error"),
    "litellm.ContextWindowExceededError": (400, "context_length_exceeded"),
}


def mock_answer(path: str, text: str) -> bytes:
    """The body that a provider would have sent for an operation's path: JSON, but for speech."""
    if path in _MEDIA:
        return _media_answer(path, text)
    if path == EMBEDDINGS.path:
        data: list[Any] = [{"object": "embedding", "index": 0, "embedding": [0.0, 0.0, 0.0]}]
        return _encode(
            {"object": "list", "data": data, "model": "", "usage": {"prompt_tokens": 10, "total_tokens": 10}}
        )
    body = _frame(path, _new_id(), "" if path == CHAT.path else text, "stop", is_chunk=False)
    if path == CHAT.path:
        body["choices"][0]["message"] = {"role": "assistant", "content": text}
    return _encode({**body, "usage": _USAGE})


def mock_type(path: str) -> str:
    """The content type of that body."""
    return "audio/mpeg" if path == SPEECH.path else "application/json"


_MEDIA = tuple(
    endpoint.path for endpoint in (IMAGES, IMAGE_EDITS, SPEECH, TRANSCRIPTIONS, TRANSLATIONS, MODERATIONS, RERANK)
)


def _media_answer(path: str, text: str) -> bytes:
    if path == SPEECH.path:
        return text.encode()
    if path in (IMAGES.path, IMAGE_EDITS.path):
        return _encode({"created": int(time.time()), "data": [{"b64_json": "", "revised_prompt": text}]})
    if path == MODERATIONS.path:
        result: dict[str, Any] = {"flagged": False, "categories": {}, "category_scores": {}}
        return _encode({"id": f"modr-{uuid.uuid4()}", "model": "", "results": [result]})
    if path == RERANK.path:
        return _encode({"id": str(uuid.uuid4()), "results": [{"index": 0, "relevance_score": 1.0}], "meta": {}})
    return _encode({"text": text})


def mock_events(path: str, text: str) -> list[bytes]:
    """The same as events: pieces of about three characters, a last chunk with the usage, the end."""
    pieces = [text[index : index + _PIECE] for index in range(0, len(text), _PIECE)] or [""]
    id = _new_id()
    frames = [_frame(path, id, piece, None, is_chunk=True, is_first=index == 0) for index, piece in enumerate(pieces)]
    frames.append(_frame(path, id, "", "stop", is_chunk=True))
    usage = {**frames[-1], "choices": [], "usage": _USAGE}
    return [_encode(frame) for frame in [*frames, usage]] + [DONE]


def _new_id() -> str:
    return f"chatcmpl-{uuid.uuid4()}"


def _frame(
    path: str, id: str, text: str, finish: str | None, *, is_chunk: bool, is_first: bool = False
) -> dict[str, Any]:
    choice: dict[str, Any] = {"index": 0, "finish_reason": finish}
    if path != CHAT.path:
        choice["text"] = text
    elif is_chunk:
        choice["delta"] = {"content": text} if text else {}
        if is_first:
            choice["delta"]["role"] = "assistant"
    kind = "chat.completion" if path == CHAT.path else "text_completion"
    return {
        "id": id,
        "object": f"{kind}.chunk" if is_chunk and path == CHAT.path else kind,
        "created": int(time.time()),
        "model": "",
        "choices": [choice],
    }
