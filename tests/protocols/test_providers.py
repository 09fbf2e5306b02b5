"""Providers are data rows."""

from __future__ import annotations

from urllib.parse import urlsplit

import pytest

from app.protocols.providers import PROVIDERS, split_model

OF_THE_ISSUE = "openai azure ollama vllm groq mistral deepseek together fireworks openrouter xai".split()
OF_THE_FIELD = "hosted_vllm together_ai fireworks_ai litellm_proxy openai_like ollama_chat".split()


@pytest.mark.parametrize("name", OF_THE_ISSUE + OF_THE_FIELD)
def test_every_promised_provider_is_there(name: str) -> None:
    provider, model = split_model(f"{name}/some/model")
    assert (provider.name, model) == (name, "some/model")


@pytest.mark.parametrize("name", PROVIDERS)
def test_a_row_is_complete(name: str) -> None:
    row = PROVIDERS[name]
    assert row.name == name
    if row.base is not None:
        parts = urlsplit(row.base)
        assert parts.scheme == "https" or parts.hostname == "localhost"
        assert not row.base.endswith("/")
    else:
        assert row.base_variable is not None


def test_keys_leave_for_the_outside_by_https_only() -> None:
    assert [
        row.name for row in PROVIDERS.values() if row.key_variable and (row.base or "https").startswith("http:")
    ] == []


def test_a_model_without_a_prefix_is_openai_s() -> None:
    provider, model = split_model("gpt-4o")
    assert (provider.name, model) == ("openai", "gpt-4o")


def test_an_unknown_prefix_is_refused_with_the_names_that_we_have() -> None:
    with pytest.raises(
        ValueError, match=r"'nobody' in 'nobody/x' is not a provider that we have; use one of openai, az"
    ):
        split_model("nobody/x")
    with pytest.raises(ValueError, match="custom_llm_provider 'nobody'"):
        split_model("x", "nobody")


def test_the_custom_provider_takes_its_own_prefix_off() -> None:
    provider, model = split_model("groq/llama", "groq")
    assert (provider.name, model) == ("groq", "llama")
    assert split_model("meta/llama", "groq")[1] == "meta/llama"


def test_a_key_goes_into_the_header_of_the_provider() -> None:
    assert PROVIDERS["openai"].auth_headers("k") == {"Authorization": "Bearer k"}
    assert PROVIDERS["azure"].auth_headers("k") == {"api-key": "k"}
    assert PROVIDERS["openai"].auth_headers(None) == PROVIDERS["openai"].auth_headers("") == {}
