"""Tokens of texts and messages, with the tokenizers and without them."""

from __future__ import annotations

import pytest

from app.llm.token_count import count_tokens


@pytest.mark.parametrize(
    ("model", "text", "tokens"),
    [
        ("gpt-4o-mini", "Hello world", 2),
        ("gpt-4", "Hello world", 2),
        ("gpt-4o", "Antidisestablishmentarianism", 6),
        ("openai/gpt-4", "Antidisestablishmentarianism", 6),
        ("gpt-4o", "", 0),
        ("gpt-4o", "<|endoftext|>", 7),
    ],
)
def test_openai_models_are_counted_exactly(model: str, text: str, tokens: int) -> None:
    counted = count_tokens(model, {"prompt": text})
    assert (counted.total, counted.is_exact) == (tokens, True)


def test_other_models_are_estimated_by_the_same_tokenizer() -> None:
    counted = count_tokens("claude-sonnet-4", {"prompt": ["Hello world", "Hello"]})
    assert (counted.total, counted.is_exact) == (3, False)
    assert count_tokens("gpt-4o", {"prompt": [1, 2, 3]}).total == 3


def test_very_long_texts_are_estimated_by_their_size() -> None:
    counted = count_tokens("gpt-4o", {"prompt": "x" * 4_000_000})
    assert (counted.total, counted.is_exact) == (1_000_000, False)


def test_messages_count_what_wraps_them_and_their_pictures() -> None:
    def total(*messages: object, **more: object) -> int:
        return count_tokens("gpt-4o", {"messages": list(messages), **more}).total

    hi = {"role": "user", "content": "hi"}
    assert total(hi) == 3 + 3 + 1 + 1
    assert total(hi, hi) == 3 + 2 * 5
    picture = {"type": "image_url", "image_url": {"url": "data:image/png;base64," + "A" * 100_000}}
    assert total({"role": "user", "content": [{"type": "text", "text": "hi"}, picture]}) == total(hi) + 765
    assert total({**hi, "name": None}) == total(hi)
    assert total(hi, tools=[{"type": "function", "function": {"name": "f"}}]) > total(hi)
    assert total({"role": "assistant", "content": None, "tool_calls": [{"id": "1"}]}) > 8
