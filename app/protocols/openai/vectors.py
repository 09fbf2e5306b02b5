"""Embeddings of the OpenAI dialect apart: which vector belongs to which item, and what each of them used. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import msgspec
from msgspec import Raw

from ..json_fields import BROKEN_JSON
from .answers import read_usage

_encode = msgspec.json.Encoder().encode


class _Row(msgspec.Struct):
    embedding: Raw
    index: int = -1


class _Answer(msgspec.Struct):
    data: list[_Row]
    usage: Raw = Raw(b"null")


_decode = msgspec.json.Decoder(_Answer).decode


@dataclass(frozen=True, slots=True)
class Vectors:
    """Embeddings in the order of the input, each a list of numbers or base64 as raw JSON; `tokens` of all together."""

    embeddings: Sequence[Raw]
    tokens: int


def read_vectors(body: bytes, count: int) -> Vectors | None:
    """The vectors of an answer; None unless there is exactly one for each of `count` items."""
    try:
        answer = _decode(body)
        usage = read_usage(answer.usage)
    except BROKEN_JSON:
        return None
    rows = sorted(answer.data, key=lambda row: row.index)
    if [row.index for row in rows] != list(range(count)):
        return None
    # A view would keep the whole answer in memory.
    return Vectors([row.embedding.copy() for row in rows], usage.prompt_tokens if usage is not None else 0)


def merged_vectors(model: str, embeddings: Iterable[Raw], tokens: int) -> bytes:
    """An answer of these embeddings."""
    data = [{"object": "embedding", "index": index, "embedding": vector} for index, vector in enumerate(embeddings)]
    usage = {"prompt_tokens": tokens, "total_tokens": tokens}
    return _encode({"object": "list", "data": data, "model": model, "usage": usage})


def item_sizes(items: Iterable[object]) -> list[int]:
    """About how much of the tokens each item accounts for: bytes of a text, numbers of a list of tokens."""
    return [max(1, len(item) * (4 if isinstance(item, list) else 1)) for item in map(_sized, items)]


def _sized(item: object) -> str | list[object]:
    return item if isinstance(item, str | list) else str(item)


def shares(tokens: int, sizes: Sequence[int]) -> list[int]:
    """Tokens of a batch divided among its items by their sizes, adding up exactly."""
    whole, before, given, parts = sum(sizes), 0, 0, []
    for size in sizes:
        before += size
        upto = tokens * before // whole
        parts.append(upto - given)
        given = upto
    return parts
