"""Ending tasks that run in the background."""

from __future__ import annotations

import asyncio


async def ended(task: asyncio.Task[None]) -> None:
    """Cancel a task until it ends: a driver may swallow a cancellation that comes while it connects."""
    while not task.done():
        task.cancel()
        await asyncio.wait({task}, timeout=0.5)
