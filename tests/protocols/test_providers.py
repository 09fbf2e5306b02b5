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


@pytest.mark.parametrize(
    ("model", "provider"),
    [
        ("gpt-4o", "openai"),
        ("o3-mini", "openai"),
        ("ft:gpt-4o:org::id", "openai"),
        ("text-embedding-3-small", "openai"),
        ("whisper-1", "openai"),
        ("dall-e-3", "openai"),
        ("claude-sonnet-4-5", "anthropic"),
        ("gemini-2.5-pro", "gemini"),
        ("command-r", "cohere"),
        ("mistral-large-latest", "mistral"),
        ("open-mixtral-8x22b", "mistral"),
        ("deepseek-chat", "deepseek"),
        ("grok-4", "xai"),
        ("*", "openai"),
    ],
)
def test_a_model_without_a_prefix_is_of_whom_names_its_models_so(model: str, provider: str) -> None:
    row, upstream_model = split_model(model)
    assert (row.name, upstream_model) == (provider, model)


@pytest.mark.parametrize("model", ["my-model", "llama3.2", "gptx", "opus", "claude"])
def test_a_name_that_could_be_anybody_s_is_refused_unless_there_is_an_address(model: str) -> None:
    with pytest.raises(ValueError, match="write provider/model, as openai/"):
        split_model(model)
    assert split_model(model, has_address=True)[0].name == "openai"


@pytest.mark.parametrize(
    ("name", "address", "expected"),
    [
        ("ollama", "http://host:11434", "http://host:11434/v1"),
        ("ollama_chat", "http://host:11434/", "http://host:11434/v1"),
        ("ollama", "http://host:11434/v1/", "http://host:11434/v1"),
        ("ollama", "http://host:11434/api", "http://host:11434/v1"),
        ("mistral", "https://inside.example", "https://inside.example/v1"),
        ("groq", "https://api.groq.com", "https://api.groq.com/openai/v1"),
        ("groq", "https://inside.example/own", "https://inside.example/own"),
        ("openai", "https://api.openai.com", "https://api.openai.com/v1"),
        ("openai", "http://local:8000", "http://local:8000"),
        ("hosted_vllm", "http://local:8000", "http://local:8000"),
    ],
)
def test_an_address_without_a_path_gets_that_of_the_provider(name: str, address: str, expected: str) -> None:
    assert PROVIDERS[name].with_path(address) == expected


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
