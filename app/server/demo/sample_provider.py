"""The sample provider: an OpenAI-compatible server that answers out of its own head, so that the demo needs no account.

Answers and token counts depend only on the input. Embeddings are hashed bags of words: texts that share words are
close to each other.
Run by `python -m app.server.demo.sample_provider --port N`; listens on 127.0.0.1 only.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import hashlib
import json
import math
import re
import struct
import time
from collections.abc import AsyncIterator, Iterator
from typing import Any, cast

from hypercorn.asyncio import serve
from hypercorn.config import Config
from hypercorn.typing import ASGIFramework
from quart import Quart, Response, jsonify, request

CHAT_MODELS = ("sample-chat", "sample-chat-mini")
EMBEDDING_MODEL = "sample-embedding"

DEFAULT_DIMENSIONS = 256
LARGEST_DIMENSIONS = 3072
DEFAULT_MAX_TOKENS = 400
THINKING_SECONDS = 0.005
SECONDS_BETWEEN_CHUNKS = 0.02
TOKENS_PER_MESSAGE = 4  # role and separators, as chat formats cost

SENTENCES = (
    "A gateway stands between your applications and the models that they call.",
    "Each worker keeps its own keys, its own budgets and its own log of what was spent.",
    "The control plane only administers; when it is away, calls go on.",
    "A virtual key can be limited to some models, to a budget, or to a period of time.",
    "Traffic spreads over the deployments of a model, and a failing one rests for a while.",
    "Streams pass through event by event, so the first word arrives as soon as it exists.",
    "Prices are multiplied with the tokens of each call, and the sum is the spend of the key.",
    "Nothing here left your machine: this answer comes from the sample provider of the demo.",
)

# What this provider counts as one token: up to six letters or digits, or one other sign, with the space before it.
_PIECES = re.compile(r"\s*(?:\w{1,6}|[^\w\s])")


class BadRequestError(Exception):
    """Answered as OpenAI answers it: `status`, and message, param and code in the error body."""

    def __init__(self, message: str, *, param: str | None = None, code: str | None = None, status: int = 400) -> None:
        super().__init__(message)
        self.param = param
        self.code = code
        self.status = status


def create_provider() -> Quart:
    provider = Quart(__name__)
    for path, view in (
        ("chat/completions", chat_completions),
        ("completions", completions),
        ("embeddings", embeddings),
    ):
        provider.add_url_rule(f"/v1/{path}", view_func=view, methods=["POST"])
    provider.add_url_rule("/v1/models", view_func=list_models)
    provider.register_error_handler(BadRequestError, answer_bad_request)
    return provider


async def list_models() -> Response:
    rows = [
        {"id": name, "object": "model", "created": 1_735_689_600, "owned_by": "quarterdeck-demo"}
        for name in (*CHAT_MODELS, EMBEDDING_MODEL)
    ]
    return jsonify({"object": "list", "data": rows})


async def chat_completions() -> Response:
    body = await read_body(CHAT_MODELS)
    messages = body.get("messages")
    if not isinstance(messages, list) or not messages or not all(isinstance(each, dict) for each in messages):
        raise BadRequestError("'messages' must be a list of at least one message", param="messages")
    texts = [text_of(message.get("content")) for message in messages]
    prompt_tokens = sum(TOKENS_PER_MESSAGE + count_tokens(text) for text in texts)
    question = next(
        (text for text, each in zip(texts[::-1], messages[::-1], strict=True) if each.get("role") == "user"), ""
    )
    return await answer(body, question, prompt_tokens, chat=True)


async def completions() -> Response:
    body = await read_body(CHAT_MODELS)
    prompt = body.get("prompt")
    several = isinstance(prompt, list) and len(prompt) > 1 and not isinstance(prompt[0], int)
    if not isinstance(prompt, str | list) or several:
        raise BadRequestError("'prompt' must be one text", param="prompt")
    text = text_of(prompt)
    return await answer(body, text, count_tokens(text), chat=False)


async def embeddings() -> Response:
    body = await read_body((EMBEDDING_MODEL,))
    inputs = body.get("input")
    if not isinstance(inputs, str | list) or not inputs:
        raise BadRequestError("'input' must be a string or a list, and not empty", param="input")
    dimensions = body.get("dimensions") or DEFAULT_DIMENSIONS
    if not isinstance(dimensions, int) or not 1 <= dimensions <= LARGEST_DIMENSIONS:
        raise BadRequestError(f"'dimensions' must be between 1 and {LARGEST_DIMENSIONS}", param="dimensions")
    one_input = isinstance(inputs, str) or isinstance(inputs[0], int)  # a list of numbers is one text given as tokens
    texts = [text_of(each) for each in ([inputs] if one_input else inputs)]
    await asyncio.sleep(THINKING_SECONDS)
    rows = embedding_rows(texts, dimensions, as_base64=body.get("encoding_format") == "base64")
    tokens = sum(count_tokens(text) for text in texts)
    usage = {"prompt_tokens": tokens, "total_tokens": tokens}
    return jsonify({"object": "list", "data": rows, "model": body["model"], "usage": usage})


async def answer_bad_request(error: BadRequestError) -> tuple[Response, int]:
    detail = {"message": str(error), "type": "invalid_request_error", "param": error.param, "code": error.code}
    return jsonify({"error": detail}), error.status


async def read_body(models: tuple[str, ...]) -> dict[str, Any]:
    """The JSON body of a request for one of these models."""
    try:
        body = json.loads(await request.get_data())
    except ValueError:
        raise BadRequestError("We could not parse the JSON body of your request.") from None
    if not isinstance(body, dict):
        raise BadRequestError("The body must be a JSON object.")
    if body.get("model") not in models:
        message = f"The model `{body.get('model')}` does not exist here; try {' or '.join(models)}."
        raise BadRequestError(message, param="model", code="model_not_found", status=404)
    return body


async def answer(body: dict[str, Any], question: str, prompt_tokens: int, *, chat: bool) -> Response:
    """The whole answer as JSON or as a stream; cut off at `max_tokens`."""
    limit = body.get("max_completion_tokens") or body.get("max_tokens") or DEFAULT_MAX_TOKENS
    if not isinstance(limit, int) or limit < 1:
        raise BadRequestError("'max_tokens' must be a positive whole number", param="max_tokens")
    pieces = split_tokens(compose(question))
    finish_reason = "length" if len(pieces) > limit else "stop"
    pieces = pieces[:limit]
    usage = {
        "prompt_tokens": prompt_tokens,
        "completion_tokens": len(pieces),
        "total_tokens": prompt_tokens + len(pieces),
        "prompt_tokens_details": {"cached_tokens": 0, "audio_tokens": 0},
        "completion_tokens_details": {"reasoning_tokens": 0, "audio_tokens": 0},
    }
    frame = new_frame(body["model"], chat=chat)
    await asyncio.sleep(THINKING_SECONDS)
    if body.get("stream") is True:
        options = body.get("stream_options")
        with_usage = isinstance(options, dict) and options.get("include_usage") is True
        events = stream_events(frame, pieces, finish_reason, usage if with_usage else None, chat=chat)
        response = Response(paced(events), content_type="text/event-stream; charset=utf-8")
        response.timeout = None
        return response
    text = "".join(pieces)
    part: dict[str, Any] = (
        {"message": {"role": "assistant", "content": text, "refusal": None}} if chat else {"text": text}
    )
    choice = {"index": 0, **part, "logprobs": None, "finish_reason": finish_reason}
    return jsonify({**frame, "choices": [choice], "usage": usage})


def new_frame(model: str, *, chat: bool) -> dict[str, Any]:
    moment = time.time_ns()
    identity = hashlib.sha256(f"{model} {moment}".encode()).hexdigest()[:24]
    prefix, kind = ("chatcmpl", "chat.completion") if chat else ("cmpl", "text_completion")
    return {"id": f"{prefix}-{identity}", "object": kind, "created": moment // 1_000_000_000, "model": model}


def stream_events(
    frame: dict[str, Any], pieces: list[str], finish_reason: str, usage: dict[str, Any] | None, *, chat: bool
) -> Iterator[dict[str, Any]]:
    """The events of a stream in OpenAI's order: role, pieces, finish reason, usage."""
    frame = {**frame, "object": "chat.completion.chunk"} if chat else frame

    def event(part: dict[str, Any], finished: str | None) -> dict[str, Any]:
        return {**frame, "choices": [{"index": 0, **part, "logprobs": None, "finish_reason": finished}]}

    if chat:
        yield event({"delta": {"role": "assistant", "content": ""}}, None)
    for piece in pieces:
        yield event({"delta": {"content": piece}} if chat else {"text": piece}, None)
    yield event({"delta": {}} if chat else {"text": ""}, finish_reason)
    if usage is not None:
        yield {**frame, "choices": [], "usage": usage}


async def paced(events: Iterator[dict[str, Any]]) -> AsyncIterator[bytes]:
    for event in events:
        yield f"data: {json.dumps(event)}\n\n".encode()
        await asyncio.sleep(SECONDS_BETWEEN_CHUNKS)
    yield b"data: [DONE]\n\n"


def compose(question: str) -> str:
    """An echo of the question and a few sentences; which ones and how many depends on the question."""
    digest = hashlib.sha256(question.encode()).digest()
    count = 2 + digest[0] % 3
    first = digest[1] % len(SENTENCES)
    said = [SENTENCES[(first + step * 3) % len(SENTENCES)] for step in range(count)]
    excerpt = " ".join(question.split())
    excerpt = excerpt if len(excerpt) <= 120 else f"{excerpt[:117]}..."
    return " ".join([f'You asked: "{excerpt}"', *said] if excerpt else said)


def embedding_rows(texts: list[str], dimensions: int, *, as_base64: bool) -> list[dict[str, Any]]:
    """One row per text; base64 packs little-endian 32-bit floats, which the official SDK asks for by default."""
    rows = []
    for index, text in enumerate(texts):
        vector = embed(text, dimensions)
        packed = base64.b64encode(struct.pack(f"<{dimensions}f", *vector)).decode() if as_base64 else vector
        rows.append({"object": "embedding", "index": index, "embedding": packed})
    return rows


def embed(text: str, dimensions: int) -> list[float]:
    """A unit vector: each word adds or takes one at a place that its hash chooses."""
    vector = [0.0] * dimensions
    for word in re.findall(r"\w+", text.lower()) or [text]:
        digest = hashlib.sha256(word.encode()).digest()
        vector[int.from_bytes(digest[:4]) % dimensions] += 1.0 if digest[4] % 2 else -1.0
    length = math.hypot(*vector)
    if not length:  # two words cancelled each other out
        return [1.0, *vector[1:]]
    return [round(value / length, 6) for value in vector]


def split_tokens(text: str) -> list[str]:
    return _PIECES.findall(text)


def count_tokens(text: str) -> int:
    return len(split_tokens(text))


def text_of(content: Any) -> str:
    """The text of a message content, prompt or input: a string, or a list of strings, text parts or token numbers."""
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        return ""
    parts = (part.get("text", "") if isinstance(part, dict) else part for part in content)
    return " ".join(str(part) for part in parts)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m app.server.demo.sample_provider", description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    port = parser.parse_args().port
    config = Config()
    config.bind = [f"127.0.0.1:{port}"]
    config.graceful_timeout = 1
    asyncio.run(serve(cast(ASGIFramework, create_provider()), config))


if __name__ == "__main__":
    main()
