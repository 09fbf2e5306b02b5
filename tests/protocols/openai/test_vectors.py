"""Embeddings item by item: which vector is whose, and what each of them used."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Raw

from app.protocols.openai.vectors import item_sizes, merged_vectors, read_vectors, shares


def row(index: int, embedding: Any = (0.5,)) -> dict[str, Any]:
    return {"object": "embedding", "index": index, "embedding": embedding}


def answer(rows: list[Any], **fields: Any) -> bytes:
    return json.dumps({"object": "list", "data": rows, "model": "m", **fields}).encode()


def test_vectors_come_in_the_order_of_the_input() -> None:
    usage = {"prompt_tokens": 7, "total_tokens": 7}
    vectors = read_vectors(answer([row(1, "AAAA"), row(0, [0.25, 1e-5])], usage=usage), 2)
    assert vectors is not None
    assert [json.loads(bytes(one)) for one in vectors.embeddings] == [[0.25, 1e-5], "AAAA"]
    assert vectors.tokens == 7
    without = read_vectors(answer([row(0)]), 1)
    assert without is not None and without.tokens == 0


@pytest.mark.parametrize(
    "body",
    [
        answer([row(0)]),
        answer([row(0), row(0)]),
        answer([row(0), row(2)]),
        answer([row(0), {"embedding": [1]}]),
        answer([row(0), {"index": 1}]),
        b"[]",
        b"{",
    ],
)
def test_anything_but_one_vector_for_each_item_is_no_answer(body: bytes) -> None:
    assert read_vectors(body, 2) is None


def test_vectors_are_merged_under_the_model_that_was_asked_for() -> None:
    body = json.loads(merged_vectors("e", [Raw(b"[1.5]"), Raw(b'"AA"')], 9))
    assert body["data"] == [row(0, [1.5]), row(1, "AA")]
    assert (body["model"], body["usage"]) == ("e", {"prompt_tokens": 9, "total_tokens": 9})


@given(tokens=st.integers(0, 10**6), items=st.lists(st.text(max_size=20) | st.lists(st.integers()), min_size=1))
def test_tokens_are_divided_without_a_rest(tokens: int, items: list[Any]) -> None:
    found = shares(tokens, item_sizes(items))
    assert len(found) == len(items)
    assert sum(found) == tokens
    assert min(found) >= 0
