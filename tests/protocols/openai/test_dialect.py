"""Addresses of OpenAI's dialect and of Azure's variant; what the gateway asks of both is the same."""

from __future__ import annotations

import pytest

from app.protocols.openai.dialect import AzureDialect, OpenAIDialect
from app.protocols.openai.request import CHAT, COMPLETIONS, EMBEDDINGS

_BASE = "https://name.example.net"
_OWN = f"{_BASE}/openai/deployments/own"


def test_openai_s_address_is_the_base_as_it_is() -> None:
    assert OpenAIDialect().address(_BASE, "gpt", {"api_version": "v1"}) == (_BASE, "")


@pytest.mark.parametrize(
    ("base", "version", "expected"),
    [
        (_BASE, None, (f"{_BASE}/openai/deployments/gpt", "?api-version=2024-10-21")),
        (_BASE, "someday", (f"{_BASE}/openai/deployments/gpt", "?api-version=someday")),
        (_BASE, "v1", (f"{_BASE}/openai/v1", "")),
        (_BASE, "preview", (f"{_BASE}/openai/v1", "?api-version=preview")),
        (_OWN, "someday", (_OWN, "?api-version=someday")),
    ],
)
def test_azure_puts_the_deployment_into_the_path(base: str, version: str | None, expected: tuple[str, str]) -> None:
    assert AzureDialect().address(base, "gpt", {"api_version": version}) == expected


def test_a_name_that_a_client_wrote_stays_one_segment_of_azure_s_path() -> None:
    base = f"{_BASE}/openai/deployments/*"
    assert AzureDialect().address_of(base, "*", "a/../b?c") == f"{_BASE}/openai/deployments/a%2F..%2Fb%3Fc"
    assert OpenAIDialect().address_of(base, "*", "a") == base


def test_azure_keeps_files_beside_its_deployments() -> None:
    assert AzureDialect().account_address(f"{_BASE}/openai/deployments/gpt") == f"{_BASE}/openai"
    assert AzureDialect().account_address(f"{_BASE}/openai/v1") == f"{_BASE}/openai/v1"
    assert OpenAIDialect().account_address(_BASE) == _BASE


def test_streams_of_texts_can_be_put_together() -> None:
    dialect = OpenAIDialect()
    assert dialect.assembler(CHAT) is not None and dialect.assembler(COMPLETIONS) is not None
    assert dialect.assembler(EMBEDDINGS) is None


def test_azure_asks_a_form_for_its_version_too() -> None:
    assert (list(OpenAIDialect().parameters), list(AzureDialect().parameters)) == ([], ["api_version"])
