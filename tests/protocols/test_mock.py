"""Answers of a deployment with `mock_response`."""

from __future__ import annotations

import json

import pytest

from app.protocols.mock import MOCK_ERRORS, mock_answer, mock_events
from app.protocols.openai.answers import DONE, read_usage, restamp
from app.protocols.openai.request import CHAT, COMPLETIONS, EMBEDDINGS


def test_a_chat_answer_has_the_text_and_the_contract_s_usage() -> None:
    answer = json.loads(mock_answer(CHAT.path, "Hello"))
    assert answer["object"] == "chat.completion"
    assert answer["choices"][0]["message"] == {"role": "assistant", "content": "Hello"}
    assert answer["choices"][0]["finish_reason"] == "stop"
    assert answer["usage"] == {"prompt_tokens": 10, "completion_tokens": 20, "total_tokens": 30}


def test_a_text_completion_puts_the_text_into_the_choice() -> None:
    answer = json.loads(mock_answer(COMPLETIONS.path, "Hello"))
    assert (answer["object"], answer["choices"][0]["text"]) == ("text_completion", "Hello")


def test_an_embedding_has_a_vector() -> None:
    answer = json.loads(mock_answer(EMBEDDINGS.path, "ignored"))
    assert answer["data"][0]["object"] == "embedding"
    assert answer["data"][0]["embedding"]


@pytest.mark.parametrize("text", ["Hello world", "", "Grüße 🌍"])
def test_a_stream_spells_the_text_in_small_pieces(text: str) -> None:
    *events, usage, done = mock_events(CHAT.path, text)
    chunks = [json.loads(event) for event in events]
    assert "".join(chunk["choices"][0]["delta"].get("content", "") for chunk in chunks) == text
    assert all(len(chunk["choices"][0]["delta"].get("content", "")) <= 3 for chunk in chunks)
    assert chunks[0]["choices"][0]["delta"]["role"] == "assistant"
    assert [chunk["choices"][0]["finish_reason"] for chunk in chunks][-1] == "stop"
    assert len({chunk["id"] for chunk in chunks}) == 1
    assert json.loads(usage)["choices"] == []
    assert done == DONE


def test_usage_reads_as_that_of_any_provider() -> None:
    _, usage = restamp(mock_answer(CHAT.path, "x"), "m")
    assert usage is not None
    assert (usage.prompt_tokens, usage.completion_tokens, usage.total_tokens) == (10, 20, 30)
    assert read_usage(None) is None


def test_words_that_stand_for_failures() -> None:
    assert {status for status, _ in MOCK_ERRORS.values()} == {400, 429, 500}
