"""What every dialect yields, whatever its own words for it are."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Any

import msgspec


class Usage(msgspec.Struct, frozen=True, kw_only=True):
    """Tokens of one call. `cache_read` and `cache_write` are parts of `prompt`, `reasoning` of `completion`.

    What is not counted in tokens: pictures made, characters spoken, seconds of audio heard, searches.
    """

    prompt_tokens: int = 0
    completion_tokens: int = 0
    cache_read_tokens: int = 0
    cache_write_tokens: int = 0
    reasoning_tokens: int = 0
    images: int = 0
    characters: int = 0
    seconds: Decimal = Decimal(0)
    queries: int = 0
    raw: Mapping[str, Any] = {}

    @property
    def total_tokens(self) -> int:
        return self.prompt_tokens + self.completion_tokens
