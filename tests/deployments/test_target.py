"""Where calls of a deployment go, and with which key."""

from __future__ import annotations

from typing import Any

import pytest

from tests.deployments.builders import SECRET, build


def test_a_provider_s_own_address_and_the_environment_s_key() -> None:
    deployment = build(environment={"OPENAI_API_KEY": SECRET})
    assert deployment.url("/chat/completions") == "https://api.openai.com/v1/chat/completions"
    assert deployment.headers == {"Authorization": f"Bearer {SECRET}"}
    assert (deployment.provider.name, deployment.upstream_model) == ("openai", "gpt-4o-mini")


def test_the_environment_may_move_the_address() -> None:
    deployment = build(environment={"OPENAI_API_BASE": "http://inside/v1/", "OPENAI_API_KEY": SECRET})
    assert deployment.url("/embeddings") == "http://inside/v1/embeddings"
    assert deployment.headers["Authorization"].endswith(SECRET)


@pytest.mark.parametrize("name", ["api_base", "base_url"])
def test_a_key_of_the_environment_is_never_sent_to_an_address_of_a_deployment(name: str) -> None:
    elsewhere: dict[str, Any] = {name: "http://elsewhere/v1"}
    assert build(environment={"OPENAI_API_KEY": SECRET}, **elsewhere).headers == {}
    assert build(api_key="own", **elsewhere).headers == {"Authorization": "Bearer own"}


@pytest.mark.parametrize(
    ("api_version", "url"),
    [
        (None, "https://me.azure.example/openai/deployments/gpt-4o/chat/completions?api-version=2024-10-21"),
        # fixed date: an API's version
        ("2025-01-01", "https://me.azure.example/openai/deployments/gpt-4o/chat/completions?api-version=2025-01-01"),
        ("v1", "https://me.azure.example/openai/v1/chat/completions"),
        ("preview", "https://me.azure.example/openai/v1/chat/completions?api-version=preview"),
    ],
)
def test_azure_has_the_deployment_in_the_path_and_a_header_of_its_own(api_version: str | None, url: str) -> None:
    version: dict[str, Any] = {} if api_version is None else {"api_version": api_version}
    deployment = build("azure/gpt-4o", api_base="https://me.azure.example/", api_key=SECRET, **version)
    assert deployment.url("/chat/completions") == url
    assert deployment.headers == {"api-key": SECRET}


DATED = "2024-10-21"  # fixed date: an API's version


@pytest.mark.parametrize(
    ("base", "version", "path"),
    [
        ("http://a/openai/v1/", "preview", "/openai/v1/chat/completions?api-version=preview"),
        ("http://a/openai/v1", None, "/openai/v1/chat/completions"),
        ("http://a/openai/v1/chat/completions", DATED, "/openai/v1/chat/completions"),
        ("http://a/openai", None, f"/openai/deployments/d/chat/completions?api-version={DATED}"),
        ("http://a/openai/", "v1", "/openai/v1/chat/completions"),
        ("http://a/chat/completions", None, f"/openai/deployments/d/chat/completions?api-version={DATED}"),
        ("http://a/openai/deployments/x", None, f"/openai/deployments/x/chat/completions?api-version={DATED}"),
        (
            "http://a/openai/deployments/x/chat/completions?api-version=2025-01-01",
            None,
            "/openai/deployments/x/chat/completions?api-version=2025-01-01",
        ),
        ("http://a/?api-version=v1", None, "/openai/v1/chat/completions"),
        ("http://a?api-version=v1", DATED, f"/openai/deployments/d/chat/completions?api-version={DATED}"),
        ("http://a/team/openai", None, f"/team/openai/deployments/d/chat/completions?api-version={DATED}"),
    ],
)
def test_all_forms_of_an_azure_address_lead_to_one(base: str, version: str | None, path: str) -> None:
    deployment = build("azure/d", api_base=base, api_key=SECRET, api_version=version)
    assert deployment.url("/chat/completions") == f"http://a{path}"


@pytest.mark.parametrize("value", ["", " ", "\n"])
@pytest.mark.parametrize("name", ["api_base", "base_url", "api_key"])
def test_an_empty_address_or_key_is_never_the_same_as_none(name: str, value: str) -> None:
    params: dict[str, Any] = {name: value}
    with pytest.raises(ValueError, match=f"litellm_params.{name} is empty"):
        build(environment={"OPENAI_API_KEY": SECRET}, **params)


def test_an_address_loses_the_white_space_around_it() -> None:
    assert build(api_base=" http://a/v1/\n").api_base == "http://a/v1"
    assert build(environment={"OPENAI_API_BASE": "http://a/v1\n"}).api_base == "http://a/v1"


def test_a_key_that_was_read_from_a_file_loses_its_newline() -> None:
    assert build(api_key=f"{SECRET}\n").headers == {"Authorization": f"Bearer {SECRET}"}
