"""The cache of answers when settings change while an instance runs: on, off, by other rules, in another place.

Calls that run meanwhile go on: one that began with a cache which is off by now finds nothing there and keeps nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Protocol

from ...settings import Settings
from .response_cache import ResponseCache, open_response_cache

SETTINGS = frozenset({"caches_answers", "cache_params"})


class CacheHolder(Protocol):
    """Who answers calls from the cache, None while there is none."""

    answers: ResponseCache | None


async def switch_cache(holder: CacheHolder, settings: Settings, announce: Callable[[str], None]) -> None:
    """Give the holder the cache that these settings ask for. `announce` tells the other processes."""
    current = holder.answers
    if not settings.caches_answers:
        holder.answers = None
        if current is not None:
            await current.close()
    elif current is not None:
        await current.change(settings)
    else:
        # In a thread, since the client of Redis may have to be loaded first.
        holder.answers = await asyncio.to_thread(open_response_cache, settings, announce)
