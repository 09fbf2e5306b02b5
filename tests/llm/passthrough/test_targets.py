"""Each prefix has its provider as target; a credential is sent only to the address that it was configured with."""

from __future__ import annotations

from typing import Any

import pytest

from app.llm.passthrough.sources import CredentialSource, MissingCredential
from app.llm.passthrough.targets import PREFIXES, configured_target, target_of
from app.settings.pass_through import read_endpoint

KEYS = {
    "OPENAI_API_KEY": "openai-key",
    "ANTHROPIC_API_KEY": "anthropic-key",
    "GEMINI_API_KEY": "gemini-key",
    "AZURE_API_KEY": "azure-key",
    "AZURE_API_BASE": "https://own.openai.azure.example",
    "COHERE_API_KEY": "cohere-key",
    "MISTRAL_API_KEY": "mistral-key",
    "HOSTED_VLLM_API_BASE": "http://vllm.example:8000/v1",
}


def source_of(name: str = "m", upstream: str = "m", **params: Any) -> CredentialSource:
    return CredentialSource(id="d-1", model_name=name, upstream_model=upstream, params=params)


@pytest.mark.parametrize(
    ("name", "path", "url", "headers"),
    [
        ("openai", "chat/completions", "https://api.openai.com/v1/chat/completions", "Bearer openai-key"),
        ("openai", "v1/models", "https://api.openai.com/v1/models", "Bearer openai-key"),
        ("openai_passthrough", "v2/x", "https://api.openai.com/v2/x", "Bearer openai-key"),
        ("anthropic", "v1/messages", "https://api.anthropic.com/v1/messages", "anthropic-key"),
        ("azure", "openai/x", "https://own.openai.azure.example/openai/x", "azure-key"),
        ("azure_ai", "models/x", "https://own.openai.azure.example/models/x", "azure-key"),
        ("cohere", "v2/chat", "https://api.cohere.com/v2/chat", "Bearer cohere-key"),
        ("mistral", "v1/ocr", "https://api.mistral.ai/v1/ocr", "Bearer mistral-key"),
        ("vllm", "v1/pooling", "http://vllm.example:8000/v1/pooling", ""),
    ],
)
def test_the_target_of_each_prefix(name: str, path: str, url: str, headers: str) -> None:
    target = target_of(name, tuple(path.split("/")), [], "", KEYS, ())
    assert f"{target.base}{target.path}" == url
    assert target.headers == ({PREFIXES[name].header: headers} if headers else {})


def test_gemini_s_key_goes_into_the_query() -> None:
    target = target_of("gemini", ("v1beta", "models"), [("a", "b")], "", KEYS, ())
    assert target.query == [("a", "b"), ("key", "gemini-key")]
    assert target.headers == {}
    other = target_of("gemini", ("v1beta", "models"), [], "", {"GOOGLE_API_KEY": "google-key"}, ())
    assert other.query == [("key", "google-key")]


@pytest.mark.parametrize(
    ("base", "path", "url"),
    [
        ("https://gw.example", "chat", "https://gw.example/v1/chat"),
        ("https://gw.example/v1/", "chat", "https://gw.example/v1/chat"),
        ("https://gw.example/openai/v1", "v1/chat", "https://gw.example/openai/v1/chat"),
    ],
)
def test_the_version_of_openai_is_in_the_path_once(base: str, path: str, url: str) -> None:
    environment = {**KEYS, "OPENAI_API_BASE": base}
    target = target_of("openai", tuple(path.split("/")), [], "", environment, ())
    assert f"{target.base}{target.path}" == url


def test_the_key_of_the_environment_never_goes_to_the_address_of_a_deployment() -> None:
    with pytest.raises(MissingCredential, match="OPENAI_API_KEY"):
        target_of("openai", ("x",), [], "", KEYS, [source_of(api_base="https://other.example")])
    own = target_of("openai", ("x",), [], "", KEYS, [source_of(api_base="https://other.example", api_key="own-key")])
    assert (own.base, own.headers["authorization"]) == ("https://other.example", "Bearer own-key")
    borrowed = target_of("openai", ("x",), [], "", KEYS, [source_of(api_key="own-key", extra_headers={"X-Team": "a"})])
    assert borrowed.base == "https://api.openai.com"
    assert borrowed.headers == {"authorization": "Bearer own-key", "x-team": "a"}


def test_the_deployment_of_the_model_lends_its_credential_first() -> None:
    sources = [source_of("a", api_key="key-a"), source_of("b", api_key="key-b")]
    assert target_of("openai", ("x",), [], "b", {}, sources).headers["authorization"] == "Bearer key-b"
    assert target_of("openai", ("x",), [], "c", {}, sources).headers["authorization"] == "Bearer key-a"


@pytest.mark.parametrize("name", PREFIXES)
def test_without_a_credential_the_variable_is_named(name: str) -> None:
    with pytest.raises(MissingCredential) as refused:
        target_of(name, ("v1", "x"), [], "", {}, ())
    assert refused.value.status == 503
    assert refused.value.param is not None
    assert refused.value.param in refused.value.message


@pytest.mark.parametrize(
    "base", ["ftp://x", "https://name:word@x.example", "https://x.example?a=b", "nothing", "http://x:99999"]
)
def test_an_invalid_address_is_refused(base: str) -> None:
    with pytest.raises(MissingCredential):
        target_of("openai", ("x",), [], "", {**KEYS, "OPENAI_API_BASE": base}, ())


def test_secrets_are_not_shown() -> None:
    target = target_of("openai", ("x",), [], "", KEYS, [source_of(api_key="own-key-of-the-team")])
    assert "own-key" not in repr(target)
    assert "own-key" not in repr(target.source)


@pytest.mark.parametrize(
    ("fields", "segments", "query", "url", "sent"),
    [
        ({"target": "https://a.example/v1/"}, (), [], "https://a.example/v1", []),
        ({"target": "https://a.example"}, (), [], "https://a.example/", []),
        ({"target": "https://a.example/v1"}, ("b", "c d"), [], "https://a.example/v1/b/c%20d", []),
        ({"target": "https://a.example?x=1"}, (), [], "https://a.example/", [("x", "1")]),
        ({"target": "https://a.example?x=1"}, (), [("y", "2")], "https://a.example/", [("y", "2")]),
        (
            {"target": "https://a.example?x=1", "merge_query_params": True, "default_query_params": {"z": 3, "y": 0}},
            (),
            [("y", "2")],
            "https://a.example/",
            [("x", "1"), ("z", "3"), ("y", "2")],
        ),
    ],
)
def test_the_target_of_a_configured_endpoint(
    fields: dict[str, Any],
    segments: tuple[str, ...],
    query: list[tuple[str, str]],
    url: str,
    sent: list[tuple[str, str]],
) -> None:
    target = configured_target(read_endpoint({"path": "/x", **fields}), segments, query)
    assert (f"{target.base}{target.path}", target.query) == (url, sent)


def test_the_headers_of_a_configured_endpoint_are_its_secrets() -> None:
    row = {"path": "/x", "target": "https://a.example", "headers": {"Authorization": "Bearer abc", "accept": "a/b"}}
    target = configured_target(read_endpoint(row), (), [])
    assert target.headers == {"authorization": "Bearer abc", "accept": "a/b"}
    assert target.secrets == ("abc",)


def test_a_credential_is_a_secret_whatever_it_is_called() -> None:
    row = {"path": "/x", "target": "https://a.example?sig=one&lang=en", "headers": {"X-Functions": "two"}}
    target = configured_target(read_endpoint({**row, "default_query_params": {"API_KEY": "three"}}), (), [])
    assert target.secrets == ("two", "one", "en", "three")
