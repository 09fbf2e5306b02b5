"""Path, query, headers and body of a caller: what is forwarded, and what is refused."""

from __future__ import annotations

import pytest

from app.errors import InvalidRequest
from app.llm.passthrough.path import (
    encode_path,
    forward_request_headers,
    forward_response_headers,
    read_query,
    requested_models,
    safe_segments,
)

JSON = {"content-type": "application/json"}
FORM = {"content-type": "multipart/form-data; boundary=x"}


@pytest.mark.parametrize(
    ("raw", "sent"),
    [
        ("v1/chat/completions", "/v1/chat/completions"),
        ("v1beta/models/gemini-2.5-pro:generateContent", "/v1beta/models/gemini-2.5-pro:generateContent"),
        ("v1/files/a%20b/", "/v1/files/a%20b"),
        ("v1/a%3Fb%23c", "/v1/a%3Fb%23c"),
        ("v1/models/org%2Fname", "/v1/models/org%2Fname"),
        ("v1/%C3%BC", "/v1/%C3%BC"),
        ("@evil.example/x", "/@evil.example/x"),
    ],
)
def test_a_valid_path_is_sent_unchanged(raw: str, sent: str) -> None:
    assert encode_path(safe_segments(raw)) == sent


def test_for_signatures_everything_is_encoded() -> None:
    assert encode_path(("model", "arn:aws:x/y"), is_strict=True) == "/model/arn%3Aaws%3Ax%2Fy"


@pytest.mark.parametrize(
    "raw",
    [
        "..",
        "v1/../x",
        "v1/./x",
        "v1/%2e%2e/x",
        "v1/%252e%252e/x",
        "v1/%25252e%25252e/x",
        "v1/..%2Fx",
        "v1/x%2F..",
        "v1/..;a=b/x",
        "/evil.example",
        "//evil.example",
        "https://evil.example",
        "v1//x",
        "v1/%2F%2Fevil",
        "v1/a%5Cb",
        "v1/a\\b",
        "v1/%00",
        "v1/a%0d%0aHost:%20x",
        "v1/%ff",
        "",
        "a" * 5000,
    ],
)
def test_a_path_that_could_escape_is_refused(raw: str) -> None:
    with pytest.raises(InvalidRequest):
        safe_segments(raw)


def test_the_caller_s_key_is_taken_out_of_the_query() -> None:
    assert read_query(b"alt=sse&key=sk-1&k%65y=sk-2&empty=&$userProject=p&a=b+c%26d") == [
        ("alt", "sse"),
        ("empty", ""),
        ("a", "b c&d"),
    ]
    with pytest.raises(InvalidRequest, match="too many"):
        read_query(b"a=1&" * 300)


def test_credentials_and_headers_of_proxies_are_not_forwarded() -> None:
    given = {
        "Authorization": "Bearer sk-1",
        "X-Api-Key": "sk-1",
        "Cookie": "a=b",
        "X-Litellm-Tags": "a",
        "X-Forwarded-Host": "x",
        "Connection": "keep-alive, X-Hop",
        "X-Hop": "1",
        "Host": "gateway",
        "Remote-Addr": "10.0.0.1",
        "X-Own-Key": "Bearer sk-1",
        "X-Bad": "ü",
        "Content-Type": "application/json",
        "Anthropic-Beta": "files",
        "X-Pass-OpenAI-Beta": "v2",
        "X-Pass-Authorization": "Bearer sk-2",
        "X-Pass-Transfer-Encoding": "chunked",
        "X-Pass-X-Forwarded-For": "10.0.0.1",
    }
    sent = forward_request_headers(given.items(), ("x-own-key", None))
    assert sent == {"content-type": "application/json", "anthropic-beta": "files", "openai-beta": "v2"}


def test_cookies_and_credentials_are_not_returned() -> None:
    given = [
        ("Set-Cookie", "a=b"),
        ("X-Goog-Upload-Url", "https://x/upload?key=AIza-secret-key&id=1"),
        ("Access-Control-Allow-Origin", "*"),
        ("Transfer-Encoding", "chunked"),
        ("X-Request-Id", "1"),
        ("X-Request-Id", "2"),
    ]
    assert forward_response_headers(given, ("AIza-secret-key",)) == [
        ("x-goog-upload-url", "https://x/upload?key=****&id=1"),
        ("x-request-id", "1"),
        ("x-request-id", "2"),
    ]


@pytest.mark.parametrize(
    ("provider", "path", "body", "found"),
    [
        ("openai", "v1/chat/completions", b'{"model": "gpt-4o"}', ("gpt-4o",)),
        ("openai", "v1/chat/completions", b' {"m\\u006fdel": "gpt-4o"}', ("gpt-4o",)),
        ("openai", "v1/chat/completions", b'{"MODEL": "gpt-4o", "model": "gpt-4o-mini"}', ("gpt-4o-mini", "gpt-4o")),
        ("openai", "v1/models", b"", ()),
        ("openai", "v1/x", b'{"model": 7}', ()),
        ("openai", "v1/x", b"[1]", ()),
        ("gemini", "v1beta/models/g-1:countTokens", b'{"model": "models/g-2"}', ("g-1", "g-2")),
        ("gemini", "v1beta/models%2Fg-1:generateContent", b"", ("g-1",)),
        ("vertex_ai", "v1/projects/p/locations/l/publishers/google/models/g-1:x", b"{}", ("g-1",)),
        ("azure", "openai/deployments/d-1/embeddings", b'{"model": "m"}', ("d-1", "m")),
        ("azure", "openai/Deployments/d-1/embeddings", b"{}", ("d-1",)),
        ("bedrock", "model/a.claude-v1:0/invoke", b"{}", ("a.claude-v1:0",)),
        ("bedrock", "async-invoke", b'{"modelId": "nova"}', ("nova",)),
        ("bedrock", "rerank", b'{"a": [{"modelArn": "arn:x"}]}', ("arn:x",)),
        ("bedrock", "model/arn%3Aaws%3Ab%2Fc/invoke", b"{}", ("arn:aws:b/c",)),
    ],
)
def test_every_model_that_a_request_names_is_found(
    provider: str, path: str, body: bytes, found: tuple[str, ...]
) -> None:
    assert requested_models(provider, safe_segments(path), JSON, body) == found


@pytest.mark.parametrize(
    "name",
    [
        'name="model"',
        "name=model",
        'NAME="model"',
        "name*=utf-8''model",
        'name="mo\\del"',
        'name="model"; filename="x"',
    ],
)
def test_the_model_of_a_form_is_found(name: str) -> None:
    body = f"--x\r\nContent-Disposition: form-data; {name}\r\n\r\nwhisper-1\r\n--x--\r\n".encode()
    assert requested_models("openai", ("v1",), FORM, body) == ("whisper-1",)


def test_the_model_of_an_encoded_form_is_found() -> None:
    headers = {"content-type": "application/x-www-form-urlencoded"}
    assert requested_models("openai", ("v1",), headers, b"a=b&model=gpt-4o") == ("gpt-4o",)


@pytest.mark.parametrize(
    ("headers", "path", "body"),
    [
        ({**JSON, "content-encoding": "gzip"}, "v1", b"\x1f\x8b"),
        (JSON, "v1", '{"model": "gpt-4o"}'.encode("utf-16")),
        (JSON, "v1", b'\xef\xbb\xbf{"model": "gpt-4o"}'),
        (JSON, "v1", b'{"model": '),
        ({"content-type": "text/plain"}, "v1", b'\xef\xbb\xbf{"model": "gpt-4o"}'),
        ({"content-type": "text/plain"}, "v1", '{"model": "gpt-4o"}'.encode("utf-16")),
        ({"content-type": "text/plain"}, "v1", '{"model": "gpt-4o"}'.encode("utf-32-be")),
        (FORM, "v1", b'--x\r\nContent-Disposition: form-data; name= "model"\r\n\r\nwhisper-1\r\n--x--\r\n'),
        (FORM, "v1", b'--x\nContent-Disposition: form-data; name="model"\n\nwhisper-1\n--x--\n'),
    ],
)
def test_a_body_that_hides_its_model_is_refused(headers: dict[str, str], path: str, body: bytes) -> None:
    with pytest.raises(InvalidRequest):
        requested_models("openai", safe_segments(path), headers, body)


def test_an_encoded_slash_of_bedrock_belongs_to_an_arn() -> None:
    with pytest.raises(InvalidRequest):
        requested_models("bedrock", safe_segments("model%2Fx/converse"), JSON, b"{}")
