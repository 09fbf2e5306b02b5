"""Use is found in what each provider answers, whole or streamed, in whatever pieces it comes."""

from __future__ import annotations

import base64
import json
import struct
from typing import Any

import pytest

from app.llm.passthrough.usage import UsageScanner

SSE = "text/event-stream; charset=utf-8"
AWS = "application/vnd.amazon.eventstream"
JSON = "application/json"


def scanned(content_type: str, body: bytes, size: int = 7) -> UsageScanner:
    scanner = UsageScanner(content_type)
    for start in range(0, len(body), size):
        scanner.feed(body[start : start + size])
    scanner.end()
    return scanner


def counts(scanner: UsageScanner) -> tuple[int, int, int, int, int]:
    usage = scanner.usage
    assert usage is not None
    return (
        usage.prompt_tokens,
        usage.completion_tokens,
        usage.cache_read_tokens,
        usage.cache_write_tokens,
        usage.reasoning_tokens,
    )


WHOLE: dict[str, tuple[dict[str, Any], tuple[int, int, int, int, int], str]] = {
    "chat": (
        {
            "model": "gpt-4o-2024-08-06",
            "usage": {
                "prompt_tokens": 10,
                "completion_tokens": 7,
                "total_tokens": 17,
                "prompt_tokens_details": {"cached_tokens": 4},
                "completion_tokens_details": {"reasoning_tokens": 3},
            },
        },
        (10, 7, 4, 0, 3),
        "gpt-4o-2024-08-06",
    ),
    "embedding": ({"model": "e", "usage": {"prompt_tokens": 8, "total_tokens": 8}}, (8, 0, 0, 0, 0), "e"),
    "responses": (
        {
            "model": "gpt-5",
            "error": None,
            "usage": {
                "input_tokens": 10,
                "input_tokens_details": {"cached_tokens": 4},
                "output_tokens": 7,
                "output_tokens_details": {"reasoning_tokens": 3},
            },
        },
        (10, 7, 4, 0, 3),
        "gpt-5",
    ),
    "messages": (
        {
            "type": "message",
            "model": "claude",
            "usage": {
                "input_tokens": 10,
                "output_tokens": 7,
                "cache_read_input_tokens": 4,
                "cache_creation_input_tokens": 2,
            },
        },
        (16, 7, 4, 2, 0),
        "claude",
    ),
    "generateContent": (
        {
            "modelVersion": "gemini-2.5-pro",
            "usageMetadata": {
                "promptTokenCount": 10,
                "candidatesTokenCount": 4,
                "thoughtsTokenCount": 3,
                "cachedContentTokenCount": 4,
            },
        },
        (10, 7, 4, 0, 3),
        "gemini-2.5-pro",
    ),
    "converse": (
        {
            "usage": {"inputTokens": 10, "outputTokens": 7, "cacheReadInputTokens": 4, "cacheWriteInputTokens": 2},
            "metrics": {"latencyMs": 1},
        },
        (16, 7, 4, 2, 0),
        "",
    ),
    "cohere v2": (
        {"usage": {"billed_units": {"input_tokens": 10, "output_tokens": 7}, "tokens": {"input_tokens": 90}}},
        (10, 7, 0, 0, 0),
        "",
    ),
    "cohere v1": ({"meta": {"billed_units": {"input_tokens": 10, "output_tokens": 7}}}, (10, 7, 0, 0, 0), ""),
}


@pytest.mark.parametrize("name", WHOLE)
def test_a_whole_answer(name: str) -> None:
    body, expected, model = WHOLE[name]
    scanner = scanned(JSON, json.dumps(body).encode())
    assert counts(scanner) == expected
    assert scanner.model == model
    assert not scanner.has_failed


def sse(*events: dict[str, Any] | str, newline: str = "\n") -> bytes:
    texts = (event if isinstance(event, str) else json.dumps(event) for event in events)
    return "".join(f"data: {text}{newline * 2}" for text in texts).encode()


@pytest.mark.parametrize("size", [1, 7, 10_000])
def test_a_stream_of_completions(size: int) -> None:
    chunk = {"model": "gpt-4o", "choices": [{"delta": {"content": "x"}}], "usage": None}
    last = {"model": "gpt-4o", "choices": [], "usage": {"prompt_tokens": 9, "completion_tokens": 3}}
    scanner = scanned(SSE, sse(chunk, chunk, last, "[DONE]"), size)
    assert counts(scanner)[:2] == (9, 3)
    assert (scanner.model, scanner.is_finished, scanner.is_stream) == ("gpt-4o", True, True)


def test_a_stream_of_responses() -> None:
    done = {"type": "response.completed", "response": {"model": "gpt-5", "usage": WHOLE["responses"][0]["usage"]}}
    scanner = scanned(SSE, sse({"type": "response.created", "response": {"usage": None}}, done, newline="\r\n"))
    assert counts(scanner) == (10, 7, 4, 0, 3)
    assert scanner.is_finished
    failed = {"type": "response.failed", "response": {"error": {"code": "server_error"}}}
    assert scanned(SSE, sse(failed)).has_failed


def test_a_stream_of_messages_adds_up() -> None:
    started = {"input_tokens": 10, "cache_read_input_tokens": 4, "cache_creation_input_tokens": 2, "output_tokens": 1}
    scanner = scanned(
        SSE,
        sse(
            {"type": "message_start", "message": {"model": "claude", "usage": started}},
            {"type": "content_block_delta", "delta": {"type": "text_delta", "text": '"usage":{'}},
            {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 7}},
            {"type": "message_stop"},
        ),
    )
    assert counts(scanner) == (16, 7, 4, 2, 0)
    assert (scanner.model, scanner.is_finished, scanner.has_failed) == ("claude", True, False)
    assert scanned(SSE, sse({"type": "error", "error": {"type": "overloaded_error"}})).has_failed


def test_streams_of_gemini_count_cumulatively() -> None:
    first = {"usageMetadata": {"promptTokenCount": 10, "candidatesTokenCount": 1}}
    second = {"usageMetadata": {"promptTokenCount": 10, "candidatesTokenCount": 7}, "modelVersion": "g"}
    assert counts(scanned(SSE, sse(first, second)))[:2] == (10, 7)
    listed = scanned(JSON, json.dumps([first, second], indent=1).encode())
    assert (counts(listed)[:2], listed.model) == ((10, 7), "g")


def frame(payload: bytes, **headers: str) -> bytes:
    """One message of AWS's event stream; the checksums are not looked at."""
    packed = b""
    for name, value in headers.items():
        key = f":{name.replace('_', '-')}".encode()
        packed += bytes([len(key)]) + key + b"\x07" + struct.pack(">H", len(value)) + value.encode()
    total = 16 + len(packed) + len(payload)
    return struct.pack(">II", total, len(packed)) + b"crc1" + packed + payload + b"crc2"


@pytest.mark.parametrize("size", [1, 5, 10_000])
def test_a_converse_stream(size: int) -> None:
    usage = {"usage": {"inputTokens": 10, "outputTokens": 7, "totalTokens": 17}}
    body = frame(b'{"delta": {"text": "x"}}', event_type="contentBlockDelta")
    body += frame(json.dumps(usage).encode(), event_type="metadata")
    scanner = scanned(AWS, body, size)
    assert counts(scanner)[:2] == (10, 7)
    assert not scanner.has_failed
    assert scanned(AWS, body + frame(b"{}", exception_type="throttlingException")).has_failed


def test_an_invoked_model_s_stream_is_unwrapped() -> None:
    events = [
        {"type": "message_start", "message": {"usage": {"input_tokens": 10, "output_tokens": 1}}},
        {"type": "message_stop", "amazon-bedrock-invocationMetrics": {"inputTokenCount": 10, "outputTokenCount": 7}},
    ]
    body = b"".join(
        frame(json.dumps({"bytes": base64.b64encode(json.dumps(one).encode()).decode()}).encode(), event_type="chunk")
        for one in events
    )
    scanner = scanned(AWS, body)
    assert counts(scanner)[:2] == (10, 7)
    assert scanner.is_finished


def test_an_answer_cannot_hide_what_it_used() -> None:
    tool = {"type": "tool_use", "input": {"usage": None}}
    body = json.dumps({"content": [tool], "usage": {"input_tokens": 10, "output_tokens": 7}}).encode()
    assert counts(scanned(JSON, body))[:2] == (10, 7)


def billed(scanner: UsageScanner, *, is_whole: bool) -> tuple[int, int]:
    usage = scanner.billed(25, is_whole=is_whole)
    assert usage is not None
    return usage.prompt_tokens, usage.completion_tokens


def test_a_stream_without_usage_is_estimated() -> None:
    words = [{"choices": [{"delta": {"content": "word "}}]} for _ in range(8)]
    assert billed(scanned(SSE, sse(*words)), is_whole=True) == (25, 10)
    assert billed(
        scanned(SSE, sse(*words, {"usage": {"prompt_tokens": 9, "completion_tokens": 3}})), is_whole=True
    ) == (9, 3)
    assert scanned(SSE, sse({"status": "running"})).billed(25, is_whole=True) is None
    assert scanned(JSON, b'{"text": "word"}').billed(25, is_whole=True) is None


def test_leaving_before_the_usage_is_not_free() -> None:
    start = {"type": "message_start", "message": {"usage": {"input_tokens": 100, "output_tokens": 1}}}
    words = [{"type": "content_block_delta", "delta": {"type": "text_delta", "text": "x" * 40}} for _ in range(10)]
    assert billed(scanned(SSE, sse(start, *words)), is_whole=False) == (100, 100)
    sound = {"type": "response.audio.delta", "delta": "A" * 5000}
    repeated = {"type": "response.output_text.done", "text": "x" * 400}
    assert billed(scanned(SSE, sse(start, sound, repeated, {"delta": {"text": "x" * 8}})), is_whole=False) == (100, 2)
    counted = {"usageMetadata": {"promptTokenCount": 5, "candidatesTokenCount": 2}, "content": "x" * 400}
    assert billed(scanned(SSE, sse(counted)), is_whole=False) == (5, 2)


def test_the_end_of_a_large_answer_is_enough() -> None:
    picture = "A" * 5_000_000
    body = json.dumps({"data": [{"b64_json": picture}], "usage": {"input_tokens": 10, "output_tokens": 7}}).encode()
    assert counts(scanned(JSON, body, 65_536))[:2] == (10, 7)


@pytest.mark.parametrize(
    ("content_type", "body"),
    [
        (JSON, b"<html>"),
        (JSON, b'{"usage": "much"}'),
        (JSON, b'{"usage": {"images": 1}}'),
        (JSON, b'["usage"]'),
        (JSON, b'{"usage": ' * 5000),
        (SSE, b'data: {"usage": \n\n'),
        (AWS, b"\x00" * 64),
        (AWS, b"\xff" * 64),
        (AWS, frame(b'{"bytes": "%%%"}', event_type="chunk")),
        ("audio/mpeg", b'{"usage": {"prompt_tokens": 1}}'),
        ("", b""),
    ],
)
def test_bodies_without_usage_count_nothing(content_type: str, body: bytes) -> None:
    assert scanned(content_type, body).usage is None


def test_invalid_input_is_bounded() -> None:
    body = {"usage": {"prompt_tokens": -5, "completion_tokens": 1e300, "prompt_tokens_details": {"cached_tokens": 9}}}
    assert counts(scanned(JSON, json.dumps(body).encode())) == (0, 0, 0, 0, 0)
