"""Bodies of clients that no provider can read."""

from __future__ import annotations

import pytest

from app.errors import InvalidRequest
from app.protocols.json_fields import check_text
from app.protocols.openai.request import CHAT

LONE = [rb"\ud83d", rb"\udc00", rb"\ud83d\ud83d\ude00", rb"\ude00\ud83d", rb"x\\\ud83d"]


@pytest.mark.parametrize("text", LONE)
def test_a_lone_surrogate_is_named(text: bytes) -> None:
    with pytest.raises(InvalidRequest, match="lone surrogate"):
        CHAT.read(b'{"model": "m", "messages": [{"role": "user", "content": "' + text + b'"}]}', None, "")


@pytest.mark.parametrize("text", [rb"\ud83d\ude00", rb"\\ud83d", rb"\\\\udc00", "😀".encode(), rb"\uD83D\uDE00\u00fc"])
def test_pairs_and_texts_that_look_like_halves_are_fine(text: bytes) -> None:
    check_text(b'{"a": "' + text + b'"}')


def test_a_body_that_is_not_utf_8_is_named_with_the_place() -> None:
    with pytest.raises(InvalidRequest, match=r"not UTF-8 \(byte 57\)"):
        CHAT.read(b'{"model": "m", "messages": [{"role": "user", "content": "\xff"}]}', None, "")
