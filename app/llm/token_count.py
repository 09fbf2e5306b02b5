"""How many tokens a text has, without asking anybody: OpenAI's tokenizers where they are installed, else an estimate.

They are the optional extra `tokenizer`. Nothing of them is loaded before somebody counts; then the first takes 67 MB of
this process for good and the second 30, which is why ordinary calls go by their size.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Protocol

import msgspec

_BYTES_PER_TOKEN = 4
# Longer texts are estimated: counting must not hold up the calls of others.
_MAX_TEXT = 2_000_000
# What the dialect wraps around each message, and around the answer to come.
_PER_MESSAGE, _PER_ANSWER = 3, 3
# A picture of 1024 by 1024 at full detail.
_PER_PICTURE = 765
# Models of OpenAI from before the newer vocabulary.
_OLDER = ("gpt-3.5", "gpt-4-", "text-embedding", "davinci", "babbage")
_OPENAI = ("gpt-", "o1", "o3", "o4", "chatgpt", "text-embedding", "davinci", "babbage", "codex")


class Tokenizer(Protocol):
    def count(self, text: str) -> int: ...


@dataclass(frozen=True, slots=True)
class TokenCount:
    """`is_exact`: counted by the model's own tokenizer; pictures and what wraps messages are assumed even then."""

    total: int
    is_exact: bool


def count_tokens(model: str, body: Mapping[str, Any]) -> TokenCount:
    """The tokens of a body's `prompt`, or of its `messages` and `tools`. Blocks: call it from a thread."""
    texts, extra = _texts_of(body)
    name = model.rpartition("/")[2]
    tokenizer = _tokenizer(_vocabulary(name)) if sum(map(len, texts)) <= _MAX_TEXT else None
    if tokenizer is None:
        return TokenCount(extra + sum(-(-len(text.encode()) // _BYTES_PER_TOKEN) for text in texts), is_exact=False)
    return TokenCount(extra + sum(tokenizer.count(text) for text in texts), is_exact=name.startswith(_OPENAI))


def _vocabulary(model: str) -> str:
    return "cl100k_base" if model == "gpt-4" or model.startswith(_OLDER) else "o200k_base"


@lru_cache(maxsize=2)
def _tokenizer(vocabulary: str) -> Tokenizer | None:
    """None where the extra is not installed."""
    try:
        module = importlib.import_module("rs_bpe.bpe")
    except ImportError:
        return None
    tokenizer: Tokenizer = getattr(module.openai, vocabulary)()
    return tokenizer


def _texts_of(body: Mapping[str, Any]) -> tuple[list[str], int]:
    """What has to be counted, and the tokens that are known to come on top."""
    if body.get("messages") is None:
        prompt = body.get("prompt")
        pieces = prompt if isinstance(prompt, list) else [prompt]
        # A prompt may be given as tokens.
        return [text for text in pieces if isinstance(text, str)], sum(isinstance(piece, int) for piece in pieces)
    texts: list[str] = []
    extra = _PER_ANSWER
    for message in body["messages"]:
        extra += _PER_MESSAGE
        for piece in _pieces(message):
            if piece is None:
                extra += _PER_PICTURE
            else:
                texts.append(piece)
    for tool in body.get("tools") or ():
        texts.append(msgspec.json.encode(tool).decode())
    return texts, extra


def _pieces(message: Mapping[str, Any]) -> Iterator[str | None]:
    """The texts of a message, None for a picture."""
    for name, value in message.items():
        if isinstance(value, str):
            yield value
        elif name == "content" and isinstance(value, list):
            for part in value:
                is_picture = isinstance(part, dict) and part.get("type") in ("image_url", "input_image", "image")
                yield None if is_picture else _text_of(part)
        elif value is not None:
            yield msgspec.json.encode(value).decode()


def _text_of(part: Any) -> str:
    text = part.get("text") if isinstance(part, dict) else None
    return text if isinstance(text, str) else msgspec.json.encode(part).decode()
