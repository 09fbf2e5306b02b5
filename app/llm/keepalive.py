"""Comments on a stream that has not begun: for proxies in between that cut what is silent."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Coroutine
from contextlib import aclosing
from typing import Any

from ..errors import GatewayError
from ..protocols.openai import PING_FRAME, error_frame
from .call import Reply


async def kept_alive(answering: Coroutine[Any, Any, Reply], seconds: float) -> Reply:
    """The reply of a stream, or one that begins with comments when it takes longer than `seconds` to come.

    The status is sent with the first comment, so whatever happens later is an event of the stream.
    """
    task = asyncio.ensure_future(answering)
    try:
        await asyncio.wait({task}, timeout=seconds)
    except asyncio.CancelledError:
        task.cancel()
        await asyncio.wait({task})
        raise
    if task.done():
        return task.result()
    frames = _late(task, seconds)
    await anext(frames)  # only a generator that has begun ends the call when it is dropped
    return Reply({}, frames=frames)


async def _late(task: asyncio.Task[Reply], seconds: float) -> AsyncGenerator[bytes]:
    try:
        yield b""
        while not task.done():
            yield PING_FRAME
            await asyncio.wait({task}, timeout=seconds)
        try:
            reply = task.result()
        except GatewayError as error:
            yield error_frame(error.message, str(error.status))
            return
        if reply.frames is not None:
            async with aclosing(reply.frames) as frames:
                async for frame in frames:
                    yield frame
    finally:
        # The client left before the answer began: the call ends as one that was left.
        task.cancel()
