"""What every stream of the OpenAI dialect must be, whoever wrote it."""

from __future__ import annotations

import json
from typing import Any

from openai.types.chat import ChatCompletionChunk


def chunks_of(stream: bytes) -> list[dict[str, Any]]:
    """The chunks of a whole, well-formed stream. Fails for one that is not."""
    frames = stream.split(b"\n\n")
    assert frames.pop() == b"", "the last frame has an end"
    assert frames.pop() == b"data: [DONE]", "[DONE] comes last"
    assert all(frame.startswith(b"data: ") and b"\n" not in frame for frame in frames)
    chunks: list[dict[str, Any]] = [json.loads(frame[6:]) for frame in frames]
    heads = {(chunk["id"], chunk["object"], chunk["created"], chunk["model"]) for chunk in chunks}
    assert len(heads) <= 1, "all chunks are of one answer"
    for chunk in chunks:
        ChatCompletionChunk.model_validate(chunk)
    _check_usage(chunks)
    _check_choices([choice for chunk in chunks for choice in chunk["choices"]])
    return chunks


def _check_usage(chunks: list[dict[str, Any]]) -> None:
    counted = [position for position, chunk in enumerate(chunks) if chunk.get("usage") is not None]
    assert counted in ([], [len(chunks) - 1]), "what was used comes once, behind all else"
    without_choices = [position for position, chunk in enumerate(chunks) if not chunk["choices"]]
    assert without_choices == counted, "and alone"


def _check_choices(pieces: list[dict[str, Any]]) -> None:
    begun: set[int] = set()
    stopped: set[int] = set()
    arguments: dict[tuple[int, int], str] = {}
    for piece in pieces:
        index, delta = piece["index"], piece["delta"]
        assert index not in stopped, "nothing follows the reason of the end"
        assert ("role" in delta) == (index not in begun), "the role comes first, once"
        begun.add(index)
        for call in delta.get("tool_calls", ()):
            number = (index, call["index"])
            assert ("id" in call) == (number not in arguments), "a call says its id once, first"
            if number not in arguments:
                assert call["id"] and call["type"] == "function" and call["function"]["name"]
                assert call["index"] == sum(1 for known, _ in arguments if known == index), "calls count from 0"
                arguments[number] = ""
            arguments[number] += call["function"]["arguments"]
        if piece["finish_reason"] is not None:
            assert piece["finish_reason"] in ("stop", "length", "tool_calls", "content_filter")
            stopped.add(index)
    assert begun == stopped, "each choice ends with one reason"
    assert all(arguments.values()), "no call is without arguments"
