"""What runs in the background ends when it is told to, also when something below swallows the first word."""

from __future__ import annotations

import asyncio

from app.tasks import ended


async def test_a_task_that_swallows_a_cancellation_is_told_again() -> None:
    cancellations = 0

    async def work() -> None:
        nonlocal cancellations
        while cancellations < 3:
            try:
                await asyncio.sleep(60)
            except asyncio.CancelledError:
                cancellations += 1

    task = asyncio.create_task(work())
    await asyncio.sleep(0)
    async with asyncio.timeout(5):
        await ended(task)
    assert (task.done(), cancellations) == (True, 3)
