"""Every provider's dialect is one that is spoken, and a request reaches it as it is, translated, or not at all."""

from __future__ import annotations

import json

import pytest

from app.errors import InvalidRequest
from app.protocols.dialects import DIALECTS, OPENAI, client_dialect, dialect_of_path, exchange_for
from app.protocols.openai.request import CHAT, EMBEDDINGS
from app.protocols.providers import PROVIDERS
from app.protocols.translation import TranslatedExchange
from tests.protocols.toy import TALK, TOY

_CHAT = CHAT.read(json.dumps({"model": "m", "messages": [{"role": "user", "content": "Ahoy"}]}).encode(), None, "")


@pytest.mark.parametrize("provider", PROVIDERS.values(), ids=lambda provider: provider.name)
def test_a_provider_s_dialect_is_registered(provider: object) -> None:
    assert getattr(provider, "dialect", None) in DIALECTS


@pytest.mark.parametrize("name", ["openai", "azure"])
def test_openai_s_requests_pass_through_to_openai_and_azure(name: str) -> None:
    assert exchange_for(_CHAT, DIALECTS[name]) is _CHAT


def test_a_chat_is_translated_for_a_provider_of_another_dialect() -> None:
    exchange = exchange_for(_CHAT, TOY)
    assert isinstance(exchange, TranslatedExchange)
    assert exchange.path == TALK.path


def test_an_operation_without_words_is_refused_by_name() -> None:
    embeddings = EMBEDDINGS.read(b'{"model": "m", "input": "x"}', None, "")
    with pytest.raises(InvalidRequest, match=r"/embeddings cannot be served by model=m: .* toy dialect"):
        exchange_for(embeddings, TOY)


def test_errors_are_told_in_openai_s_dialect_unless_another_claims_the_path() -> None:
    assert client_dialect(_CHAT) is OPENAI
    assert dialect_of_path("/key/generate") is OPENAI
    assert dialect_of_path("/v1/chat/completions") is OPENAI
