"""Signatures are those that AWS publishes for its test suite, and those that AWS's own client makes."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from app.llm.passthrough.aws_signature import AwsCredentials, signed_headers

_SUITE = AwsCredentials("AKIDEXAMPLE", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY")
_FORM = {"content-type": "application/x-www-form-urlencoded"}

# Of the signature suite that AWS publishes: method, query, body, more signed headers, signature.
_VECTORS: dict[str, tuple[str, list[tuple[str, str]], bytes, dict[str, str], str]] = {
    "get-vanilla": ("GET", [], b"", {}, "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31"),
    "get-vanilla-query-order-key-case": (
        "GET",
        [("Param2", "value2"), ("Param1", "value1")],
        b"",
        {},
        "b97d918cfa904a5beff61c982a1b6f458b799221646efd99d3219ec94cdf2500",
    ),
    "get-vanilla-utf8-query": (
        "GET",
        [("\u1234", "bar")],
        b"",
        {},
        "2cdec8eed098649ff3a119c94853b13c643bcf08f8b0a1d91e12c9027818dd04",
    ),
    "post-vanilla": ("POST", [], b"", {}, "5da7c1a2acd57cee7505fc6676e4e544621c30862966e37dddb68e92efbe5d6b"),
    "post-x-www-form-urlencoded": (
        "POST",
        [],
        b"Param1=value1",
        _FORM,
        "ff11897932ad3f4e8b18135d722051e5ac45fc38421b1da7b9d196a0fe09473a",
    ),
}


@pytest.mark.parametrize("name", _VECTORS)
def test_the_published_vectors(name: str) -> None:
    method, query, body, headers, signature = _VECTORS[name]
    signed = signed_headers(
        method,
        "example.amazonaws.com",
        "/",
        query,
        body,
        _SUITE,
        region="us-east-1",
        service="service",
        timestamp=datetime(2015, 8, 30, 12, 36, tzinfo=UTC),
        headers=headers,
    )
    assert signed["x-amz-date"] == "20150830T123600Z"
    assert signed["authorization"].endswith(f", Signature={signature}")


@pytest.mark.parametrize(
    ("host", "path", "token", "signature"),
    [
        (
            "bedrock-runtime.eu-west-1.amazonaws.com",
            "/model/anthropic.claude-3-haiku-20240307-v1%3A0/converse",
            "session-token-example",
            "50a7b82a4d405e6919e755cfd29251b58b0f7e439d45bed94761817aa539ae4f",
        ),
        (
            "127.0.0.1:4566",
            "/model/arn%3Aaws%3Abedrock%3Aeu-west-1%3A1%3Ainference-profile%2Feu.x/invoke",
            None,
            "4f32c656f71e6cf18333e1c898642d6e314bd2db73749e2229240ab858e0a04a",
        ),
    ],
)
def test_calls_of_bedrock_are_signed_as_by_botocore(host: str, path: str, token: str | None, signature: str) -> None:
    """The signatures were made by botocore 1.44.5: the path is encoded once more, the session's token is signed."""
    arguments: dict[str, Any] = {"region": "eu-west-1", "service": "bedrock"}
    signed = signed_headers(
        "POST",
        host,
        path,
        [],
        b'{"messages":[]}',
        AwsCredentials("AKIAEXAMPLE", "example-secret-access-key", token),
        timestamp=datetime(2026, 11, 22, 6, 30, tzinfo=UTC),
        headers={"content-type": "application/json"},
        **arguments,
    )
    assert signed["authorization"].endswith(f", Signature={signature}")
    assert signed.get("x-amz-security-token") == token


def test_secrets_are_not_shown() -> None:
    shown = repr(AwsCredentials("AKIAEXAMPLE", "example-secret-access-key", "session-token-example"))
    assert "secret-access" not in shown
    assert "session-token" not in shown
